"""What a caller may do, as the policies of the current release say. What is denied to somebody is written down.

The caller's reach feeds the policies: it gives people their roles where they ask, and programs their acts. What is
beyond the scope of a program's token is denied before any policy is asked, so that none can widen it.

Looking is not written down: what one may not see does not exist for one, and asking for it says nothing about a run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from pydantic import JsonValue

from regie.core.audit import Event, Fact
from regie.core.block import Catalogue
from regie.core.capability import Effect
from regie.core.classification import Classification, Handling, handling
from regie.core.definition import Definition
from regie.core.errors import Denied
from regie.core.plan import Change, PlannedStep
from regie.core.reach import OPERATOR, VIEWER, Act
from regie.core.release import Release
from regie.core.tenant import Tenant
from regie.policy import people
from regie.policy.cedar import Decision, policies_of, shipped
from regie.policy.people import Asker, Kind, PlanFacts, Proof, RunFacts, Steering
from regie.policy.request import Request
from regie.store import approvals, audit, authenticators, runs
from regie.store.approvals import Approval
from regie.store.database import Database, Transaction
from regie.store.keys import RunKey
from regie.store.runs import RunRow
from regie.store.sight import Sight
from regie.web.caller import Caller
from regie.web.means import current_release
from regie.web.problems import OutOfReach

ONLY_WITH_RIGHT = "What runs of this domain hold is shown to who has the right to view inputs."
_ACTS: dict[Steering, Act] = {
    "cancel": Act.STEER,
    "pause": Act.STEER,
    "resume": Act.STEER,
    "wake": Act.STEER,
    "rerun": Act.START,
}
"""Which act a scope must allow for it."""


class NotPermitted(Denied):
    """Somebody asked for something that the policies deny, and it is to be written down.

    Args:
        denied: What whoever asked is told.
        key: What it is about; the run is empty when it is about none.
    """

    def __init__(self, denied: Denied, key: RunKey, fact: Fact) -> None:
        super().__init__(denied.message, hint=denied.hint)
        self.denied = denied
        self.key = key
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
        async with database.transaction() as tx:
            if error.key.run:
                await audit.append(tx, error.key, [error.fact])
            else:
                await audit.append_outside(tx, error.key.tenant, error.key.domain, [error.fact])
        raise error.denied from None


async def sight_of(tx: Transaction, caller: Caller) -> Sight:
    """What of all runs lists look through for a caller; what they find is asked of the policies as well.

    To what the caller's reach and the shipped policies show, it adds the places that policies of the workspace show
    somebody, whoever is around a run.
    """
    release = await current_release(tx)
    own = [text for name, text in release.policies.items() if text != shipped().get(name)]
    if not caller.address or caller.is_operator or not any("permit" in text for text in own):
        return caller.sight
    shown = [
        (slug, definition.domain, name)
        for slug, tenant in release.tenants.items()
        for name, definition in release.definitions.items()
        if definition.domain in tenant.domains
        and not caller.may(Act.LOOK, slug, definition.domain, name)
        and _sees(release, caller, RunFacts(tenant=slug, domain=definition.domain, workflow=name))
    ]
    return replace(caller.sight, places=(*caller.sight.places, *shown))


async def seen_runs(tx: Transaction, caller: Caller, rows: Sequence[RunRow]) -> list[RunRow]:
    """Those of some runs that are there for the caller."""
    if not rows:
        return []
    release = await current_release(tx)
    asked = await approvals.asked_in(tx, [row.key for row in rows])
    known: dict[RunFacts, bool] = {}
    seen = []
    for row in rows:
        facts = _facts(row, asked.get(row.key, frozenset()))
        if facts not in known:
            known[facts] = _sees(release, caller, facts)
        if known[facts]:
            seen.append(row)
    return seen


async def seen_approvals(tx: Transaction, caller: Caller, found: Sequence[Approval]) -> list[Approval]:
    """Those of some approvals that are there for the caller."""
    if not found:
        return []
    release = await current_release(tx)
    workflows = await runs.workflows_of(tx, [each.key for each in found])
    return [
        each
        for each in found
        if _decide(release, caller, Act.LOOK, _around(each, workflows[each.key]), people.see_approval).is_allowed
    ]


async def decision_on_steering(
    tx: Transaction, caller: Caller, row: RunRow, steering: Steering, *, paused_by: str = ""
) -> Decision:
    """What the policies say to a caller who would do something with a run.

    Args:
        paused_by: Who has paused it; empty when nobody has.
    """
    release = await current_release(tx)
    asked = await approvals.asked_in(tx, [row.key])
    facts = _facts(row, asked.get(row.key, frozenset()), paused_by)
    return _decide(release, caller, _ACTS[steering], facts, lambda asker, run: people.steer(asker, run, steering))


async def require_steer(
    tx: Transaction, caller: Caller, row: RunRow, steering: Steering, otherwise: str = "", *, paused_by: str = ""
) -> Decision:
    """Make sure of that.

    Args:
        otherwise: Why not, when no policy says so itself; empty to say what is missing.

    Raises:
        NotPermitted: The policies deny it.
    """
    decision = await decision_on_steering(tx, caller, row, steering, paused_by=paused_by)
    if not decision.is_allowed:
        raise _not_permitted(
            caller, steering, decision, refused_steer(caller, row, steering, decision, otherwise), row.key
        )
    return decision


def refused_steer(caller: Caller, row: RunRow, steering: Steering, decision: Decision, otherwise: str = "") -> Denied:
    """What a caller is told who may not do something with a run; see `require_steer`."""
    return _refused(caller, _ACTS[steering], (row.key.tenant, row.key.domain, row.workflow), decision, otherwise)


async def decision_on_viewing_inputs(tx: Transaction, caller: Caller, row: RunRow) -> tuple[Handling, Decision | None]:
    """How the data of a run's domain are handled, and what the policies say to a caller who would see its values.

    Whoever sees the run sees them where no right is needed: then there is no decision.
    """
    release = await current_release(tx)
    domain = release.domains.get(row.key.domain)
    classification = domain.classification if domain else Classification.PERSONAL
    found = handling(classification)
    if not found.needs_right:
        return found, None
    facts = _facts(row, (await approvals.asked_in(tx, [row.key])).get(row.key, frozenset()))
    return found, _decide(
        release, caller, Act.VALUES, facts, lambda asker, run: people.view_inputs(asker, run, classification)
    )


async def view_inputs(tx: Transaction, caller: Caller, row: RunRow) -> bool:
    """Make sure of that, and write down that they look, where the class of the domain says so.

    Returns:
        Whether it was written down.

    Raises:
        NotPermitted: The policies deny it.
    """
    found, decision = await decision_on_viewing_inputs(tx, caller, row)
    if decision is not None and not decision.is_allowed:
        raise _not_permitted(caller, "view_inputs", decision, decision.denied(ONLY_WITH_RIGHT), row.key)
    if found.is_looking_recorded:
        told = decision.told if decision is not None else {}
        await audit.append(tx, row.key, [Fact(event=Event.INPUTS_VIEWED, actor=caller.actor, detail=told)])
    return found.is_looking_recorded


async def require_start(tx: Transaction, caller: Caller, tenant: str, workflow: str) -> Decision | None:
    """Make sure that a caller may start a run by the API; none when the tenant lacks its domain: told elsewhere.

    Raises:
        OutOfReach: There is nothing to start, and the caller does not get to know that.
        InvalidInput: There is no such workflow or tenant; what of them the caller may start runs of is named.
        NotPermitted: The policies deny it.
    """
    release = await current_release(tx)
    whose, definition = release.tenants.get(tenant), release.definitions.get(workflow)
    if whose is None or definition is None or definition.domain not in whose.domains:
        caller.require(Act.START, tenant, workflow.partition(".")[0], workflow)
        may = [
            (slug, name)
            for slug, each in release.tenants.items()
            for name, found in release.definitions.items()
            if found.domain in each.domains and caller.may(Act.START, slug, found.domain, name)
        ]
        release.definition(workflow, known={name for slug, name in may if whose is None or slug == tenant})
        release.tenant(tenant, known={slug for slug, name in may if name == workflow})
        return None
    decision = _may_start(release, caller, whose, definition, by_form=False)
    if not decision.is_allowed:
        denied = _refused(caller, Act.START, (tenant, definition.domain, workflow), decision)
        raise _not_permitted(caller, "start", decision, denied, RunKey(tenant, definition.domain, ""))
    return decision


def decision_on_form_start(release: Release, caller: Caller, tenant: str, workflow: str) -> Decision:
    """What the policies say to a caller who would start a run by one of the workflow's forms."""
    return _may_start(release, caller, release.tenant(tenant), release.definition(workflow), by_form=True)


