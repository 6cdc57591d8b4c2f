"""The imitation of Slack: what it answers, refuses and throttles, and what it sends when people press buttons."""

import hashlib
import hmac
import json
from typing import Any
from urllib.parse import parse_qs

import httpx2
import pytest

from regie_sandbox import chat

from .conftest import Outside

pytestmark = pytest.mark.slow

BOT = {"Authorization": f"Bearer {chat.REGIE_APP.bot_token}"}
WRITER = {"Authorization": f"Bearer {chat.WRITER_APP.bot_token}"}
JSON = {"Content-Type": "application/json; charset=utf-8"}
CHANNEL = "C0CERTIFIC"


async def call(outside: Outside, method: str, body: Any = None, **rest: Any) -> httpx2.Response:
    """One call with Regie's token and a JSON body."""
    headers = {**BOT, **JSON, **rest.pop("headers", {})}
    content = json.dumps(body).encode() if body is not None else rest.pop("content", None)
    return await outside.http.post(f"/slack/api/{method}", content=content, headers=headers, **rest)


async def read(outside: Outside, method: str, headers: dict[str, str] | None = None, **query: Any) -> dict[str, Any]:
    answer = await outside.http.get(f"/slack/api/{method}", params=query, headers=headers or BOT)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def say(outside: Outside, text: str = "Hello", channel: str = CHANNEL, **more: Any) -> dict[str, Any]:
    outside.clock.forward(1)
    found: dict[str, Any] = (await call(outside, "chat.postMessage", {"channel": channel, "text": text, **more})).json()
    return found


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, "not_authed"),
        ({"Authorization": "Basic eDp5"}, "not_authed"),
        ({"Authorization": "Bearer xoxb-wrong"}, "invalid_auth"),
    ],
)
async def test_no_without_a_token_has_status_200(outside: Outside, headers: dict[str, str], error: str) -> None:
    answer = await outside.http.post("/slack/api/auth.test", headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"ok": False, "error": error})
    assert answer.headers["x-slack-req-id"]


async def test_a_token_tells_its_app_and_its_scopes(outside: Outside) -> None:
    answer = await outside.http.get("/slack/api/auth.test", headers=BOT)
    assert (answer.json()["ok"], answer.json()["team_id"]) == (True, chat.TEAM)
    assert answer.headers["x-oauth-scopes"] == ",".join(chat.REGIE_APP.scopes)
    form = await outside.http.post("/slack/api/auth.test", data={"token": chat.WRITER_APP.bot_token})
    assert form.json()["bot_id"] == chat.WRITER_APP.bot_id


async def test_a_missing_scope_is_named(outside: Outside) -> None:
    found = await read(outside, "conversations.history", WRITER, channel=CHANNEL)
    assert (found["error"], found["needed"], found["provided"]) == ("missing_scope", "channels:history", "chat:write")
    assert (await read(outside, "users.lookupByEmail", WRITER, email="x"))["needed"] == "users:read.email"


async def test_forms_and_json_are_both_taken(outside: Outside) -> None:
    metadata = {"event_type": "task", "event_payload": {"id": "7"}}
    form = {"channel": CHANNEL, "text": "Zoë & <b>", "metadata": json.dumps(metadata)}
    by_form = (await outside.http.post("/slack/api/chat.postMessage", data=form, headers=BOT)).json()
    by_json = await say(outside, "Zoë & <b>", metadata=metadata)
    assert by_form["message"]["metadata"] == by_json["message"]["metadata"] == metadata
    assert by_form["ts"] != by_json["ts"]


@pytest.mark.parametrize(
    ("content", "kind", "error"),
    [
        (b"{", "application/json; charset=utf-8", "invalid_json"),
        (b"[]", "application/json; charset=utf-8", "json_not_object"),
        (b"x", "text/plain", "invalid_post_type"),
    ],
)
async def test_a_body_that_is_none_is_refused(outside: Outside, content: bytes, kind: str, error: str) -> None:
    answer = await call(outside, "chat.postMessage", headers={"Content-Type": kind}, content=content)
    assert answer.json()["error"] == error


