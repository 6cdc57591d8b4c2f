"""Slack Web API: messages in channels and to people. Only the gateway constructs it.

Contract: docs.slack.dev (methods chat.*, conversations.history, users.*; message metadata; interaction payloads). Slack
has no key against doubles, so what we send carries our marker as message metadata. Every app of the workspace can read
metadata: it holds digests only, and a message counts as ours only when our own app has sent it.
"""

# ruff: noqa: ARG002, D102 - arguments and docstrings of observe, plan, apply ... are those of the kit's contract.

from __future__ import annotations

import re
from html import escape, unescape
from urllib.parse import quote

from pydantic import JsonValue, ValidationError

from regie.connectors.slack.answers import (
    Direct,
    FoundUser,
    History,
    Interaction,
    Message,
    Pressed,
    Sent,
    Signed,
    User,
    ask,
    entries,
    said,
)
from regie.core import canonical
from regie.core.capabilities import message
from regie.core.effect import Repeat
from regie.core.errors import AuthFailed, InvalidInput, NotFound
from regie.core.plan import Change, NoChange, Receipt
from regie.kit.connector import Connector, Read, Seen, Settings, Write, provides
from regie.kit.inbound import InboundEvent

_EVENT_TYPE = "regie_message"

_LONGEST_TEXT = 2_900
"""Characters of a text: a section of a message takes 3,000, and a longer message is better read elsewhere."""

_LONGEST_LINK = 2_000

_CUT = "... (cut: the text was longer than Slack shows)"

_SETTLE_S = 5.0
"""Seconds that a new message may be missing from a channel's history; Slack names no time."""

_CHANNEL = re.compile(r"[CG][A-Z0-9]{6,}")
_BUTTON = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):([0-9a-f]{64})")
_LINK = re.compile(r"https?://[^\s/?#]+[^\s]*")
_LEFT_IN_LINKS = ":/?#[]@!$&'()*+,;=%~"
_JSON = {"Content-Type": "application/json; charset=utf-8"}
_LONGEST_CHALLENGE = 200
_DECISIONS = {"regie_approve": "approved", "regie_refuse": "refused"}


def _escaped(text: str) -> str:
    """Plain text as Slack wants it, so that nothing in it is a mention or a link (docs.slack.dev, formatting)."""
    whole = escape(text, quote=False)
    if len(whole) <= _LONGEST_TEXT:
        return whole
    kept, room = list[str](), _LONGEST_TEXT - len(_CUT)
    for char in text:
        room -= len(escape(char, quote=False))
        if room < 0:
            break
        kept.append(char)
    return escape("".join(kept), quote=False) + _CUT


def _link(want: message.NewMessage) -> str:
    """The link as it is sent; empty where there is none.

    Raises:
        InvalidInput: It is no link.
    """
    if not want.link:
        return ""
    if not _LINK.fullmatch(want.link) or len(want.link) > _LONGEST_LINK:
        raise InvalidInput("The link of a message is an address that begins with https:// or http://.")
    return f"<{escape(quote(want.link, safe=_LEFT_IN_LINKS), quote=False)}>"


def _written(want: message.NewMessage) -> str:
    """The message as it is sent."""
    return "\n".join(filter(None, (_escaped(want.text), _link(want))))


def _sha256(written: str, approval: str) -> str:
    return canonical.digest(["message", written, *([approval] if approval else [])])


def _with_buttons(want: message.NewMessage) -> list[JsonValue]:
    """The message as blocks, with a yes and a no below it (docs.slack.dev, Block Kit)."""
    texts = filter(None, (_escaped(want.text), _link(want)))
    sections: list[JsonValue] = [{"type": "section", "text": {"type": "mrkdwn", "text": text}} for text in texts]
    buttons: list[JsonValue] = [
        {
            "type": "button",
            "action_id": f"regie_{verb}",
            "style": style,
            "value": want.approval,
            "text": {"type": "plain_text", "text": verb.capitalize()},
        }
        for verb, style in (("approve", "primary"), ("refuse", "danger"))
    ]
    return [*sections, {"type": "actions", "elements": buttons}]


