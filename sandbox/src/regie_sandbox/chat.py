"""The chat of the imaginary company: channels, direct conversations, messages, as plain frozen records.

The world keeps conversations and messages, Slack shows them. Channels and the apps that are installed are seed.
"""

import uuid
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from regie_sandbox.people import Person

TEAM = "T0EXAMPLE1"
OTHER_TEAM = "T0STRANGE1"


@dataclass(frozen=True)
class App:
    """An app that is installed in the workspace, with the scopes an administrator consented to."""

    name: str
    id: str
    bot_id: str
    bot_user: str
    bot_token: str
    signing_secret: str
    scopes: tuple[str, ...]


@dataclass(frozen=True)
class Channel:
    """One channel; `members` are the bot users in it."""

    id: str
    name: str
    members: tuple[str, ...]
    is_private: bool = False
    is_archived: bool = False


REGIE_APP = App(
    "Regie",
    "A0REGIEAPP",
    "B0REGIEBOT",
    "U0REGIEBOT",
    "xoxb-slack-token-of-the-imaginary-world",
    "slack-signing-secret-of-the-imaginary-world",
    (
        "channels:history",
        "chat:write",
        "groups:history",
        "im:history",
        "im:read",
        "users:read",
        "users:read.email",
    ),
)
WRITER_APP = App(
    "Status lights",
    "A0STATUS01",
    "B0STATUS01",
    "U0STATUS01",
    "xoxb-writer-token-of-the-imaginary-world",
    "writer-signing-secret-of-the-imaginary-world",
    ("chat:write",),
)
APPS = (REGIE_APP, WRITER_APP)

_BOTH = (REGIE_APP.bot_user, WRITER_APP.bot_user)
CHANNELS = (
    Channel("C0CERTIFIC", "certificates", _BOTH),
    Channel("C0ALERTS01", "alerts", _BOTH),
    Channel("C0PRIVATE1", "security-officers", (REGIE_APP.bot_user,), is_private=True),
    Channel("C0BOARD001", "board", (), is_private=True),
    Channel("C0LOBBY001", "lobby", ()),
    Channel("C0ATTIC001", "attic", _BOTH, is_archived=True),
)


class Direct(BaseModel):
    """The conversation of one app with one person."""

    model_config = ConfigDict(frozen=True)

    id: str
    bot_user: str
    user: str


class ChatMessage(BaseModel):
    """One message; `ts` is its moment and, in its channel, its name. `metadata` is what apps tell each other."""

    model_config = ConfigDict(frozen=True)

    id: str
    channel: str
    ts: str
    text: str
    app: str
    bot_id: str
    bot_user: str
    blocks: list[dict[str, Any]] = []
    metadata: dict[str, Any] | None = None
    edited: str | None = None


@dataclass(frozen=True)
class Stranger:
    """Somebody of another workspace, met in a shared channel; who they say they are is their own workspace's word."""

    id: str
    name: str
    email: str


STRANGER = Stranger("U0STRANGE1", "Ingrid Larsen", "ingrid.larsen@example.com")
UNCONFIRMED = "soren.holm@example.com"
GUEST = "elif.demir@example.com"


def user_id(person: Person) -> str:
    """A person's id in the workspace."""
    return "U" + uuid.UUID(person.id).hex[:9].upper()


def direct_id(bot_user: str, user: str) -> str:
    """The id of the conversation of an app with a person."""
    return "D" + uuid.uuid5(uuid.NAMESPACE_URL, f"{bot_user}/{user}").hex[:9].upper()


Kind = Literal["public_channel", "private_channel", "im"]
SCOPES: dict[Kind, str] = {"public_channel": "channels", "private_channel": "groups", "im": "im"}
