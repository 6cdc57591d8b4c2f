"""Writes leaves into the audit intake, in the transaction of what they describe, and reads them back.

The leaves of a run form a chain: each has its number in the run and the hash of the one before. Both are kept in the
run's row and advance under its lock, so engine, gateway and web can write to the same chain. All store modules use it.
"""

import json
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, LiteralString, NamedTuple

import psycopg
from pydantic import JsonValue

from regie.core import audit
from regie.core.audit import Event, Fact
from regie.core.errors import AuditBroken, InvalidInput
from regie.core.subject import revealed
from regie.store import subjects
from regie.store.database import Sent, Transaction
from regie.store.keys import RunKey, as_json

NONCE_BYTES = UUID_BYTES = 16


@dataclass(frozen=True)
class Leaf:
    """A leaf as stored. `hash` is hexadecimal; `run_seq` is 0 for facts outside a run.

    Attributes:
        names: What is shown in place of commitments to people.
    """

    entry_id: str
    run_seq: int
    raw: bytes
    at: datetime
    names: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def hash(self) -> str:
        """RFC 6962 leaf hash, hexadecimal."""
        return audit.leaf_hash(self.raw).hex()

    @cached_property
    def fields(self) -> dict[str, JsonValue]:
        """What the leaf says, to whom people are known."""
        fields: dict[str, JsonValue] = json.loads(self.raw)
        return {name: revealed(value, self.names) for name, value in fields.items()}

    @property
    def event(self) -> Event:
        """What happened."""
        return Event(str(self.fields["event"]))


@dataclass(frozen=True)
class Chain:
    """Where the chain of a run stands: how many leaves, the hash of the last, and the time of the next."""

    key: RunKey
    corr: str
    ticket: str
    n: int
    head: bytes
    at: datetime


class Entry(NamedTuple):
    """A leaf ready to be written."""

    entry_id: str
    run_seq: int | None
    leaf: bytes


def chain_of(key: RunKey, row: Mapping[str, Any]) -> Chain:
    """The chain of a run from its row, which must be locked and bring the database clock as `at`."""
    return Chain(key, row["corr"], row["ticket"], row["audit_n"], row["audit_head"], row["at"])


async def begin(
    tx: Transaction, key: RunKey, *, corr: str, ticket: str, facts: Sequence[Fact], at: datetime | None = None
) -> tuple[Chain, list[Entry]]:
    """The chain of a run that is about to be inserted, and its first leaves, to be written behind it.

    Args:
        at: The database's clock, when it has been read in this transaction.

    Raises:
        AuditBroken: A fact does not fit into a leaf.
    """
    chain = Chain(key, corr, ticket, 0, b"", at or await tx.clock())
    facts = await subjects.committed(tx, key.tenant, key.domain, facts)
    try:
        return link(chain, facts)
    except AuditBroken as error:
        tx.doom = error
        raise


def link(chain: Chain, facts: Sequence[Fact]) -> tuple[Chain, list[Entry]]:
    """Put facts behind the end of a chain.

    Raises:
        AuditBroken: A fact does not fit into a leaf.
    """
    circumstances = audit.Circumstances(
        at=audit.written(chain.at),
        tenant=chain.key.tenant,
        domain=chain.key.domain,
        corr=chain.corr,
        ticket=chain.ticket,
        run=chain.key.run,
    )
    n, head = chain.n, chain.head
    entries = []
    for n, (fact, (entry_id, nonce)) in enumerate(zip(facts, _chances(len(facts)), strict=True), start=chain.n + 1):
        leaf = audit.encode_leaf(fact, circumstances, audit.Position(entry_id, nonce, n, head.hex()))
        head = audit.leaf_hash(leaf)
        entries.append(Entry(entry_id, n, leaf))
    return Chain(chain.key, chain.corr, chain.ticket, n, head, chain.at), entries


def _chances(number: int) -> Iterator[tuple[str, str]]:
    """So many entry ids, which are random UUIDs (RFC 9562, 5.4), and nonces.

    They are drawn all at once, since each asking is a call of the system, and put together here, since an object for
    each of the UUIDs takes three times as long.
    """
    digits, each = secrets.token_hex((UUID_BYTES + NONCE_BYTES) * number), 2 * (UUID_BYTES + NONCE_BYTES)
    for at in range(0, len(digits), each):
        own = digits[at : at + each]
        variant = "89ab"[int(own[16], 16) % 4]
        entry_id = f"{own[:8]}-{own[8:12]}-4{own[13:16]}-{variant}{own[17:20]}-{own[20:32]}"
        yield entry_id, own[2 * UUID_BYTES :]


Addressed = tuple[str, str, str | None, Entry]
"""A leaf with its tenant, its domain and perhaps its run."""


def addressed(chains: Sequence[tuple[RunKey, Sequence[Entry]]]) -> list[Addressed]:
    """The leaves of several runs."""
    return [(key.tenant, key.domain, key.run, entry) for key, entries in chains for entry in entries]


