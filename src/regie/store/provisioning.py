"""Users and groups that provisioning services keep here, for one tenant each. The web calls it for SCIM.

A user is an account that the service has brought: it may change and deactivate that one, and no account that came in
another way or for another tenant. Whoever is deactivated or deleted has no session and no token from that moment on.
"""
# ruff: noqa: S608  statements are put together from constants of the store, as LiteralString proves

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, LiteralString, TypeVar
from uuid import UUID, uuid4

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from regie.core.audit import Actor, Event, Fact
from regie.core.errors import InvalidInput, NotFound
from regie.core.scim import Group, ScimFault, User, address_of
from regie.store import accounts, audit
from regie.store.database import Transaction

Content = TypeVar("Content", User, Group)

_USERS: dict[str, LiteralString] = {
    "": "true",
    "id": "u.id::text = lower(%(value)s)",
    "user_name": "lower(u.user_name) = lower(%(value)s)",
    "external_id": "u.external_id = %(value)s",
    "display_name": "lower(u.content->>'display_name') = lower(%(value)s)",
}
_GROUPS: dict[str, LiteralString] = {
    "": "true",
    "id": "g.id::text = lower(%(value)s)",
    "display_name": "lower(g.display_name) = lower(%(value)s)",
    "external_id": "g.external_id = %(value)s",
    "user_name": "false",
}


@dataclass(frozen=True)
class Kept(Generic[Content]):
    """A user or a group as it is kept.

    Attributes:
        version: Goes up with each change.
        groups: Of a user: id and name of the groups that they are in.
        told_active: Of a user: what the service told last, which may not be how the account is.
    """

    id: str
    content: Content
    version: int
    made_at: datetime
    changed_at: datetime
    groups: tuple[tuple[str, str], ...] = ()
    told_active: bool = True


@dataclass(frozen=True)
class Provisioned:
    """What provisioning services have brought of somebody.

    Attributes:
        tenant: Whose service it is; empty when none has brought them.
        groups: Names of those that it has put them into; they count in that tenant only.
    """

    tenant: str = ""
    groups: tuple[str, ...] = ()


NOT_PROVISIONED = Provisioned()


@dataclass(frozen=True)
class Found(Generic[Content]):
    """Some of all that fit."""

    total: int
    items: list[Kept[Content]]


async def add_user(tx: Transaction, tenant: str, user: User, *, by: Actor) -> Kept[User]:
    """Bring somebody: an account that is linked when they first sign in.

    Raises:
        ScimFault: `uniqueness`: the name is taken, or the address has an account that this service has not brought.
    """
    address, id_ = address_of(user), uuid4()
    await take_turns(tx, tenant)
    if await accounts.get(tx, address) is not None:
        raise ScimFault("uniqueness", "There is an account for this address here that did not come this way.")
    await _require_free(tx, tenant, user, id_)
    try:
        await accounts.announce(tx, address, user.called, is_active=user.active, by=by)
    except InvalidInput as error:
        # They have signed in for the first time just now.
        raise ScimFault("uniqueness", error.message) from error
    await tx.change(
        """insert into regie.provisioned_user (scope_tenant, id, address, user_name, external_id, content)
           values (%(tenant)s, %(id)s, %(address)s, %(user_name)s, %(external_id)s, %(content)s)""",
        {"tenant": tenant, "id": id_, "address": address, **_columns(user)},
    )
    return await get_user(tx, tenant, str(id_))


async def put_user(tx: Transaction, tenant: str, before: Kept[User], user: User, *, by: Actor) -> Kept[User]:
    """Have somebody as they are told now. Nothing is written when nothing differs.

    Raises:
        ScimFault: See `add_user`.
    """
    if (before.content, before.told_active) == (user, user.active):
        return before
    id_ = UUID(before.id)
    await _require_free(tx, tenant, user, id_)
    old, new = address_of(before.content), address_of(user)
    if old != new and await accounts.get(tx, new) is not None:
        raise ScimFault("uniqueness", "There is an account for this address here already.")
    if await accounts.is_linked(tx, old):
        # Whoever has signed in is who the provider says: else a service could make its own people out to be others.
        new = old
    await accounts.rename(tx, old, new, user.called, by=by)
    if before.told_active != user.active:
        # What it has told before changes nothing: an operator may have deactivated the account since.
        await accounts.set_active(tx, new, is_active=user.active, by=by)
    await tx.change(
        """update regie.provisioned_user
           set user_name = %(user_name)s, external_id = %(external_id)s, content = %(content)s, version = version + 1,
               changed_at = clock_timestamp()
           where scope_tenant = %(tenant)s and id = %(id)s""",
        {"tenant": tenant, "id": id_, **_columns(user)},
    )
    return await get_user(tx, tenant, before.id)


