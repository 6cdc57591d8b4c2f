"""Runs: started by triggers, claimed and committed by workers, read by everyone. The run's row is the queue.

A claim is a worker's handle on a run: the run, the fence that the claim raised, and the number of the last commit.
Every write of a worker names all three, so a worker that lost its run cannot write to it. Transactions that touch a run
and something of it lock the run's row first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString, NamedTuple

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from regie.core.audit import Actor, Event, Fact
from regie.core.errors import FencedOut, InvalidInput
from regie.core.run import Cancelled, RunStatus
from regie.store import audit, inbox
from regie.store.database import Transaction
from regie.store.inbox import InboxEvent
from regie.store.keys import READY, Cursor, RunKey, id_span
from regie.store.sealer import SealBroken

_THIS: LiteralString = "tenant = %(tenant)s and domain = %(domain)s and id = %(run)s"
_BARE: LiteralString = """
    select tenant, domain, id, workflow, status, release, definition_digest, ticket, corr, trigger_key, started_by,
    requester, dry, prio, seq, fence, owner, started_at, changed_at, ended_at, audit_n, inbox_n
    from regie.run where """
"""What a list shows: everything but the sealed state."""
_STATE: LiteralString = "select state from regie.run where "
_LISTED: LiteralString = """
    (%(tenant)s::text is null or tenant = %(tenant)s)
    and (%(domain)s::text is null or domain = %(domain)s)
    and (%(status)s::text is null or status = %(status)s)
    and (%(workflow)s::text is null or workflow = %(workflow)s)
    and (%(ticket)s::text is null or ticket = %(ticket)s)
    and (%(seen_by)s::text is null or lower(requester) = lower(%(seen_by)s)
         or (started_by->>'type' = 'person' and lower(started_by->>'id') = lower(%(seen_by)s))
         or exists (select from regie.approval a
                    where a.tenant = run.tenant and a.domain = run.domain and a.run = run.id
                      and exists (select from unnest(a.approvers) p where lower(p) = lower(%(seen_by)s))))
    and (%(at)s::timestamptz is null or (started_at, id) < (%(at)s, %(id)s::uuid))
    order by started_at desc, id desc limit %(limit)s"""


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """A run to start.

    Attributes:
        key: With a new UUID, chosen by the caller.
        trigger_key: What started it, such as a webhook's delivery: the same one never starts a second run.
        prio: Lower goes first.
    """

    key: RunKey
    workflow: str
    release: str
    definition_digest: str
    trigger_key: str
    started_by: Actor
    state_json: str
    ticket: str = ""
    corr: str = ""
    requester: str = ""
    dry: bool = False
    prio: int = 100


class Started(NamedTuple):
    """The run of a trigger; `is_new` is false when the trigger had started it before."""

    key: RunKey
    is_new: bool


class Claim(NamedTuple):
    """A worker's handle on a run."""

    key: RunKey
    fence: int
    seq: int


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A run as handed to a worker. `inbox` holds what is not consumed, in order; `inbox_n` counts what was seen."""

    claim: Claim
    workflow: str
    release: str
    definition_digest: str
    state_json: str
    inbox: list[InboxEvent]
    inbox_n: int
    ticket: str
    corr: str
    dry: bool
    prio: int


@dataclass(frozen=True, kw_only=True)
class HeldRun:
    """What a gateway needs to know of a run that a worker holds."""

    key: RunKey
    fence: int
    workflow: str
    release: str
    definition_digest: str
    ticket: str
    corr: str
    dry: bool
    status: RunStatus
    requester: str
    started_by: Actor


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A run without its state. `owner` is the worker that holds it; times are the database's."""

    key: RunKey
    workflow: str
    status: RunStatus
    release: str
    definition_digest: str
    ticket: str
    corr: str
    trigger_key: str
    started_by: Actor
    requester: str
    dry: bool
    prio: int
    seq: int
    fence: int
    owner: str | None
    started_at: datetime
    changed_at: datetime
    ended_at: datetime | None
    audit_n: int
    inbox_n: int

    @property
    def cursor(self) -> Cursor:
        """Its place in lists."""
        return Cursor(self.started_at, self.key.run)


