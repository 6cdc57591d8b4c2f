"""From a start request to the facts of a run; the same for every engine."""

from __future__ import annotations

from regie.core.errors import InvalidInput
from regie.core.release import Release
from regie.core.repeating import repeat
from regie.core.run import RunFacts, RunState
from regie.engine.port import RerunRequest, StartRequest


def accept(request: StartRequest, release: Release, run: str) -> RunFacts:
    """The facts of a new run.

    Args:
        request: What is asked for.
        release: The release the run is pinned to.
        run: The new run's id.

    Raises:
        InvalidInput: No such workflow or tenant, or the tenant does not have the domain.
    """
    definition = release.definition(request.workflow)
    tenant = release.tenant(request.tenant)
    if definition.domain not in tenant.domains:
        raise InvalidInput(
            f"The tenant {tenant.tenant} does not have the domain {definition.domain}.",
            hint="Its tenant file lists the domains it has.",
        )
    domain = release.domains[definition.domain]
    return RunFacts(
        id=run,
        tenant=tenant.tenant,
        domain=definition.domain,
        workflow=definition.workflow,
        ticket=request.ticket,
        started_by=request.started_by.id,
        given=request.given,
        settings=domain.settings_of(tenant),
        dry=request.dry,
        time_zone=tenant.time_zone,
    )


def accept_rerun(request: RerunRequest, before: RunState, was: Release, now: Release, run: str) -> RunState:
    """The state of a new run that repeats another from some step on.

    Args:
        request: What is asked for.
        before: The run that is repeated.
        was: Its release.
        now: The release the new run is pinned to.
        run: The new run's id.

    Raises:
        InvalidInput: It cannot be repeated from there, or not under that release.
    """
    old = before.facts
    asked = StartRequest(
        tenant=old.tenant,
        workflow=old.workflow,
        trigger_key=request.trigger_key,
        started_by=request.started_by,
        ticket=old.ticket,
        given=old.given,
        dry=old.dry,
    )
    facts = accept(asked, now, run).model_copy(update={"rerun_of": old.id, "rerun_from": request.from_step})
    return repeat(before, was.definition(old.workflow), now.definition(old.workflow), request.from_step, facts)
