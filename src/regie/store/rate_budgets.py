"""How much of what vendors allow is left. The gateways draw from it before each request; the database's clock counts.

Each budget is a token bucket: a level that rises evenly up to what may be used at once. A crash of the server would
lose a fraction of a second of requests, so no commit here waits for the disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString

from regie.store.database import Transaction

DRAWN_WITHIN: Final = "2s"
"""A gateway that hangs with a budget locked is cut off by the database after this long, so that others can go on."""
NOTHING_S: Final = 0.0005
"""A wait that is none."""

_LIGHTLY: LiteralString = """
    select set_config('synchronous_commit', 'off', true),
           set_config('idle_in_transaction_session_timeout', %(within)s, true)"""

_DRAW: LiteralString = """
    with wanted as (
        select * from unnest(%(keys)s::text[], %(costs)s::float8[], %(extras)s::float8[], %(floors)s::float8[])
            as w (key, cost, extra, floor)),
    locked as materialized (
        select b.*, w.cost, w.extra, w.floor from wanted w join regie.rate_budget b using (key)
        order by b.key for no key update of b),
    -- Read when everything is locked, so after any wait for that.
    moment as materialized (select clock_timestamp() as at, count(*) as found from locked),
    filled as materialized (
        select l.key, l.cost, l.extra, l.floor, l.at_once, l.each_s, m.at,
               least(l.at_once, l.level + l.each_s * greatest(0, extract(epoch from m.at - l.counted_at))) as level,
               greatest(0, extract(epoch from l.closed_until - m.at)) as closed_s
        from locked l cross join moment m),
    judged as materialized (
        select f.*, greatest(coalesce(f.closed_s, 0), (least(f.cost + f.floor, f.at_once) - f.level) / f.each_s, 0)
                   as wait_s,
               case when f.level - f.cost - f.extra >= f.at_once / 2 then f.extra else 0 end as granted
        from filled f),
    drawn as (
        update regie.rate_budget b set level = j.level - j.cost - j.granted, counted_at = j.at
        from judged j where b.key = j.key
          and (select max(wait_s) from judged) < %(nothing)s and (select found from moment) = %(number)s
        returning b.key)
    select key, wait_s::float8 as wait_s, granted::float8 as granted from judged"""


@dataclass(frozen=True)
class Draw:
    """What is wanted of one budget.

    Attributes:
        about: Whose it is, for people.
        at_once, each_s: How the budget fills.
        cost: What is needed.
        extra: What is taken on top for what comes next, if more than half is left after it.
        floor: What must be left: the reserve for those who are more urgent.
    """

    key: str
    about: str
    at_once: float
    each_s: float
    cost: float
    extra: float = 0.0
    floor: float = 0.0


@dataclass(frozen=True)
class Short:
    """There is not room for all that was wanted: the budget that lacks it longest, and how long."""

    key: str
    wait_s: float


@dataclass(frozen=True)
class Level:
    """One budget as it stands: `level` of `at_once`; negative when it was overdrawn by what a vendor has told."""

    key: str
    about: str
    level: float
    at_once: float
    each_s: float
    closed_until: datetime | None


async def draw(tx: Transaction, draws: Sequence[Draw]) -> Short | dict[str, float] | None:
    """Take what is wanted from all of these budgets, or nothing from any; commits, so that nobody waits for us longer.

    Returns:
        What was granted on top, by key; or what lacks room; or none, when one of them has to be made first.
    """
    values = {
        "keys": [each.key for each in draws],
        "costs": [each.cost for each in draws],
        "extras": [each.extra for each in draws],
        "floors": [each.floor for each in draws],
        "number": len(draws),
        "nothing": NOTHING_S,
    }
    async with tx.together(is_last=True):
        await tx.change(_LIGHTLY, {"within": DRAWN_WITHIN})
        sent = await tx.send(_DRAW, values)
    rows = await sent.rows()
    if len(rows) < len(draws):
        return None
    longest = max(rows, key=lambda row: row["wait_s"])
    if longest["wait_s"] >= NOTHING_S:
        return Short(longest["key"], longest["wait_s"])
    return {row["key"]: row["granted"] for row in rows}


async def make(tx: Transaction, draws: Sequence[Draw]) -> None:
    """Make the budgets that do not exist, full; what a vendor allows now counts for the others too."""
    await tx.change_each(
        """insert into regie.rate_budget (key, about, at_once, each_s, level)
           values (%(key)s, %(about)s, %(at_once)s, %(each_s)s, %(at_once)s)
           on conflict (key) do update
           set at_once = excluded.at_once, each_s = excluded.each_s, level = least(rate_budget.level, excluded.at_once)
           where (rate_budget.at_once, rate_budget.each_s) is distinct from (excluded.at_once, excluded.each_s)""",
        [vars(each) for each in sorted(draws, key=lambda each: each.key)],
    )


async def close(tx: Transaction, keys: Sequence[str], for_s: float) -> None:
    """Keep everybody from these budgets for so long; a longer wait stands against a shorter one."""
    await tx.change(
        """update regie.rate_budget
           set closed_until = greatest(closed_until, clock_timestamp() + make_interval(secs => %(s)s))
           where key = any(%(keys)s)""",
        {"keys": sorted(keys), "s": for_s},
    )


async def lower(tx: Transaction, key: str, level: float) -> None:
    """Believe a vendor that says that less is left than we count."""
    await tx.change(
        """update regie.rate_budget b set level = least(%(level)s, f.level), counted_at = f.at
           from (select key, clock_timestamp() as at,
                        least(at_once, level + each_s * greatest(0, extract(epoch from clock_timestamp() - counted_at)))
                            as level
                 from regie.rate_budget where key = %(key)s for no key update) f
           where b.key = f.key""",
        {"key": key, "level": level},
    )


async def forget_full(tx: Transaction) -> int:
    """Delete what is full again; how many those were."""
    return await tx.change(
        """delete from regie.rate_budget where key in (
               select key from regie.rate_budget
               where clock_timestamp() > greatest(
                   closed_until, counted_at + make_interval(secs => (at_once - level) / each_s))
               for no key update skip locked)""",
        {},
    )


async def levels(tx: Transaction) -> list[Level]:
    """Every budget that is known; those that were full again may have been forgotten."""
    rows = await tx.rows(
        """select key, about, at_once, each_s, least(
                      at_once, level + each_s * greatest(0, extract(epoch from clock_timestamp() - counted_at))
                  )::float8 as level,
                  case when closed_until > clock_timestamp() then closed_until end as closed_until
           from regie.rate_budget order by key"""
    )
    return [
        Level(row["key"], row["about"], row["level"], row["at_once"], row["each_s"], row["closed_until"])
        for row in rows
    ]
