"""Microsoft Graph v1.0: Entra ID's accounts, managers, groups and sign-in sessions. Only the gateway constructs it.

Contract: learn.microsoft.com/graph/api (user-get, user-update, user-list-memberof, user-list-manager,
user-revokesigninsessions, group-post-members, group-delete-members) and the resource type signInActivity.
"""

# ruff: noqa: ARG002, D102 - arguments and docstrings of observe, plan, apply ... are those of the kit's contract.

from __future__ import annotations

from typing import ClassVar, TypeVar

from pydantic import AwareDatetime, Field, JsonValue, ValidationError

from regie.core.capabilities import identity
from regie.core.effect import Repeat
from regie.core.errors import NotFound, Refused, Terminal
from regie.core.plan import Change, NoChange, Pending, Receipt
from regie.kit.connector import Connector, Read, Seen, Write, provides
from regie.kit.paging import next_links
from regie.kit.session import Session, Wild, segment

_GROUP_PAGE = 999
"""Most entries on a page of memberships (user-list-memberof)."""

_LONGEST_AGAIN_S = 60.0
"""The vendor speaks of a few minutes until a revocation is effective; looking once a minute is enough."""
_ASKED_OFTEN = 3
"""Times asked in vain, some seconds in all, after which more is read than the vendor's mark."""


class _User(Wild):
    id: str
    user: str = Field(alias="userPrincipalName")
    display_name: str | None = Field(default=None, alias="displayName")

    @property
    def name(self) -> str:
        """How people call the person."""
        return self.display_name or self.user

    @property
    def title(self) -> str:
        """The person in words that leave no doubt who is meant."""
        return f"{self.name} ({self.user})"


class _Account(_User):
    enabled: bool = Field(alias="accountEnabled")


class _Member(Wild):
    """An entry of memberOf: a group, a directory role or an administrative unit."""

    kind: str = Field(default="", alias="@odata.type")
    id: str
    display_name: str | None = Field(default=None, alias="displayName")
    types: list[str] | None = Field(default=None, alias="groupTypes")
    rule: str | None = Field(default=None, alias="membershipRule")

    def as_group(self) -> identity.Group:
        is_ruled = "DynamicMembership" in (self.types or ()) or bool(self.rule)
        return identity.Group(id=self.id, name=self.display_name or self.id, assigned=not is_ruled)


class _Manager(Wild):
    """A user or a contact; a contact has a mail address and no sign-in name."""

    user: str | None = Field(default=None, alias="userPrincipalName")
    mail: str | None = None
    display_name: str | None = Field(default=None, alias="displayName")


class _GroupName(Wild):
    id: str
    display_name: str | None = Field(default=None, alias="displayName")


class _SignIns(Wild):
    successful: AwareDatetime | None = Field(default=None, alias="lastSuccessfulSignInDateTime")
    interactive: AwareDatetime | None = Field(default=None, alias="lastSignInDateTime")
    non_interactive: AwareDatetime | None = Field(default=None, alias="lastNonInteractiveSignInDateTime")

    @property
    def last(self) -> AwareDatetime | None:
        """The last sign-in that may have opened a session.

        The other two count attempts that failed as well, such as a client that still tries its revoked token.
        """
        if self.successful:
            return self.successful
        return max((each for each in (self.interactive, self.non_interactive) if each), default=None)


class _SignInReport(Wild):
    sign_ins: _SignIns | None = Field(default=None, alias="signInActivity")


class _Validity(_User):
    valid_from: AwareDatetime | None = Field(default=None, alias="signInSessionsValidFromDateTime")


_UserShape = TypeVar("_UserShape", bound=_User)


class _Handle(Wild):
    """What a revocation that is not yet visible is asked again with."""

    id: str
    before: AwareDatetime | None
    asked: int
    request_id: str


def _select(*names: str) -> dict[str, str]:
    return {"$select": ",".join(names)}


