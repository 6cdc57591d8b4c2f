"""From what an auditor has in hand to runs, whichever id it is; the caller leaves out what one may not see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, LiteralString

from regie.store import runs
from regie.store.database import Transaction
from regie.store.effects import remote_mark, request_mark
from regie.store.keys import RunKey, id_span
from regie.store.runs import RunRow

MOST: Final = 200
"""Runs that one id leads to at most, newest first."""
MARKER: Final = "regie-"

_BY_ID: LiteralString = """
    select tenant, domain, id as run, 'the id of the run' as how from regie.run
    where id between %(low)s::uuid and %(high)s::uuid
    union all select tenant, domain, run, 'the id of an approval' from regie.approval
    where id between %(low)s::uuid and %(high)s::uuid
    union all select l.tenant, l.domain, e.run_id, 'the id of an entry of the audit log'
    from audit.entry e join audit.log l using (log_id)
    where e.entry_id between %(low)s::uuid and %(high)s::uuid and e.run_id is not null"""
_BY_TEXT: LiteralString = """
    select tenant, domain, id as run, 'the correlation id' as how from regie.run
    where corr = %(text)s and corr <> id::text
    union all select tenant, domain, id, 'the ticket' from regie.run where ticket = %(text)s and ticket <> ''
    union all select tenant, domain, run, 'the outside system''s id of the request' from regie.effect
    where request_mark = %(request)s
    union all select tenant, domain, run, 'the outside system''s id of what was made' from regie.effect
    where remote_mark = %(remote)s
    union all select tenant, domain, run, 'our marker in the outside system' from regie.effect
    where left(effect_key, 20) = %(marker)s"""


@dataclass(frozen=True)
class Found:
    """A run, and what of it the id is."""

    row: RunRow
    how: tuple[str, ...]


async def runs_with(tx: Transaction, text: str) -> list[Found]:
    """The runs that an id leads to, newest first.

    Args:
        text: A run's, an approval's or an entry's id or a beginning of it, a correlation id, a ticket, an outside
            system's id of a request or of what was made, or our marker in one of its objects.
    """
    parts = await tx.rows(
        _BY_TEXT,
        {
            "text": text,
            "request": request_mark(text),
            "remote": remote_mark(text),
            "marker": text.removeprefix(MARKER) if text.startswith(MARKER) else None,
        },
    )
    if (span := id_span(text)) is not None:
        parts += await tx.rows(_BY_ID, {"low": span[0], "high": span[1]})
    ways: dict[RunKey, list[str]] = {}
    for row in parts:
        ways.setdefault(RunKey(row["tenant"], row["domain"], str(row["run"])), []).append(row["how"])
    found = []
    for key, how in ways.items():
        run = await runs.get(tx, key)
        if run is not None:
            found.append(Found(run, tuple(dict.fromkeys(how))))
    return sorted(found, key=lambda each: each.row.started_at, reverse=True)[:MOST]