async def test_json_without_its_charset_is_taken_with_a_warning(outside: Outside) -> None:
    body = {"channel": CHANNEL, "text": "x"}
    answer = await call(outside, "chat.postMessage", body, headers={"Content-Type": "application/json"})
    assert (answer.json()["ok"], answer.json()["warning"]) == (True, "missing_charset")
    # A token in JSON does not count.
    json_only = json.dumps({**body, "token": chat.REGIE_APP.bot_token}).encode()
    bare = await outside.http.post("/slack/api/chat.postMessage", content=json_only, headers=JSON)
    assert bare.json()["error"] == "not_authed"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"channel": "C0NOWHERE1", "text": "x"}, "channel_not_found"),
        ({"channel": "C0BOARD001", "text": "x"}, "channel_not_found"),
        ({"channel": "C0LOBBY001", "text": "x"}, "not_in_channel"),
        ({"channel": "C0ATTIC001", "text": "x"}, "is_archived"),
        ({"channel": CHANNEL}, "no_text"),
        ({"channel": CHANNEL, "text": "x", "metadata": {"event_type": "no good name"}}, "invalid_metadata_format"),
        ({"channel": CHANNEL, "text": "x", "blocks": [7]}, "invalid_blocks"),
    ],
)
async def test_what_slack_refuses_is_refused(outside: Outside, body: dict[str, Any], error: str) -> None:
    assert (await call(outside, "chat.postMessage", body)).json() == {"ok": False, "error": error}
    assert await outside.ledger() == []


async def test_a_history_has_pages_newest_first(outside: Outside) -> None:
    for number in range(5):
        await say(outside, str(number))
    texts, cursor = [], ""
    for _ in range(3):
        found = await read(outside, "conversations.history", channel=CHANNEL, limit=2, cursor=cursor)
        texts.append([each["text"] for each in found["messages"]])
        cursor = found.get("response_metadata", {}).get("next_cursor", "")
        assert found["has_more"] == bool(cursor)
    assert (texts, cursor) == ([["4", "3"], ["2", "1"], ["0"]], "")
    assert (await read(outside, "conversations.history", channel=CHANNEL, cursor="x"))["error"] == "invalid_cursor"
    assert (await read(outside, "conversations.history", channel=CHANNEL, limit=1000))["error"] == "invalid_limit"


async def test_what_metadata_holds_is_told_to_those_who_ask(outside: Outside) -> None:
    metadata = {"event_type": "task", "event_payload": {"id": "7"}}
    ts = (await say(outside, metadata=metadata))["ts"]
    await say(outside, "later")
    one = {"channel": CHANNEL, "oldest": ts, "latest": ts, "inclusive": "true", "limit": 1}
    [shy] = (await read(outside, "conversations.history", **one))["messages"]
    [open_] = (await read(outside, "conversations.history", include_all_metadata="true", **one))["messages"]
    assert shy["metadata"] == {"event_type": "task"}
    assert open_["metadata"] == metadata
    assert open_["app_id"] == chat.REGIE_APP.id


async def test_a_message_is_edited_by_its_app_only(outside: Outside) -> None:
    metadata = {"event_type": "task", "event_payload": {"id": "7"}}
    ts = (await say(outside, metadata=metadata, blocks=[{"type": "divider"}]))["ts"]
    edit = {"channel": CHANNEL, "ts": ts, "text": "Bye"}
    assert (await call(outside, "chat.update", edit, headers=WRITER)).json()["error"] == "cant_update_message"
    assert (await call(outside, "chat.update", {**edit, "ts": "1.0"})).json()["error"] == "message_not_found"
    edited = (await call(outside, "chat.update", edit)).json()["message"]
    assert (edited["text"], edited["metadata"], "blocks" in edited) == ("Bye", metadata, False)
    gone = (await call(outside, "chat.update", {**edit, "metadata": {}})).json()["message"]
    assert "metadata" not in gone
    assert [each["system"] for each in await outside.ledger()] == ["slack"] * 3


async def test_links_are_found_unless_slack_is_told_not_to_look(outside: Outside) -> None:
    assert (await say(outside, "See https://example.com now"))["message"]["text"] == "See <https://example.com> now"
    quiet = await say(outside, "See https://example.com now", parse="none")
    assert quiet["message"]["text"] == "See https://example.com now"


async def test_a_person_gets_a_conversation_with_the_first_message(outside: Outside) -> None:
    zoe = (await read(outside, "users.lookupByEmail", email="ZOE.dubois@example.com"))["user"]
    assert zoe["profile"]["email"] == "zoe.dubois@example.com"
    assert (await read(outside, "users.conversations", types="im"))["channels"] == []
    sent = await say(outside, channel=zoe["id"])
    [direct] = (await read(outside, "users.conversations", types="im"))["channels"]
    assert (direct["id"], direct["user"]) == (sent["channel"], zoe["id"])
    assert (await read(outside, "conversations.history", channel=direct["id"]))["messages"][0]["text"] == "Hello"
    # Another app has a conversation of its own.
    assert (await read(outside, "conversations.history", WRITER, channel=direct["id"]))["error"] == "channel_not_found"
    for gone in ("karel.novak@example.com", "nobody@example.com"):
        assert (await read(outside, "users.lookupByEmail", email=gone))["error"] == "users_not_found"


