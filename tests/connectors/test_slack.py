"""What is particular to Slack: a no with status 200, whose messages count, texts that are no markup, buttons."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from regie.connectors.slack.connector import Slack, _escaped
from regie.core.capabilities import message
from regie.core.errors import (
    AuthFailed,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Refused,
    RegieError,
    Throttled,
    Unavailable,
)
from regie.core.plan import Change, NoChange, Receipt
from regie.kit.session import Session

from .conftest import Handler, Recorded

MARKER = "regie-0123456789abcdef0123"
SETTINGS: dict[str, JsonValue] = {"workspace": "T012AB3C4", "app": "A012ABCD0", "decides": True}
PLAN = "ab" * 32
APPROVAL = "0b0e7a5e-5d0e-5c43-9a37-5f2f9d1f0001"

Of = Callable[[str], Recorded]


def ok(**more: Any) -> httpx2.Response:
    return httpx2.Response(200, json={"ok": True, **more})


def no(code: str, **more: Any) -> Handler:
    return lambda _: httpx2.Response(200, json={"ok": False, "error": code, **more})


def want(**more: str) -> message.NewMessage:
    return message.NewMessage(**{"to": "certificates", "text": "Soon", **more})


@pytest.mark.parametrize(
    ("code", "of_read", "of_write"),
    [
        ("invalid_auth", AuthFailed, AuthFailed),
        ("missing_scope", AuthFailed, AuthFailed),
        ("channel_not_found", NotFound, NotFound),
        ("ratelimited", Throttled, Throttled),
        ("service_unavailable", Unavailable, OutcomeUnknown),
        ("internal_error", Unavailable, OutcomeUnknown),
        ("fatal_error", Unavailable, OutcomeUnknown),
        ("not_in_channel", Refused, Refused),
        ("something_new", Refused, Refused),
        ("<b>secret words</b>", Refused, Refused),
    ],
)
async def test_a_no_with_status_200_is_a_no(
    recorded: Of, code: str, of_read: type[RegieError], of_write: type[RegieError]
) -> None:
    write = recorded("slack").write("message.send", no(code, needed="chat:write"))
    with pytest.raises(RegieError) as caught:
        await write.observe(want(), MARKER)
    assert type(caught.value) is of_read
    change = write.plan(want(), {"place": "C012AB3CD", "id": "", "text": None, "is_current": False})
    assert isinstance(change, Change)
    with pytest.raises(RegieError) as caught:
        await write.apply(want(), change, MARKER)
    assert type(caught.value) is of_write
    assert "secret words" not in str(caught.value)


async def test_what_an_app_lacks_is_named(recorded: Of) -> None:
    write = recorded("slack").write("message.send", no("missing_scope", needed="channels:history"))
    with pytest.raises(AuthFailed) as caught:
        await write.observe(want(), MARKER)
    assert caught.value.hint == "does the app have channels:history?"


class Workspace:
    """A channel's history, newest first, and what is sent to it."""

    def __init__(self, *messages: JsonValue, direct: str = "") -> None:
        self.messages = list(messages)
        self.direct = direct
        self.asked: list[str] = []
        self.sent: list[tuple[str, Any]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        method = request.url.path.removeprefix("/api/")
        query = request.url.params
        self.asked.append(method)
        match method:
            case "conversations.history":
                start = int(query.get("cursor", "0"))
                page = self.messages[start : start + 2]
                following = str(start + 2) if start + 2 < len(self.messages) else ""
                return ok(messages=page, response_metadata={"next_cursor": following})
            case "users.lookupByEmail":
                return ok(user={"id": "U1"})
            case "users.conversations":
                return ok(
                    channels=[{"id": "D0", "user": "U0"}, *([{"id": self.direct, "user": "U1"}] if self.direct else [])]
                )
            case _:
                self.sent.append((method, json.loads(request.content)))
                return ok(channel="D9", ts="9.000009")


def ours(ts: str, *, app: str = "A012ABCD0", mark: str = MARKER, kind: str = "regie_message") -> JsonValue:
    payload: JsonValue = {"mark": mark, "text_sha256": "00"}
    metadata: JsonValue = {"event_type": kind, "event_payload": payload}
    return {"ts": ts, "text": "Then &amp; now", "app_id": app, "metadata": metadata}


async def test_only_what_our_own_app_has_sent_counts(recorded: Of) -> None:
    """Every app of the workspace reads our metadata and could copy it, to keep us from telling."""
    workspace = Workspace(ours("3.0", app="A0OTHER"), ours("2.0", kind="other"), ours("1.0", mark="regie-00"))
    write = recorded("slack").write("message.send", workspace)
    assert isinstance(write.plan(want(), await write.observe(want(), MARKER)), Change)


async def test_a_message_is_found_pages_back_and_no_further_than_wanted(recorded: Of) -> None:
    others: list[JsonValue] = [{"ts": f"{number}.0", "text": "x"} for number in range(9, 4, -1)]
    workspace = Workspace(*others, ours("4.0"))
    write = recorded("slack").write("message.send", workspace)
    assert isinstance(write.plan(want(), await write.observe(want(), MARKER)), NoChange)
    near = recorded("slack").write("message.send", workspace, look_back=4)
    asked = len(workspace.asked)
    assert isinstance(near.plan(want(), await near.observe(want(), MARKER)), Change)
    assert len(workspace.asked) - asked == 2


async def test_a_message_with_a_key_is_brought_up_to_date_and_one_without_stands(recorded: Of) -> None:
    workspace = Workspace(ours("4.0"))
    write = recorded("slack").write("message.send", workspace)
    seen = await write.observe(want(key="www"), MARKER)
    change = write.plan(want(key="www"), seen)
    assert isinstance(change, Change)
    assert (change.target, change.fields[0].before, change.fields[0].after) == (
        "message:C012AB3CD:4.0",
        "Then & now",
        "Soon",
    )
    await write.apply(want(key="www"), change, MARKER)
    [(method, sent)] = workspace.sent
    assert (method, sent["channel"], sent["ts"], sent["text"]) == ("chat.update", "C012AB3CD", "4.0", "Soon")
    assert isinstance(write.plan(want(), seen), NoChange)


@pytest.mark.parametrize("direct", ["", "D1"])
async def test_a_person_is_written_to_with_or_without_a_conversation(recorded: Of, direct: str) -> None:
    workspace = Workspace(direct=direct)
    write = recorded("slack").write("message.send", workspace)
    asked = want(to="zoe.dubois@example.com")
    change = write.plan(asked, await write.observe(asked, MARKER))
    assert isinstance(change, Change)
    receipt = await write.apply(asked, change, MARKER)
    assert workspace.sent[0][1]["channel"] == (direct or "U1")
    assert isinstance(receipt, Receipt)
    assert receipt.remote_id == "D9:9.000009"
    assert ("conversations.history" in workspace.asked) == bool(direct)


async def test_an_unknown_channel_is_named_with_those_there_are(recorded: Of) -> None:
    write = recorded("slack").write("message.send", Workspace())
    with pytest.raises(NotFound, match="no channel 'alerts'") as caught:
        await write.observe(want(to="alerts"), MARKER)
    assert "certificates" in (caught.value.hint or "")
    await write.observe(want(to="C0OTHER01"), MARKER)


@pytest.mark.parametrize("link", ["javascript:alert(1)", "https://", "https://a b", "ftp://x", "https://a\n<!channel>"])
async def test_what_is_no_link_is_refused(recorded: Of, link: str) -> None:
    write = recorded("slack").write("message.send", Workspace())
    with pytest.raises(InvalidInput):
        await write.observe(want(link=link), MARKER)


@given(text=st.text())
def test_no_text_is_markup_and_none_is_too_long(text: str) -> None:
    written = _escaped(text)
    assert "<" not in written
    assert ">" not in written
    assert len(written) <= 2_900


@given(text=st.text(alphabet="<&>a", min_size=3_000, max_size=3_000))
def test_a_long_text_is_cut_between_characters(text: str) -> None:
    written = _escaped(text * 2)
    assert written.endswith("longer than Slack shows)")
    beginning = written.removesuffix("... (cut: the text was longer than Slack shows)")
    assert beginning.replace("&lt;", "").replace("&gt;", "").replace("&amp;", "").replace("a", "") == ""


def pressed(**change: JsonValue) -> JsonValue:
    action: JsonValue = {"action_id": "regie_approve", "value": f"{APPROVAL}:{PLAN}"}
    return {
        "type": "block_actions",
        "api_app_id": "A012ABCD0",
        "team": {"id": "T012AB3C4"},
        "user": {"id": "U1", "team_id": "T012AB3C4"},
        "trigger_id": "1.2",
        "actions": [action],
        **change,
    }


def test_a_button_about_an_approval_is_a_decision() -> None:
    event = Slack.inbound(SETTINGS, pressed())
    assert (event.kind, event.approval, event.plan_sha256, event.decision, event.by_id) == (
        "decided",
        APPROVAL,
        PLAN,
        "approved",
        "U1",
    )
    refused: JsonValue = [{"action_id": "regie_refuse", "value": f"{APPROVAL}:{PLAN}"}]
    assert Slack.inbound(SETTINGS, pressed(actions=refused)).decision == "refused"


@pytest.mark.parametrize(
    "payload",
    [
        pressed(api_app_id="A0OTHER"),
        pressed(team={"id": "T0OTHER"}),
        pressed(actions=[]),
        pressed(actions=[{"action_id": "regie_approve", "value": "all of them"}]),
        pressed(actions=[{"action_id": "something", "value": f"{APPROVAL}:{PLAN}"}]),
        pressed(type="view_submission"),
        {"type": "event_callback", "event": {"type": "message"}},
        {"type": 7},
        {},
        [],
        None,
    ],
)
def test_everything_else_is_answered_and_not_acted_on(payload: JsonValue) -> None:
    assert Slack.inbound(SETTINGS, payload).kind == "acknowledged"


def test_a_challenge_is_answered() -> None:
    event = Slack.inbound(SETTINGS, {"type": "url_verification", "challenge": "3eZbrw1aB"})
    assert (event.kind, event.challenge) == ("acknowledged", "3eZbrw1aB")


USER: dict[str, JsonValue] = {
    "id": "U1",
    "team_id": "T012AB3C4",
    "is_email_confirmed": True,
    "profile": {"email": "zoe@example.com"},
}


@pytest.mark.parametrize(
    ("change", "email"),
    [
        ({}, "zoe@example.com"),
        ({"team_id": "E0GRID", "enterprise_user": {"teams": ["T012AB3C4"]}}, "zoe@example.com"),
        ({"team_id": "T0OTHER"}, ""),
        ({"is_stranger": True}, ""),
        ({"deleted": True}, ""),
        ({"is_bot": True}, ""),
        ({"is_restricted": True}, ""),
        ({"is_ultra_restricted": True}, ""),
        ({"is_email_confirmed": False}, ""),
        ({"profile": {}}, ""),
    ],
)
async def test_an_address_counts_only_where_the_workspace_vouches_for_it(
    recorded: Of, change: dict[str, JsonValue], email: str
) -> None:
    read = recorded("slack").read("message.identify_person", lambda _: ok(user={**USER, **change}))
    found = await read.read(message.ChatPerson(id="U1"))
    assert (found.email, bool(found.reason)) == (email, not email)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda _: ok(team_id="T012AB3C4"), None),
        (lambda _: ok(team_id="T0OTHER"), AuthFailed),
        (no("invalid_auth"), AuthFailed),
    ],
)
async def test_a_probe_believes_no_status(recorded: Of, answer: Handler, error: type[RegieError] | None) -> None:
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer), base_url="https://slack.com/api") as client:
        slack = Slack(Session(client, vendor="Slack"), SETTINGS)
        if error is None:
            await slack.probe("/auth.test")
        else:
            with pytest.raises(error):
                await slack.probe("/auth.test")
