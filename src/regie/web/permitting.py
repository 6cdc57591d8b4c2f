"""What a caller may do, as the policies of the current release say. What is denied to somebody is written down.

Looking is not written down: what one may not see does not exist for one, and asking for it says nothing about a run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from pydantic import JsonValue

from regie.core.audit import Event, Fact
from regie.core.classification import Classification, Handling, handling
from regie.core.errors import Denied
from regie.core.release import Release
from regie.policy import people
from regie.policy.cedar import Decision, policies_of
from regie.policy.people import Asker, RunFacts, Steering
from regie.store import approvals, audit, runs
from regie.store.accounts import OPERATOR_ROLE
from regie.store.approvals import Approval
from regie.store.database import Database, Transaction
from regie.store.keys import RunKey
from regie.store.runs import RunRow
from regie.web.identify import Caller
from regie.web.means import current_release

ONLY_WITH_RIGHT = "What runs of this domain hold is shown to who has the right to view inputs."
ONLY_OPERATORS = "This needs the operator's token or an account with the role operator."


class NotPermitted(Denied):
    """Somebody asked for something that the policies deny, and it is to be written down.

    Args:
        place: Tenant and domain that it is about.
        run: The run that it is about; empty when it is about none.
    """

    def __init__(self, denied: Denied, place: tuple[str, str], run: str, fact: Fact) -> None:
        super().__init__(denied.message, hint=denied.hint)
        self.place = place
        self.run = run
        self.fact = fact


@asynccontextmanager
async def noting(database: Database) -> AsyncIterator[None]:
    """Write down what is denied inside, once the transaction around it has been given up.

    Raises:
        Denied: Just as it was raised inside.
    """
    try:
        yield
    except NotPermitted as error:
        tenant, domain = error.place
        async with database.transaction() as tx:
            if error.run:
                await audit.append(tx, RunKey(tenant, domain, error.run), [error.fact])
            else:
                await audit.append_outside(tx, tenant, domain, [error.fact])
        raise Denied(error.message, hint=error.hint) from None


async def may_see(tx: Transaction, caller: Caller, rows: Sequence[RunRow]) -> list[bool]:
    """Which of these runs are there for the caller."""
    if not rows:
        return []
    release = await current_release(tx)
    asked = await approvals.asked_in(tx, [row.key for row in rows])
    known: dict[tuple[str, RunFacts], bool] = {}
    answers = []
    for row in rows:
        facts = _facts(row, asked.get(row.key, frozenset()))
        if (row.key.tenant, facts) not in known:
            request = people.see(_asker(caller, release, row.key.tenant), facts)
            known[row.key.tenant, facts] = policies_of(release).decide(request).is_allowed
        answers.append(known[row.key.tenant, facts])
    return answers


async def seen_approvals(tx: Transaction, caller: Caller, found: Sequence[Approval]) -> list[Approval]:
    """Those of some approvals that are there for the caller."""
    if not found:
        return []
    release = await current_release(tx)
    workflows = await runs.workflows_of(tx, [each.key for each in found])
    return [
        each
        for each in found
        if policies_of(release)
        .decide(people.see_approval(_asker(caller, release, each.key.tenant), _around(each, workflows[each.key])))
        .is_allowed
    ]


async def may_steer(
    tx: Transaction, caller: Caller, row: RunRow, steering: Steering, *, paused_by: str = ""
) -> Decision:
    """Whether a caller may do something with a run.

    Args:
        paused_by: Who has paused it; empty when nobody has.
    """
    release = await current_release(tx)
    asked = await approvals.asked_in(tx, [row.key])
    facts = _facts(row, asked.get(row.key, frozenset()), paused_by)
    return policies_of(release).decide(people.steer(_asker(caller, release, row.key.tenant), facts, steering))


async def require_steer(
    tx: Transaction, caller: Caller, row: RunRow, steering: Steering, otherwise: str, *, paused_by: str = ""
) -> Decision:
    """Make sure of that.

    Args:
        otherwise: Why not, when no policy says so itself.

    Raises:
        NotPermitted: The policies deny it.
    """
    decision = await may_steer(tx, caller, row, steering, paused_by=paused_by)
    if not decision.is_allowed:
        raise _not_permitted(caller, steering, decision, otherwise, row.key)
    return decision


async def may_view_inputs(tx: Transaction, caller: Caller, row: RunRow) -> tuple[Handling, Decision | None]:
    """How the data of a run's domain are handled, and whether a caller who sees the run may see its inputs and outputs.

    No decision where no right is needed.
    """
    release = await current_release(tx)
    domain = release.domains.get(row.key.domain)
    classification = domain.classification if domain else None
    found = handling(classification)
    if not found.needs_right:
        return found, None
    asked = await approvals.asked_in(tx, [row.key])
    request = people.view_inputs(
        _asker(caller, release, row.key.tenant),
        _facts(row, asked.get(row.key, frozenset())),
        classification or Classification.PERSONAL,
    )
    return found, policies_of(release).decide(request)


async def view_inputs(tx: Transaction, caller: Caller, row: RunRow) -> bool:
    """Make sure of that, and write down that they look, where the class of the domain says so.

    Returns:
        Whether it was written down.

    Raises:
        NotPermitted: The policies deny it.
    """
    found, decision = await may_view_inputs(tx, caller, row)
    if decision is not None and not decision.is_allowed:
        raise _not_permitted(caller, "view_inputs", decision, ONLY_WITH_RIGHT, row.key)
    if found.is_looking_recorded:
        told = decision.told if decision is not None else {}
        await audit.append(tx, row.key, [Fact(event=Event.INPUTS_VIEWED, actor=caller.actor, detail=told)])
    return found.is_looking_recorded


async def require_start(tx: Transaction, caller: Caller, tenant: str, workflow: str) -> Decision | None:
    """Make sure that a caller may start a run by the API; none when there is nothing to start, which is told elsewhere.

    Raises:
        Denied: There is nothing to start, and the caller does not get to know that.
        NotPermitted: The policies deny it.
    """
    release = await current_release(tx)
    whose, definition = release.tenants.get(tenant), release.definitions.get(workflow)
    if whose is None or definition is None or definition.domain not in whose.domains:
        caller.require_operator()
        return None
    request = people.start(_asker(caller, release, tenant), whose, definition, by_form=False)
    decision = policies_of(release).decide(request)
    if not decision.is_allowed:
        raise _not_permitted(caller, "start", decision, ONLY_OPERATORS, RunKey(tenant, definition.domain, ""))
    return decision


def may_start_by_form(release: Release, caller: Caller, tenant: str, workflow: str) -> Decision:
    """Whether a caller may start a run by one of the workflow's forms."""
    request = people.start(
        _asker(caller, release, tenant), release.tenant(tenant), release.definition(workflow), by_form=True
    )
    return policies_of(release).decide(request)


