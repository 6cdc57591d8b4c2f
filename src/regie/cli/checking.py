"""Reading a workspace as the release that it would become, and checking all of it."""

from __future__ import annotations

from pathlib import Path

from regie.core.errors import DefinitionError
from regie.core.release import Release
from regie.domains import load_catalogue
from regie.gateway.checking import connection_faults
from regie.workspace.loading import fault_in_tenant, load_release


def checked_release(workspace: Path | None) -> Release:
    """Read a workspace and check all of it, its connections against the connectors included.

    Args:
        workspace: Its folder; none for what is shipped alone.

    Raises:
        DefinitionError: With every fault.
    """
    release = load_release(workspace, load_catalogue())
    faults = [
        fault_in_tenant(workspace, found.tenant, ("connections", found.connection), found.message, found.hint)
        for found in (connection_faults(release) if workspace else ())
        if workspace
    ]
    if faults:
        raise DefinitionError(faults)
    return release