async def test_a_channel_takes_one_message_in_a_second(outside: Outside) -> None:
    await say(outside)
    body = {"channel": CHANNEL, "text": "x"}
    late = await call(outside, "chat.postMessage", body)
    assert (late.status_code, late.headers["Retry-After"]) == (429, "1")
    assert late.json() == {"ok": False, "error": "ratelimited"}
    assert (await call(outside, "chat.postMessage", {**body, "channel": "C0ALERTS01"})).json()["ok"]
    outside.clock.forward(1)
    assert (await call(outside, "chat.postMessage", body)).json()["ok"]


async def test_a_method_of_tier_3_is_counted_by_itself_and_by_app(outside: Outside) -> None:
    for _ in range(50):
        await read(outside, "conversations.history", channel=CHANNEL)
    late = await outside.http.get("/slack/api/conversations.history", params={"channel": CHANNEL}, headers=BOT)
    assert (late.status_code, late.headers["Retry-After"]) == (429, "60")
    assert (await read(outside, "users.conversations", types="im"))["ok"]
    assert (await read(outside, "conversations.history", WRITER, channel=CHANNEL))["error"] == "missing_scope"
    outside.clock.forward(60)
    assert (await read(outside, "conversations.history", channel=CHANNEL))["ok"]


async def test_a_history_may_be_late(outside: Outside) -> None:
    await outside.rules(slack_history_delay_seconds=5)
    await say(outside)
    assert (await read(outside, "conversations.history", channel=CHANNEL))["messages"] == []
    outside.clock.forward(5)
    assert len((await read(outside, "conversations.history", channel=CHANNEL))["messages"]) == 1


BUTTON = {"type": "button", "action_id": "yes", "value": "7", "text": {"type": "plain_text", "text": "Yes"}}


async def test_a_press_goes_out_signed_and_is_not_sent_again(outside: Outside) -> None:
    ts = (await say(outside, blocks=[{"type": "actions", "elements": [BUTTON]}]))["ts"]
    press = {"who": "ingrid.larsen@example.com", "message": f"{CHANNEL}:{ts}", "action": "yes"}
    assert (await outside.http.post("/sandbox/slack/press", json=press)).status_code == 409
    await outside.http.put("/sandbox/slack/interactivity", json={"url": "http://127.0.0.1:9/slack"})
    outside.listener.answers = [500]
    answer = (await outside.http.post("/sandbox/slack/press", json=press)).json()
    assert answer["status"] == 500
    [request] = outside.listener.requests
    moment = request.headers["X-Slack-Request-Timestamp"]
    assert int(moment) == int(outside.clock().timestamp())
    base = f"v0:{moment}:".encode() + request.content
    digest = hmac.new(chat.REGIE_APP.signing_secret.encode(), base, hashlib.sha256).hexdigest()
    assert request.headers["X-Slack-Signature"] == f"v0={digest}"
    payload = json.loads(parse_qs(request.content.decode())["payload"][0])
    assert (payload["type"], payload["api_app_id"], payload["team"]["id"]) == (
        "block_actions",
        chat.REGIE_APP.id,
        chat.TEAM,
    )
    assert payload["actions"][0]["value"] == "7"
    person = (await read(outside, "users.info", user=payload["user"]["id"]))["user"]
    assert person["profile"]["email"] == "ingrid.larsen@example.com"

    kept = await outside.http.post("/sandbox/slack/again", json=answer["sent"])
    assert kept.json()["status"] == 202
    assert outside.listener.requests[1].content == request.content
    missing = await outside.http.post("/sandbox/slack/press", json={**press, "action": "no"})
    assert missing.status_code == 404


async def test_a_stranger_says_what_they_like_and_is_one(outside: Outside) -> None:
    found = (await read(outside, "users.info", user=chat.STRANGER.id))["user"]
    assert (found["team_id"], found["is_stranger"]) == (chat.OTHER_TEAM, True)
    assert found["profile"]["email"] == "ingrid.larsen@example.com"


async def test_an_unknown_method_and_a_spoilt_call(outside: Outside) -> None:
    assert (await read(outside, "chat.shout"))["error"] == "unknown_method"
    await outside.fault(kind="status", path="/slack/api", status=500)
    answer = await outside.http.get("/slack/api/auth.test", headers=BOT)
    assert (answer.status_code, answer.json()["error"]) == (500, "internal_error")