async def _find(session: Session, user: str, shape: type[_UserShape], *names: str) -> _UserShape:
    """A user with some properties, or NotFound in words."""
    wanted = _select("id", "userPrincipalName", "displayName", *names)
    answer = await session.get(f"/users/{segment(user)}", params=wanted, accept={404})
    if answer.status == 404:
        raise NotFound(f"There is no account {user}")
    return answer.read_as(shape)


async def _groups_of(session: Session, user_id: str) -> list[identity.Group]:
    """The groups somebody is a direct member of, by name."""
    chosen = _select("id", "displayName", "groupTypes", "membershipRule")
    params: dict[str, str | int] = {**chosen, "$top": _GROUP_PAGE}
    found: list[identity.Group] = []
    async for entry in next_links(session, f"/users/{segment(user_id)}/memberOf", params=params):
        try:
            member = _Member.model_validate(entry)
        except ValidationError:
            raise Terminal("Microsoft Graph: an entry of memberOf has a shape we do not know") from None
        if member.kind == "#microsoft.graph.group":
            found.append(member.as_group())
    return sorted(found, key=lambda group: (group.name.casefold(), group.id))


class _Switch(Write[identity.UserQuery, identity.AccountState]):
    """Set `accountEnabled`; a repeat gives the same state."""

    repeat = Repeat.OBSERVABLE
    on: ClassVar[bool]

    async def observe(self, want: identity.UserQuery, marker: str) -> Seen:
        found = await _find(self.session, want.user, _Account, "accountEnabled")
        return {"id": found.id, "user": found.user, "title": found.title, "enabled": found.enabled}

    def plan(self, want: identity.UserQuery, seen: Seen) -> NoChange | Change:
        target, title = f"user:{seen['id']}", str(seen["title"])
        if seen["enabled"] is self.on:
            return self.no_change(target, f"{title} is already switched {'on' if self.on else 'off'}")
        return self.change(target, title, ("enabled", seen["enabled"], self.on))

    async def apply(self, want: identity.UserQuery, change: Change, marker: str) -> Receipt:
        # The id of the planned target, not the name: a name may belong to somebody else by now.
        user_id = change.target.removeprefix("user:")
        answer = await self.session.patch(f"/users/{segment(user_id)}", json={"accountEnabled": self.on})
        return Receipt(request_id=answer.request_id, remote_id=user_id)

    def gives(self, want: identity.UserQuery, seen: Seen) -> identity.AccountState:
        return identity.AccountState(user=str(seen["user"]), enabled=bool(seen["enabled"]))


class _Enrol(Write[identity.Membership, identity.MembershipState]):
    """Set whether a person is a direct member of a group; a repeat gives the same state."""

    repeat = Repeat.OBSERVABLE
    member: ClassVar[bool]

    async def observe(self, want: identity.Membership, marker: str) -> Seen:
        user = await _find(self.session, want.user, _User)
        wanted = _select("id", "displayName")
        answer = await self.session.get(f"/groups/{segment(want.group)}", params=wanted, accept={404})
        seen: dict[str, JsonValue] = {"user_id": user.id, "user": user.user}
        if answer.status == 404:
            if self.member:
                raise NotFound(f"There is no group {want.group}")
            # Nobody is a member of a group that is gone, which is what was wanted.
            return {**seen, "group_id": want.group, "title": f"{user.name} in {want.group}", "member": False}
        group = answer.read_as(_GroupName)
        title = f"{user.name} in group {group.display_name or group.id}"
        is_member = await self._is_member(user.id, group.id)
        return {**seen, "group_id": group.id, "title": title, "member": is_member}

    async def _is_member(self, user_id: str, group_id: str) -> bool:
        return any(group.id == group_id for group in await _groups_of(self.session, user_id))

    def plan(self, want: identity.Membership, seen: Seen) -> NoChange | Change:
        target, title = f"group:{seen['group_id']}/user:{seen['user_id']}", str(seen["title"])
        if seen["member"] is self.member:
            return self.no_change(target, f"{title}: already {'a' if self.member else 'not a'} member")
        return self.change(target, title, ("member", seen["member"], self.member))

    async def apply(self, want: identity.Membership, change: Change, marker: str) -> Receipt:
        group_id, _, user_id = change.target.removeprefix("group:").partition("/user:")
        try:
            answer = await self._set(group_id, user_id)
        except (NotFound, Refused):
            # Adding a member twice is a 400, removing one twice a 404: what counts is what is there now.
            if await self._is_member(user_id, group_id) is not self.member:
                raise
            return Receipt(remote_id=group_id)
        return Receipt(request_id=answer, remote_id=group_id)

    async def _set(self, group_id: str, user_id: str) -> str:
        """Make the change; gives the vendor's id of the request."""
        members = f"/groups/{segment(group_id)}/members"
        if not self.member:
            # Without `/$ref` the vendor would delete the person instead of the membership.
            return (await self.session.delete(f"{members}/{segment(user_id)}/$ref")).request_id
        link: JsonValue = {"@odata.id": f"{self.session.address}/directoryObjects/{segment(user_id)}"}
        return (await self.session.post(f"{members}/$ref", json=link)).request_id

    def gives(self, want: identity.Membership, seen: Seen) -> identity.MembershipState:
        return identity.MembershipState(
            user=str(seen["user"]), group=str(seen["group_id"]), member=bool(seen["member"])
        )


