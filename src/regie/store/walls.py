"""Walls in the database: a login for each process, what it may do, and which rows there are for it.

`regie up` builds them, as the owner of the tables. A worker's login belongs to one domain: whatever SQL it runs, rows
of other domains do not exist for it, and it belongs to no other role that it could change to. The gateway's sees the
rows of the tenant that a transaction was begun for, and without one none. See decision 0025.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, LiteralString

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.conninfo import make_conninfo

from regie.core.errors import RegieError
from regie.store.database import explained
from regie.store.keys import TENANT

LOCK: Final = 7_238_415_005
"""Advisory lock under which one process at a time builds; any number that nothing else uses."""
PATIENCE: Final = "-c lock_timeout=3s"
"""A table is locked for a moment while it gets a policy: whoever comes behind must not wait for long."""
LONGEST_NAME: Final = 63
"""Bytes of a role's name; PostgreSQL cuts off what is longer."""

EVERYBODY: tuple[LiteralString, ...] = (
    "usage on schema regie, audit",
    "select on regie.migration",
)
OF_SEALED: tuple[LiteralString, ...] = (
    "select on regie.sealing_key, regie.deployment, regie.release, regie.release_activation, regie.quota, audit.log",
    "insert on audit.log, audit.intake",
    # To find out which leaves lack their log; what they say only people read, through the web.
    "select (entry_id, log_id) on audit.intake",
    "select, insert on regie.data_key",
    "update (uses) on regie.data_key",
    "select, insert on audit.subject",
)
"""What everybody needs who writes about runs."""


class Process(StrEnum):
    """Who has a login of its own."""

    WORKER = "worker"
    GATEWAY = "gateway"
    WEB = "web"
    NOTARY = "notary"


RIGHTS: Final = MappingProxyType[Process, tuple[LiteralString, ...]](
    {
        Process.WORKER: (
            *EVERYBODY,
            *OF_SEALED,
            "select, insert, update on regie.run, regie.step, regie.inbox, regie.approval",
            "select, insert, update, delete on regie.timer, regie.event, regie.event_mark, regie.event_wait",
            "select, insert, update, delete on regie.schedule, regie.poll, regie.start_slot, regie.worker",
            # To lock its row; there is nothing else that it could be set to.
            "update (domain) on regie.quota",
        ),
        Process.GATEWAY: (
            *EVERYBODY,
            *OF_SEALED,
            "select on regie.run, regie.approval, regie.poll",
            "update (audit_n, audit_head) on regie.run",
            "select, insert, update on regie.effect",
            "select, insert on regie.certificate",
            "select, insert, update, delete on regie.record, regie.rate_budget",
        ),
        Process.WEB: (
            *EVERYBODY,
            *OF_SEALED,
            "select, insert, update on regie.run, regie.inbox",
            "select, update on regie.approval",
            "select on regie.step, regie.effect, regie.schedule, regie.poll, regie.record, regie.worker, regie.account",
            # Who somebody is follows from the identity provider; which roles accounts have here, only the owner writes.
            "insert (address, display_name, issuer, subject, groups, is_active) on regie.account",
            "update (address, display_name, issuer, subject, groups, is_active) on regie.account",
            # Provisioning services bring and remove people.
            "delete on regie.account",
            "select, insert, update, delete on regie.provisioned_user, regie.provisioned_group",
            "select, insert, delete on regie.provisioned_member",
            "select, insert, update, delete on regie.timer, regie.event, regie.event_mark, regie.event_wait",
            "select, insert, update, delete on regie.start_slot, regie.session, regie.sign_in",
            "select, insert, update on regie.api_token",
            "select, insert, delete on regie.authenticator, regie.challenge",
            "update (sign_count, used_at) on regie.authenticator",
            "select, insert on regie.assertion",
            "update (domain) on regie.quota",
            "select on audit.intake, audit.leaf, audit.entry, audit.tile, audit.checkpoint",
        ),
        Process.NOTARY: (
            *EVERYBODY,
            "select on audit.log",
            "select, delete on audit.intake",
            "select, insert on audit.leaf, audit.tile, audit.checkpoint, audit.cosignature, audit.signing_key",
            "select, insert on audit.attestation",
            "select, insert, update, delete on audit.attester",
        ),
    }
)
"""All that each of them may do; the owner of the tables may do everything."""


