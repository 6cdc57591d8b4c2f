"""What can be started, and whether what the web needs is there."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from regie.core.definition import Definition
from regie.core.errors import Denied, InvalidInput, RegieError, Unavailable
from regie.core.reach import Act
from regie.core.release import Release
from regie.store import releases
from regie.web.answers import Health, WorkflowLine, Workflows
from regie.web.caller import Caller
from regie.web.means import Asking, Having, Means, current_release
from regie.web.problems import problem

ANSWERS_WITHIN_S = 3.0
"""Seconds after which what does not answer counts as away."""
NOBODY = "-"
"""No slug of a tenant or a connection."""

router = APIRouter()


@router.get("/v1/workflows")
async def list_workflows(means: Having, caller: Asking) -> Workflows:
    """The workflows of the current release of which the caller sees runs."""
    caller.require_somewhere(Act.LOOK)
    async with means.database.reading() as tx:
        release = await current_release(tx)
    items = [WorkflowLine.of(definition, tenants) for definition, tenants in workflows_for(caller, release)]
    return Workflows(release=release.digest, items=items)


def workflows_for(caller: Caller, release: Release) -> list[tuple[Definition, list[str]]]:
    """The workflows of a release of which a caller sees runs, with the tenants of which they do."""
    found = []
    for name, definition in sorted(release.definitions.items()):
        tenants = [
            slug
            for slug, tenant in release.tenants.items()
            if definition.domain in tenant.domains and caller.may(Act.LOOK, slug, definition.domain, name)
        ]
        # Nobody has it yet, but whoever looks after every tenant sees it all the same.
        if tenants or caller.may(Act.LOOK, "", definition.domain, name):
            found.append((definition, tenants))
    return found


@router.get("/health", response_model=Health)
async def health(means: Having) -> Health | JSONResponse:
    """Whether database and gateway answer."""
    has_database, has_gateway = await asyncio.gather(_has_database(means), _has_gateway(means))
    if has_database and has_gateway:
        return Health()
    away = [name for name, is_there in (("database", has_database), ("gateway", has_gateway)) if not is_there]
    error = Unavailable(f"No answer from: {', '.join(away)}.")
    return problem(error, database=has_database, gateway=has_gateway)


async def _has_database(means: Means) -> bool:
    try:
        async with asyncio.timeout(ANSWERS_WITHIN_S), means.database.reading() as tx:
            await releases.history(tx, limit=1)
    except (RegieError, TimeoutError):
        return False
    return True


async def _has_gateway(means: Means) -> bool:
    """Ask what needs no vendor to be refused: about a delivery, for a tenant that cannot exist."""
    try:
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            await means.gateway.inbound(NOBODY, NOBODY, b"", {})
    except (Denied, InvalidInput):
        return True
    except (RegieError, TimeoutError):
        return False
    return True