async def may_decide(tx: Transaction, caller: Caller, approval: Approval, decision: str) -> Decision:
    """Whether somebody may say yes or no."""
    release = await current_release(tx)
    asker = _asker(caller, release, approval.key.tenant)
    workflows = await runs.workflows_of(tx, [approval.key])
    return policies_of(release).decide(people.decide(asker, _around(approval, workflows[approval.key]), decision))


async def require_decide(tx: Transaction, caller: Caller, approval: Approval, decision: str) -> Decision:
    """Make sure of that.

    Raises:
        NotPermitted: The policies deny it.
    """
    found = await may_decide(tx, caller, approval, decision)
    if not found.is_allowed:
        raise _not_permitted(caller, "decide", found, "No policy allows this decision.", approval.key)
    return found


def _not_permitted(caller: Caller, action: str, decision: Decision, otherwise: str, key: RunKey) -> NotPermitted:
    detail: dict[str, JsonValue] = {"action": action, "reason": decision.reason, **decision.told}
    fact = Fact(event=Event.REQUEST_DENIED, actor=caller.actor, detail=detail)
    return NotPermitted(decision.denied(otherwise), (key.tenant, key.domain), key.run, fact)


def _asker(caller: Caller, release: Release, tenant: str) -> Asker:
    return Asker(
        caller.address or caller.actor.id,
        release.tenants.get(tenant),
        frozenset({OPERATOR_ROLE} if caller.is_operator else ()),
        is_person=bool(caller.address),
    )


def _facts(row: RunRow, asked: frozenset[str], paused_by: str = "") -> RunFacts:
    return RunFacts(
        tenant=row.key.tenant,
        domain=row.key.domain,
        workflow=row.workflow,
        requester=row.requester,
        starter=row.started_by.id if row.started_by.type == "person" else "",
        asked=asked,
        paused_by=paused_by,
    )


def _around(approval: Approval, workflow: str) -> RunFacts:
    return RunFacts(
        tenant=approval.key.tenant,
        domain=approval.key.domain,
        workflow=workflow,
        requester=approval.requester,
        asked=frozenset(approval.approvers),
    )
