"""Events on their way to a run: timers, decisions, whatever happens outside. None is ever lost or doubled."""

from collections.abc import Sequence
from typing import NamedTuple

from psycopg.rows import DictRow

from regie.core.errors import InvalidInput, RegieError
from regie.core.format import FORMAT
from regie.store.database import Transaction
from regie.store.keys import READY, RunKey, as_json

CANCEL = "cancel"
"""Inbox key of the event that cancels a run."""
PAUSE, RESUME = "pause", "resume"
"""What the inbox keys of the events that pause and resume a run begin with; behind it comes a colon and a number."""
WITH_PARENT = "parent"
"""What stands before that number, and another colon, when the run is paused or resumed with its parent."""


class HeardMeanwhile(RegieError):
    """Something arrived that goes before what the engine was about to write. Read the inbox: it is there."""


class SteeredMeanwhile(HeardMeanwhile):
    """Somebody cancelled or paused the run, so it must not begin anything new, nor end otherwise."""

    def __init__(self, key: RunKey) -> None:
        super().__init__(f"Run {key.run} is cancelled or paused.", hint="Take that from the inbox first.")


class InboxEvent(NamedTuple):
    """An event in a run's inbox; `n` is its number in order of arrival, from 1."""

    n: int
    key: str
    payload_json: str


async def deliver(tx: Transaction, key: RunKey, inbox_key: str, payload_json: str) -> bool:
    """Put an event into a run's inbox and wake the run, whatever it is doing; the same inbox key counts once.

    Waking only parked runs loses wake-ups of runs that are just about to park. A run that is over stays asleep.

    Returns:
        Whether the event is new.

    Raises:
        InvalidInput: There is no such run.
    """
    # The row is locked first, by a statement of its own: the next one then sees what whoever held it has written.
    inbox_n = await stands_at(tx, key)
    return await put(tx, key, [(inbox_key, payload_json)], inbox_n) == 1


async def stands_at(tx: Transaction, key: RunKey) -> int:
    """The number of a run's newest event; the run's row is locked from now on.

    Raises:
        InvalidInput: There is no such run.
    """
    run = await tx.row(
        """select inbox_n from regie.run
           where tenant = %(tenant)s and domain = %(domain)s and id = %(run)s for no key update""",
        key._asdict(),
    )
    if run is None:
        raise InvalidInput(f"There is no run {key.run}.")
    inbox_n: int = run["inbox_n"]
    return inbox_n


async def put(tx: Transaction, key: RunKey, events: Sequence[tuple[str, str]], inbox_n: int) -> int:
    """Deliver several events to a run whose row is locked and stands at `inbox_n`; give how many were new."""
    row = await tx.row(
        """with arrived as (
               insert into regie.inbox (tenant, domain, run, key, n, payload)
               select %(tenant)s, %(domain)s, %(run)s, e.key, %(inbox_n)s + e.n, e.payload
               from unnest(%(keys)s::text[], %(payloads)s::bytea[]) with ordinality as e (key, payload, n)
               on conflict (tenant, domain, run, key) do nothing
               returning n),
           woken as (
               update regie.run set
                   inbox_n = (select max(n) from arrived),
                   ready_at = case when ended_at is null then clock_timestamp() end,
                   -- An event may say what earlier versions do not know.
                   format = greatest(format, %(format)s)
               where tenant = %(tenant)s and domain = %(domain)s and id = %(run)s and exists (select from arrived)
               returning domain)
           select (select count(*) from arrived) as new, (select count(pg_notify(%(channel)s, domain)) from woken)""",
        {
            **key._asdict(),
            "inbox_n": inbox_n,
            "channel": READY,
            "format": FORMAT,
            "keys": [inbox_key for inbox_key, _ in events],
            "payloads": [tx.sealer.seal(payload.encode(), **_address(key, inbox_key)) for inbox_key, payload in events],
        },
    )
    return row["new"] if row is not None else 0


