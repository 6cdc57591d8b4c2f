"""Capabilities about chat messages: what we tell people where they read anyway."""

from __future__ import annotations

from regie.core.capability import Capability, Effect, Record


class NewMessage(Record):
    """A message to people.

    Attributes:
        to: A person's e-mail address, or a channel: the name that the tenant's connection gives it, or its id.
        text: Plain text; what looks like markup or a mention to the chat is shown as it is written.
        link: Where to read on; nothing when it is empty.
        key: Names the message for good: the same key brings the message that is there up to date instead of sending
            another. Without it each step sends its own.
        approval: An approval that people may decide with buttons below the message, where the tenant's connection lets
            them. A step gives the id of the approval's step; the gateway makes of it the approval's own id, a colon and
            the digest of the plan that is asked about.
    """

    to: str
    text: str
    link: str = ""
    key: str = ""
    approval: str = ""


class MessageState(Record):
    """A message as it stands; `message` is the chat's id of it, empty while it is only planned."""

    channel: str
    message: str


class ChatPerson(Record):
    """Somebody as the chat knows them: its own id."""

    id: str


class PersonFound(Record):
    """Whom the chat means; `email` is empty where it does not vouch for an address, and `reason` says why."""

    id: str
    email: str = ""
    reason: str = ""


SEND = Capability(
    "message.send",
    Effect.WRITE,
    NewMessage,
    MessageState,
    "Tell people something in chat, or bring up to date what was told.",
    named_by="key",
)
IDENTIFY = Capability(
    "message.identify_person", Effect.READ, ChatPerson, PersonFound, "Find out who somebody in the chat is."
)