async def start(tx: Transaction, new: NewRun) -> Started:
    """Start a run, ready for any worker; a trigger that came before gives the run it started then.

    Raises:
        InvalidInput: Something in it cannot be stored.
    """
    key = new.key
    workflow: dict[str, JsonValue] = {"name": new.workflow, "def_sha256": new.definition_digest}
    trigger: dict[str, JsonValue] = {"trigger": new.trigger_key}
    about: dict[str, JsonValue] = {"workflow": workflow, "release": new.release, "dry": new.dry}
    first = [
        Fact(event=Event.TRIGGER_ACCEPTED, actor=new.started_by, detail=trigger),
        Fact(event=Event.RUN_STARTED, actor=new.started_by, detail=about),
    ]
    chain, entries = await audit.begin(tx, key, corr=new.corr, ticket=new.ticket, facts=first)
    row = await tx.row(
        """with started as (
               insert into regie.run (tenant, domain, id, workflow, release, definition_digest, trigger_key, ticket,
                                      corr, started_by, requester, dry, prio, status, state, audit_n, audit_head)
               values (%(tenant)s, %(domain)s, %(run)s, %(workflow)s, %(release)s, %(definition_digest)s,
                       %(trigger_key)s, %(ticket)s, %(corr)s, %(started_by)s, %(requester)s, %(dry)s, %(prio)s,
                       'running', %(state)s, %(audit_n)s, %(audit_head)s)
               on conflict (tenant, domain, trigger_key) do nothing
               returning domain)
           select pg_notify(%(channel)s, domain) from started""",
        {
            **key._asdict(),
            "workflow": new.workflow,
            "release": new.release,
            "definition_digest": new.definition_digest,
            "trigger_key": new.trigger_key,
            "ticket": new.ticket,
            "corr": new.corr,
            "started_by": Jsonb(new.started_by.model_dump(mode="json")),
            "requester": new.requester,
            "dry": new.dry,
            "prio": new.prio,
            "state": sealed_state(tx, key, new.state_json),
            "audit_n": chain.n,
            "audit_head": chain.head,
            "channel": READY,
        },
    )
    if row is not None:
        await audit.write_chains(tx, [(key, entries)], chain.at)
        return Started(key, is_new=True)
    before = await tx.row(
        "select id from regie.run where tenant = %(t)s and domain = %(d)s and trigger_key = %(k)s",
        {"t": key.tenant, "d": key.domain, "k": new.trigger_key},
    )
    if before is None:
        raise InvalidInput(f"The run of trigger {new.trigger_key} is gone.")
    earlier = RunKey(key.tenant, key.domain, str(before["id"]))
    repeated = Fact(event=Event.TRIGGER_REPEATED, actor=new.started_by, detail=trigger)
    await audit.append(tx, earlier, [repeated])
    return Started(earlier, is_new=False)


async def claim(tx: Transaction, worker: str, domains: Sequence[str], limit: int) -> list[Claimed]:
    """Take up to `limit` ready runs of these domains, most urgent first. A worker taken for dead gets none.

    What cannot be opened any more is set aside, so that one altered row does not stop the others.
    """
    rows = await tx.rows(
        """with chosen as materialized (
               select tenant, domain, id, ready_at as ready_since from regie.run
               where domain = any(%(domains)s) and owner is null and ready_at is not null
                 and exists (select from regie.worker where id = %(worker)s)
               order by prio, ready_at limit %(limit)s for no key update skip locked)
           update regie.run r set owner = %(worker)s, fence = r.fence + 1, ready_at = null
           from chosen c
           where r.id = c.id and (r.tenant, r.domain) is not distinct from (c.tenant, c.domain)
           returning r.*, c.ready_since""",
        {"worker": worker, "domains": list(domains), "limit": limit},
    )
    rows.sort(key=lambda row: (row["prio"], row["ready_since"]))
    keys = [_key(row) for row in rows]
    try:
        waiting = await inbox.unconsumed_of(tx, keys) if keys else {}
    except SealBroken:
        waiting = {}
    taken: list[Claimed] = []
    for key, row in zip(keys, rows, strict=True):
        try:
            arrived = waiting[key] if key in waiting else await inbox.unconsumed(tx, key)
            taken.append(_claimed(tx, key, row, arrived))
        except SealBroken:
            await set_aside(tx, Claim(key, row["fence"], row["seq"]), "SealBroken")
    return taken


