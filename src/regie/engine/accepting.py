"""From a start request to the facts of a run; the same for every engine."""

from __future__ import annotations

from regie.core.errors import InvalidInput
from regie.core.release import Release
from regie.core.run import RunFacts
from regie.engine.port import StartRequest


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
