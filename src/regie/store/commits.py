"""What workers write about the runs they hold: the commits of many runs in one transaction, or of one alone.

Every commit names its claim, so that a worker which lost its run cannot write to it. Rows of several runs go to the
database as one JSON text a table, which costs a tenth of a statement a row.

Runs are looked up by their id; tenant and domain are compared in a way that no index serves. In a table that has not
been analysed yet any index that begins with them looks as good as the primary key, and is read to its end. A text is
cut off behind as many rows as there are: else the server takes it for a hundred, and reads a small table to its end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import LiteralString, NamedTuple

from psycopg.rows import DictRow
from pydantic import JsonValue

from regie.core.audit import Actor, Event, Fact
from regie.core.errors import AuditBroken, FencedOut, RegieError
from regie.core.run_commands import AwaitEvent, CloseApproval, OpenApproval, PublishEvent, Remind
from regie.core.run_events import Paused, Resumed
from regie.core.status import RunStatus
from regie.store import approvals, audit, child_pauses, events, inbox, runs, steps, timers
from regie.store.claims import Claim
from regie.store.database import Transaction
from regie.store.keys import RunKey, as_json
from regie.store.runs import NewRun, sealed_state
from regie.store.sealer import as_text
from regie.store.steps import StepRow


@dataclass(frozen=True, kw_only=True)
class Kin:
    """What one advance of a run means for other runs.

    Attributes:
        children: To start.
        cancels: The event that cancels a child, by its id.
        steers: What pauses or resumes a child with its parent, by its id.
        told: The parent that hears of the run's end: its key, the key in its inbox, the event.
    """

    children: Sequence[NewRun] = ()
    cancels: Mapping[str, str] = field(default_factory=dict)
    steers: Mapping[str, Paused | Resumed] = field(default_factory=dict)
    told: tuple[RunKey, str, str] | None = None

    def concerned(self, key: RunKey) -> list[RunKey]:
        """The runs whose rows it changes, other than those that it starts."""
        children = [key._replace(run=run) for run in (*self.cancels, *self.steers)]
        return [*children, self.told[0]] if self.told is not None else children


@dataclass(frozen=True, kw_only=True)
class StepCommit:
    """What one advance of a run changes, all at once; or several in a row that nothing outside took part in.

    Attributes:
        requester: None leaves it as it is.
        timers_set: Seconds from now, or a moment, by timer.
        consumed: Keys of inbox events.
        facts: In order. A final status adds `run:closed` behind them.
        park_seen: Let go of the run in the same transaction, having seen its inbox up to this number.
        heard: How much of its inbox was seen; what has cancelled or paused the run behind that goes first.
        kin: What it means for parent and children.
        awaits: Events that steps wait for from now on.
        forgets: Places of steps that wait for their event no longer.
        publishes: Events that the run tells, and who has started it.
    """

    state_json: str
    status: RunStatus
    requester: str | None = None
    steps: Sequence[StepRow] = ()
    timers_set: Mapping[str, float | datetime] = field(default_factory=dict)
    timers_cleared: Sequence[str] = ()
    consumed: Sequence[str] = ()
    facts: Sequence[Fact] = ()
    approvals: Sequence[OpenApproval | Remind | CloseApproval] = ()
    park_seen: int | None = None
    heard: int | None = None
    kin: Kin | None = None
    awaits: Sequence[AwaitEvent] = ()
    forgets: Sequence[str] = ()
    publishes: Sequence[tuple[PublishEvent, Actor]] = ()


class Committed(NamedTuple):
    """The handle for the next commit, the inbox number at this one, and its time by the database's clock."""

    claim: Claim
    inbox_n: int
    at: datetime


@dataclass(frozen=True)
class _Writing:
    """A commit whose claim holds, with its run's row as locked and the new end of its chain."""

    claim: Claim
    step: StepCommit
    row: DictRow
    chain: audit.Chain
    entries: list[audit.Entry]

    @property
    def key(self) -> RunKey:
        return self.claim.key

    @property
    def seq(self) -> int:
        return self.claim.seq + 1


async def commit(tx: Transaction, claim: Claim, step: StepCommit) -> Committed:
    """Write everything that one advance of a run changes, if the claim still holds.

    Raises:
        FencedOut: Somebody else has the run, or it has moved on; nothing was written.
        inbox.HeardMeanwhile: A person decided or steered in the meantime; leave the transaction, nothing is written.
        AuditBroken: The leaves cannot be written; leave the transaction, nothing is written.
    """
    [outcome] = await commit_all(tx, [(claim, step)])
    if isinstance(outcome, inbox.HeardMeanwhile):
        tx.doom = outcome
    if isinstance(outcome, RegieError):
        raise outcome
    return outcome