class WallRefused(RegieError):
    """The logins of the processes cannot be made, or one of them could get over the walls."""


@dataclass(frozen=True)
class Login:
    """A process's way into the database; `domain` is a worker's, and empty for the others."""

    process: Process
    password: str = field(repr=False)
    domain: str = ""

    def role(self, deployment: str) -> str:
        """The name of its role; those of other deployments on the same server have other names."""
        name = "-".join(filter(None, (deployment, self.process, self.domain)))
        if len(name.encode()) <= LONGEST_NAME:
            return name
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        return f"{deployment}-{self.process}-{digest}"


async def build(dsn: str, logins: Sequence[Login]) -> list[str]:
    """Make roles or set their passwords, give each the rights it needs, and policies to every walled table.

    Several processes may call it at once; they take turns. What is as it should be is left alone, and each policy is
    made by itself, so that of those who work meanwhile nobody is held up for long, and none is in a deadlock with us. A
    login that has its rights and not yet its policy sees nothing there.

    Args:
        dsn: Connection string of the owner of the tables, who may make roles.

    Returns:
        The connection string of each login, in the same order.

    Raises:
        WallRefused: The owner may not make roles, or a role may more than it should.
        Unavailable: The database does not answer, or a table is in use for long; try again.
    """
    with explained(None):
        async with await AsyncConnection[Any].connect(
            dsn, connect_timeout=10, options=PATIENCE, autocommit=True
        ) as connection:
            await connection.execute("select pg_advisory_lock(%s)", [LOCK])
            [[deployment]] = await _rows(connection, "select name from regie.deployment")
            roles = [login.role(deployment) for login in logins]
            for login, role in zip(logins, roles, strict=True):
                async with connection.transaction():
                    await _make_role(connection, role, login.password)
                    await _grant(connection, role, RIGHTS[login.process])
                for table in await _walled(connection, role):
                    await _allow(connection, role, table, _rows_for(login, table))
            await _require_weak(connection, roles)
    return [make_conninfo(dsn, user=role, password=login.password) for login, role in zip(logins, roles, strict=True)]


@dataclass(frozen=True)
class _Table:
    """A walled table that a role has to do with.

    Attributes:
        policy: What its policy for the role was made of; none when it has no such policy.
    """

    schema: str
    name: str
    columns: frozenset[str]
    policy: str | None

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


@dataclass(frozen=True)
class _Rows:
    """Which rows there are for a role, and which it may write."""

    seen: sql.Composable
    written: sql.Composable


def _rows_for(login: Login, table: _Table) -> _Rows:
    """Compared in a way that no index serves, as in `commits`: a wall changes nothing about how rows are found."""
    everything = sql.SQL("true")
    if login.process in {Process.WEB, Process.NOTARY}:
        return _Rows(everything, everything)
    if {"tenant", "domain", "domains"}.isdisjoint(table.columns):
        # The rows of a log are there for whom the log is there, which has a wall itself.
        of_log = sql.SQL("exists (select from audit.log l where l.log_id = {}.log_id)").format(table.identifier)
        return _Rows(of_log, of_log)
    if login.process is Process.WORKER:
        if "domains" in table.columns:
            own = sql.SQL("array[{}]").format(sql.Literal(login.domain))
            # One that works for several domains is there for the workers of each, or they would take it for dead.
            return _Rows(sql.SQL("domains && {}").format(own), sql.SQL("domains <@ {}").format(own))
        of_domain = sql.SQL("domain is not distinct from {}").format(sql.Literal(login.domain))
        if (table.schema, table.name) == ("audit", "log"):
            # The anchor log belongs to no tenant, and a domain may have the same name.
            of_domain = sql.SQL("{} and tenant <> ''").format(of_domain)
        return _Rows(of_domain, of_domain)
    if "tenant" not in table.columns:
        return _Rows(everything, everything)
    # After a transaction the setting is an empty text, before the first it is null.
    of_tenant = sql.SQL("tenant is not distinct from nullif(current_setting({}, true), '')").format(sql.Literal(TENANT))
    return _Rows(of_tenant, of_tenant)


