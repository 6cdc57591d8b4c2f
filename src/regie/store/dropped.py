"""What becomes of a run that a fault of ours throws out of its worker's hands: it is tried again, later each time.

Other faults are data: a step that fails, a vendor that is down. This is for what nobody has thought of. A fault may
pass (a full disk, a bug that needs two things at once), so the run gets another chance. One that stays must neither
fill the log nor take turns from runs that can move, so in the end the run is set aside for a person to look at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from regie.store import claims
from regie.store.claims import Claim
from regie.store.database import Transaction
from regie.store.keys import READY, RunKey
from regie.store.runs import key_of

FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 60.0
MOST_TIMES: Final = 8
"""How often a run is dropped at the same commit before it is set aside: about three minutes after the first time."""
FAULT: Final = "Fault"
"""Why such a run is set aside."""
MOST_NAMED = 50
"""Runs that one look names."""


@dataclass(frozen=True)
class Dropped:
    """A run that was dropped at the commit where it still stands.

    Attributes:
        times: How often.
        again_at: When it is tried again; none while a worker tries.
    """

    key: RunKey
    workflow: str
    ticket: str
    times: int
    again_at: datetime | None


@dataclass(frozen=True)
class Standstill:
    """A run that nobody goes on with as it is.

    Attributes:
        cause: Why it is set aside; empty when it met a fault and is tried again, at `again_at`.
    """

    cause: str
    again_at: datetime | None

    def in_words(self) -> str:
        """For people."""
        if self.again_at is not None:
            return f"to be tried again at {self.again_at.astimezone(UTC):%H:%M:%S} UTC, after a fault of Regie"
        return f"set aside ({self.cause}) until somebody has mended it: `regie doctor` says what to do"


async def standstill(tx: Transaction, key: RunKey) -> Standstill | None:
    """Why a run stands still though something should move it; none for every other run."""
    row = await tx.row(
        """select set_aside, again_at from regie.run
           where tenant = %(tenant)s and domain = %(domain)s and id = %(run)s and ended_at is null
             and owner is null and ready_at is null and (set_aside is not null or again_at is not null)""",
        key._asdict(),
    )
    return None if row is None else Standstill(row["set_aside"] or "", None if row["set_aside"] else row["again_at"])


async def drop(tx: Transaction, claim: Claim) -> float | None:
    """Let go of a run that its worker cannot go on with, for some reason that nobody has foreseen.

    Returns:
        Seconds until it is tried again; none when it is set aside.

    Raises:
        FencedOut: Somebody else has the run, or nobody.
    """
    row = await tx.row(
        """update regie.run set owner = null, ready_at = null, dropped_seq = seq,
               dropped_n = case when dropped_seq = seq then dropped_n + 1 else 1 end
           where tenant = %(tenant)s and domain = %(domain)s and id = %(run)s
             and fence = %(fence)s and owner is not null
           returning dropped_n""",
        {**claim.key._asdict(), "fence": claim.fence},
    )
    if row is None:
        raise claims.not_held(claim.key, claim.fence)
    times = int(row["dropped_n"])
    if times >= MOST_TIMES:
        await claims.set_aside(tx, claim, FAULT)
        return None
    pause_s = min(FIRST_PAUSE_S * 2.0 ** (times - 1), LONGEST_PAUSE_S)
    await tx.change(
        """update regie.run set again_at = clock_timestamp() + make_interval(secs => %(pause)s)
           where tenant = %(tenant)s and domain = %(domain)s and id = %(run)s and fence = %(fence)s""",
        {**claim.key._asdict(), "fence": claim.fence, "pause": pause_s},
    )
    return pause_s


async def bring_back(tx: Transaction, domains: Sequence[str]) -> int:
    """Make dropped runs of these domains ready whose pause is over; give how many. Any worker may, at any time."""
    rows = await tx.rows(
        """update regie.run set again_at = null, ready_at = clock_timestamp()
           where domain = any(%(domains)s) and again_at <= (select clock_timestamp())
             and owner is null and ready_at is null and ended_at is null
           returning pg_notify(%(channel)s, domain)""",
        {"domains": list(domains), "channel": READY},
    )
    return len(rows)


async def list_dropped(tx: Transaction) -> list[Dropped]:
    """The runs that stand where they were dropped and are not set aside, the one dropped most often first."""
    rows = await tx.rows(
        """select tenant, domain, id, workflow, ticket, dropped_n, again_at from regie.run
           where ended_at is null and dropped_seq = seq and set_aside is null
           order by dropped_n desc, id limit %(most)s""",
        {"most": MOST_NAMED},
    )
    return [Dropped(key_of(row), row["workflow"], row["ticket"], row["dropped_n"], row["again_at"]) for row in rows]
