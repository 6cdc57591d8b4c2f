"""Runs: started by triggers, steered by people, read by everyone. The run's row is the queue.

Workers take them from it (`claims.py`) and move them (`commits.py`); lists are in `run_lists.py`. Transactions that
touch a run and something of it lock the run's row first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import LiteralString, NamedTuple

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from regie.core.audit import Actor, Event, Fact
from regie.core.errors import InvalidInput
from regie.core.format import FORMAT, require_readable
from regie.core.run import Parent
from regie.core.run_events import Cancelled, Paused, Resumed
from regie.core.status import RunStatus
from regie.store import audit, child_pauses, inbox, start_rates, timers
from regie.store.database import Transaction
from regie.store.keys import MOST_NAMED, READY, Cursor, RunKey, as_columns, id_span, the_only

THIS: LiteralString = "tenant = %(tenant)s and domain = %(domain)s and id = %(run)s"
BARE: LiteralString = """
    select tenant, domain, id, workflow, status, release, definition_digest, ticket, corr, trigger_key, started_by,
    requester, dry, prio, seq, fence, owner, started_at, changed_at, ended_at, audit_n, inbox_n, parent, parent_place,
    lineage, first_run, rerun_of, finish_by, finish_by < coalesce(ended_at, clock_timestamp()) as is_late,
    emptied_at
    from regie.run r where """
"""What a list shows: everything but the sealed state."""
_STATE: LiteralString = "select state, format from regie.run where "


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
        now: The database's clock, when it has been read in the same transaction.
        told: What its first leaf says besides: the policies that allow it.
        worker: Gets it at once, if that takes nothing from anybody: no other run of the domain is ready, and no quota
            has to be counted.
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
    now: datetime | None = None
    worker: str | None = None
    told: Mapping[str, JsonValue] = field(default_factory=dict)


class Started(NamedTuple):
    """The run of a trigger.

    Attributes:
        is_new: The trigger had not started it before.
        held_at: When it was started, if it is in the hands of the worker that was named.
    """

    key: RunKey
    is_new: bool
    held_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A run without its state. `owner` is the worker that holds it; times are the database's.

    Attributes:
        rerun_of, first_run: The run it repeats, and the first of that line; empty when it repeats none.
        finish_by: When it should be finished; None when nothing says so.
        is_late: It was not finished by then.
        emptied_at: When its inputs and outputs were taken away, if they were.
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
    emptied_at: datetime | None = None

    @property
    def cursor(self) -> Cursor:
        """Its place in lists."""
        return Cursor(self.started_at, self.key.run)


_INSERT: LiteralString = """
    with hand as materialized (
        select w.id from regie.worker w
        where w.id = %(worker)s::uuid
          and not exists (select from regie.quota q
                          where q.domain = %(domain)s
                            and (q.runs is not null or q.per_tenant is not null or q.start_runs is not null))
          and not exists (select from regie.run r
                          where r.domain = %(domain)s and r.owner is null and r.ready_at is not null)),
    started as (
        insert into regie.run (tenant, domain, id, workflow, release, definition_digest, trigger_key, ticket, corr,
                               started_by, requester, dry, prio, trace, status, state, audit_n, audit_head, parent,
                               parent_place, lineage, detached, finish_by, rerun_of, first_run, format, owner,
                               fence, ready_at)
        values (%(tenant)s, %(domain)s, %(run)s, %(workflow)s, %(release)s, %(definition_digest)s, %(trigger_key)s,
                %(ticket)s, %(corr)s, %(started_by)s, %(requester)s, %(dry)s, %(prio)s, %(trace)s, 'running',
                %(state)s, %(audit_n)s, %(audit_head)s, %(parent)s, %(parent_place)s, %(lineage)s, %(detached)s,
                clock_timestamp() + make_interval(secs => %(finish_within_s)s::float8), %(rerun_of)s, %(first_run)s,
                %(format)s, (select id from hand), (select count(*) from hand),
                case when not exists (select from hand) and (not %(is_bounded)s or not exists (
                         select from regie.quota q where q.domain = %(domain)s and q.start_runs is not null))
                     then clock_timestamp() end)
        on conflict (tenant, domain, trigger_key) do nothing
        returning domain, owner, started_at, ready_at is not null as is_ready),
    leaves as ("""
_ANSWER: LiteralString = """ where exists (select from started) returning true)
    select (select count(*) from leaves) as leaves, case when owner is not null then started_at end as held_at,
           owner is null and not is_ready as is_held_back, case when is_ready then pg_notify(%(channel)s, domain) end
    from started"""
_START: LiteralString = _INSERT + audit.INSERT + _ANSWER
_START_ALL: LiteralString = _INSERT + audit.INSERT_ALL + _ANSWER


async def start(tx: Transaction, new: NewRun, *, is_last: bool = False) -> Started:
    """Start a run, ready for any worker; a trigger that came before gives the run it started then.

    Args:
        is_last: There is nothing else in the transaction: it may be committed with it. The run's log must be there, and
            its domain have no start rate.

    Raises:
        InvalidInput: Something in it cannot be stored.
    """
    # Whatever is written behind it belongs to the same transaction.
    is_last = is_last and not new.timers and new.repeats is None
    chain, entries = await audit.begin(
        tx, new.key, corr=new.corr, ticket=new.ticket, facts=_first_facts(new), at=new.now
    )
    leaves = audit.addressed([(new.key, entries)])
    values = {
        **_columns(new),
        "state": sealed_state(tx, new.key, new.state_json),
        "audit_n": chain.n,
        "audit_head": chain.head,
        "worker": new.worker,
        # A child is a part of its parent, which has begun.
        "is_bounded": new.parent is None and not is_last,
        "channel": READY,
        **audit.as_values(leaves, chain.at),
    }
    with audit.blamed(tx):
        async with tx.together(is_last=is_last):
            sent = await tx.send(_START_ALL if is_last else _START, values)
    begun = await sent.rows()
    if not begun:
        return await _started_before(tx, new)
    [row] = begun
    await audit.require_written(tx, leaves, chain.at, row["leaves"])
    if new.timers:
        await timers.set_(tx, [(new.key, 0, new.timers)])
    if row["is_held_back"]:
        await start_rates.give_turn(tx, new.key)
    if new.repeats is not None:
        await _tell_repeated(tx, new, new.repeats)
    return Started(new.key, is_new=True, held_at=row["held_at"])


def _first_facts(new: NewRun) -> list[Fact]:
    workflow: dict[str, JsonValue] = {"name": new.workflow, "def_sha256": new.definition_digest}
    about: dict[str, JsonValue] = {"workflow": workflow, "release": new.release, "dry": new.dry, **new.told}
    if new.parent is not None:
        about["parent"] = {"run": new.parent.run, "place": new.parent.place}
    if new.repeats is not None:
        about["rerun"] = dict(new.repeats._asdict())
    return [
        Fact(event=Event.TRIGGER_ACCEPTED, actor=new.started_by, detail={"trigger": new.trigger_key}),
        Fact(event=Event.RUN_STARTED, actor=new.started_by, detail=about),
    ]


def _columns(new: NewRun) -> dict[str, object]:
    """What the row of a new run says that whoever starts it has told."""
    return {
        **new.key._asdict(),
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
        "parent": new.parent and new.parent.run,
        "parent_place": new.parent.place if new.parent else "",
        "lineage": list(new.parent.lineage) if new.parent else [],
        "detached": new.parent is not None and new.parent.detached,
        "finish_within_s": new.finish_within_s,
        "rerun_of": new.repeats and new.repeats.run,
        "first_run": new.repeats and new.repeats.first_run,
        "format": FORMAT,
    }


async def _tell_repeated(tx: Transaction, new: NewRun, repeats: Repeated) -> None:
    """Write into the log of the run that is repeated which one repeats it."""
    again: dict[str, JsonValue] = {"run": new.key.run, "from_step": repeats.from_step}
    fact = Fact(event=Event.RUN_REPEATED, actor=new.started_by, detail={"rerun": again})
    await audit.append(tx, new.key._replace(run=repeats.run), [fact])


async def _started_before(tx: Transaction, new: NewRun) -> Started:
    """The run that this trigger has started when it came before; its log says that it came again.

    Raises:
        InvalidInput: There is no such run any more.
    """
    row = await tx.row(
        "select id from regie.run where tenant = %(t)s and domain = %(d)s and trigger_key = %(k)s",
        {"t": new.key.tenant, "d": new.key.domain, "k": new.trigger_key},
    )
    if row is None:
        raise InvalidInput(f"The run of trigger {new.trigger_key} is gone.")
    earlier = new.key._replace(run=str(row["id"]))
    fact = Fact(event=Event.TRIGGER_REPEATED, actor=new.started_by, detail={"trigger": new.trigger_key})
    await audit.append(tx, earlier, [fact])
    return Started(earlier, is_new=False)


async def workflows_of(tx: Transaction, keys: Sequence[RunKey]) -> dict[RunKey, str]:
    """Of which workflow each of these runs is."""
    rows = await tx.rows(
        """select tenant, domain, id, workflow
           from unnest(%(tenants)s::text[], %(domains)s::text[], %(runs)s::uuid[]) k (tenant, domain, id)
           join regie.run using (tenant, domain, id)""",
        as_columns(keys),
    )
    return {RunKey(row["tenant"], row["domain"], str(row["id"])): row["workflow"] for row in rows}


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
    row = await tx.row("select ended_at from regie.run where " + THIS + " for no key update", key._asdict())  # noqa: S608  both ours
    if row is not None and row["ended_at"] is None and await inbox.deliver(tx, key, inbox.CANCEL, payload):
        about: dict[str, JsonValue] = {"parent": {"run": parent}}
        await audit.append(tx, key, [Fact(event=Event.RUN_CANCELLED, actor=by, detail=about)])


async def is_cancelled(tx: Transaction, key: RunKey) -> bool:
    """Whether somebody has cancelled a run, whether a worker has taken it in or not."""
    return await inbox.has(tx, key, inbox.CANCEL)


async def pause(
    tx: Transaction, key: RunKey, by: Actor, event: Paused, *, told: dict[str, JsonValue] | None = None
) -> bool:
    """Pause a run that is locked and not over: tells it, and writes the leaf. From here on it begins nothing new.

    Args:
        told: What the leaf says besides: the policies that allow it.

    Returns:
        Whether it had not been paused already.
    """
    if await own_pause_of(tx, key) is not None:
        return False
    number = 1 + sum(each.key.startswith(inbox.PAUSE) for each in await inbox.pauses(tx, key))
    await inbox.deliver(tx, key, f"{inbox.PAUSE}:{number}", event.model_dump_json())
    await audit.append(tx, key, [Fact(event=Event.RUN_PAUSED, actor=by, detail=told or {})])
    return True


async def resume(
    tx: Transaction, key: RunKey, by: Actor, event: Resumed, *, told: dict[str, JsonValue] | None = None
) -> bool:
    """Let a run that is locked and paused go on: tells it, and writes the leaf.

    Args:
        told: What the leaf says besides: the policies that allow it.

    Returns:
        Whether it was paused by itself; what it is paused with, its parent, is resumed there.
    """
    if await own_pause_of(tx, key) is None:
        return False
    number = sum(each.key.startswith(inbox.PAUSE) for each in await inbox.pauses(tx, key))
    await inbox.deliver(tx, key, f"{inbox.RESUME}:{number}", event.model_dump_json())
    await audit.append(tx, key, [Fact(event=Event.RUN_RESUMED, actor=by, detail=told or {})])
    return True


async def pause_of(tx: Transaction, key: RunKey) -> Paused | None:
    """What holds a run up, whether a worker has taken it in or not: by itself, else with its parent, else nothing."""
    return await own_pause_of(tx, key) or await child_pauses.pause_with_parent(tx, key)


async def own_pause_of(tx: Transaction, key: RunKey) -> Paused | None:
    """What holds a run up by itself, whatever its parent does; None when nothing does."""
    found = await inbox.pauses(tx, key)
    return Paused.model_validate_json(found[-1].payload_json) if len(found) % 2 else None


async def wake(tx: Transaction, key: RunKey, by: Actor, *, told: dict[str, JsonValue] | None = None) -> bool:
    """Make a run ready for a worker, set aside or not, and write the leaf.

    Args:
        told: What the leaf says besides: the policies that allow it.

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
        await audit.append(tx, key, [Fact(event=Event.RUN_WOKEN, actor=by, detail=told or {})])
        await tx.row("select pg_notify(%(channel)s, %(domain)s)", {"channel": READY, "domain": key.domain})
    return touched == 1


