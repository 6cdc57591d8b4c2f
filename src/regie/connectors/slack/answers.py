"""What Slack answers: the shapes we read, the lists with their pages, and a no that comes with status 200.

Contract: docs.slack.dev/apis/web-api (evaluating responses), docs.slack.dev/apis/web-api/pagination.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import TypeVar

from pydantic import Field, JsonValue, ValidationError

from regie.core.errors import (
    AuthFailed,
    NotFound,
    OutcomeUnknown,
    Refused,
    RegieError,
    Terminal,
    Throttled,
    Unavailable,
)
from regie.kit.paging import cursors
from regie.kit.session import Answer, Session, Wild, retry_after_s

_PAGE = 200
"""Entries asked for at once: no more than that is recommended (docs.slack.dev, pagination)."""

_SAFE = re.compile(r"[a-z_:.,]{1,80}")

_CREDENTIALS = {
    "access_denied",
    "account_inactive",
    "ekm_access_denied",
    "enterprise_is_restricted",
    "invalid_auth",
    "missing_scope",
    "no_permission",
    "not_allowed_token_type",
    "not_authed",
    "org_login_required",
    "team_access_not_granted",
    "token_expired",
    "token_revoked",
    "two_factor_setup_required",
}
_MISSING = {"channel_not_found", "message_not_found", "user_not_found", "user_not_visible", "users_not_found"}
_LATER = {"request_timeout", "team_added_to_org"}
_HALF_DONE = {"fatal_error", "internal_error", "service_unavailable"}
"""Of these Slack says that some of the operation may have succeeded, or not that none has (docs.slack.dev, errors)."""


class Verdict(Wild):
    """Whether Slack did what was asked; `needed` is a scope that the app lacks."""

    ok: bool
    error: str = ""
    needed: str = ""


class Profile(Wild):
    """What somebody tells about themselves."""

    email: str = ""


class Enterprise(Wild):
    """The workspaces of an organisation that somebody belongs to."""

    teams: list[str] = []


class User(Wild):
    """A person; a stranger is one of another workspace with whom a channel is shared."""

    id: str
    team: str = Field(default="", alias="team_id")
    deleted: bool = False
    is_bot: bool = False
    is_guest: bool = Field(default=False, alias="is_restricted")
    is_single_channel_guest: bool = Field(default=False, alias="is_ultra_restricted")
    is_stranger: bool = False
    is_email_confirmed: bool = False
    profile: Profile = Profile()
    enterprise: Enterprise = Field(default=Enterprise(), alias="enterprise_user")


class FoundUser(Wild):
    """The answer of the methods that find a person."""

    user: User


class Direct(Wild):
    """A conversation of the app with one person."""

    id: str
    user: str = ""


class Payload(Wild):
    """What our own metadata holds: digests only."""

    mark: str = ""
    text_sha256: str = ""


class Metadata(Wild):
    """What apps tell each other about a message."""

    event_type: str = ""
    event_payload: Payload = Payload()


class Message(Wild):
    """A message in a history."""

    ts: str
    text: str = ""
    app: str = Field(default="", alias="app_id")
    metadata: Metadata = Metadata()


class History(Wild):
    """A page of a history."""

    messages: list[Message]


class Sent(Wild):
    """Where a message stands now; `ts` is its moment and its name there."""

    channel: str
    ts: str


class Signed(Wild):
    """Whose token it is."""

    team: str = Field(alias="team_id")


class Named(Wild):
    """Something of which only the id counts."""

    id: str = ""


class Pressed(Wild):
    """A button that somebody used."""

    action_id: str = ""
    value: str = ""


class Interaction(Wild):
    """What Slack tells when somebody uses a button, and the outer part of its events."""

    type: str = ""
    challenge: str = ""
    app: str = Field(default="", alias="api_app_id")
    team: Named = Named()
    user: Named = Named()
    trigger_id: str = ""
    actions: list[Pressed] = []


Shape = TypeVar("Shape", bound=Wild)


def said(answer: Answer, shape: type[Shape]) -> Shape:
    """What Slack answered; it says no with status 200 and `ok: false`.

    Raises:
        RegieError: It said no.
    """
    verdict = answer.read_as(Verdict)
    if verdict.ok:
        return answer.read_as(shape)
    raise _failure(answer, verdict)


def _failure(answer: Answer, verdict: Verdict) -> RegieError:
    """The one place where a code of Slack's becomes one of our errors."""
    code = verdict.error if _SAFE.fullmatch(verdict.error) else "an error without a code"
    said = f"{answer.request} answered {code}"
    if code in _CREDENTIALS:
        needed = f"does the app have {verdict.needed}?" if _SAFE.fullmatch(verdict.needed) else None
        return AuthFailed(said, hint=needed or "is the bot token still valid, and the app still installed?")
    if code in _MISSING:
        return NotFound(said)
    if code in {"ratelimited", "rate_limited"}:
        return Throttled(said, after_s=retry_after_s(answer.headers))
    if code in _LATER:
        return Unavailable(said, after_s=retry_after_s(answer.headers))
    if code in _HALF_DONE:
        kind = OutcomeUnknown if answer.was_write else Unavailable
        return kind(said, after_s=retry_after_s(answer.headers))
    hint = "invite the app to the channel" if code == "not_in_channel" else None
    return Refused(said, status=answer.status, code=code, hint=hint)


async def ask(session: Session, method: str, shape: type[Shape], **params: str | int) -> Shape:
    """Read through a method. Raises what `said` and `Session.get` raise."""
    return said(await session.get(f"/{method}", params=params), shape)


async def entries(
    session: Session, method: str, items: str, shape: type[Shape], **params: str | int
) -> AsyncIterator[Shape]:
    """Every entry of a list, page by page."""

    async def page(cursor: str) -> JsonValue:
        answer = await session.get(
            f"/{method}", params={**params, "limit": _PAGE, **({"cursor": cursor} if cursor else {})}
        )
        said(answer, Wild)
        return answer.json

    try:
        async for entry in cursors(page, method, items=items):
            yield shape.model_validate(entry)
    except ValidationError:
        raise Terminal(f"An entry of {method} has a shape we do not know") from None