@asynccontextmanager
async def written_with(
    tx: Transaction, leaves: Sequence[Addressed], at: datetime, *, is_last: bool = False
) -> AsyncIterator[None]:
    """Insert leaves in one round trip with what the block sends.

    Args:
        is_last: Commit with it. Then each leaf must have its log, as those of a run have that was started.

    Raises:
        AuditBroken: They cannot be written; the transaction can no longer be committed.
        Unavailable: The database asks to try again.
    """
    sent: Sent | None = None
    try:
        async with tx.together(is_last=is_last):
            if leaves:
                # First, so that it shows whether it is they that cannot be written.
                insert = INSERT_ALL if is_last else INSERT
                sent = await tx.send(insert, as_values(leaves, at))
            yield
    except (psycopg.Error, InvalidInput) as error:
        if sent is None or sent.is_done:
            raise
        raise broken(tx, f"The audit log does not take a leaf ({type(error).__name__}).") from error
    if sent is not None and not is_last:
        await require_written(tx, leaves, at, sent.touched)


@contextmanager
def blamed(tx: Transaction) -> Iterator[None]:
    """For a statement that writes a run and its leaves: what the database does not say of the run is about the leaves.

    Raises:
        AuditBroken: They cannot be written; the transaction can no longer be committed.
    """
    try:
        yield
    except psycopg.Error as error:
        if error.diag.schema_name == "regie":
            raise
        raise broken(tx, f"The audit log does not take a leaf ({type(error).__name__}).") from error


async def require_written(tx: Transaction, leaves: Sequence[Addressed], at: datetime, touched: int) -> None:
    """Make sure that all of these leaves are written, `touched` of them by now: the others have no log yet.

    Raises:
        AuditBroken: They cannot be; the transaction can no longer be committed.
    """
    if touched == len(leaves):
        return
    for tenant, domain in {(tenant, domain) for tenant, domain, _, _ in leaves}:
        await _make_log(tx, tenant, domain)
    left = await _unwritten(tx, leaves)
    if await tx.change(INSERT, as_values(left, at)) != len(left):
        raise broken(tx, "The audit log of this tenant and domain is missing.")


async def append(tx: Transaction, key: RunKey, facts: Sequence[Fact]) -> None:
    """Write facts about a run. After its last leaf they go outside its chain, with the run as `closed_run`.

    Raises:
        AuditBroken: They cannot be written; the transaction can no longer be committed.
        InvalidInput: There is no such run.
    """
    row = await tx.row(LOCK, key._asdict())
    if row is None:
        raise InvalidInput(f"There is no run {key.run}.")
    await append_behind(tx, key, row, facts)


async def append_behind(tx: Transaction, key: RunKey, row: Mapping[str, Any], facts: Sequence[Fact]) -> None:
    """The same for a run that is locked already.

    Args:
        row: What `LOCK` has read, in this transaction.
    """
    if row["ended_at"] is not None:
        about: dict[str, JsonValue] = {"closed_run": key.run}
        late = [replace(fact, detail={**fact.detail, **about}) for fact in facts]
        await append_outside(tx, key.tenant, key.domain, late)
        return
    facts = await subjects.committed(tx, key.tenant, key.domain, facts)
    try:
        chain, entries = link(chain_of(key, row), facts)
    except AuditBroken as error:
        tx.doom = error
        raise
    async with written_with(tx, addressed([(key, entries)]), chain.at):
        await tx.change(
            """update regie.run set audit_n = %(n)s, audit_head = %(head)s
               where tenant = %(tenant)s and domain = %(domain)s and id = %(run)s""",
            {**key._asdict(), "n": chain.n, "head": chain.head},
        )


async def append_outside(tx: Transaction, tenant: str, domain: str, facts: Sequence[Fact]) -> None:
    """Write facts that belong to no run; tenant and domain are both empty for facts about the deployment.

    Raises:
        AuditBroken: They cannot be written; the transaction can no longer be committed.
    """
    at = await tx.clock()
    facts = await subjects.committed(tx, tenant, domain, facts)
    circumstances = audit.Circumstances(at=audit.written(at), tenant=tenant, domain=domain)
    entries = []
    try:
        for fact, (entry_id, nonce) in zip(facts, _chances(len(facts)), strict=True):
            leaf = audit.encode_leaf(fact, circumstances, audit.Position(entry_id, nonce))
            entries.append(Entry(entry_id, None, leaf))
    except AuditBroken as error:
        tx.doom = error
        raise
    async with written_with(tx, [(tenant, domain, None, entry) for entry in entries], at):
        pass


async def read(tx: Transaction, key: RunKey) -> list[Leaf]:
    """The chain of a run, first leaf first."""
    rows = await tx.rows(
        """select i.entry_id, i.run_seq, i.leaf, i.at from audit.entry i join audit.log l using (log_id)
           where l.tenant = %(tenant)s and l.domain = %(domain)s and i.run_id = %(run)s order by i.run_seq""",
        key._asdict(),
    )
    names = await subjects.names_in(tx, key.tenant, key.domain, [bytes(row["leaf"]) for row in rows])
    return [Leaf(str(row["entry_id"]), row["run_seq"], bytes(row["leaf"]), row["at"], names) for row in rows]


