"""Reads what a request asks of Slack: whose token it carries, its arguments, its scopes and pages. Refuses the rest.

Slack says no with status 200 and `ok: false`; only being too fast has a status of its own. Contract:
docs.slack.dev/apis/web-api and .../rate-limits, read in November 2026.
"""

import hmac
import json
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request

from regie_sandbox import chat
from regie_sandbox.login import seal, unseal
from regie_sandbox.refusals import Refused, slack
from regie_sandbox.throttle import Throttle, retry_after
from regie_sandbox.world import World

_FORM, _JSON = "application/x-www-form-urlencoded", "application/json"
MOST_AT_ONCE = 999
DEFAULT_PAGE = 100


class Call:
    """One call of a method: the app behind it and its arguments. Made by `read_call`.

    Attributes:
        warnings: What was tolerated.
    """

    def __init__(self, app: chat.App, arguments: dict[str, Any], warnings: tuple[str, ...]) -> None:
        self.app = app
        self.arguments = arguments
        self.warnings = warnings

    def need(self, *scopes: str) -> None:
        """Refuse an app without one of the scopes."""
        for scope in scopes:
            if scope not in self.app.scopes:
                raise slack("missing_scope", needed=scope, provided=",".join(self.app.scopes))

    def text(self, name: str) -> str:
        """An argument that is text; empty when it is not given."""
        value = self.arguments.get(name, "")
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value) if isinstance(value, (str, int, float)) else ""

    def flag(self, name: str, *, default: bool = False) -> bool:
        """An argument that is a yes or a no."""
        given = self.text(name).casefold()
        return given in {"1", "true"} if given else default

    def structure(self, name: str) -> Any:
        """An argument that is JSON: itself in a JSON body, its text in a form."""
        value = self.arguments.get(name)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            return value


async def read_call(request: Request, *, takes_json: bool) -> Call:
    """Whose call it is and what it asks.

    Raises:
        Refused: `not_authed`, `invalid_auth`, or a body that the method does not take.
    """
    arguments: dict[str, Any] = dict(request.query_params)
    warnings: tuple[str, ...] = ()
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    kind = kind.strip().lower()
    if request.method == "POST" and await request.body():
        if kind == _FORM:
            arguments |= dict(parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True))
        elif kind == _JSON and takes_json:
            arguments = _json(await request.body())
            warnings = () if "charset" in parameters.lower() else ("missing_charset",)
        elif kind != _JSON:
            raise slack("invalid_post_type")
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    # A token in a JSON body does not count.
    given = token.strip() if scheme.lower() == "bearer" else "" if kind == _JSON else str(arguments.get("token", ""))
    if not given:
        raise slack("not_authed")
    for app in chat.APPS:
        if hmac.compare_digest(given.encode(), app.bot_token.encode()):
            request.state.headers["x-oauth-scopes"] = ",".join(app.scopes)
            return Call(app, arguments, warnings)
    raise slack("invalid_auth")


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        raise slack("invalid_json") from None
    if not isinstance(found, dict):
        raise slack("json_not_object")
    return found


def pace(world: World, throttle: Throttle, call: Call, method: str, tier: int) -> None:
    """Count a call of a method of this tier, for this app in this workspace."""
    window = world.rules.slack_tier(tier)
    _refuse_late(throttle.take(f"slack/{method}/{call.app.id}/{chat.TEAM}", [window], world.clock()))


def pace_channel(world: World, throttle: Throttle, channel: str) -> None:
    """Count a message to a channel, whoever sends it."""
    _refuse_late(throttle.take(f"slack/channel/{channel}", [world.rules.slack_channel], world.clock()))


def _refuse_late(wait: float | None) -> None:
    if wait is not None:
        raise Refused(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": retry_after(wait)})


def page(world: World, call: Call, found: list[Any]) -> tuple[list[Any], str]:
    """The part of a list that a call asks for, and the cursor of the next; empty at the end."""
    text = call.text("limit")
    if text and not text.isdecimal():
        raise slack("invalid_limit")
    size = int(text) if text else DEFAULT_PAGE
    if not 0 < size <= MOST_AT_ONCE:
        raise slack("invalid_limit")
    start = 0
    if cursor := call.text("cursor"):
        content = unseal(world.signing_key, cursor)
        if content is None or not isinstance(content.get("start"), int):
            raise slack("invalid_cursor")
        start = content["start"]
    following = start + size
    return found[start:following], seal(world.signing_key, {"start": following}) if following < len(found) else ""
