"""The page of somebody's authenticators: add one, see what there is, remove one."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from regie.core.errors import Denied, InvalidInput
from regie.store import authenticators
from regie.web import step_up
from regie.web.means import Having, Means, Nothing
from regie.web.pages.looking import LOOKING
from regie.web.pages.rendering import page
from regie.web.pages.visitor import Visiting, Visitor, form_of

FRESH_S = 600
"""Seconds after signing in within which authenticators are added and removed: whoever finds a browser open cannot."""

router = APIRouter()


class Add(BaseModel):
    """A name, and what the authenticator gave to the script of the page."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(max_length=authenticators.LONGEST_NAME)
    signed: str = Field(default="", max_length=50_000)


@router.api_route("/authenticators", methods=LOOKING)
async def show(means: Having, visitor: Visiting) -> Response:
    """The visitor's authenticators, and a form for a new one."""
    return await _page(means, visitor)


@router.post("/authenticators/challenge")
async def ask(means: Having, visitor: Visiting, _: Annotated[Nothing, Depends(form_of(Nothing))]) -> Response:
    """What the browser needs to have a key made."""
    _require_sure(visitor)
    async with means.database.transaction() as tx:
        asked = await step_up.ask_to_add(tx, means.ways_in.origin, visitor.caller.address, visitor.display_name)
    return JSONResponse(asked)


@router.post("/authenticators")
async def add(means: Having, visitor: Visiting, said: Annotated[Add, Depends(form_of(Add))]) -> Response:
    """Add what the authenticator has made."""
    address = visitor.caller.address
    try:
        _require_sure(visitor)
        made = await _asked_for(means, address, _made(said.signed))
        async with means.database.transaction() as tx:
            await step_up.add(tx, means.ways_in.origin, address, said.name, made)
    except (InvalidInput, Denied) as error:
        return await _page(means, visitor, fault=" ".join(filter(None, (error.message, error.hint))), name=said.name)
    return RedirectResponse("/authenticators", HTTPStatus.SEE_OTHER)


@router.post("/authenticators/{authenticator}/remove")
async def remove(
    means: Having, visitor: Visiting, authenticator: str, _: Annotated[Nothing, Depends(form_of(Nothing))]
) -> Response:
    """Forget one."""
    _require_fresh(visitor)
    async with means.database.transaction() as tx:
        await authenticators.remove(tx, authenticator, address=visitor.caller.address)
    return RedirectResponse("/authenticators", HTTPStatus.SEE_OTHER)


def _made(signed: str) -> step_up.Made:
    if not signed:
        raise InvalidInput(
            "No authenticator was asked: this browser has run no script of this page.",
            hint="Allow scripts here, or use another browser.",
        )
    try:
        return step_up.Made.model_validate_json(signed)
    except ValidationError:
        raise InvalidInput("What the authenticator gave cannot be read.", hint=step_up.AGAIN) from None


async def _asked_for(means: Means, address: str, made: step_up.Made) -> step_up.Made:
    async with means.database.transaction() as tx:
        # Used up before anything else happens: it does not count again.
        nonce = await step_up.was_asked(tx, made, address=address)
    if nonce is None:
        raise InvalidInput("Nobody asked for this authenticator just now.", hint=step_up.AGAIN)
    return made


def _require_fresh(visitor: Visitor) -> None:
    if visitor.age_s > FRESH_S:
        raise Denied(
            "You signed in too long ago to change your authenticators.", hint="Sign out, sign in again, and try again."
        )


def _require_sure(visitor: Visitor) -> None:
    """Adding one needs as much as it will stand for: else a password alone would be enough for a yes of high risk."""
    _require_fresh(visitor)
    if not _has_shown_a_second_factor(visitor):
        raise Denied(
            "Your identity provider has told of no second factor of yours within the last 10 minutes.",
            hint="Sign out, sign in with your second factor, and try again.",
        )


def _has_shown_a_second_factor(visitor: Visitor) -> bool:
    """Nobody vouches for one of a local account, which is there to try things out."""
    age_s = visitor.caller.mfa_age_s
    return visitor.caller.is_local or (age_s is not None and age_s <= FRESH_S)


async def _page(means: Means, visitor: Visitor, *, fault: str = "", name: str = "") -> Response:
    async with means.database.reading() as tx:
        found = await authenticators.of(tx, visitor.caller.address)
    return page(
        "authenticators.html",
        visitor,
        status=HTTPStatus.UNPROCESSABLE_ENTITY if fault else HTTPStatus.OK,
        found=found,
        fault=fault,
        name=name,
        is_fresh=visitor.age_s <= FRESH_S,
        is_sure=_has_shown_a_second_factor(visitor),
        has_origin=bool(means.ways_in.origin),
    )