def check_chain(leaves: Sequence[Leaf]) -> list[str]:
    """Name what is wrong with the chain of a run: numbers that are not 1, 2, 3 ..., leaves that do not follow."""
    faults = []
    previous = ""
    for number, leaf in enumerate(leaves, start=1):
        if (leaf.run_seq, leaf.fields.get("run_seq")) != (number, number):
            faults.append(
                f"leaf {number} says it is number {leaf.fields.get('run_seq')} and is stored as {leaf.run_seq}"
            )
        if leaf.fields.get("run_prev", "") != previous:
            faults.append(f"leaf {number} does not follow the one before it")
        if leaf.fields.get("entry_id") != leaf.entry_id:
            faults.append(f"leaf {number} is stored under another entry id")
        if leaf.event is Event.RUN_CLOSED and (leaf.fields.get("count"), number) != (len(leaves), len(leaves)):
            faults.append(
                f"leaf {number} closes the run with {leaf.fields.get('count')} leaves; there are {len(leaves)}"
            )
        previous = leaf.hash
    return faults


async def verify(tx: Transaction, key: RunKey) -> list[str]:
    """Check the chain of a run in itself and against what the run's row remembers; an empty list means whole.

    Raises:
        InvalidInput: There is no such run.
    """
    row = await tx.row(
        """select audit_n, audit_head, ended_at from regie.run
           where tenant = %(tenant)s and domain = %(domain)s and id = %(run)s""",
        key._asdict(),
    )
    if row is None:
        raise InvalidInput(f"There is no run {key.run}.")
    leaves = await read(tx, key)
    faults = check_chain(leaves)
    if len(leaves) != row["audit_n"]:
        faults.append(f"there are {len(leaves)} leaves; the run counted {row['audit_n']}")
    elif leaves and leaves[-1].hash != row["audit_head"].hex():
        faults.append("the last leaf is not the one the run remembers")
    if row["ended_at"] is not None and (not leaves or leaves[-1].event is not Event.RUN_CLOSED):
        faults.append("the run is over, but its last leaf does not say so")
    return faults


def broken(tx: Transaction, message: str) -> AuditBroken:
    """The error for a leaf that cannot be written; from now on the transaction cannot be committed."""
    tx.doom = AuditBroken(message)
    return tx.doom


LOCK: LiteralString = """
    with locked as materialized (
        select corr, ticket, audit_n, audit_head, ended_at, owner, fence from regie.run
        where tenant = %(tenant)s and domain = %(domain)s and id = %(run)s for no key update)
    select *, clock_timestamp() as at from locked"""
"""Locks a run, and reads what its chain needs and who holds it."""

_ROWS: LiteralString = """
    select e.entry_id, l.log_id, e.run, e.run_seq, substring(%(leaves)b::bytea from e.first for e.bytes), %(at)s
    from json_to_recordset(%(rows)s::json)
        as e (tenant text, domain text, entry_id uuid, run uuid, run_seq integer, first integer, bytes integer)"""
_LOG: LiteralString = " join audit.log l on l.tenant = e.tenant and l.domain = e.domain"
_INTO: LiteralString = "insert into audit.intake (entry_id, log_id, run_id, run_seq, leaf, at)"
INSERT: LiteralString = _INTO + _ROWS + _LOG
"""Leaves without a log are left out."""
INSERT_ALL: LiteralString = _INTO + _ROWS + " left" + _LOG
"""A leaf without a log breaks the statement."""


def as_values(leaves: Sequence[Addressed], at: datetime) -> dict[str, object]:
    """Leaves as `INSERT` takes them: one behind the other, and rows that say where each begins.

    In the rows themselves they would have to be text that the server reads letter by letter.
    """
    rows: list[dict[str, object]] = []
    first = 1
    for tenant, domain, run, entry in leaves:
        rows.append(
            {
                "tenant": tenant,
                "domain": domain,
                "entry_id": entry.entry_id,
                "run": run,
                "run_seq": entry.run_seq,
                "first": first,
                "bytes": len(entry.leaf),
            }
        )
        first += len(entry.leaf)
    return {"at": at, "rows": as_json(rows), "leaves": b"".join([entry.leaf for *_, entry in leaves])}


async def _unwritten(tx: Transaction, leaves: Sequence[Addressed]) -> list[Addressed]:
    ids = [leaf[-1].entry_id for leaf in leaves]
    rows = await tx.rows("select entry_id from audit.intake where entry_id = any(%(ids)s::uuid[])", {"ids": ids})
    written = {str(row["entry_id"]) for row in rows}
    return [leaf for leaf in leaves if leaf[-1].entry_id not in written]


async def _make_log(tx: Transaction, tenant: str, domain: str) -> None:
    await tx.change(
        """insert into audit.log (tenant, domain, origin)
           select %(tenant)s, %(domain)s, 'audit.' || name || '/' || %(path)s from regie.deployment
           on conflict do nothing""",
        {"tenant": tenant, "domain": domain, "path": f"{tenant}/{domain}" if tenant else "deployment"},
    )