async def remove_user(tx: Transaction, tenant: str, id_: str, *, by: Actor) -> None:
    """Forget somebody with their account: sessions, tokens and memberships go along.

    Raises:
        NotFound: There is no such user.
    """
    await accounts.remove(tx, address_of((await get_user(tx, tenant, id_)).content), by=by)


async def get_user(tx: Transaction, tenant: str, id_: str) -> Kept[User]:
    """Somebody.

    Raises:
        NotFound: There is no such user of this tenant.
    """
    found = await find_users(tx, tenant, ("id", id_))
    if not found.items:
        raise NotFound("There is no such user.")
    return found.items[0]


async def find_users(
    tx: Transaction, tenant: str, where: tuple[str, str] = ("", ""), *, offset: int = 0, limit: int = 1
) -> Found[User]:
    """Users in the order in which they came."""
    fits = "from regie.provisioned_user u where scope_tenant = %(tenant)s and " + _USERS[where[0]]
    values = {"tenant": tenant, "value": where[1], "offset": offset, "limit": limit}
    [counted] = await tx.rows("select count(*) as total " + fits, values)
    rows = await tx.rows(
        "select u.*, a.is_active, "
        "(select coalesce(json_agg(json_build_array(g.id, g.display_name) order by g.id), '[]') "
        "from regie.provisioned_member m join regie.provisioned_group g on g.scope_tenant = m.scope_tenant "
        "and g.id = m.in_group where m.scope_tenant = u.scope_tenant and m.member = u.id) as groups "
        "from regie.provisioned_user u join regie.account a using (address) where scope_tenant = %(tenant)s and "
        + _USERS[where[0]]
        + " order by u.made_at, u.id offset %(offset)s limit %(limit)s",
        values,
    )
    return Found(counted["total"], [_user(row) for row in rows])


async def add_group(tx: Transaction, tenant: str, group: Group, *, by: Actor) -> Kept[Group]:
    """Bring a group.

    Raises:
        ScimFault: `uniqueness`: the name is taken; `invalidValue`: a member is no user of this tenant.
    """
    id_ = uuid4()
    await take_turns(tx, tenant)
    await _require_name(tx, tenant, group, id_)
    await tx.change(
        """insert into regie.provisioned_group (scope_tenant, id, display_name, external_id)
           values (%(tenant)s, %(id)s, %(name)s, %(external_id)s)""",
        {"tenant": tenant, "id": id_, "name": group.display_name, "external_id": group.external_id},
    )
    await _set_members(tx, tenant, id_, frozenset(), group.members)
    await _record(tx, Event.GROUP_CHANGED, str(id_), tenant, by, added=len(group.members))
    return await get_group(tx, tenant, str(id_))


async def put_group(tx: Transaction, tenant: str, before: Kept[Group], group: Group, *, by: Actor) -> Kept[Group]:
    """Have a group as it is told now. Nothing is written when nothing differs.

    Raises:
        ScimFault: See `add_group`.
    """
    if before.content == group:
        return before
    id_ = UUID(before.id)
    await _require_name(tx, tenant, group, id_)
    await _set_members(tx, tenant, id_, before.content.members, group.members)
    await tx.change(
        """update regie.provisioned_group set display_name = %(name)s, external_id = %(external_id)s,
                  version = version + 1, changed_at = clock_timestamp()
           where scope_tenant = %(tenant)s and id = %(id)s""",
        {"tenant": tenant, "id": id_, "name": group.display_name, "external_id": group.external_id},
    )
    came, went = group.members - before.content.members, before.content.members - group.members
    await _record(tx, Event.GROUP_CHANGED, before.id, tenant, by, added=len(came), removed=len(went))
    return await get_group(tx, tenant, before.id)


async def remove_group(tx: Transaction, tenant: str, id_: str, *, by: Actor) -> None:
    """Forget a group; its members stay.

    Raises:
        NotFound: There is no such group.
    """
    gone = await get_group(tx, tenant, id_)
    await tx.change(
        "delete from regie.provisioned_group where scope_tenant = %(tenant)s and id = %(id)s",
        {"tenant": tenant, "id": UUID(id_)},
    )
    await _record(tx, Event.GROUP_REMOVED, id_, tenant, by, removed=len(gone.content.members))


async def get_group(tx: Transaction, tenant: str, id_: str) -> Kept[Group]:
    """A group.

    Raises:
        NotFound: There is no such group of this tenant.
    """
    found = await find_groups(tx, tenant, ("id", id_))
    if not found.items:
        raise NotFound("There is no such group.")
    return found.items[0]