class Graph(Connector):
    """Accounts are users of the customer's directory, named by their userPrincipalName."""

    @provides(identity.LIST_ACCESS, permissions=["User.Read.All", "GroupMember.Read.All"])
    class ListAccess(Read[identity.UserQuery, identity.Access]):
        """The account and its direct groups; those that a rule of the directory fills are told apart."""

        async def read(self, want: identity.UserQuery) -> identity.Access:
            account = await _find(self.session, want.user, _Account, "accountEnabled")
            groups = await _groups_of(self.session, account.id)
            return identity.Access(
                id=account.id,
                user=account.user,
                display_name=account.name,
                enabled=account.enabled,
                groups=[group for group in groups if group.assigned],
                rule_groups=[group for group in groups if not group.assigned],
            )

    @provides(identity.FIND_MANAGER, permissions=["User.Read.All"])
    class FindManager(Read[identity.UserQuery, identity.Manager]):
        """The manager the directory names; an empty one for whoever has none."""

        async def read(self, want: identity.UserQuery) -> identity.Manager:
            path = f"/users/{segment(want.user)}/manager"
            wanted = _select("id", "userPrincipalName", "displayName", "mail")
            answer = await self.session.get(path, params=wanted, accept={404})
            if answer.status == 404:
                # The same status for nobody there and for a person without a manager.
                await _find(self.session, want.user, _User)
                return identity.Manager()
            found = answer.read_as(_Manager)
            return identity.Manager(user=found.user or found.mail or "", display_name=found.display_name or "")

    @provides(
        identity.DISABLE_ACCOUNT,
        permissions=["User.EnableDisableAccount.All", "User.Read.All"],
        undo=identity.ENABLE_ACCOUNT,
    )
    class DisableAccount(_Switch):
        """Switch `accountEnabled` off. Accounts with a directory role need a role of ours as well: a 403 here."""

        on = False

    @provides(
        identity.ENABLE_ACCOUNT,
        permissions=["User.EnableDisableAccount.All", "User.Read.All"],
        undo=identity.DISABLE_ACCOUNT,
    )
    class EnableAccount(_Switch):
        """Switch `accountEnabled` on again."""

        on = True

    @provides(identity.REVOKE_SESSIONS, permissions=["User.RevokeSessions.All", "User.Read.All", "AuditLog.Read.All"])
    class RevokeSessions(Write[identity.UserQuery, identity.SessionState]):
        """End every session that began before now; seen by comparing the last sign-in with the vendor's own mark.

        Without AuditLog.Read.All or the licence for sign-in reports nobody can tell whether a session is alive. Then
        the sessions count as `live` and every new run revokes again, which hurts nobody: deny on doubt.
        """

        repeat = Repeat.OBSERVABLE
        settle_s = 5.0

        async def observe(self, want: identity.UserQuery, marker: str) -> Seen:
            found = await _find(self.session, want.user, _Validity, "signInSessionsValidFromDateTime")
            # The report knows people by object id only, and is refused without licence or permission.
            path = f"/users/{segment(found.id)}"
            answer = await self.session.get(path, params=_select("id", "signInActivity"), accept={403})
            sessions = "live"
            if answer.status != 403:
                report = answer.read_as(_SignInReport)
                last = report.sign_ins.last if report.sign_ins else None
                # The marks have whole seconds, so a sign-in of the same second may have come after.
                if last is None or (found.valid_from is not None and last < found.valid_from):
                    sessions = "revoked"
            return {
                "id": found.id,
                "user": found.user,
                "title": found.title,
                "sessions": sessions,
                "is_reported": answer.status != 403,
            }

        def plan(self, want: identity.UserQuery, seen: Seen) -> NoChange | Change:
            target, title = f"user:{seen['id']}", str(seen["title"])
            if seen["sessions"] == "revoked":
                return self.no_change(target, f"{title} has not signed in since the sessions were last revoked")
            return self.change(target, title, ("sessions", seen["sessions"], "revoked"))

        async def apply(self, want: identity.UserQuery, change: Change, marker: str) -> Pending:
            user_id = change.target.removeprefix("user:")
            before = await _find(self.session, user_id, _Validity, "signInSessionsValidFromDateTime")
            # The vendor's answer is 200 with a value or 204 without one; both mean accepted.
            answer = await self.session.post(f"/users/{segment(user_id)}/revokeSignInSessions")
            handle = _Handle(id=user_id, before=before.valid_from, asked=0, request_id=answer.request_id)
            return self._ask_again(handle)

        async def resume(self, want: identity.UserQuery, handle: JsonValue) -> Receipt | Pending:
            known = _Handle.model_validate(handle)
            now = await _find(self.session, known.id, _Validity, "signInSessionsValidFromDateTime")
            receipt = Receipt(request_id=known.request_id, remote_id=known.id)
            if now.valid_from is not None and now.valid_from != known.before:
                return receipt
            # The mark has whole seconds: of two revocations within one, the later leaves it as it is for ever.
            if known.asked >= _ASKED_OFTEN:
                seen = await self.observe(want, "")
                if seen["is_reported"] and seen["sessions"] == "revoked":
                    return receipt
            return self._ask_again(known.model_copy(update={"asked": known.asked + 1}))

        def _ask_again(self, handle: _Handle) -> Pending:
            receipt = Receipt(request_id=handle.request_id, remote_id=handle.id)
            after_s = min(2.0 ** min(handle.asked, 10), _LONGEST_AGAIN_S)
            return Pending(handle=handle.model_dump(mode="json"), again_after_s=after_s, receipt=receipt)

        async def confirm(self, want: identity.UserQuery, receipt: Receipt, marker: str) -> Seen:
            seen = await self.observe(want, marker)
            # A receipt is only given once the vendor's mark has moved; without reports that is all the proof there is.
            return seen if seen["is_reported"] else {**seen, "sessions": "revoked"}

        def gives(self, want: identity.UserQuery, seen: Seen) -> identity.SessionState:
            return identity.SessionState(user=str(seen["user"]), sessions=str(seen["sessions"]))

    @provides(
        identity.REMOVE_FROM_GROUP,
        permissions=["GroupMember.ReadWrite.All", "User.Read.All"],
        undo=identity.ADD_TO_GROUP,
    )
    class RemoveFromGroup(_Enrol):
        """Take a direct member out; a group that is gone has no members."""

        member = False

    @provides(
        identity.ADD_TO_GROUP,
        permissions=["GroupMember.ReadWrite.All", "User.Read.All"],
        undo=identity.REMOVE_FROM_GROUP,
    )
    class AddToGroup(_Enrol):
        """Put a person into an assigned group."""

        member = True
