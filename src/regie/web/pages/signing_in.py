"""The page to sign in on, signing in with a local account, and signing out."""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from regie.core.errors import Denied, Throttled
from regie.store import sessions
from regie.store.accounts import LONGEST_PASSWORD
from regie.web.means import Having, Means, Nothing
from regie.web.pages.looking import LOOKING
from regie.web.pages.rendering import page
from regie.web.pages.visitor import BEFORE, COOKIE, csrf_of, find_visitor, form_of, give, take
from regie.web.pages.wording import length
from regie.web.problems import Unidentified

HOME = "/"
_LONGEST_ADDRESS = 2000

router = APIRouter()


class SignIn(BaseModel):
    """What somebody signs in with, and where they wanted to go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str = Field(max_length=254)
    password: SecretStr = Field(max_length=LONGEST_PASSWORD)
    next: str = Field(default=HOME, max_length=_LONGEST_ADDRESS)


@router.api_route("/sign-in", methods=LOOKING)
async def show(
    means: Having,
    request: Request,
    next: str = HOME,  # noqa: A002  the address says next
    *,
    out: bool = False,
) -> Response:
    """The ways to sign in; whoever has signed in goes on at once. `out` says that somebody has just signed out."""
    if await find_visitor(means, request, is_seen=False) is not None:
        return RedirectResponse(own_address(next), HTTPStatus.SEE_OTHER)
    return sign_in_page(means, request, next=own_address(next), has_left=out)


@router.post("/sign-in")
async def sign_in(
    means: Having, request: Request, said: Annotated[SignIn, Depends(form_of(SignIn, BEFORE))]
) -> Response:
    """Begin a session, with a new token, and go on."""
    if not means.ways_in.has_local_accounts:
        raise Denied("Nobody signs in with a password here.", hint="Sign in with the identity provider.")
    then = own_address(said.next)
    try:
        account = await means.doorkeeper.sign_in(said.address, said.password.get_secret_value())
    except Throttled as error:
        wait = length(error.after_s or 0)
        fault = f"Signing in with this address failed too often. Try again in {wait}."
        return sign_in_page(
            means, request, next=then, address=said.address, fault=fault, status=HTTPStatus.TOO_MANY_REQUESTS
        )
    except Unidentified:
        fault = "Address and password do not fit. Check both, and try again."
        return sign_in_page(
            means, request, next=then, address=said.address, fault=fault, status=HTTPStatus.UNAUTHORIZED
        )
    async with means.database.transaction() as tx:
        await sessions.end(tx, request.cookies.get(COOKIE, ""))
        token = await sessions.begin(tx, account.address, by="password")
    return signed_in(then, token)


@router.post("/sign-out")
async def sign_out(means: Having, request: Request, _: Annotated[Nothing, Depends(form_of(Nothing))]) -> Response:
    """End the session."""
    async with means.database.transaction() as tx:
        await sessions.end(tx, request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/sign-in?out=true", HTTPStatus.SEE_OTHER)
    take(answer, COOKIE)
    return answer


def signed_in(then: str, token: str) -> Response:
    """Go on with the session that has just begun."""
    answer = RedirectResponse(then, HTTPStatus.SEE_OTHER)
    give(answer, COOKIE, token)
    take(answer, BEFORE)
    return answer


def own_address(wanted: str) -> str:
    """An address of ours to go on to; the start page for any other, so that our links lead nobody elsewhere.

    Browsers read a backslash as a slash and skip tabs and line ends (URL standard, 4.4), so neither is let through.
    """
    if not wanted.startswith("/") or wanted.startswith("//") or not wanted.isprintable() or "\\" in wanted:
        return HOME
    return wanted


def sign_in_page(
    means: Means,
    request: Request,
    *,
    next: str = HOME,  # noqa: A002  as above
    address: str = "",
    fault: str = "",
    has_left: bool = False,
    status: int = 200,
) -> Response:
    """The page with the ways to sign in."""
    token = request.cookies.get(BEFORE) or secrets.token_urlsafe(sessions.TOKEN_BYTES)
    answer = page(
        "sign_in.html",
        None,
        status=status,
        ways_in=means.ways_in,
        next=next,
        address=address,
        fault=fault,
        has_left=has_left,
        csrf=csrf_of(token),
    )
    give(answer, BEFORE, token)
    return answer