async def commit_all(
    tx: Transaction, commits: Sequence[tuple[Claim, StepCommit]], *, is_last: bool = False
) -> list[Committed | FencedOut | inbox.HeardMeanwhile]:
    """Write what several runs change, each if its claim still holds; what does not hold leaves the others alone.

    Args:
        is_last: There is nothing else in the transaction: it may be committed with it.

    Returns:
        For each commit, in the same order, the next handle or why nothing was written of it.

    Raises:
        inbox.HeardMeanwhile, AuditBroken, InvalidInput: One of them cannot be written; leave the transaction, nothing
            of any is written. Each one alone shows which it is.
    """
    concerned = [other for claim, step in commits if step.kin is not None for other in step.kin.concerned(claim.key)]
    rows = await _locked(tx, list(dict.fromkeys([*(claim.key for claim, _ in commits), *concerned])))
    steered = await _steered(tx, commits, rows)
    writings: list[_Writing] = []
    outcomes: list[Committed | FencedOut | inbox.HeardMeanwhile] = []
    for claim, step in commits:
        row = rows.get(claim.key)
        if row is None or row["owner"] is None or (row["fence"], row["seq"]) != (claim.fence, claim.seq):
            outcomes.append(
                FencedOut(f"Run {claim.key.run} is no longer held under fence {claim.fence} at {claim.seq}.")
            )
        elif claim.key in steered:
            outcomes.append(inbox.SteeredMeanwhile(claim.key))
        else:
            if step.approvals:
                await approvals.carry_out(tx, claim.key, step.approvals)
            writing = _linked(tx, claim, step, row)
            writings.append(writing)
            outcomes.append(Committed(Claim(claim.key, claim.fence, writing.seq), row["inbox_n"], writing.chain.at))
    if writings:
        is_last = is_last and not any(_reaches_out(writing.step) for writing in writings)
        await _write(tx, writings, is_last=is_last)
    for writing in writings:
        if _reaches_out(writing.step):
            await _reach_out(tx, writing)
    # What these commits themselves have told each other, or found that had been told before.
    told = {step.kin.told[0] for _, step in commits if step.kin is not None and step.kin.told is not None}
    heard = {w.key: await inbox.stands_at(tx, w.key) for w in writings if w.step.awaits or w.key in told}
    return [
        outcome._replace(inbox_n=heard.get(outcome.claim.key, outcome.inbox_n))
        if isinstance(outcome, Committed)
        else outcome
        for outcome in outcomes
    ]


async def was_committed(tx: Transaction, claim: Claim) -> bool:
    """Whether the commit made under this handle happened, when the answer to it was lost.

    Raises:
        FencedOut: Somebody else has the run by now; drop everything.
    """
    row = await tx.row(
        """select fence, seq from regie.run
           where tenant = %(tenant)s and domain = %(domain)s and id = %(run)s""",
        claim.key._asdict(),
    )
    if row is None or row["fence"] != claim.fence:
        raise FencedOut(f"Run {claim.key.run} is no longer held under fence {claim.fence}.")
    return bool(row["seq"] > claim.seq)


async def _locked(tx: Transaction, keys: Sequence[RunKey]) -> dict[RunKey, DictRow]:
    """The runs' rows, locked in the order of their keys, so that two who lock several never wait for each other."""
    # The clock is read outside the locking query, so after any wait for a lock.
    rows = await tx.rows(
        """with locked as materialized (
               select r.tenant, r.domain, r.id, r.owner, r.fence, r.seq, r.inbox_n, r.corr, r.ticket, r.audit_n,
                      r.audit_head, r.started_at,
                      -- Only its own commits make what it waits for, so there is no more of it than is seen here.
                      (exists (select from regie.timer t where (t.tenant, t.domain, t.run) = (r.tenant, r.domain, r.id))
                       or exists (select from regie.approval a
                                  where (a.tenant, a.domain, a.run) = (r.tenant, r.domain, r.id) and a.status = 'open')
                       or exists (select from regie.event_wait w
                                  where (w.tenant, w.domain, w.run) = (r.tenant, r.domain, r.id))) as has_waited
               from (select * from json_to_recordset(%(keys)s::json) as e (tenant text, domain text, run uuid)
                     limit %(few)s) k
               join regie.run r on r.id = k.run and (r.tenant, r.domain) is not distinct from (k.tenant, k.domain)
               order by r.tenant, r.domain, r.id for no key update of r)
           select *, clock_timestamp() as at from locked""",
        {"keys": as_json(key._asdict() for key in keys), "few": len(keys)},
    )
    return {RunKey(row["tenant"], row["domain"], str(row["id"])): row for row in rows}


async def _steered(
    tx: Transaction, commits: Sequence[tuple[Claim, StepCommit]], rows: Mapping[RunKey, DictRow]
) -> set[RunKey]:
    """Those runs that somebody has cancelled or paused behind what their commits have heard."""
    late = [
        (claim.key, step.heard)
        for claim, step in commits
        if step.heard is not None and (row := rows.get(claim.key)) is not None and row["inbox_n"] > step.heard
    ]
    return {key for key, heard in late if await inbox.is_steered(tx, key, heard)}


