"""From a start request, or from a parent's command, to the facts of a run; the same for every engine."""

from __future__ import annotations

from regie.core.children import parent_of
from regie.core.errors import InvalidInput
from regie.core.release import Release
from regie.core.repeating import repeat
from regie.core.run import RunFacts, RunState
from regie.core.run_commands import StartChild
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
    require_place(release, tenant.tenant, definition.domain)
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
        cause=request.cause,
        owner=domain.owner,
        unfit=request.unfit,
    )


def require_place(release: Release, tenant: str, domain: str) -> None:
    """Make sure that a tenant has a domain.

    Raises:
        InvalidInput: There is no such tenant, or it does not have it.
    """
    if domain not in release.tenant(tenant).domains:
        raise InvalidInput(
            f"The tenant {tenant} does not have the domain {domain}.", hint="Its tenant file lists the domains it has."
        )


def accept_child(facts: RunFacts, command: StartChild, release: Release) -> RunFacts:
    """The facts of a run's child: of the same release, tenant and ticket, attributed to whoever started the parent.

    Args:
        facts: The parent's.
        command: What the parent asks for.
        release: The one that the parent is pinned to.

    Raises:
        InvalidInput: No such workflow in it.
    """
    definition = release.definition(command.workflow)
    return facts.model_copy(
        update={
            "id": command.run,
            "domain": definition.domain,
            "workflow": definition.workflow,
            "given": command.given,
            "settings": release.domains[definition.domain].settings_of(release.tenant(facts.tenant)),
            "parent": parent_of(facts, command),
        }
    )


def child_trigger(command: StartChild, parent: str) -> str:
    """The trigger key of a child. No connection has a slash in its name, so no delivery makes the same one."""
    return f"child/{parent}/{command.place}"


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
        cause=old.cause,
    )
    facts = accept(asked, now, run).model_copy(update={"rerun_of": old.id, "rerun_from": request.from_step})
    return repeat(before, was.definition(old.workflow), now.definition(old.workflow), request.from_step, facts)
