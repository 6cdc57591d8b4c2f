"""Takes the inputs and outputs of runs away that ended long ago. Workers do it for their domains.

The row, its steps with their times and outcomes, the approvals, the effect ledger and the audit log stay.
"""

from __future__ import annotations

from psycopg.rows import DictRow

from regie.core.audit import Actor, Event, Fact
from regie.core.emptying import emptied
from regie.core.format import FORMAT
from regie.core.run import RunState
from regie.store import audit, runs
from regie.store.database import Transaction
from regie.store.keys import RunKey
from regie.store.sealer import SealBroken

_ENGINE = Actor(type="engine", id="engine")


async def empty(tx: Transaction, domain: str, *, kept_s: int, most: int) -> list[RunKey]:
    """Empty the runs of a domain that ended longest ago.

    Several workers may do it at once: each takes others. What a newer version has written is left to it.

    Args:
        kept_s: Seconds after their end for which values are kept.
        most: At most so many runs; fewer come back when these were all.
    """
    found = await tx.rows(
        """select tenant, domain, id, state from regie.run
           where domain = %(domain)s and ended_at is not null and emptied_at is null and format <= %(format)s
             and ended_at < (select clock_timestamp()) - make_interval(secs => %(kept_s)s)
           order by ended_at limit %(most)s for update skip locked""",
        {"domain": domain, "format": FORMAT, "kept_s": kept_s, "most": most},
    )
    keys = []
    for row in found:
        key = RunKey(row["tenant"], row["domain"], str(row["id"]))
        await _empty_one(tx, key, row)
        keys.append(key)
    return keys


async def _empty_one(tx: Transaction, key: RunKey, row: DictRow) -> None:
    try:
        state = emptied(RunState.model_validate_json(runs.opened_state(tx, key, row)))
        sealed = runs.sealed_state(tx, key, state.model_dump_json())
    except SealBroken:
        # Nobody can read it, now or later. It must not hold up those behind it.
        sealed = bytes(row["state"])
    values = {**key._asdict(), "state": sealed}
    async with tx.together():
        await tx.send(
            """update regie.run set state = %(state)s, emptied_at = clock_timestamp()
               where tenant = %(tenant)s and domain = %(domain)s and id = %(run)s""",
            values,
        )
        await tx.send(
            """update regie.step set output = null
               where tenant = %(tenant)s and domain = %(domain)s and run = %(run)s and output is not null""",
            values,
        )
        await tx.send(
            """update regie.inbox set payload = ''
               where tenant = %(tenant)s and domain = %(domain)s and run = %(run)s""",
            values,
        )
    await audit.append(tx, key, [Fact(event=Event.RUN_EMPTIED, actor=_ENGINE)])