async def unconsumed(tx: Transaction, key: RunKey, after_n: int = 0) -> list[InboxEvent]:
    """The events of a run that no commit has consumed, in order of arrival, from behind number `after_n`."""
    rows = await tx.rows(
        """select tenant, domain, run, key, n, payload from regie.inbox
           where tenant = %(tenant)s and domain = %(domain)s and run = %(run)s and n > %(after)s
             and consumed_seq is null
           order by n""",
        {**key._asdict(), "after": after_n},
    )
    return [opened(tx, key, row) for row in rows]


async def unconsumed_of(tx: Transaction, keys: Sequence[RunKey]) -> dict[RunKey, list[InboxEvent]]:
    """The same for several runs at once."""
    waiting: dict[RunKey, list[InboxEvent]] = {key: [] for key in keys}
    rows = await tx.rows(
        """select i.tenant, i.domain, i.run, i.key, i.n, i.payload
           from unnest(%(tenants)s::text[], %(domains)s::text[], %(runs)s::uuid[]) as k (tenant, domain, run)
           join regie.inbox i using (tenant, domain, run)
           where i.consumed_seq is null order by i.n""",
        {
            "tenants": [key.tenant for key in keys],
            "domains": [key.domain for key in keys],
            "runs": [key.run for key in keys],
        },
    )
    for row in rows:
        key = RunKey(row["tenant"], row["domain"], str(row["run"]))
        waiting[key].append(opened(tx, key, row))
    return waiting


async def has(tx: Transaction, key: RunKey, inbox_key: str) -> bool:
    """Whether an event has ever arrived, consumed or not."""
    row = await tx.row(
        """select from regie.inbox
           where tenant = %(tenant)s and domain = %(domain)s and run = %(run)s and key = %(key)s""",
        {**key._asdict(), "key": inbox_key},
    )
    return row is not None


async def is_steered(tx: Transaction, key: RunKey, after_n: int) -> bool:
    """Whether somebody has cancelled or paused the run behind event `after_n`, and no commit has taken that in."""
    row = await tx.row(
        """select from regie.inbox
           where tenant = %(tenant)s and domain = %(domain)s and run = %(run)s and n > %(after)s
             and (key = %(cancel)s or key like %(pause)s) and consumed_seq is null""",
        {**key._asdict(), "after": after_n, "cancel": CANCEL, "pause": f"{PAUSE}:%"},
    )
    return row is not None


async def pauses(tx: Transaction, key: RunKey, *, with_parent: bool = False) -> list[InboxEvent]:
    """Every event that paused or resumed a run, in order of arrival, consumed or not.

    Args:
        with_parent: Those by which it was paused and resumed with its parent, instead of those that meant it.
    """
    rows = await tx.rows(
        """select key, n, payload from regie.inbox
           where tenant = %(tenant)s and domain = %(domain)s and run = %(run)s
             and (key like %(pause)s or key like %(resume)s) and (key like %(parent)s) = %(with_parent)s
           order by n""",
        {
            **key._asdict(),
            "pause": f"{PAUSE}:%",
            "resume": f"{RESUME}:%",
            "parent": f"%:{WITH_PARENT}:%",
            "with_parent": with_parent,
        },
    )
    return [opened(tx, key, row) for row in rows]


async def consume(tx: Transaction, commits: Sequence[tuple[RunKey, int, Sequence[str]]]) -> None:
    """Mark events of several runs as consumed, each run's by a commit of that number."""
    rows = [{**key._asdict(), "seq": seq, "key": event} for key, seq, events in commits for event in events]
    if rows:
        await tx.change(
            """update regie.inbox i set consumed_seq = c.seq
               from json_to_recordset(%(rows)s::json)
                   as c (tenant text, domain text, run uuid, key text, seq bigint)
               where (i.tenant, i.domain, i.run, i.key) = (c.tenant, c.domain, c.run, c.key)
                 and i.consumed_seq is null""",
            {"rows": as_json(rows)},
        )


def opened(tx: Transaction, key: RunKey, row: DictRow) -> InboxEvent:
    """An event from its row."""
    payload = tx.sealer.open(row["payload"], **_address(key, row["key"]))
    return InboxEvent(row["n"], row["key"], payload.decode())


def _address(key: RunKey, inbox_key: str) -> dict[str, str]:
    return {"tenant": key.tenant, "domain": key.domain, "table": "inbox.payload", "pk": f"{key.run}|{inbox_key}"}