async def find_groups(
    tx: Transaction, tenant: str, where: tuple[str, str] = ("", ""), *, offset: int = 0, limit: int = 1
) -> Found[Group]:
    """Groups in the order in which they came."""
    values = {"tenant": tenant, "value": where[1], "offset": offset, "limit": limit}
    [counted] = await tx.rows(
        "select count(*) as total from regie.provisioned_group g where scope_tenant = %(tenant)s and "
        + _GROUPS[where[0]],
        values,
    )
    rows = await tx.rows(
        "select g.*, array(select m.member::text from regie.provisioned_member m "
        "where m.scope_tenant = g.scope_tenant and m.in_group = g.id) as members "
        "from regie.provisioned_group g where scope_tenant = %(tenant)s and "
        + _GROUPS[where[0]]
        + " order by g.made_at, g.id offset %(offset)s limit %(limit)s",
        values,
    )
    return Found(counted["total"], [_group(row) for row in rows])


async def provisioned(tx: Transaction, address: str) -> Provisioned:
    """Which tenant somebody was brought for, and the groups that they are in."""
    row = await tx.row(
        """select u.scope_tenant, array(
               select g.display_name
               from regie.provisioned_member m
               join regie.provisioned_group g on (g.scope_tenant, g.id) = (m.scope_tenant, m.in_group)
               where (m.scope_tenant, m.member) = (u.scope_tenant, u.id) order by 1) as groups
           from regie.provisioned_user u where u.address = %(address)s""",
        {"address": address},
    )
    return NOT_PROVISIONED if row is None else Provisioned(row["scope_tenant"], tuple(row["groups"]))


async def _set_members(
    tx: Transaction, tenant: str, group: UUID, before: frozenset[str], after: frozenset[str]
) -> None:
    values = {"tenant": tenant, "group": group, "came": sorted(after - before), "went": sorted(before - after)}
    await tx.change(
        """delete from regie.provisioned_member
           where scope_tenant = %(tenant)s and in_group = %(group)s and member::text = any(%(went)s::text[])""",
        values,
    )
    added = await tx.change(
        """insert into regie.provisioned_member (scope_tenant, in_group, member)
           select scope_tenant, %(group)s, id from regie.provisioned_user
           where scope_tenant = %(tenant)s and id::text = any(%(came)s::text[])""",
        values,
    )
    if added != len(after - before):
        raise ScimFault("invalidValue", "A member is no user that was brought before.")


async def _require_free(tx: Transaction, tenant: str, user: User, id_: UUID) -> None:
    found = await find_users(tx, tenant, ("user_name", user.user_name))
    if any(each.id != str(id_) for each in found.items):
        raise ScimFault("uniqueness", "There is a user of this userName already.")


async def _require_name(tx: Transaction, tenant: str, group: Group, id_: UUID) -> None:
    found = await find_groups(tx, tenant, ("display_name", group.display_name))
    if any(each.id != str(id_) for each in found.items):
        raise ScimFault("uniqueness", "There is a group of this displayName already.")


async def take_turns(tx: Transaction, tenant: str) -> None:
    """Changes of one tenant wait for each other, so that what was read and what was found free stays so."""
    await tx.row("select pg_advisory_xact_lock(hashtextextended(%(tenant)s, 7238415007))", {"tenant": tenant})


async def _record(
    tx: Transaction, event: Event, group: str, tenant: str, by: Actor, *, added: int = 0, removed: int = 0
) -> None:
    detail: dict[str, JsonValue] = {"group": {"id": group, "tenant": tenant, "added": added, "removed": removed}}
    await audit.append_outside(tx, "", "", [Fact(event=event, actor=by, detail=detail)])


def _columns(user: User) -> dict[str, object]:
    return {
        "user_name": user.user_name,
        "external_id": user.external_id,
        "content": Jsonb(user.model_dump(mode="json")),
    }


def _user(row: DictRow) -> Kept[User]:
    told = User.model_validate(row["content"])
    # Who was deactivated here is not active, and whose address changed with a sign-in has that one, whatever was told.
    now = {
        "active": row["is_active"],
        "address": told.address if address_of(told) == row["address"] else row["address"],
    }
    user = told.model_copy(update=now)
    groups = tuple((group, name) for group, name in row["groups"])
    return Kept(str(row["id"]), user, row["version"], row["made_at"], row["changed_at"], groups, told.active)


def _group(row: DictRow) -> Kept[Group]:
    group = Group(display_name=row["display_name"], external_id=row["external_id"], members=frozenset(row["members"]))
    return Kept(str(row["id"]), group, row["version"], row["made_at"], row["changed_at"])