async def decision_on_deciding(
    tx: Transaction,
    caller: Caller,
    approval: Approval,
    decision: str,
    catalogue: Catalogue,
    *,
    is_confirmed: bool = False,
) -> Decision:
    """What the policies say to somebody who would say yes or no.

    Args:
        catalogue: Says what the changes of the plan do to the world.
        is_confirmed: They have signed this plan with their authenticator.
    """
    release = await current_release(tx)
    workflows = await runs.workflows_of(tx, [approval.key])
    facts = replace(_around(approval, workflows[approval.key]), plan=_plan_facts(approval.plan, catalogue))
    proof = Proof(
        is_confirmed=is_confirmed,
        has_authenticator=bool(caller.address and await authenticators.of(tx, caller.address)),
        is_local=caller.is_local,
        mfa_age_s=None if caller.mfa_age_s is None else int(caller.mfa_age_s),
    )
    return policies_of(release).decide(people.decide(_asker(caller, release, facts), facts, decision, proof))


async def require_decide(
    tx: Transaction,
    caller: Caller,
    approval: Approval,
    decision: str,
    catalogue: Catalogue,
    *,
    is_confirmed: bool = False,
) -> Decision:
    """Make sure of that; see `decision_on_deciding`.

    Raises:
        NotPermitted: The policies deny it.
    """
    found = await decision_on_deciding(tx, caller, approval, decision, catalogue, is_confirmed=is_confirmed)
    if not found.is_allowed:
        denied = found.denied("No policy allows this decision.")
        raise _not_permitted(caller, "decide", found, denied, approval.key)
    return found


