"""Signing in with the identity provider: out to it, back from it, and signing out there.

What is brought back counts once, in the browser that went, and only if the gateway finds the provider vouching for it.
"""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from regie.core.errors import Denied, InvalidInput, NotFound
from regie.gateway_client import IdentityQuestion, IdentityReply, SignInQuestion, SignOutQuestion
from regie.store import accounts, sessions, sign_ins
from regie.store.accounts import Identity
from regie.store.sessions import SignedInBy
from regie.store.sign_ins import SignIn
from regie.web.identify import ANSWER_AT
from regie.web.means import Having, Means
from regie.web.pages.signing_in import HOME, own_address, sign_in_page, signed_in
from regie.web.pages.visitor import BEFORE, COOKIE, give

router = APIRouter()


class Answer(BaseModel):
    """What the provider has a browser bring back (RFC 6749, 4.1.2; RFC 9207). What it adds besides does not count."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: str = Field(default="", max_length=200)
    code: str = Field(default="", max_length=8192)
    error: str = Field(default="", max_length=200)
    iss: str | None = Field(default=None, max_length=500)


@router.get("/sign-in/provider")
async def leave(means: Having, request: Request, next: str = HOME) -> Response:  # noqa: A002  the address says next
    """Go to the provider to sign in."""
    _require_provider(means)
    before = request.cookies.get(BEFORE) or secrets.token_urlsafe(sessions.TOKEN_BYTES)
    state = secrets.token_urlsafe(32)
    # RFC 7636, 4.1: 43 to 128 characters.
    going = SignIn(nonce=secrets.token_urlsafe(32), verifier=secrets.token_urlsafe(48), next=own_address(next))
    asked = SignInQuestion(
        redirect_uri=means.ways_in.answer_address, state=state, nonce=going.nonce, verifier=going.verifier
    )
    address = (await means.gateway.sign_in(asked)).address
    async with means.database.transaction() as tx:
        await sign_ins.begin(tx, state, before, going)
    answer = RedirectResponse(address, HTTPStatus.SEE_OTHER)
    give(answer, BEFORE, before)
    return answer


@router.get(ANSWER_AT)
async def come_back(means: Having, request: Request, brought: Annotated[Answer, Query()]) -> Response:
    """Come back from the provider: begin a session, with a new token, and go on."""
    _require_provider(means)
    async with means.database.transaction() as tx:
        # Used up before anything else happens: whatever comes of it, it does not count again.
        going = await sign_ins.take(tx, brought.state, request.cookies.get(BEFORE, ""))
    if going is None:
        fault = "This sign-in was not begun in this browser just now, or it is used up. Begin again."
        return sign_in_page(means, request, fault=fault, status=HTTPStatus.BAD_REQUEST)
    if brought.error or not brought.code:
        fault = "The identity provider did not sign you in. Begin again, or ask whoever looks after it."
        return sign_in_page(means, request, next=going.next, fault=fault, status=HTTPStatus.FORBIDDEN)
    try:
        who = await means.gateway.identity(
            IdentityQuestion(
                code=brought.code,
                issuer=brought.iss,
                redirect_uri=means.ways_in.answer_address,
                nonce=going.nonce,
                verifier=going.verifier,
            )
        )
        token = await _begin(means, request, who)
    except (Denied, InvalidInput) as error:
        fault = " ".join(part for part in (error.message, error.hint) if part)
        return sign_in_page(means, request, next=going.next, fault=fault, status=HTTPStatus.FORBIDDEN)
    return signed_in(going.next, token)


@router.get("/sign-out/provider")
async def sign_out_there(means: Having) -> Response:
    """Go to the provider to sign out there as well, if it has a page for that."""
    _require_provider(means)
    back = means.ways_in.answer_address.removesuffix(ANSWER_AT) + "/sign-in"
    address = (await means.gateway.sign_out(SignOutQuestion(back_to=back))).address
    return RedirectResponse(address or "/sign-in", HTTPStatus.SEE_OTHER)


async def _begin(means: Means, request: Request, who: IdentityReply) -> str:
    """A session of whoever the provider vouches for, in place of the one that the browser had."""
    async with means.database.transaction() as tx:
        account = await accounts.welcome(
            tx,
            Identity(
                issuer=who.issuer,
                subject=who.subject,
                address=who.address,
                display_name=who.display_name,
                groups=who.groups,
            ),
        )
        await sessions.end(tx, request.cookies.get(COOKIE, ""))
        how = SignedInBy(amr=who.amr, mfa_age_s=who.mfa_age_s)
        return await sessions.begin(tx, account.address, by="identity_provider", how=how)


def _require_provider(means: Means) -> None:
    if not means.ways_in.answer_address:
        raise NotFound("There is nothing at this address.")
