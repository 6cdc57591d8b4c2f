"""Capabilities about people's accounts: who they are, what they may reach, and switching that off."""

from __future__ import annotations

from regie.core.capability import Capability, Effect, Record


class UserQuery(Record):
    """Which person: `user` is a sign-in name (an e-mail address)."""

    user: str


class Group(Record):
    """A group a person is a direct member of. `assigned` is false where a rule of the directory decides membership."""

    id: str
    name: str
    assigned: bool = True


class Access(Record):
    """A person's account and what it reaches, as found now. `groups` holds the assigned groups only, by name."""

    id: str
    user: str
    display_name: str
    enabled: bool
    groups: list[Group]
    rule_groups: list[Group] = []


class Manager(Record):
    """Who somebody reports to; all fields are empty text where the directory names nobody."""

    user: str = ""
    display_name: str = ""


class AccountState(Record):
    """Whether one can sign in with the account."""

    user: str
    enabled: bool


class SessionState(Record):
    """Whether any sign-in session of the account may still be alive: `live` or `revoked`."""

    user: str
    sessions: str


class Membership(Record):
    """One person in one group. `group` is the directory's id of the group."""

    user: str
    group: str


class MembershipState(Record):
    """Whether the person is a member of the group."""

    user: str
    group: str
    member: bool


LIST_ACCESS = Capability(
    "identity.list_access", Effect.READ, UserQuery, Access, "Look up a person's account and the groups it is in."
)
FIND_MANAGER = Capability("identity.find_manager", Effect.READ, UserQuery, Manager, "Find who somebody reports to.")
DISABLE_ACCOUNT = Capability(
    "identity.disable_account",
    Effect.DESTRUCTIVE,
    UserQuery,
    AccountState,
    "Switch an account off so that nobody can sign in with it.",
)
ENABLE_ACCOUNT = Capability(
    "identity.enable_account", Effect.WRITE, UserQuery, AccountState, "Switch an account on again."
)
REVOKE_SESSIONS = Capability(
    "identity.revoke_sessions",
    Effect.DESTRUCTIVE,
    UserQuery,
    SessionState,
    "End every sign-in session of an account.",
)
REMOVE_FROM_GROUP = Capability(
    "identity.remove_from_group",
    Effect.DESTRUCTIVE,
    Membership,
    MembershipState,
    "Take a person out of a group.",
)
ADD_TO_GROUP = Capability(
    "identity.add_to_group", Effect.WRITE, Membership, MembershipState, "Put a person into a group."
)
