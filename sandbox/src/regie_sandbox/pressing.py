"""People press buttons in the chat: Slack tells the app so, signed, and waits three seconds for an answer.

The control API moves the hand; what goes out is what docs.slack.dev (interactivity, block_actions payload, verifying
requests) says. Slack does not send an interaction again, so neither does this; `POST /sandbox/slack/again` plays
whoever has kept one.
"""

import hashlib
import hmac
import json
import uuid
from typing import Any
from urllib.parse import urlencode

import httpx2
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from regie_sandbox import chat
from regie_sandbox.refusals import Refused
from regie_sandbox.world import World


class Interactivity(BaseModel):
    """Where the app takes interactions; no address means nowhere."""

    model_config = ConfigDict(extra="forbid")

    url: str | None


class Press(BaseModel):
    """Who presses which button of which message: an address or `stranger`, the message's id, the button's action."""

    model_config = ConfigDict(extra="forbid")

    who: str
    message: str
    action: str


class Kept(BaseModel):
    """A request as it went out once."""

    model_config = ConfigDict(extra="forbid")

    headers: dict[str, str]
    body: str


def sign(secret: str, moment: int, body: bytes) -> str:
    """The value of `X-Slack-Signature` for a raw body sent at a moment, in seconds since 1970."""
    return "v0=" + hmac.new(secret.encode(), f"v0:{moment}:".encode() + body, hashlib.sha256).hexdigest()


def signed(world: World, body: bytes, kind: str) -> dict[str, str]:
    """The headers of a request of Slack's that goes out now."""
    moment = int(world.clock().timestamp())
    return {
        "Content-Type": kind,
        "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
        "X-Slack-Request-Timestamp": str(moment),
        "X-Slack-Signature": sign(chat.REGIE_APP.signing_secret, moment, body),
    }


def routes(world: World, client: httpx2.AsyncClient) -> APIRouter:
    """The paths below `/sandbox/slack`."""
    router = APIRouter(prefix="/sandbox/slack")

    async def send(kept: Kept) -> dict[str, Any]:
        url = world.interactivity()
        if url is None:
            raise Refused(409, {"detail": "Nobody takes interactions; register with PUT /sandbox/slack/interactivity."})
        try:
            answer = await client.post(
                url, content=kept.body.encode(), headers=kept.headers, timeout=world.rules.slack_answer_seconds
            )
            status, text = answer.status_code, answer.text
        except httpx2.TransportError as error:
            status, text = None, type(error).__name__
        return {"status": status, "body": text, "sent": kept.model_dump()}

    @router.put("/interactivity", status_code=204)
    async def register(given: Interactivity) -> None:
        world.set_interactivity(given.url)

    @router.post("/press")
    async def press(given: Press) -> dict[str, Any]:
        body = urlencode({"payload": json.dumps(_payload(world, given), ensure_ascii=False)}).encode()
        return await send(Kept(headers=signed(world, body, "application/x-www-form-urlencoded"), body=body.decode()))

    @router.post("/again")
    async def again(kept: Kept) -> dict[str, Any]:
        return await send(kept)

    @router.post("/challenge")
    async def challenge() -> dict[str, Any]:
        given = {"type": "url_verification", "token": "deprecated", "challenge": uuid.uuid4().hex}
        body = json.dumps(given).encode()
        return await send(Kept(headers=signed(world, body, "application/json"), body=body.decode()))

    return router


def _payload(world: World, given: Press) -> dict[str, Any]:
    """What Slack tells about a button that somebody pressed."""
    message = world.messages.get(given.message)
    buttons = [
        {**element, "block_id": block.get("block_id", "")}
        for block in (message.blocks if message else [])
        for element in block.get("elements", [])
        if element.get("action_id") == given.action
    ]
    if message is None or not buttons:
        raise Refused(404, {"detail": f"No message {given.message} has a button {given.action}."})
    user, team = _presser(world, given.who)
    [button, *_] = buttons
    return {
        "type": "block_actions",
        "user": {"id": user, "team_id": team},
        "api_app_id": message.app,
        "token": "deprecated",
        "container": {"type": "message", "message_ts": message.ts, "channel_id": message.channel},
        "trigger_id": f"{uuid.uuid4().int % 10**12}.{uuid.uuid4().hex}",
        "team": {"id": chat.TEAM, "domain": "example"},
        "channel": {"id": message.channel, "name": "conversation"},
        "message": {"type": "message", "ts": message.ts, "text": message.text, "blocks": message.blocks},
        "response_url": "https://hooks.slack.com/actions/nowhere",
        "actions": [
            {
                "type": "button",
                "action_id": button["action_id"],
                "block_id": button["block_id"],
                "value": button.get("value", ""),
                "action_ts": f"{world.clock().timestamp():.6f}",
            }
        ],
    }


def _presser(world: World, who: str) -> tuple[str, str]:
    if who == "stranger":
        return chat.STRANGER.id, chat.OTHER_TEAM
    person = world.person(who)
    if person is None:
        raise Refused(404, {"detail": f"Nobody in this world is called {who}."})
    return chat.user_id(person), chat.TEAM