def _claimed(tx: Transaction, key: RunKey, row: DictRow, arrived: list[InboxEvent]) -> Claimed:
    return Claimed(
        claim=Claim(key, row["fence"], row["seq"]),
        workflow=row["workflow"],
        release=row["release"],
        definition_digest=row["definition_digest"],
        state_json=_opened_state(tx, key, row),
        inbox=arrived,
        inbox_n=row["inbox_n"],
        ticket=row["ticket"],
        corr=row["corr"],
        dry=row["dry"],
        prio=row["prio"],
    )


async def set_aside(tx: Transaction, claim: Claim, kind: str) -> None:
    """Let go of a run that nobody can go on with as it is; `regie doctor` names it until somebody has mended it.

    Args:
        kind: Class name of the error met.
    """
    await tx.change(
        """update regie.run set owner = null, ready_at = null
           where tenant = %(tenant)s and domain = %(domain)s and id = %(run)s and fence = %(fence)s""",
        {**claim.key._asdict(), "fence": claim.fence},
    )
    actor = Actor(type="engine", id="engine")
    await audit.append(tx, claim.key, [Fact(event=Event.RUN_SET_ASIDE, actor=actor, detail={"failure": kind})])


async def park(tx: Transaction, claim: Claim, seen_inbox_n: int) -> bool:
    """Let go of a run that waits.

    Returns:
        Whether it sleeps; if not, events came meanwhile and it is ready again.

    Raises:
        FencedOut: Somebody else has the run, or it has moved on.
    """
    row = await tx.row(
        """update regie.run set owner = null, ready_at = case when inbox_n > %(seen)s then clock_timestamp() end
           where tenant = %(tenant)s and domain = %(domain)s and id = %(run)s
             and fence = %(fence)s and seq = %(seq)s and owner is not null
           returning ready_at is null as sleeps,
                     case when ready_at is not null then pg_notify(%(channel)s, domain) end""",
        {
            **claim.key._asdict(),
            "fence": claim.fence,
            "seq": claim.seq,
            "seen": seen_inbox_n,
            "channel": READY,
        },
    )
    if row is None:
        raise FencedOut(f"Run {claim.key.run} is no longer held under fence {claim.fence} at {claim.seq}.")
    return bool(row["sleeps"])


async def cancel(tx: Transaction, key: RunKey, by: Actor, event: Cancelled) -> bool:
    """Cancel a run that is locked and not over: tells it, and writes the leaf.

    From here on it begins nothing new and ends as cancelled, whatever the worker that holds it is about to write.

    Returns:
        Whether it had not been cancelled before.
    """
    is_new = await inbox.deliver(tx, key, inbox.CANCEL, event.model_dump_json())
    if is_new:
        await audit.append(tx, key, [Fact(event=Event.RUN_CANCELLED, actor=by)])
    return is_new


async def held(tx: Transaction, key: RunKey, fence: int, *, lock: bool) -> HeldRun:
    """Make sure that a worker still holds a run.

    Args:
        lock: Keep it so until the end of the transaction.

    Raises:
        FencedOut: It does not: the run is free, over, unknown, or with another worker.
    """
    query: LiteralString = _BARE + _THIS + " and fence = %(fence)s and owner is not null and ended_at is null"
    row = await tx.row(query + " for no key update" if lock else query, {**key._asdict(), "fence": fence})
    if row is None:
        raise FencedOut(f"Run {key.run} is not held under fence {fence}.")
    return HeldRun(
        key=key,
        fence=fence,
        workflow=row["workflow"],
        release=row["release"],
        definition_digest=row["definition_digest"],
        ticket=row["ticket"],
        corr=row["corr"],
        dry=row["dry"],
        status=RunStatus(row["status"]),
        requester=row["requester"],
        started_by=Actor.model_validate(row["started_by"]),
    )


