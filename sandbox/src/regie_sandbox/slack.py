"""Slack's Web API, as far as telling people needs it: messages, histories, people.

Who may do what follows the scopes of the app behind the token; a message goes into the world and its ledger in one
transaction. Contract: docs.slack.dev (methods, message metadata, formatting), read in November 2026.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request

from regie_sandbox import chat
from regie_sandbox.ledger import Entry
from regie_sandbox.people import Person
from regie_sandbox.refusals import slack
from regie_sandbox.slack_requests import Call, pace, pace_channel, page, read_call
from regie_sandbox.throttle import Throttle
from regie_sandbox.world import World

TEXT_LIMIT = 40_000
METADATA_NAME = re.compile(r"[A-Za-z0-9_]{1,255}")
_BARE_LINK = re.compile(r"(?<![<|\w])https?://[^\s<>|]+")

Answer = dict[str, Any]
Method = Callable[[Request, Call], Awaitable[Answer]]


class Office:
    """Finds conversations and people or refuses, and turns messages into records and ledger entries."""

    def __init__(self, world: World) -> None:
        self.world = world

    def people(self) -> dict[str, Person]:
        """Everybody in the workspace, by id."""
        return {chat.user_id(person): person for person in self.world.people.values()}

    def conversation(self, call: Call, channel: str) -> chat.Kind:
        """What kind of conversation it is that the app is in.

        Raises:
            Refused: `channel_not_found`, also where the app may not know of it; `not_in_channel`.
        """
        direct = self.world.directs.get(channel)
        if direct is not None and direct.bot_user == call.app.bot_user:
            return "im"
        found = next((each for each in chat.CHANNELS if each.id == channel), None)
        if found is None or (found.is_private and call.app.bot_user not in found.members):
            raise slack("channel_not_found")
        if call.app.bot_user not in found.members:
            raise slack("not_in_channel")
        return "private_channel" if found.is_private else "public_channel"

    def history(self, channel: str) -> list[chat.ChatMessage]:
        """The messages of a conversation that show by now, newest first."""
        shown_until = self.world.clock().timestamp() - self.world.rules.slack_history_delay_seconds
        found = [
            each
            for each in self.world.messages.values()
            if each.channel == channel and float(each.ts) <= shown_until + 0.001
        ]
        return sorted(found, key=lambda each: float(each.ts), reverse=True)

    def addressee(self, call: Call, channel: str) -> tuple[str, chat.Direct | None]:
        """Where a message goes: a channel by id or name, or a person, with whom a conversation may have to begin."""
        people = self.people()
        if channel in people:
            if not people[channel].account_enabled:
                raise slack("channel_not_found")
            identity = chat.direct_id(call.app.bot_user, channel)
            known = identity in self.world.directs
            new = chat.Direct(id=identity, bot_user=call.app.bot_user, user=channel)
            return identity, None if known else new
        named = next((each.id for each in chat.CHANNELS if each.name == channel.removeprefix("#")), channel)
        self.conversation(call, named)
        if any(each.id == named and each.is_archived for each in chat.CHANNELS):
            raise slack("is_archived")
        return named, None

    def moment(self, channel: str) -> str:
        """The name of the next message of a channel: its moment, later than those before."""
        before = (float(each.ts) for each in self.world.messages.values() if each.channel == channel)
        newest = max(before, default=0.0)
        return f"{max(self.world.clock().timestamp(), newest + 0.000001):.6f}"

    def save(self, request: Request, call: Call, message: chat.ChatMessage, before: Answer, *more: chat.Direct) -> None:
        """Keep a message that was sent or edited."""
        after = {"text": message.text, "metadata": message.metadata}
        entry = Entry(
            at=self.world.clock().isoformat(),
            system="slack",
            about="message",
            method=request.method,
            path=request.url.path,
            actor=call.app.name,
            target=message.channel,
            before=before,
            after=after,
            request_id=request.state.request_id,
        )
        self.world.save(*more, message, entries=[entry])


def shown(message: chat.ChatMessage, *, with_payload: bool) -> Answer:
    """A message as a history shows it; what its metadata holds only to those who ask for it."""
    answer: Answer = {
        "type": "message",
        "user": message.bot_user,
        "bot_id": message.bot_id,
        "app_id": message.app,
        "team": chat.TEAM,
        "text": message.text,
        "ts": message.ts,
    }
    if message.blocks:
        answer["blocks"] = message.blocks
    if message.edited:
        answer["edited"] = {"user": message.bot_user, "ts": message.edited}
    if message.metadata:
        answer["metadata"] = message.metadata if with_payload else {"event_type": message.metadata["event_type"]}
    return answer


def user_shown(person: Person, *, with_email: bool) -> Answer:
    """A member of the workspace."""
    profile: Answer = {"real_name": person.display_name, "display_name": person.display_name}
    if with_email:
        profile["email"] = person.upn
    return {
        "id": chat.user_id(person),
        "team_id": chat.TEAM,
        "name": person.upn.partition("@")[0],
        "real_name": person.display_name,
        "deleted": not person.account_enabled,
        "is_bot": False,
        "is_restricted": person.upn == chat.GUEST,
        "is_ultra_restricted": False,
        "is_email_confirmed": person.upn != chat.UNCONFIRMED,
        "profile": profile,
    }


def _stranger_shown(stranger: chat.Stranger) -> Answer:
    return {
        "id": stranger.id,
        "team_id": chat.OTHER_TEAM,
        "name": stranger.name,
        "real_name": stranger.name,
        "deleted": False,
        "is_bot": False,
        "is_stranger": True,
        "is_email_confirmed": True,
        "profile": {"real_name": stranger.name, "email": stranger.email},
    }


def _written(call: Call, *, parse: str) -> str:
    text = call.text("text")
    if not text and not call.structure("blocks"):
        raise slack("no_text")
    if (call.text("parse") or parse) != "none":
        # Slack finds addresses in a text and makes links of them, unless it is told not to look.
        text = _BARE_LINK.sub(lambda found: f"<{found[0]}>", text)
    return text[:TEXT_LIMIT]


def _metadata(call: Call) -> Answer | None:
    given = call.structure("metadata")
    if given is None or given == {}:
        return None
    fits = (
        isinstance(given, dict)
        and set(given) == {"event_type", "event_payload"}
        and isinstance(given["event_type"], str)
        and METADATA_NAME.fullmatch(given["event_type"]) is not None
        and isinstance(given["event_payload"], dict)
    )
    if not fits:
        raise slack("invalid_metadata_format")
    return dict(given)


def _blocks(call: Call) -> list[dict[str, Any]]:
    given = call.structure("blocks")
    if given in (None, []):
        return []
    if (
        not isinstance(given, list)
        or len(given) > 50
        or not all(isinstance(each, dict) and "type" in each for each in given)
    ):
        raise slack("invalid_blocks")
    return given


def routes(world: World, throttle: Throttle) -> APIRouter:
    """Every imitated method below `/slack/api`."""
    router = APIRouter(prefix="/slack/api")
    office = Office(world)
    writes, reads = _writes(office, throttle), _reads(office)
    tiers = {"chat.update": 3, "conversations.history": 3, "users.conversations": 3, "users.lookupByEmail": 3}
    tiers |= {"users.info": 4}

    @router.api_route("/{method}", methods=["GET", "POST"])
    async def ask(method: str, request: Request) -> Answer:
        known = writes.get(method) or reads.get(method)
        if known is None:
            raise slack("unknown_method", req_method=method)
        call = await read_call(request, takes_json=method in writes)
        if method in tiers:
            pace(world, throttle, call, method, tiers[method])
        answer = {"ok": True, **await known(request, call)}
        if call.warnings:
            answer |= {"warning": ",".join(call.warnings), "response_metadata": {"warnings": list(call.warnings)}}
        return answer

    return router


def _writes(office: Office, throttle: Throttle) -> dict[str, Method]:
    world = office.world

    async def post(request: Request, call: Call) -> Answer:
        call.need("chat:write")
        channel, new = office.addressee(call, call.text("channel"))
        text, blocks, metadata = _written(call, parse="client"), _blocks(call), _metadata(call)
        pace_channel(world, throttle, channel)
        ts = office.moment(channel)
        sent = chat.ChatMessage(
            id=f"{channel}:{ts}",
            channel=channel,
            ts=ts,
            text=text,
            app=call.app.id,
            bot_id=call.app.bot_id,
            bot_user=call.app.bot_user,
            blocks=blocks,
            metadata=metadata,
        )
        office.save(request, call, sent, {}, *([new] if new else []))
        return {"channel": channel, "ts": ts, "message": shown(sent, with_payload=True)}

    async def update(request: Request, call: Call) -> Answer:
        call.need("chat:write")
        channel = call.text("channel")
        office.conversation(call, channel)
        known = world.messages.get(f"{channel}:{call.text('ts')}")
        if known is None:
            raise slack("message_not_found")
        if known.app != call.app.id:
            raise slack("cant_update_message")
        changes: dict[str, Any] = {
            "text": _written(call, parse="client"),
            "blocks": _blocks(call),
            "edited": f"{world.clock().timestamp():.6f}",
        }
        # Metadata that is not mentioned stays; an empty object takes it away.
        if "metadata" in call.arguments:
            changes["metadata"] = _metadata(call)
        edited = known.model_copy(update=changes)
        office.save(request, call, edited, {"text": known.text, "metadata": known.metadata})
        return {
            "channel": channel,
            "ts": known.ts,
            "text": edited.text,
            "message": shown(edited, with_payload=True),
        }

    return {"chat.postMessage": post, "chat.update": update}


def _reads(office: Office) -> dict[str, Method]:
    world = office.world

    async def who(_: Request, call: Call) -> Answer:
        return {
            "url": "https://example.slack.com/",
            "team": "Example Company",
            "team_id": chat.TEAM,
            "user": call.app.name.lower(),
            "user_id": call.app.bot_user,
            "bot_id": call.app.bot_id,
        }

    async def history(_: Request, call: Call) -> Answer:
        channel = call.text("channel")
        kind = office.conversation(call, channel)
        call.need(f"{chat.SCOPES[kind]}:history")
        oldest, latest = _bound(call, "oldest", 0.0), _bound(call, "latest", float("inf"))
        inclusive = call.flag("inclusive")
        found = [
            each
            for each in office.history(channel)
            if oldest < float(each.ts) < latest or (inclusive and float(each.ts) in (oldest, latest))
        ]
        part, cursor = page(world, call, found)
        with_payload = call.flag("include_all_metadata")
        answer: Answer = {
            "messages": [shown(each, with_payload=with_payload) for each in part],
            "has_more": bool(cursor),
            "pin_count": 0,
        }
        return answer | ({"response_metadata": {"next_cursor": cursor}} if cursor else {})

    async def conversations(_: Request, call: Call) -> Answer:
        return _conversations(world, call)

    async def info(_: Request, call: Call) -> Answer:
        call.need("users:read")
        wanted = call.text("user")
        if wanted == chat.STRANGER.id:
            return {"user": _stranger_shown(chat.STRANGER)}
        person = office.people().get(wanted)
        if person is None:
            raise slack("user_not_found")
        return {"user": user_shown(person, with_email="users:read.email" in call.app.scopes)}

    async def look_up(_: Request, call: Call) -> Answer:
        call.need("users:read.email")
        wanted = call.text("email").casefold()
        for person in world.people.values():
            if person.upn.casefold() == wanted and person.account_enabled:
                return {"user": user_shown(person, with_email=True)}
        raise slack("users_not_found")

    return {
        "auth.test": who,
        "conversations.history": history,
        "users.conversations": conversations,
        "users.info": info,
        "users.lookupByEmail": look_up,
    }


def _conversations(world: World, call: Call) -> Answer:
    asked = {each.strip() for each in (call.text("types") or "public_channel").split(",")}
    if unknown := asked - {"public_channel", "private_channel", "mpim", "im"}:
        raise slack("invalid_types", messages=sorted(unknown))
    for kind, scope in chat.SCOPES.items():
        if kind in asked:
            call.need(f"{scope}:read")
    found: list[Answer] = [
        {"id": each.id, "name": each.name, "is_private": each.is_private, "is_archived": each.is_archived}
        for each in chat.CHANNELS
        if call.app.bot_user in each.members and ("private_channel" if each.is_private else "public_channel") in asked
    ]
    if "im" in asked:
        found += [
            {"id": each.id, "user": each.user, "is_im": True}
            for each in world.directs.values()
            if each.bot_user == call.app.bot_user
        ]
    part, cursor = page(world, call, found)
    return {"channels": part, "response_metadata": {"next_cursor": cursor}}


def _bound(call: Call, name: str, default: float) -> float:
    text = call.text(name)
    try:
        return float(text) if text else default
    except ValueError:
        raise slack(f"invalid_ts_{name}") from None
