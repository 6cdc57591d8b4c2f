"""The page of API tokens: make one, see what there is, revoke one."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError

from regie.core.errors import InvalidInput
from regie.core.reach import Act
from regie.store import api_tokens
from regie.web import tokens as api
from regie.web.means import Having, Means, Nothing, current_release
from regie.web.pages.looking import LOOKING
from regie.web.pages.rendering import page
from regie.web.pages.visitor import Visiting, Visitor, form_of, read_form
from regie.web.problems import OutOfReach, faults_of

ABOUT: dict[Act, str] = {
    Act.LOOK: "see runs, approvals and figures",
    Act.VALUES: "see values in full (no answer of the API holds any yet)",
    Act.START: "start runs",
    Act.STEER: "cancel, pause, resume and wake runs",
    Act.TELL: "tell events",
    Act.PROVISION: "bring and remove people and groups (SCIM)",
}
MOST_FIELDS = 30

router = APIRouter()


@router.api_route("/tokens", methods=LOOKING)
async def show(means: Having, visitor: Visiting) -> Response:
    """The visitor's tokens, and a form for a new one."""
    return await _page(means, visitor)


@router.post("/tokens")
async def make(means: Having, visitor: Visiting, request: Request) -> Response:
    """Make a token and show it, this once."""
    typed = await read_form(request, most=MOST_FIELDS)
    try:
        wanted = api.MakeToken.model_validate(
            {
                "name": typed.get("name", ""),
                "tenant": typed.get("tenant", "").strip(),
                "domain": typed.get("domain", "").strip(),
                "acts": [act for act in Act if f"act_{act}" in typed],
                "workflows": typed.get("workflows", "").split(),
                "days": typed.get("days", ""),
            }
        )
        async with means.database.transaction() as tx:
            _, shown = await api.make(tx, visitor.caller, wanted)
    except ValidationError as error:
        return await _page(means, visitor, typed=typed, fault=f"{faults_of(error)}.")
    except (InvalidInput, OutOfReach) as error:
        return await _page(means, visitor, typed=typed, fault=" ".join(filter(None, (error.message, error.hint))))
    return await _page(means, visitor, token=shown)


@router.post("/tokens/{token}/revoke")
async def revoke(
    means: Having, visitor: Visiting, token: str, _: Annotated[Nothing, Depends(form_of(Nothing))]
) -> Response:
    """Let a token count no more."""
    async with means.database.transaction() as tx:
        await api_tokens.revoke(tx, token, by=visitor.caller.actor, owner=api.owner_of(visitor.caller))
    return RedirectResponse("/tokens", HTTPStatus.SEE_OTHER)


async def _page(
    means: Means, visitor: Visitor, *, typed: dict[str, str] | None = None, fault: str = "", token: str = ""
) -> Response:
    async with means.database.reading() as tx:
        found = await api_tokens.list_tokens(tx, owner=api.owner_of(visitor.caller))
        release = await current_release(tx) if visitor.may_look else None
    places = visitor.caller.reach.places(Act.LOOK)
    return page(
        "tokens.html",
        visitor,
        status=HTTPStatus.UNPROCESSABLE_ENTITY if fault else HTTPStatus.OK,
        tokens=found,
        token=token,
        fault=fault,
        typed=typed or {"days": str(api.USUAL_DAYS)},
        acts=ABOUT if places else {},
        tenants=sorted(
            slug for slug in (release.tenants if release else ()) if any(p[0] in {"", slug} for p in places)
        ),
        domains=sorted(
            name for name in (release.domains if release else ()) if any(p[1] in {"", name} for p in places)
        ),
        is_operator=visitor.is_operator,
    )