def _linked(tx: Transaction, claim: Claim, step: StepCommit, row: DictRow) -> _Writing:
    facts = list(step.facts)
    if step.status.is_final:
        closing: dict[str, JsonValue] = {"count": row["audit_n"] + len(facts) + 1, "status": step.status.value}
        engine = Actor(type="engine", id=str(row["owner"]))
        facts.append(Fact(event=Event.RUN_CLOSED, actor=engine, detail=closing))
    try:
        chain, entries = audit.link(audit.chain_of(claim.key, row), facts)
    except AuditBroken as error:
        tx.doom = error
        raise
    return _Writing(claim, step, row, chain, entries)


async def _write(tx: Transaction, writings: Sequence[_Writing], *, is_last: bool) -> None:
    waited = [writing for writing in writings if writing.row["has_waited"] or writing.step.approvals]
    over = [writing.key for writing in waited if writing.step.status.is_final]
    alive = [writing for writing in writings if not writing.step.status.is_final]
    leaves = audit.addressed([(writing.key, writing.entries) for writing in writings])
    async with audit.written_with(tx, leaves, writings[0].chain.at, is_last=is_last):
        rows = as_json(_run_row(tx, writing) for writing in writings)
        await tx.change(_UPDATE_RUNS, {"runs": rows, "few": len(writings)})
        await steps.write(tx, [(writing.key, writing.seq, writing.step.steps) for writing in writings])
        await inbox.consume(tx, [(writing.key, writing.seq, writing.step.consumed) for writing in writings])
        await timers.clear(tx, [(writing.key, writing.step.timers_cleared) for writing in alive])
        await timers.set_(tx, [(writing.key, writing.seq, writing.step.timers_set) for writing in alive])
        await approvals.close_open(tx, over)
        await timers.clear_all(tx, over)
        await events.forget(tx, [(writing.key, writing.step.forgets) for writing in alive])
        await events.forget_all(tx, over)


def _reaches_out(step: StepCommit) -> bool:
    return step.kin is not None or bool(step.awaits or step.publishes)


async def _reach_out(tx: Transaction, writing: _Writing) -> None:
    """What a commit means for other runs and for events, once all runs of the transaction are written as they are."""
    key, row, step = writing.key, writing.row, writing.step
    await events.wait(tx, key, step.awaits, since=row["started_at"])
    for command, by in step.publishes:
        worker = Actor(type="worker", id=str(row["owner"]))
        of_run = events.OfRun(command.cause, command.place, row["corr"], worker)
        await events.publish(tx, command.event, by, of_run=of_run)
    kin = step.kin
    if kin is None:
        return
    for child in kin.children:
        await runs.start(tx, child)
    by = Actor(type="engine", id=str(row["owner"]))
    for run, payload in kin.cancels.items():
        await runs.cancel_child(tx, key._replace(run=run), payload, by=by, parent=key.run)
    for run, event in kin.steers.items():
        await child_pauses.steer_with_parent(tx, key._replace(run=run), event, by=by)
    if kin.told is not None:
        await inbox.deliver(tx, *kin.told)


_UPDATE_RUNS: LiteralString = """
    update regie.run r set
        state = decode(c.state, 'base64'), status = c.status, seq = c.seq,
        requester = coalesce(c.requester, r.requester), audit_n = c.audit_n,
        audit_head = decode(c.audit_head, 'base64'),
        changed_at = c.at, ended_at = case when c.is_final then c.at end,
        owner = case when not c.is_final and c.parked_at is null then r.owner end,
        ready_at = case
            when c.is_final then null
            when c.parked_at is null then r.ready_at
            when r.inbox_n > c.parked_at then clock_timestamp() end
    from (select * from json_to_recordset(%(runs)s::json) as e (
              tenant text, domain text, run uuid, state text, status text, seq bigint, requester text, audit_n integer,
              audit_head text, at timestamptz, is_final boolean, parked_at bigint)
          limit %(few)s) c
    where r.id = c.run and (r.tenant, r.domain) is not distinct from (c.tenant, c.domain)"""


def _run_row(tx: Transaction, writing: _Writing) -> dict[str, object]:
    step = writing.step
    return {
        **writing.key._asdict(),
        "state": as_text(sealed_state(tx, writing.key, step.state_json)),
        "status": step.status.value,
        "seq": writing.seq,
        "requester": step.requester,
        "audit_n": writing.chain.n,
        "audit_head": as_text(writing.chain.head),
        "at": writing.chain.at,
        "is_final": step.status.is_final,
        "parked_at": step.park_seen,
    }
