"""Runs: started by triggers, claimed and committed by workers, read by everyone. The run's row is the queue.

A claim is a worker's handle on a run: the run, the fence that the claim raised, and the number of the last commit.
Every write of a worker names all three, so a worker that lost its run cannot write to it. Transactions that touch a run
and something of it lock the run's row first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import LiteralString, NamedTuple

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from regie.core.audit import Actor, Event, Fact
from regie.core.errors import FencedOut, InvalidInput
from regie.core.format import FORMAT, require_readable
from regie.core.run import Cancelled, Parent, Paused, Resumed, RunStatus
from regie.store import audit, child_pauses, inbox, start_rates, timers
from regie.store.choosing import choose
from regie.store.database import Transaction
from regie.store.inbox import InboxEvent
from regie.store.keys import READY, Cursor, RunKey, id_span
from regie.store.sealer import SealBroken

_THIS: LiteralString = "tenant = %(tenant)s and domain = %(domain)s and id = %(run)s"
_BARE: LiteralString = """
    select tenant, domain, id, workflow, status, release, definition_digest, ticket, corr, trigger_key, started_by,
    requester, dry, prio, seq, fence, owner, started_at, changed_at, ended_at, audit_n, inbox_n, parent, parent_place,
    lineage, first_run, rerun_of, finish_by, finish_by < coalesce(ended_at, clock_timestamp()) as is_late
    from regie.run where """
"""What a list shows: everything but the sealed state."""
NONE: Mapping[str, int] = MappingProxyType({})
_STATE: LiteralString = "select state, format from regie.run where "
_LISTED: LiteralString = """
    (%(tenant)s::text is null or tenant = %(tenant)s)
    and (%(domain)s::text is null or domain = %(domain)s)
    and (%(status)s::text is null or status = %(status)s)
    and (%(workflow)s::text is null or workflow = %(workflow)s)
    and (%(ticket)s::text is null or ticket = %(ticket)s)
    and (not %(late)s or finish_by < coalesce(ended_at, clock_timestamp()))
    and (%(seen_by)s::text is null or lower(requester) = lower(%(seen_by)s)
         or (started_by->>'type' = 'person' and lower(started_by->>'id') = lower(%(seen_by)s))
         or exists (select from regie.approval a
                    where a.tenant = run.tenant and a.domain = run.domain and a.run = run.id
                      and exists (select from unnest(a.approvers) p where lower(p) = lower(%(seen_by)s))))
    and (%(at)s::timestamptz is null or (started_at, id) < (%(at)s, %(id)s::uuid))
    order by started_at desc, id desc limit %(limit)s"""


class Repeated(NamedTuple):
    """What a run repeats in part: from which step on, by whose wish, and how much it took over.

    Attributes:
        run: The run it repeats, of the same tenant and domain.
        first_run: The first of the line, which may be that one.
        kept: How many steps' results were taken over.
        kept_sha256: Digest of these results.
    """

    run: str
    first_run: str
    from_step: str
    kept: int
    kept_sha256: str


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """A run to start.

    Attributes:
        key: With a new UUID, chosen by the caller.
        trigger_key: What started it, such as a webhook's delivery: the same one never starts a second run.
        prio: Lower goes first.
        trace: A W3C `traceparent`: the context it was started in.
        parent: The run of the same tenant and domain whose child it is.
        finish_within_s: Seconds after which it is late; None when it never is.
        timers: Seconds from now, by timer.
        repeats: What it repeats, if it does.
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
    trace: str = ""
    parent: Parent | None = None
    finish_within_s: float | None = None
    timers: Mapping[str, float] = field(default_factory=dict)
    repeats: Repeated | None = None


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
    """A run as handed to a worker.

    Attributes:
        inbox: What is not consumed, in order; `inbox_n` counts what was seen.
        trace: The `traceparent` it was started in; empty without one.
        waited_s, age_s: Seconds since it was ready, and since it was started.
    """

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
    started_at: datetime
    trace: str
    waited_s: float
    age_s: float
    started_by: Actor


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
    lineage: tuple[str, ...]
    first_run: str = ""

    @property
    def intent(self) -> str:
        """What it was asked for: its ticket, or the first of the runs that repeat each other, or itself."""
        return self.ticket or self.first_run or self.key.run


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A run without its state. `owner` is the worker that holds it; times are the database's.

    Attributes:
        rerun_of, first_run: The run it repeats, and the first of that line; empty when it repeats none.
        finish_by: When it should be finished; None when nothing says so.
        is_late: It was not finished by then.
    """

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
    parent: str | None
    parent_place: str
    rerun_of: str = ""
    first_run: str = ""
    finish_by: datetime | None = None
    is_late: bool = False

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
    if new.parent is not None:
        about["parent"] = {"run": new.parent.run, "place": new.parent.place}
    if new.repeats is not None:
        about["rerun"] = dict(new.repeats._asdict())
    first = [
        Fact(event=Event.TRIGGER_ACCEPTED, actor=new.started_by, detail=trigger),
        Fact(event=Event.RUN_STARTED, actor=new.started_by, detail=about),
    ]
    chain, entries = await audit.begin(tx, key, corr=new.corr, ticket=new.ticket, facts=first)
    row = await tx.row(
        """with started as (
               insert into regie.run (tenant, domain, id, workflow, release, definition_digest, trigger_key, ticket,
                                      corr, started_by, requester, dry, prio, trace, status, state, audit_n,
                                      audit_head, parent, parent_place, lineage, detached, finish_by, rerun_of,
                                      first_run, format, ready_at)
               values (%(tenant)s, %(domain)s, %(run)s, %(workflow)s, %(release)s, %(definition_digest)s,
                       %(trigger_key)s, %(ticket)s, %(corr)s, %(started_by)s, %(requester)s, %(dry)s, %(prio)s,
                       %(trace)s, 'running', %(state)s, %(audit_n)s, %(audit_head)s,
                       %(parent)s, %(parent_place)s, %(lineage)s, %(detached)s,
                       clock_timestamp() + make_interval(secs => %(finish_within_s)s::float8), %(rerun_of)s,
                       %(first_run)s, %(format)s, case when not %(is_bounded)s or not exists (
                           select from regie.quota q where q.domain = %(domain)s and q.start_runs is not null)
                           then clock_timestamp() end)
               on conflict (tenant, domain, trigger_key) do nothing
               returning domain, ready_at is not null as is_ready)
           select is_ready, case when is_ready then pg_notify(%(channel)s, domain) end from started""",
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
            "trace": new.trace,
            "state": sealed_state(tx, key, new.state_json),
            "audit_n": chain.n,
            "audit_head": chain.head,
            "parent": new.parent and new.parent.run,
            "parent_place": new.parent.place if new.parent else "",
            "lineage": list(new.parent.lineage) if new.parent else [],
            "detached": new.parent is not None and new.parent.detached,
            "channel": READY,
            "finish_within_s": new.finish_within_s,
            "rerun_of": new.repeats and new.repeats.run,
            "first_run": new.repeats and new.repeats.first_run,
            "format": FORMAT,
            # A child is a part of its parent, which has begun.
            "is_bounded": new.parent is None,
        },
    )
    if row is not None:
        await audit.write_chains(tx, [(key, entries)], chain.at)
        if new.timers:
            await timers.set_(tx, [(key, 0, new.timers)])
        if not row["is_ready"]:
            await start_rates.give_turn(tx, key)
        if new.repeats is not None:
            again: dict[str, JsonValue] = {"run": key.run, "from_step": new.repeats.from_step}
            repeated = Fact(event=Event.RUN_REPEATED, actor=new.started_by, detail={"rerun": again})
            await audit.append(tx, key._replace(run=new.repeats.run), [repeated])
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


async def claim(
    tx: Transaction,
    worker: str,
    domains: Sequence[str],
    limit: int,
    *,
    held: Mapping[str, int] = NONE,
    most: Mapping[str, int] = NONE,
    reads: int = FORMAT,
) -> list[Claimed]:
    """Take up to `limit` ready runs of these domains, within their quotas, fair between tenants and domains.

    A worker taken for dead gets none. What cannot be opened any more is set aside, so that one altered row does not
    stop the others.

    Args:
        held: How many runs of each domain the worker has already.
        most: How many of each domain it may have; of one that is not named, as many as there are.
        reads: Up to which format the worker reads runs.
    """
    rows = await choose(tx, worker, domains, limit, held=held, most=most, reads=reads)
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
        started_at=row["started_at"],
        trace=row["trace"],
        waited_s=max(0.0, row["waited_s"]),
        age_s=max(0.0, row["age_s"]),
        started_by=Actor.model_validate(row["started_by"]),
    )


async def set_aside(tx: Transaction, claim: Claim, kind: str) -> None:
    """Let go of a run that nobody can go on with as it is; `regie doctor` names it until somebody has mended it.

    Args:
        kind: Class name of the error met.
    """
    await tx.change(
        """update regie.run set owner = null, ready_at = null, set_aside = %(kind)s
           where tenant = %(tenant)s and domain = %(domain)s and id = %(run)s and fence = %(fence)s""",
        {**claim.key._asdict(), "fence": claim.fence, "kind": kind},
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


async def cancel(
    tx: Transaction, key: RunKey, by: Actor, event: Cancelled, *, told: dict[str, JsonValue] | None = None
) -> bool:
    """Cancel a run that is locked and not over: tells it, and writes the leaf.

    From here on it begins nothing new and ends as cancelled, whatever the worker that holds it is about to write.

    Args:
        told: What the leaf says besides, about whoever an outside system names.

    Returns:
        Whether it had not been cancelled before.
    """
    is_new = await inbox.deliver(tx, key, inbox.CANCEL, event.model_dump_json())
    if is_new:
        await audit.append(tx, key, [Fact(event=Event.RUN_CANCELLED, actor=by, detail=told or {})])
    return is_new


async def cancel_child(tx: Transaction, key: RunKey, payload: str, *, by: Actor, parent: str) -> None:
    """Cancel a child with its parent, in whose log it says who did; one that is over stays as it is."""
    row = await tx.row("select ended_at from regie.run where " + _THIS + " for no key update", key._asdict())  # noqa: S608  both ours
    if row is not None and row["ended_at"] is None and await inbox.deliver(tx, key, inbox.CANCEL, payload):
        about: dict[str, JsonValue] = {"parent": {"run": parent}}
        await audit.append(tx, key, [Fact(event=Event.RUN_CANCELLED, actor=by, detail=about)])


async def is_cancelled(tx: Transaction, key: RunKey) -> bool:
    """Whether somebody has cancelled a run, whether a worker has taken it in or not."""
    return await inbox.has(tx, key, inbox.CANCEL)


async def pause(tx: Transaction, key: RunKey, by: Actor, event: Paused) -> bool:
    """Pause a run that is locked and not over: tells it, and writes the leaf. From here on it begins nothing new.

    Returns:
        Whether it had not been paused already.
    """
    if await own_pause_of(tx, key) is not None:
        return False
    number = 1 + sum(each.key.startswith(inbox.PAUSE) for each in await inbox.pauses(tx, key))
    await inbox.deliver(tx, key, f"{inbox.PAUSE}:{number}", event.model_dump_json())
    await audit.append(tx, key, [Fact(event=Event.RUN_PAUSED, actor=by)])
    return True


async def resume(tx: Transaction, key: RunKey, by: Actor, event: Resumed) -> bool:
    """Let a run that is locked and paused go on: tells it, and writes the leaf.

    Returns:
        Whether it was paused by itself; what it is paused with, its parent, is resumed there.
    """
    if await own_pause_of(tx, key) is None:
        return False
    number = sum(each.key.startswith(inbox.PAUSE) for each in await inbox.pauses(tx, key))
    await inbox.deliver(tx, key, f"{inbox.RESUME}:{number}", event.model_dump_json())
    await audit.append(tx, key, [Fact(event=Event.RUN_RESUMED, actor=by)])
    return True


async def pause_of(tx: Transaction, key: RunKey) -> Paused | None:
    """What holds a run up, whether a worker has taken it in or not: by itself, else with its parent, else nothing."""
    return await own_pause_of(tx, key) or await child_pauses.pause_with_parent(tx, key)


async def own_pause_of(tx: Transaction, key: RunKey) -> Paused | None:
    """What holds a run up by itself, whatever its parent does; None when nothing does."""
    found = await inbox.pauses(tx, key)
    return Paused.model_validate_json(found[-1].payload_json) if len(found) % 2 else None


async def wake(tx: Transaction, key: RunKey, by: Actor) -> bool:
    """Make a run ready for a worker, set aside or not, and write the leaf.

    Returns:
        Whether it slept; one that is over, ready, paused or in the hands of a worker does not.
    """
    touched = await tx.change(
        """update regie.run set ready_at = clock_timestamp(), set_aside = null, woken_seq = null
           where tenant = %(tenant)s and domain = %(domain)s and id = %(run)s
             and ended_at is null and owner is null and ready_at is null and status <> 'paused'""",
        key._asdict(),
    )
    if touched:
        await audit.append(tx, key, [Fact(event=Event.RUN_WOKEN, actor=by)])
        await tx.row("select pg_notify(%(channel)s, %(domain)s)", {"channel": READY, "domain": key.domain})
    return touched == 1


async def reruns(tx: Transaction, key: RunKey) -> list[str]:
    """The ids of the runs that repeat this one, the oldest first."""
    rows = await tx.rows(
        """select id from regie.run
           where tenant = %(tenant)s and domain = %(domain)s and rerun_of = %(run)s order by started_at, id""",
        key._asdict(),
    )
    return [str(row["id"]) for row in rows]


async def unfinished_of_ticket(tx: Transaction, tenant: str, domains: Sequence[str], ticket: str) -> list[RunRow]:
    """The runs for a ticket that are not over, oldest first, locked until the end of the transaction."""
    query: LiteralString = (
        _BARE
        + """tenant = %(tenant)s and domain = any(%(domains)s) and ticket = %(ticket)s and ticket <> ''
           and ended_at is null
           order by started_at, id for no key update"""
    )
    rows = await tx.rows(query, {"tenant": tenant, "domains": list(domains), "ticket": ticket})
    return [_run_row(row) for row in rows]


def not_held(key: RunKey, fence: int) -> FencedOut:
    """The error for a run that somebody believes to hold."""
    return FencedOut(f"Run {key.run} is not held under fence {fence}.")


def held_of(key: RunKey, fence: int, row: DictRow) -> HeldRun:
    """A run that is held, from its row."""
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
        lineage=tuple(row["lineage"]),
        first_run=str(row["first_run"] or ""),
    )


async def list_runs(
    tx: Transaction,
    *,
    tenant: str | None = None,
    domain: str | None = None,
    status: RunStatus | None = None,
    workflow: str | None = None,
    ticket: str | None = None,
    is_late: bool = False,
    seen_by: str | None = None,
    limit: int = 50,
    before: Cursor | None = None,
) -> list[RunRow]:
    """Runs, newest first, from behind `before`.

    `is_late` leaves those that are or were not finished when they should have been, `seen_by` those that concern a
    person: asked for by them, or with an approval they were asked for.
    """
    rows = await tx.rows(
        _BARE + _LISTED,
        {
            "tenant": tenant,
            "domain": domain,
            "status": status and status.value,
            "workflow": workflow,
            "ticket": ticket,
            "late": is_late,
            "seen_by": seen_by,
            "at": before and before.at,
            "id": before and before.id,
            "limit": limit,
        },
    )
    return [_run_row(row) for row in rows]


async def children_of(tx: Transaction, key: RunKey) -> list[RunRow]:
    """The runs that a run has started, in the order in which it did."""
    rows = await tx.rows(
        _BARE + "tenant = %(tenant)s and domain = %(domain)s and parent = %(run)s order by started_at, id",
        key._asdict(),
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


async def known_triggers(tx: Transaction, tenant: str, domain: str, triggers: Sequence[str]) -> set[str]:
    """Those of these triggers that have started a run before."""
    rows = await tx.rows(
        """select trigger_key from regie.run
           where tenant = %(tenant)s and domain = %(domain)s and trigger_key = any(%(triggers)s)""",
        {"tenant": tenant, "domain": domain, "triggers": list(triggers)},
    )
    return {row["trigger_key"] for row in rows}


async def state_of(tx: Transaction, key: RunKey, *, lock: bool = False) -> str:
    """The state of a run as JSON text.

    Args:
        lock: Keep it so until the end of the transaction.

    Raises:
        InvalidInput: There is no such run.
        Unavailable: A newer version has written it.
    """
    query: LiteralString = _STATE + _THIS
    row = await tx.row(query + " for no key update" if lock else query, key._asdict())
    if row is None:
        raise InvalidInput(f"There is no run {key.run}.")
    require_readable(f"Run {key.run}", row["format"])
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
        parent=None if row["parent"] is None else str(row["parent"]),
        parent_place=row["parent_place"],
        rerun_of=str(row["rerun_of"] or ""),
        first_run=str(row["first_run"] or ""),
        finish_by=row["finish_by"],
        is_late=bool(row["is_late"]),
    )


def sealed_state(tx: Transaction, key: RunKey, state_json: str) -> bytes:
    """A run's state as its row holds it."""
    return tx.sealer.seal(state_json.encode(), **_state_address(key))


def _opened_state(tx: Transaction, key: RunKey, row: DictRow) -> str:
    return tx.sealer.open(row["state"], **_state_address(key)).decode()


def _state_address(key: RunKey) -> dict[str, str]:
    return {"tenant": key.tenant, "domain": key.domain, "table": "run.state", "pk": key.run}
