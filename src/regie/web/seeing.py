"""What a caller may see, as the policies say: approvals, runs, and the runs around a run.

What a caller may not see does not exist for them: the answers are the same.
"""

from __future__ import annotations

from uuid import UUID

from pydantic import ValidationError

from regie import logs
from regie.core.errors import NotFound, Unavailable
from regie.core.run import RunState
from regie.store import approvals, dropped, quotas, run_lists, runs
from regie.store.approvals import Approval
from regie.store.database import Transaction
from regie.store.keys import RunKey
from regie.store.runs import RunRow
from regie.store.sealer import SealBroken
from regie.web.caller import Caller
from regie.web.permitting import seen_approvals, seen_runs


async def run_for(tx: Transaction, caller: Caller, run: str) -> RunRow:
    """A run by its id; operators may give a beginning of it.

    Raises:
        InvalidInput: Several begin so.
        NotFound: There is none that the caller may see.
    """
    key = await runs.find(tx, run) if caller.is_operator or is_id(run) else None
    row = await runs.get(tx, key) if key is not None else None
    if row is not None and await seen_runs(tx, caller, [row]):
        logs.bind(**row.key._asdict(), corr=row.corr)
        return row
    raise NotFound("There is no such run.")


async def state_of(tx: Transaction, key: RunKey, *, lock: bool = False) -> RunState:
    """What a run has come to.

    Args:
        lock: Keep it so until the end of the transaction.

    Raises:
        Unavailable: It cannot be read: it was altered, its key is not here, or a newer version has written it.
    """
    try:
        return RunState.model_validate_json(await runs.state_of(tx, key, lock=lock))
    except (ValidationError, SealBroken) as error:
        what = type(error).__name__
        raise Unavailable(
            f"What run {key.run} has come to cannot be read ({what}).", hint="`regie doctor` says what to do."
        ) from None


async def standing(tx: Transaction, key: RunKey) -> str:
    """Why nobody is at work on a run that has something to do, in words after "It is"; else empty."""
    found = await quotas.in_line(tx, key) or await dropped.standstill(tx, key)
    return found.in_words() if found else ""


async def parent_for(tx: Transaction, caller: Caller, row: RunRow) -> RunRow | None:
    """The run that has started a run; none when there is none that the caller may see."""
    parent = await runs.get(tx, row.key._replace(run=row.parent)) if row.parent else None
    return parent if parent is not None and await seen_runs(tx, caller, [parent]) else None


async def children_for(tx: Transaction, caller: Caller, row: RunRow) -> list[RunRow]:
    """Those of the runs that a run has started that the caller may see."""
    return await seen_runs(tx, caller, await run_lists.children_of(tx, row.key))


async def approval_for(tx: Transaction, caller: Caller, approval: str) -> Approval:
    """An approval by its id; operators may give a beginning of it.

    Raises:
        InvalidInput: Several begin so.
        NotFound: There is none that the caller may see.
    """
    found = await approvals.find(tx, approval) if caller.is_operator or is_id(approval) else None
    for seen in await seen_approvals(tx, caller, [found] if found is not None else []):
        return seen
    raise NotFound("There is no such approval.")


def is_asked(caller: Caller, approval: Approval) -> bool:
    """Whether the caller has been asked to decide."""
    return any(caller.is_person(approver) for approver in approval.approvers)


def is_id(text: str) -> bool:
    """Whether a text has the form of the ids of runs and approvals; anything else is no question for the database."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
