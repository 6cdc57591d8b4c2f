"""Do the tenants' connections fit the connectors that there are? The gateway asks before it uses a connection.

The command line asks too, for a whole release before it becomes current, and in `regie doctor`. Nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from regie import connectors as connector_folders
from regie.core.nearest import did_you_mean
from regie.core.release import Release
from regie.core.tenant import Connection
from regie.kit.discovery import Found, connectors_in


@dataclass(frozen=True, slots=True)
class ConnectionFault:
    """One thing wrong with a tenant's connection, as a sentence without values."""

    tenant: str
    connection: str
    message: str
    hint: str | None = None


def faults_of(connection: Connection, found: Found) -> list[str]:
    """What is wrong with a connection that uses a connector: settings, secrets, whose secrets they are, limits."""
    faults = found.manifest.faults(connection.settings, connection.secrets)
    buckets = {limit.bucket for limit in found.manifest.limits}
    for bucket in sorted(set(connection.limits) - buckets):
        faults.append(f"there is no limit {bucket}" + (f", {hint}" if (hint := did_you_mean(bucket, buckets)) else ""))
    foreign = [str(ref) for ref in connection.secrets.values() if ref.domain not in connection.domains]
    if foreign:
        faults = [*faults, f"it uses secrets of domains that it does not serve: {', '.join(foreign)}"]
    return faults


def connection_faults(release: Release, connectors: Mapping[str, Found] | None = None) -> list[ConnectionFault]:
    """Every fault of every connection of a release.

    Args:
        connectors: By folder name; all that there are when nothing is said.
    """
    known = connectors_in(connector_folders) if connectors is None else connectors
    return [
        fault
        for slug, tenant in sorted(release.tenants.items())
        for name, connection in tenant.connections.items()
        for fault in _faults(slug, name, connection, known)
    ]


def _faults(tenant: str, name: str, connection: Connection, known: Mapping[str, Found]) -> Iterator[ConnectionFault]:
    found = known.get(connection.connector)
    if found is None:
        message = f"there is no connector {connection.connector}"
        yield ConnectionFault(tenant, name, message, did_you_mean(connection.connector, known))
        return
    for message in faults_of(connection, found):
        yield ConnectionFault(tenant, name, message)
