"""Who looks at a page, and whether a form really comes from one of ours."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar
from urllib.parse import parse_qsl

from fastapi import Depends, Request, Response
from pydantic import BaseModel, ValidationError

from regie.core.errors import Denied, InvalidInput
from regie.core.reach import Act
from regie.store import sessions
from regie.web.caller import Caller
from regie.web.means import Having, Means
from regie.web.problems import Unidentified, WrongMedia, faults_of

COOKIE = "__Host-regie"
"""Holds the token of a session. The prefix binds it to this very host and to secure transport or loopback
(RFC 6265bis, 4.1.3.2)."""
BEFORE = "__Host-regie-before"
"""Holds a token before anybody has signed in, so that the sign-in form too can be told from a forged one."""
CSRF_FIELD = "csrf"

Form = TypeVar("Form", bound=BaseModel)


class SignInNeeded(Unidentified):
    """A page is for people who have signed in."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who has signed in.

    Attributes:
        csrf: What each form of theirs carries.
        age_s: Seconds since they signed in.
        left_s: Seconds until the session is over if no page is seen meanwhile.
    """

    caller: Caller
    display_name: str
    token: str
    csrf: str
    age_s: float
    left_s: float

    @property
    def is_operator(self) -> bool:
        """Whether they see everything."""
        return self.caller.is_operator

    @property
    def may_look(self) -> bool:
        """Whether there is a place of which they see everything."""
        return bool(self.caller.reach.places(Act.LOOK))


async def find_visitor(means: Means, request: Request, *, is_seen: bool) -> Visitor | None:
    """Whoever has signed in; `is_seen` keeps the session from falling asleep."""
    token = request.cookies.get(COOKIE, "")
    if not token:
        return None
    async with means.database.reading() as tx:
        session = await sessions.find(tx, token)
        if session is None:
            return None
        known = await means.doorkeeper.caller_of(tx, session.account)
    caller = replace(known, mfa_age_s=session.mfa_age_s)
    if is_seen and session.is_due:
        async with means.database.transaction() as tx:
            await sessions.see(tx, token)
    return Visitor(caller, session.account.display_name, token, csrf_of(token), session.age_s, session.left_s)


async def _visitor(means: Having, request: Request) -> Visitor:
    visitor = await find_visitor(means, request, is_seen=True)
    if visitor is None:
        raise SignInNeeded("Please sign in to see this.")
    return visitor


Visiting = Annotated[Visitor, Depends(_visitor)]


def give(answer: Response, cookie: str, token: str) -> None:
    """Have a browser keep a token; only this host gets it back, and no script sees it."""
    answer.set_cookie(cookie, token, secure=True, httponly=True, samesite="lax", path="/")


def take(answer: Response, cookie: str) -> None:
    """Have a browser forget a token."""
    answer.delete_cookie(cookie, secure=True, httponly=True, samesite="lax", path="/")


def csrf_of(token: str) -> str:
    """What the forms of whoever holds this token carry. Another site can make a browser send the cookie, not this."""
    return hmac.digest(token.encode("utf-8", "surrogatepass"), b"regie csrf", "sha256").hex()


def form_of(model: type[Form], cookie: str = COOKIE) -> Callable[[Request], Awaitable[Form]]:
    """A dependency that reads a form as a record, once it is sure that it comes from a page of ours.

    Raises:
        Denied: It comes from elsewhere, or from a page of an earlier sign-in.
        InvalidInput: It cannot be read as that record.
    """

    async def read(request: Request) -> Form:
        try:
            return model.model_validate(await read_form(request, cookie))
        except ValidationError as error:
            raise InvalidInput(f"The form cannot be used: {faults_of(error)}.") from None

    return read


async def read_form(request: Request, cookie: str = COOKIE, *, most: int = 20) -> dict[str, str]:
    """The fields of a form, once it is sure that it comes from a page of ours.

    Args:
        cookie: Whose holder the form was made for.
        most: How many fields there are at most.

    Raises:
        Denied: It comes from elsewhere, or from a page of an earlier sign-in.
        WrongMedia: It is no form by its media type.
        InvalidInput: It cannot be read, or has more fields.
    """
    _require_own_page(request)
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != (
        "application/x-www-form-urlencoded"
    ):
        raise WrongMedia("A form must be application/x-www-form-urlencoded.")
    try:
        given = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=most))
    except ValueError:
        raise InvalidInput("The form cannot be read.") from None
    expected = csrf_of(request.cookies.get(cookie, ""))
    if not request.cookies.get(cookie) or not hmac.compare_digest(
        given.pop(CSRF_FIELD, "").encode("utf-8", "surrogatepass"), expected.encode()
    ):
        raise Denied(
            "This form is from another sign-in than the present one.", hint="Load the page again, then send it."
        )
    return given


def _require_own_page(request: Request) -> None:
    """Refuse what another site has a browser send. Browsers name the origin of every POST (Fetch standard, 3.2)."""
    scheme, _, host = request.headers.get("Origin", "").partition("://")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    if scheme and host and host == request.headers.get("Host") and site == "same-origin":
        return
    raise Denied("This form was not sent from a page of Regie.", hint="Open the page here, then send it again.")
