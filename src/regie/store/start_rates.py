"""How many runs of a domain begin in a length of time: each that is started gets its turn, at once or later.

`runs.start` asks, in the transaction of the start; whoever starts runs of such a domain takes turns with the others, so
the bound is exact: in no length of time more are let in than it says, children aside. A run whose turn is later sleeps
under a timer. Loading a release gives those that sleep other turns when the rate has changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from regie.core.durations import in_words
from regie.core.tenant import StartRate
from regie.store import timers
from regie.store.database import Transaction
from regie.store.keys import READY, RunKey, as_json

TURN = "begin:run:0"
"""The timer of a run that is held back. `run` is no legal step id, so no step's timer has this name."""


@dataclass(frozen=True)
class HeldBack:
    """A run that begins later, since its domain begins no more for now."""

    until: datetime
    rate: StartRate

    def in_words(self) -> str:
        """For people."""
        return (
            f"held back until {self.until.astimezone(UTC):%H:%M:%S} UTC: its domain begins {rate_in_words(self.rate)}"
        )


def rate_in_words(rate: StartRate) -> str:
    """For people, as it is written."""
    return f"{rate.runs} runs per {in_words(rate.per_s)}"


async def give_turn(tx: Transaction, key: RunKey) -> None:
    """Let a run of a domain with a start rate begin when it is its turn; it was just started, and is not ready yet."""
    rate = await tx.row(
        "select start_runs, start_per_s from regie.quota where domain = %(domain)s for no key update",
        {"domain": key.domain},
    )
    is_bounded = rate is not None and rate["start_runs"] is not None
    turn = await _next_turn(tx, key, rate["start_runs"], rate["start_per_s"]) if rate and is_bounded else None
    if turn is not None:
        await timers.set_(tx, [(key, 0, {TURN: turn})])
        return
    await tx.row(
        """update regie.run set ready_at = clock_timestamp()
           where tenant = %(tenant)s and domain = %(domain)s and id = %(run)s
           returning pg_notify(%(channel)s, domain)""",
        {**key._asdict(), "channel": READY},
    )


async def _next_turn(tx: Transaction, key: RunKey, runs: int, per_s: float) -> datetime | None:
    """When it is a run's turn; none when that is now. The quota's row is locked."""
    values = {**key._asdict(), "before": runs - 1, "per_s": per_s}
    await tx.change(
        """delete from regie.start_slot
           where domain = %(domain)s and at < (select clock_timestamp()) - make_interval(secs => %(per_s)s)""",
        values,
    )
    row = await tx.row(
        """insert into regie.start_slot (tenant, domain, run, at)
           values (%(tenant)s, %(domain)s, %(run)s, greatest(clock_timestamp(), (
               select s.at + make_interval(secs => %(per_s)s) from regie.start_slot s where s.domain = %(domain)s
               order by s.at desc offset %(before)s limit 1)))
           returning at, at > clock_timestamp() as is_later""",
        values,
    )
    return row["at"] if row is not None and row["is_later"] else None


async def held_back(tx: Transaction, key: RunKey) -> HeldBack | None:
    """Until when a run is held back; none when it is not."""
    row = await tx.row(
        """select t.due_at, q.start_runs, q.start_per_s
           from regie.timer t join regie.quota q on q.domain = t.domain and q.start_runs is not null
           where t.tenant = %(tenant)s and t.domain = %(domain)s and t.run = %(run)s and t.timer = %(turn)s""",
        {**key._asdict(), "turn": TURN},
    )
    if row is None:
        return None
    return HeldBack(row["due_at"], StartRate(runs=row["start_runs"], per_s=row["start_per_s"]))


async def replan(tx: Transaction, domain: str, rate: StartRate | None) -> None:
    """Give those that are held back other turns, in the same order, after a rate has changed or gone."""
    rows = await tx.rows(
        """select s.tenant, s.run, s.at, t.run is not null as waits, clock_timestamp() as now from regie.start_slot s
           left join regie.timer t on (t.tenant, t.domain, t.run) = (s.tenant, s.domain, s.run) and t.timer = %(turn)s
           where s.domain = %(domain)s order by s.at, s.run""",
        {"domain": domain, "turn": TURN},
    )
    if not rows:
        return
    now = rows[0]["now"]
    began = [row["at"] for row in rows if not row["waits"] and row["at"] <= now]
    waiting = [RunKey(row["tenant"], domain, str(row["run"])) for row in rows if row["waits"]]
    turns = turns_for(len(waiting), began, now, rate)
    await _move(tx, list(zip(waiting, turns, strict=True)))


def turns_for(count: int, began: Sequence[datetime], now: datetime, rate: StartRate | None) -> list[datetime]:
    """The turns of so many runs from now on, when those before them began at these times, oldest first."""
    if rate is None:
        return [now] * count
    latest = deque(began, maxlen=rate.runs)
    turns: list[datetime] = []
    for _ in range(count):
        is_full = len(latest) == rate.runs
        turn = max(now, latest[0] + timedelta(seconds=rate.per_s)) if is_full else now
        latest.append(turn)
        turns.append(turn)
    return turns


async def _move(tx: Transaction, turns: Sequence[tuple[RunKey, datetime]]) -> None:
    rows = as_json({**key._asdict(), "at": at.isoformat()} for key, at in turns)
    for statement in (
        """update regie.start_slot s set at = c.at
           from json_to_recordset(%(rows)s::json) as c (tenant text, domain text, run uuid, at timestamptz)
           where (s.tenant, s.domain, s.run) = (c.tenant, c.domain, c.run)""",
        """update regie.timer t set due_at = c.at
           from json_to_recordset(%(rows)s::json) as c (tenant text, domain text, run uuid, at timestamptz)
           where (t.tenant, t.domain, t.run, t.timer) = (c.tenant, c.domain, c.run, %(turn)s)""",
    ):
        await tx.change(statement, {"rows": rows, "turn": TURN})
