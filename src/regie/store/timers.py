"""Timers of runs: set and cleared by commits, fired by any worker of the domain, always by the database's clock."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from regie.store import inbox
from regie.store.database import Transaction
from regie.store.keys import RunKey, as_json


async def set_(tx: Transaction, commits: Sequence[tuple[RunKey, int, Mapping[str, float | datetime]]]) -> None:
    """Set timers of several runs to fire after so many seconds or at a moment, replacing earlier settings."""
    rows = [
        {
            **key._asdict(),
            "seq": seq,
            "timer": timer,
            "seconds": None if isinstance(due, datetime) else due,
            "moment": due if isinstance(due, datetime) else None,
        }
        for key, seq, timers in commits
        for timer, due in timers.items()
    ]
    if rows:
        await tx.change(
            """insert into regie.timer (tenant, domain, run, timer, set_seq, due_at)
               select t.tenant, t.domain, t.run, t.timer, t.seq,
                      coalesce(t.moment, clock_timestamp() + make_interval(secs => t.seconds))
               from json_to_recordset(%(rows)s::json)
                   as t (tenant text, domain text, run uuid, timer text, seq bigint, seconds float8,
                         moment timestamptz)
               on conflict (tenant, domain, run, timer) do update
               set set_seq = excluded.set_seq, due_at = excluded.due_at""",
            {"rows": as_json(rows)},
        )


async def clear(tx: Transaction, commits: Sequence[tuple[RunKey, Sequence[str]]]) -> None:
    """Forget timers of several runs."""
    rows = [{**key._asdict(), "timer": timer} for key, timers in commits for timer in timers]
    if rows:
        await tx.change(
            """delete from regie.timer t
               using json_to_recordset(%(rows)s::json) as c (tenant text, domain text, run uuid, timer text)
               where (t.tenant, t.domain, t.run, t.timer) = (c.tenant, c.domain, c.run, c.timer)""",
            {"rows": as_json(rows)},
        )


async def clear_all(tx: Transaction, keys: Sequence[RunKey]) -> None:
    """Forget every timer of runs that are over."""
    if keys:
        await tx.change(
            """delete from regie.timer t
               using json_to_recordset(%(rows)s::json) as c (tenant text, domain text, run uuid)
               where (t.tenant, t.domain, t.run) = (c.tenant, c.domain, c.run)""",
            {"rows": as_json(key._asdict() for key in keys)},
        )


async def fire_due(tx: Transaction, domains: Sequence[str], limit: int = 100) -> int:
    """Turn due timers of these domains into events of their runs; give how many.

    A timer whose run is being changed at this moment is left for the next time, so nothing here ever waits for a lock.
    """
    due = await tx.rows(
        """select t.tenant, t.domain, t.run, t.timer, t.set_seq, r.inbox_n
           from regie.timer t
           join regie.run r on r.id = t.run and (r.tenant, r.domain) is not distinct from (t.tenant, t.domain)
           where t.domain = any(%(domains)s) and t.due_at <= (select clock_timestamp())
           order by t.due_at limit %(limit)s for no key update skip locked""",
        {"domains": list(domains), "limit": limit},
    )
    by_run: dict[tuple[RunKey, int], list[tuple[str, str]]] = defaultdict(list)
    for row in due:
        key = RunKey(row["tenant"], row["domain"], str(row["run"]))
        payload = json.dumps({"kind": "timer_fired", "timer": row["timer"]})
        by_run[key, row["inbox_n"]].append((f"timer:{row['timer']}:{row['set_seq']}", payload))
    for (key, inbox_n), events in by_run.items():
        await inbox.put(tx, key, events, inbox_n)
    await tx.change_each(
        """delete from regie.timer where tenant = %(tenant)s and domain = %(domain)s
           and run = %(run)s and timer = %(timer)s""",
        due,
    )
    return len(due)
