"""Three tenants in three domains, with a row of each in every walled table, and a word in it by which a row is known.

The rows are made from the catalogue of the database, so a table that comes later has rows too.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

TENANTS = ("acme", "globex", "umbrella")
DOMAINS = ("identity", "hr", "support")
RELEASE = "0" * 64
WORKER_NUMBER = 1000
UNWALLED = {
    "regie.migration": "about the tables themselves",
    "regie.deployment": "the name of the deployment",
    "regie.sealing_key": "proofs of the deployment's keys",
    "regie.release": "all tenants' definitions, sealed; content is never asked for by tenant",
    "regie.release_activation": "which release was current when",
    "regie.account": "the operator's own people",
    "regie.session": "their sign-ins",
    "regie.sign_in": "nobody has signed in yet",
    "regie.api_token": "counts in several tenants; found by its secret",
    "regie.authenticator": "of the operator's own people",
    "regie.provisioned_user": "the operator's own people, found with a service's token; only the web may",
    "regie.provisioned_group": "the same",
    "regie.provisioned_member": "the same",
    "regie.challenge": "asked of them, and about nothing when none is answered",
    "regie.rate_budget": "what a vendor allows an app is shared by all tenants",
    "audit.cosignature": "stands for all logs",
    "audit.signing_key": "signs for all logs",
    "audit.attestation": "stands for all logs",
    "audit.attester": "parties outside that the notary asks about all logs",
}
"""Tables without walls, and why there is nothing to keep apart in them."""
_GIVEN: dict[str, Any] = {
    "run.status": "running",
    "run.release": RELEASE,
    "poll.release": RELEASE,
    "run.owner": None,
    "run.first_run": None,
    "run.rerun_of": None,
    "run.parent": None,
    "run.ended_at": None,
    "assertion.sha256": RELEASE,
    "approval.status": "open",
    "approval.decided_by": None,
    "approval.decided_at": None,
    "effect.state": "intended",
    "subject.erased_at": None,
    "poll.failures": 0,
    "poll.failing_since": None,
    "quota.start_runs": None,
    "quota.start_per_s": None,
    "quota.runs": None,
    "quota.waiting": None,
    "quota.per_tenant": None,
}
"""What constraints ask for."""


@dataclass(frozen=True)
class Place:
    """A tenant's part of a domain."""

    tenant: str
    domain: str

    @property
    def mark(self) -> str:
        """The word in all its rows, found in nothing else."""
        return "mark" + hashlib.sha256(f"{self.tenant}|{self.domain}".encode()).hexdigest()[:20]

    @property
    def id(self) -> uuid.UUID:
        """The id of its run, and of everything else that has one."""
        return uuid.uuid5(uuid.NAMESPACE_OID, self.mark)


PLACES = [Place(tenant, domain) for tenant in TENANTS for domain in DOMAINS]
BY_ID = {place.id: place for place in PLACES}


def places_in(rows: Iterable[Iterable[Any]]) -> set[Place]:
    """Whose rows these are, by the words and ids in their values."""
    texts = [_text(value) for row in rows for value in row]
    return {place for place in PLACES for text in texts if place.mark in text or str(place.id) in text}


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def walled_tables(owner: psycopg.Connection[Any]) -> list[str]:
    """All tables but those that have a reason to be without walls, those that others refer to first."""
    tables = owner.execute(
        "select schemaname || '.' || tablename from pg_tables where schemaname in ('regie', 'audit')"
    ).fetchall()
    refers = owner.execute(
        """select n.nspname || '.' || t.relname, m.nspname || '.' || o.relname
           from pg_constraint c join pg_class t on t.oid = c.conrelid join pg_namespace n on n.oid = t.relnamespace
           join pg_class o on o.oid = c.confrelid join pg_namespace m on m.oid = o.relnamespace
           where c.contype = 'f' and t.oid <> o.oid"""
    ).fetchall()
    order: TopologicalSorter[str] = TopologicalSorter({table: set() for (table,) in tables})
    for table, other in refers:
        order.add(table, other)
    # Logs are referred to by number, without a constraint.
    return [table for table in dict.fromkeys(["audit.log", *order.static_order()]) if table not in UNWALLED]


def settle(owner: psycopg.Connection[Any]) -> list[str]:
    """Fill every walled table; gives their names."""
    owner.execute("insert into regie.release (digest, content) values (%s, 'x') on conflict do nothing", [RELEASE])
    tables = walled_tables(owner)
    for table in tables:
        for place in PLACES:
            _put(owner, table, place)
    return tables


def _put(owner: psycopg.Connection[Any], table: str, place: Place) -> None:
    row = dict(_values(owner, table, place))
    owner.execute(
        sql.SQL("insert into {} ({}) values ({}) on conflict do nothing").format(
            sql.Identifier(*table.split(".")),
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join(sql.Placeholder() * len(row)),
        ),
        list(row.values()),
    )


def _values(owner: psycopg.Connection[Any], table: str, place: Place) -> Iterator[tuple[str, Any]]:
    columns: LiteralString = """
        select a.attname, format_type(a.atttypid, null) from pg_attribute a
        where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped and a.attidentity = ''
        order by a.attnum"""
    for column, kind in owner.execute(columns, [table]).fetchall():
        given = _given(owner, table, column, place)
        yield column, _made(kind, place) if given is ... else given


def _given(owner: psycopg.Connection[Any], table: str, column: str, place: Place) -> Any:
    name = table.partition(".")[2]
    if column == "log_id":
        found = owner.execute(
            "select log_id from audit.log where (tenant, domain) = (%s, %s)", [place.tenant, place.domain]
        ).fetchone()
        return found[0] if found else ...
    fixed: dict[str, Any] = {
        "tenant": place.tenant,
        "domain": place.domain,
        "domains": [place.domain],
        "leaf_hash": hashlib.sha256(b"\x00" + place.mark.encode()).digest(),
        "root": hashlib.sha256(place.mark.encode()).digest(),
        "tile.data": place.mark.encode().ljust(8192, b"."),
    }
    return {**_GIVEN, **fixed}.get(f"{name}.{column}", fixed.get(column, ...))


def _made(kind: str, place: Place) -> Any:
    values: dict[str, Any] = {
        "text": place.mark,
        "text[]": [place.mark],
        "bytea": place.mark.encode(),
        "jsonb": Jsonb({"mark": place.mark}),
        "uuid": place.id,
        "boolean": False,
        "timestamp with time zone": "2026-11-29T12:00:00Z",
    }
    # Every other kind of column is a number.
    return values.get(kind, 1)