class Slack(Connector):
    """Messages are found again by their metadata; people are known by the address that the workspace has confirmed."""

    async def probe(self, path: str) -> None:
        """Does Slack take the token, and is it one of the workspace that the connection names?"""
        found = await ask(self.session, path.lstrip("/"), Signed)
        if found.team != self._settings["workspace"]:
            raise AuthFailed(
                "The bot token belongs to another workspace than the connection names.",
                hint="Compare the setting workspace with the team id of the app's installation.",
            )

    @classmethod
    def inbound(cls, settings: Settings, payload: JsonValue) -> InboundEvent:
        """A button about an approval is a decision; everything else is answered and not acted on."""
        try:
            told = Interaction.model_validate(payload)
        except ValidationError:
            return InboundEvent(kind="acknowledged", event="", reason="the payload has a shape we do not know")
        if told.type == "url_verification":
            return InboundEvent(kind="acknowledged", event=told.type, challenge=told.challenge[:_LONGEST_CHALLENGE])
        reason = _why_not(settings, told)
        if reason:
            return InboundEvent(kind="acknowledged", event=told.type, reason=reason)
        pressed = told.actions[0] if told.actions else Pressed()
        about = _BUTTON.fullmatch(pressed.value)
        if pressed.action_id not in _DECISIONS or about is None:
            return InboundEvent(kind="acknowledged", event=told.type, reason="no button about an approval")
        return InboundEvent(
            kind="decided",
            event=told.type,
            approval=about[1],
            plan_sha256=about[2],
            decision=_DECISIONS[pressed.action_id],
            by_id=told.user.id,
        )

    @provides(
        message.SEND,
        permissions=["channels:history", "chat:write", "groups:history", "im:history", "im:read", "users:read.email"],
    )
    class SendMessage(Write[message.NewMessage, message.MessageState]):
        """Send a message that carries our marker as metadata, or bring the one that does up to date."""

        repeat = Repeat.MARKER
        settle_s = _SETTLE_S

        async def observe(self, want: message.NewMessage, marker: str) -> Seen:
            written = _written(want)
            channel = place = self._channel(want.to)
            if "@" in want.to:
                person = await self._person(want.to)
                channel = await self._direct(person)
                place = channel or person
            found = await self._find(channel, marker) if channel else None
            return self._seen(place, found, _sha256(written, self._buttons(want)))

        def _buttons(self, want: message.NewMessage) -> str:
            """The approval that the message has buttons for."""
            return want.approval if self.settings["decides"] else ""

        def _channel(self, to: str) -> str:
            named = self.settings["channels"]
            names = named if isinstance(named, dict) else {}
            channel = str(names.get(to, to))
            if "@" not in to and not _CHANNEL.fullmatch(channel):
                known = ", ".join(sorted(names)) or "none"
                raise NotFound(
                    f"The connection knows no channel {to!r}.",
                    hint=f"Name its id in the connection's setting channels. Known there: {known}.",
                )
            return channel

        async def _person(self, address: str) -> str:
            try:
                found = await ask(self.session, "users.lookupByEmail", FoundUser, email=address)
            except NotFound:
                raise NotFound(f"Nobody in the workspace has the address {address}.") from None
            return found.user.id

        async def _direct(self, person: str) -> str:
            """The conversation of the app with a person; empty while there is none."""
            async for each in entries(self.session, "users.conversations", "channels", Direct, types="im"):
                if each.user == person:
                    return each.id
            return ""

        async def _find(self, channel: str, marker: str) -> Message | None:
            """Our message among the newest of a channel, newest first."""
            most = self.settings["look_back"]
            left = most if isinstance(most, int) else 0
            asked = {"channel": channel, "include_all_metadata": "true"}
            async for each in entries(self.session, "conversations.history", "messages", Message, **asked):
                if self._is_ours(each) and each.metadata.event_payload.mark == marker:
                    return each
                left -= 1
                if left <= 0:
                    break
            return None

        def _is_ours(self, found: Message) -> bool:
            return found.app == self.settings["app"] and found.metadata.event_type == _EVENT_TYPE

        def _seen(self, place: str, found: Message | None, sha256: str) -> Seen:
            if found is None:
                return {"place": place, "id": "", "text": None, "is_current": False}
            is_current = found.metadata.event_payload.text_sha256 == sha256
            return {"place": place, "id": found.ts, "text": unescape(found.text), "is_current": is_current}

        def plan(self, want: message.NewMessage, seen: Seen) -> NoChange | Change:
            place, sent = str(seen["place"]), str(seen["id"])
            if sent and (seen["is_current"] or not want.key):
                return self.no_change(f"message:{place}:{sent}", f"the message to {want.to} already stands")
            target = f"message:{place}:{sent}" if sent else f"chat:{place}:{want.key}"
            before = seen["text"] if sent else None
            buttons = (("buttons", None, "approve, refuse"),) if self._buttons(want) else ()
            return self.change(target, f"Message to {want.to}", ("text", before, unescape(_written(want))), *buttons)

        def foreseen(self, change: Change, seen: Seen) -> Seen:
            return {**super().foreseen(change, seen), "is_current": True}

        async def apply(self, want: message.NewMessage, change: Change, marker: str) -> Receipt:
            kind, place, rest = change.target.split(":", 2)
            written, buttons = _written(want), self._buttons(want)
            body: dict[str, JsonValue] = {
                "channel": place,
                "text": written,
                "parse": "none",
                "metadata": {
                    "event_type": _EVENT_TYPE,
                    "event_payload": {"mark": marker, "text_sha256": _sha256(written, buttons)},
                },
                **({"blocks": _with_buttons(want)} if buttons else {}),
            }
            if kind == "message":
                answer = await self.session.post("/chat.update", json={**body, "ts": rest}, headers=_JSON)
            else:
                quietly = {"unfurl_links": False, "unfurl_media": False}
                answer = await self.session.post("/chat.postMessage", json={**body, **quietly}, headers=_JSON)
            sent = said(answer, Sent)
            return Receipt(request_id=answer.request_id, remote_id=f"{sent.channel}:{sent.ts}")

        async def confirm(self, want: message.NewMessage, receipt: Receipt, marker: str) -> Seen:
            channel, _, moment = receipt.remote_id.partition(":")
            if not moment:
                return await self.observe(want, marker)
            asked: dict[str, str | int] = {"channel": channel, "include_all_metadata": "true", "inclusive": "true"}
            asked |= {"latest": moment, "oldest": moment, "limit": 1}
            found = await ask(self.session, "conversations.history", History, **asked)
            ours = [each for each in found.messages if each.ts == moment and self._is_ours(each)]
            sha256 = _sha256(_written(want), self._buttons(want))
            return self._seen(channel, ours[0] if ours else None, sha256)

        def gives(self, want: message.NewMessage, seen: Seen) -> message.MessageState:
            return message.MessageState(channel=str(seen["place"]), message=str(seen["id"]))

    @provides(message.IDENTIFY, permissions=["users:read", "users:read.email"])
    class IdentifyPerson(Read[message.ChatPerson, message.PersonFound]):
        """Somebody's address, where the workspace vouches for it: an own member who has confirmed it."""

        async def read(self, want: message.ChatPerson) -> message.PersonFound:
            try:
                user = (await ask(self.session, "users.info", FoundUser, user=want.id)).user
            except NotFound:
                raise NotFound(f"There is nobody {want.id} in the workspace.") from None
            reason = _doubt(user, str(self.settings["workspace"]))
            return message.PersonFound(id=user.id, email="" if reason else user.profile.email, reason=reason)


def _why_not(settings: Settings, told: Interaction) -> str:
    """Why something that Slack tells is nothing to act on; empty when it may be."""
    if told.type != "block_actions":
        return "only buttons are acted on"
    if not settings["decides"]:
        return "the connection lets nobody decide in chat"
    if (told.app, told.team.id) != (settings["app"], settings["workspace"]):
        return "it is of another app or workspace"
    return ""


def _doubt(user: User, workspace: str) -> str:
    """Why the workspace does not vouch for somebody's address; empty when it does."""
    if workspace not in {user.team, *user.enterprise.teams} or user.is_stranger:
        return "they belong to another workspace"
    if user.deleted or user.is_bot:
        return "the account is switched off" if user.deleted else "the account is an app's"
    if user.is_guest or user.is_single_channel_guest:
        return "they are a guest of the workspace"
    if not user.is_email_confirmed or not user.profile.email:
        return "their address is not confirmed"
    return ""
