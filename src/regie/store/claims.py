"""A worker's hold on runs: taking what is ready, letting go, and whether it still has one.

A claim is a worker's handle on a run: the run, the fence that the claim raised, and the number of the last commit.
Every write of a worker names all three, so a worker that lost its run cannot write to it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from psycopg.rows import DictRow

from regie.core.audit import Actor, Event, Fact
from regie.core.errors import FencedOut
from regie.core.format import FORMAT
from regie.core.status import RunStatus
from regie.store import audit, inbox
from regie.store.choosing import NONE, choose
from regie.store.database import Transaction
from regie.store.inbox import InboxEvent
from regie.store.keys import READY, RunKey
from regie.store.runs import NewRun, key_of, opened_state
from regie.store.sealer import SealBroken


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


@dataclass(frozen=True)
class Taken:
    """What a look for work found.

    Attributes:
        runs: The most urgent first, and of equally urgent ones those of the domain that has the fewest in hands.
        is_left_behind: There are more that nobody has: the first to let go of one should look again.
        due_s: Seconds until the next timer is due, 0 when one is; None without any.
    """

    runs: list[Claimed]
    is_left_behind: bool
    due_s: float | None


NOTHING = Taken([], is_left_behind=False, due_s=None)


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


async def take(
    tx: Transaction,
    worker: str,
    domains: Sequence[str],
    limit: int,
    *,
    held: Mapping[str, int] = NONE,
    most: Mapping[str, int] = NONE,
    reads: int = FORMAT,
) -> Taken:
    """Take up to `limit` ready runs of these domains, within their quotas, fair between tenants and domains.

    They are taken once this comes back, whatever becomes of the transaction then: they went in one before it.
    A worker taken for dead gets none. What cannot be opened any more is set aside, so that one altered row does not
    stop the others.

    Args:
        held: How many runs of each domain the worker has already.
        most: How many of each domain it may have; of one that is not named, as many as there are.
        reads: Up to which format the worker reads runs.

    Raises:
        OutcomeUnknown: Some may have been taken and nobody knows which; `strays` finds them.
    """
    looked = await choose(tx, worker, domains, limit, held=held, most=most, reads=reads)
    # A quiet domain's run does not wait behind all those of a flooded one that were taken with it.
    crowd = Counter(held) + Counter(row["domain"] for row in looked.rows)
    rows = sorted(looked.rows, key=lambda row: (row["prio"], crowd[row["domain"]], row["ready_since"]))
    keys = [key_of(row) for row in rows]
    # Of a run that nothing has ever arrived for, nothing needs to be read.
    told = [key for key, row in zip(keys, rows, strict=True) if row["inbox_n"] > 0]
    waiting: dict[RunKey, list[InboxEvent]] = {}
    with suppress(SealBroken):
        waiting = await inbox.unconsumed_of(tx, told) if told else {}
    taken: list[Claimed] = []
    for key, row in zip(keys, rows, strict=True):
        try:
            # Read singly when one of them cannot be opened: it shows which.
            arrived = await inbox.unconsumed(tx, key) if key in told and key not in waiting else waiting.get(key, [])
            taken.append(_claimed(tx, key, row, arrived))
        except SealBroken:
            await set_aside(tx, Claim(key, row["fence"], row["seq"]), "SealBroken")
    return Taken(taken, looked.is_left_behind, looked.due_s)


def _claimed(tx: Transaction, key: RunKey, row: DictRow, arrived: list[InboxEvent]) -> Claimed:
    return Claimed(
        claim=Claim(key, row["fence"], row["seq"]),
        workflow=row["workflow"],
        release=row["release"],
        definition_digest=row["definition_digest"],
        state_json=opened_state(tx, key, row),
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


def from_start(new: NewRun, at: datetime) -> Claimed:
    """A run that was in a worker's hands from its start."""
    return Claimed(
        claim=Claim(new.key, 1, 0),
        workflow=new.workflow,
        release=new.release,
        definition_digest=new.definition_digest,
        state_json=new.state_json,
        inbox=[],
        inbox_n=0,
        ticket=new.ticket,
        corr=new.corr,
        dry=new.dry,
        prio=new.prio,
        started_at=at,
        trace=new.trace,
        waited_s=0.0,
        age_s=0.0,
        started_by=new.started_by,
    )


async def strays(tx: Transaction, worker: str, known: Sequence[RunKey]) -> list[Claim]:
    """The runs that are this worker's by their rows, and of which it does not know."""
    rows = await tx.rows(
        """select tenant, domain, id, fence, seq from regie.run
           where owner = %(worker)s::uuid and id <> all(%(known)s::uuid[])""",
        {"worker": worker, "known": [key.run for key in known]},
    )
    return [Claim(key_of(row), row["fence"], row["seq"]) for row in rows]


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