async def _walled(connection: AsyncConnection[Any], role: str) -> list[_Table]:
    rows = await _rows(
        connection,
        """select s.nspname, t.relname, array_agg(a.attname::text),
                  (select obj_description(p.oid, 'pg_policy') from pg_policy p
                   where p.polrelid = t.oid and p.polname = %(role)s)
           from pg_class t join pg_namespace s on s.oid = t.relnamespace
           join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
           where s.nspname in ('regie', 'audit') and t.relrowsecurity
             and (has_any_column_privilege(%(role)s, t.oid, 'select, insert, update')
                  or has_table_privilege(%(role)s, t.oid, 'delete'))
           group by t.oid, 1, 2 order by 1, 2""",
        {"role": role},
    )
    return [_Table(schema, name, frozenset(columns), policy) for schema, name, columns, policy in rows]


async def _make_role(connection: AsyncConnection[Any], role: str, password: str) -> None:
    """Make it or set its password, which the server is told only as what it keeps of it (RFC 5803)."""
    found = await _rows(connection, "select from pg_roles where rolname = %(role)s", {"role": role})
    verb: LiteralString = "alter" if found else "create"
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    try:
        await connection.execute(
            sql.SQL("{} role {} login password {}").format(sql.SQL(verb), sql.Identifier(role), sql.Literal(verifier))
        )
    except psycopg.errors.InsufficientPrivilege as error:
        raise WallRefused(
            f"The role in REGIE_DATABASE_URL may not {verb} the role {role}, which keeps domains apart.",
            hint="Let it make roles: alter role NAME createrole. Roles that somebody else has made must be dropped.",
        ) from error


async def _grant(connection: AsyncConnection[Any], role: str, rights: Iterable[LiteralString]) -> None:
    """Give a role these rights and take every other from it."""
    name = sql.Identifier(role)
    async with connection.pipeline():
        await connection.execute(sql.SQL("revoke all on all tables in schema regie, audit from {}").format(name))
        for right in rights:
            await connection.execute(sql.SQL("grant {} to {}").format(sql.SQL(right), name))


async def _allow(connection: AsyncConnection[Any], role: str, table: _Table, rows: _Rows) -> None:
    """Give a table its policy for a role. The policy says in its comment what it was made of."""
    made_of = f"{rows.seen.as_string(connection)} / {rows.written.as_string(connection)}"
    if table.policy == made_of:
        return
    policy, on = sql.Identifier(role), table.identifier
    async with connection.transaction(), connection.pipeline():
        await connection.execute(sql.SQL("drop policy if exists {} on {}").format(policy, on))
        await connection.execute(
            sql.SQL("create policy {} on {} to {} using ({}) with check ({})").format(
                policy, on, policy, rows.seen, rows.written
            )
        )
        await connection.execute(sql.SQL("comment on policy {} on {} is {}").format(policy, on, sql.Literal(made_of)))


async def _require_weak(connection: AsyncConnection[Any], roles: Sequence[str]) -> None:
    """Make sure that none of these roles can get over a wall, whoever has changed it since it was made."""
    strong = await _rows(
        connection,
        """select r.rolname from pg_roles r where r.rolname = any(%(roles)s)
           and (r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolreplication
                or exists (select from pg_auth_members m where m.member = r.oid))""",
        {"roles": list(roles)},
    )
    if strong:
        raise WallRefused(
            f"The role {strong[0][0]} may more than it should, or belongs to another role.",
            hint="Drop it; regie up makes it anew.",
        )


async def _rows(
    connection: AsyncConnection[Any], query: LiteralString, values: Mapping[str, object] | None = None
) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query, values)).fetchall()