def _sees(release: Release, caller: Caller, run: RunFacts) -> bool:
    return _decide(release, caller, Act.LOOK, run, people.see).is_allowed


def _may_start(release: Release, caller: Caller, tenant: Tenant, definition: Definition, *, by_form: bool) -> Decision:
    run = RunFacts(tenant=tenant.tenant, domain=definition.domain, workflow=definition.workflow)
    return _decide(
        release, caller, Act.START, run, lambda asker, _: people.start(asker, tenant, definition, by_form=by_form)
    )


def _decide(
    release: Release, caller: Caller, act: Act, run: RunFacts, ask: Callable[[Asker, RunFacts], Request]
) -> Decision:
    """What the policies say to a question, unless it is beyond the scope of a token: then nobody is asked.

    Args:
        act: What the scope must allow. A run that a token has started is its own: it may see and steer it.
    """
    asker = _asker(caller, release, run)
    policies = policies_of(release)
    is_own = run.program == asker.name and act is not Act.START
    if asker.kind == "program" and act not in asker.acts and not is_own:
        return policies.beyond_scope()
    return policies.decide(ask(asker, run))


def _refused(caller: Caller, act: Act, place: tuple[str, str, str], decision: Decision, otherwise: str = "") -> Denied:
    """What whoever asked is told: why a policy forbids it, or what they lack."""
    if decision.because or decision.errors or caller.may(act, *place):
        return decision.denied(otherwise or "No policy allows this.")
    lacking = caller.out_of_reach(act, *place)
    return OutOfReach(otherwise, missing=lacking.missing, hint=lacking.hint) if otherwise else lacking


def _not_permitted(caller: Caller, action: str, decision: Decision, denied: Denied, key: RunKey) -> NotPermitted:
    detail: dict[str, JsonValue] = {"action": action, "reason": decision.reason, **decision.told}
    return NotPermitted(denied, key, Fact(event=Event.REQUEST_DENIED, actor=caller.actor, detail=detail))


def not_confirmed(caller: Caller, denied: Denied, reason: str, key: RunKey) -> NotPermitted:
    """The same for a yes whose confirmation does not hold: the policies are not even asked."""
    detail: dict[str, JsonValue] = {"action": "decide", "reason": reason}
    return NotPermitted(denied, key, Fact(event=Event.REQUEST_DENIED, actor=caller.actor, detail=detail))


def _asker(caller: Caller, release: Release, run: RunFacts) -> Asker:
    """The caller as policies know them where that run is."""
    place = (run.tenant, run.domain, run.workflow)
    acts = frozenset(act for act in Act if caller.may(act, *place))
    tenant = release.tenants.get(run.tenant)
    if caller.address:
        held = {f"{slug}/{role}" for slug, role in caller.roles if slug == run.tenant}
        by_reach = {OPERATOR} if acts == frozenset(Act) else {VIEWER} if Act.LOOK in acts else set[str]()
        return Asker(caller.address, tenant, frozenset(held | by_reach), is_of_tenant=caller.belongs_to(run.tenant))
    kind: Kind = "program" if caller.actor.type == "program" else "operator"
    return Asker(caller.actor.id, tenant, kind=kind, acts=frozenset(acts), called=caller.named)


def _facts(row: RunRow, asked: frozenset[str], paused_by: str = "") -> RunFacts:
    return RunFacts(
        tenant=row.key.tenant,
        domain=row.key.domain,
        workflow=row.workflow,
        requester=row.requester,
        starter=row.started_by.id if row.started_by.type == "person" else "",
        program=row.started_by.id if row.started_by.type == "program" else "",
        asked=asked,
        paused_by=paused_by,
    )


def _plan_facts(plan: Sequence[PlannedStep], catalogue: Catalogue) -> PlanFacts:
    """What a plan does. A change by something that this version does not know counts as the worst there is."""
    effects = {need.name: need.effect for block in catalogue.values() for need in block.needs}
    changes = [step.planned for step in plan if isinstance(step.planned, Change)]
    return PlanFacts(
        frozenset(str(effects.get(change.capability, Effect.DESTRUCTIVE)) for change in changes),
        frozenset(change.capability for change in changes),
        len(changes),
    )


def _around(approval: Approval, workflow: str) -> RunFacts:
    return RunFacts(
        tenant=approval.key.tenant,
        domain=approval.key.domain,
        workflow=workflow,
        requester=approval.requester,
        asked=frozenset(approval.approvers),
    )