async def get(tx: Transaction, key: RunKey) -> RunRow | None:
    """One run, without its state."""
    row = await tx.row(BARE + THIS, key._asdict())
    return None if row is None else row_of(row)


async def find(tx: Transaction, run: str) -> RunKey | None:
    """The key of a run of any tenant by its id alone, or by a beginning of it that no other run shares.

    The caller makes sure that the reader may see it.

    Raises:
        InvalidInput: Several runs share it.
    """
    span = id_span(run)
    if span is None:
        return None
    rows = await tx.rows(
        "select tenant, domain, id from regie.run where id between %(low)s and %(high)s order by id limit %(most)s",
        {"low": span[0], "high": span[1], "most": MOST_NAMED},
    )
    row = the_only(run, rows)
    return None if row is None else key_of(row)


async def state_of(tx: Transaction, key: RunKey, *, lock: bool = False) -> str:
    """The state of a run as JSON text.

    Args:
        lock: Keep it so until the end of the transaction.

    Raises:
        InvalidInput: There is no such run.
        Unavailable: A newer version has written it.
    """
    query: LiteralString = _STATE + THIS
    row = await tx.row(query + " for no key update" if lock else query, key._asdict())
    if row is None:
        raise InvalidInput(f"There is no run {key.run}.")
    require_readable(f"Run {key.run}", row["format"])
    return opened_state(tx, key, row)


def key_of(row: DictRow) -> RunKey:
    """Its key from a run's row."""
    return RunKey(row["tenant"], row["domain"], str(row["id"]))


def row_of(row: DictRow) -> RunRow:
    """A run without its state from its row."""
    return RunRow(
        key=key_of(row),
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
        emptied_at=row["emptied_at"],
    )


def sealed_state(tx: Transaction, key: RunKey, state_json: str) -> bytes:
    """A run's state as its row holds it."""
    return tx.sealer.seal(state_json.encode(), **_state_address(key))


def opened_state(tx: Transaction, key: RunKey, row: DictRow) -> str:
    """A run's state from its row."""
    return tx.sealer.open(row["state"], **_state_address(key)).decode()


def _state_address(key: RunKey) -> dict[str, str]:
    return {"tenant": key.tenant, "domain": key.domain, "table": "run.state", "pk": key.run}
