"""What a caller may see: what is within reach, approvals they were asked about, runs they asked for, and theirs.

What a caller may not see does not exist for them: the answers are the same.
"""

from __future__ import annotations

from uuid import UUID

from regie import logs
from regie.core.errors import NotFound
from regie.core.reach import Act
from regie.store import approvals, run_lists, runs
from regie.store.approvals import Approval
from regie.store.database import Transaction
from regie.store.runs import RunRow
from regie.web.caller import Caller


async def run_for(tx: Transaction, caller: Caller, run: str) -> RunRow:
    """A run by its id; operators may give a beginning of it.

    Raises:
        NotFound: There is none that the caller may see.
    """
    key = await runs.find(tx, run) if caller.is_operator or is_id(run) else None
    row = await runs.get(tx, key) if key is not None else None
    if row is not None and await may_see(tx, caller, row):
        logs.bind(**row.key._asdict(), corr=row.corr)
        return row
    raise NotFound("There is no such run.")


async def may_see(tx: Transaction, caller: Caller, row: RunRow) -> bool:
    """Whether a run is there for the caller."""
    if caller.may(Act.LOOK, *row.key[:2], row.workflow) or asked_for(caller, row):
        return True
    return any(is_asked(caller, approval) for approval in await approvals.of_run(tx, row.key))


async def parent_for(tx: Transaction, caller: Caller, row: RunRow) -> RunRow | None:
    """The run that has started a run; none when there is none that the caller may see."""
    parent = await runs.get(tx, row.key._replace(run=row.parent)) if row.parent else None
    return parent if parent is not None and await may_see(tx, caller, parent) else None


async def children_for(tx: Transaction, caller: Caller, row: RunRow) -> list[RunRow]:
    """Those of the runs that a run has started that the caller may see."""
    return [child for child in await run_lists.children_of(tx, row.key) if await may_see(tx, caller, child)]


async def approval_for(tx: Transaction, caller: Caller, approval: str) -> Approval:
    """An approval by its id.

    Raises:
        NotFound: There is none that the caller may see.
    """
    found = await approvals.find(tx, approval) if is_id(approval) else None
    if found is not None and (is_asked(caller, found) or caller.is_person(found.requester)):
        return found
    row = await runs.get(tx, found.key) if found is not None else None
    if found is not None and row is not None and caller.may(Act.LOOK, *row.key[:2], row.workflow):
        return found
    raise NotFound("There is no such approval.")


def asked_for(caller: Caller, row: RunRow) -> bool:
    """Whether the caller is who asked for a run, by hand, by a ticket or by a program."""
    if caller.actor.type == "program" and row.started_by == caller.actor:
        return True
    return caller.is_person(row.requester) or (row.started_by.type == "person" and caller.is_person(row.started_by.id))


def is_asked(caller: Caller, approval: Approval) -> bool:
    """Whether the caller has been asked to decide."""
    return any(caller.is_person(approver) for approver in approval.approvers)


def is_id(text: str) -> bool:
    """Whether a text has the form of the ids of runs and approvals; anything else is no question for the database."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