async def list_runs(
    tx: Transaction,
    *,
    tenant: str | None = None,
    domain: str | None = None,
    status: RunStatus | None = None,
    workflow: str | None = None,
    ticket: str | None = None,
    seen_by: str | None = None,
    limit: int = 50,
    before: Cursor | None = None,
) -> list[RunRow]:
    """Runs, newest first, from behind `before`.

    `seen_by` leaves those that concern a person: asked for by them, or with an approval they were asked for.
    """
    rows = await tx.rows(
        _BARE + _LISTED,
        {
            "tenant": tenant,
            "domain": domain,
            "status": status and status.value,
            "workflow": workflow,
            "ticket": ticket,
            "seen_by": seen_by,
            "at": before and before.at,
            "id": before and before.id,
            "limit": limit,
        },
    )
    return [_run_row(row) for row in rows]


async def get(tx: Transaction, key: RunKey) -> RunRow | None:
    """One run, without its state."""
    row = await tx.row(_BARE + _THIS, key._asdict())
    return None if row is None else _run_row(row)


async def find(tx: Transaction, run: str) -> RunKey | None:
    """The key of a run of any tenant by its id alone, or by a beginning of it that no other run shares.

    The caller makes sure that the reader may see it.
    """
    span = id_span(run)
    if span is None:
        return None
    rows = await tx.rows(
        "select tenant, domain, id from regie.run where id between %(low)s and %(high)s limit 2",
        {"low": span[0], "high": span[1]},
    )
    return _key(rows[0]) if len(rows) == 1 else None


async def state_of(tx: Transaction, key: RunKey, *, lock: bool = False) -> str:
    """The state of a run as JSON text.

    Args:
        lock: Keep it so until the end of the transaction.

    Raises:
        InvalidInput: There is no such run.
    """
    query: LiteralString = _STATE + _THIS
    row = await tx.row(query + " for no key update" if lock else query, key._asdict())
    if row is None:
        raise InvalidInput(f"There is no run {key.run}.")
    return _opened_state(tx, key, row)


async def count_by_status(
    tx: Transaction, *, tenant: str | None = None, domain: str | None = None
) -> dict[RunStatus, int]:
    """How many runs stand where; a status without runs is left out."""
    rows = await tx.rows(
        """select status, count(*) as n from regie.run
           where (%(tenant)s::text is null or tenant = %(tenant)s)
             and (%(domain)s::text is null or domain = %(domain)s)
           group by status""",
        {"tenant": tenant, "domain": domain},
    )
    return {RunStatus(row["status"]): row["n"] for row in rows}


def _key(row: DictRow) -> RunKey:
    return RunKey(row["tenant"], row["domain"], str(row["id"]))


def _run_row(row: DictRow) -> RunRow:
    return RunRow(
        key=_key(row),
        workflow=row["workflow"],
        status=RunStatus(row["status"]),
        release=row["release"],
        definition_digest=row["definition_digest"],
        ticket=row["ticket"],
        corr=row["corr"],
        trigger_key=row["trigger_key"],
        started_by=Actor.model_validate(row["started_by"]),
        requester=row["requester"],
        dry=row["dry"],
        prio=row["prio"],
        seq=row["seq"],
        fence=row["fence"],
        owner=None if row["owner"] is None else str(row["owner"]),
        started_at=row["started_at"],
        changed_at=row["changed_at"],
        ended_at=row["ended_at"],
        audit_n=row["audit_n"],
        inbox_n=row["inbox_n"],
    )


def sealed_state(tx: Transaction, key: RunKey, state_json: str) -> bytes:
    """A run's state as its row holds it."""
    return tx.sealer.seal(state_json.encode(), **_state_address(key))


def _opened_state(tx: Transaction, key: RunKey, row: DictRow) -> str:
    return tx.sealer.open(row["state"], **_state_address(key)).decode()


def _state_address(key: RunKey) -> dict[str, str]:
    return {"tenant": key.tenant, "domain": key.domain, "table": "run.state", "pk": key.run}
