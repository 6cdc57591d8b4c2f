"""Putting secrets into the vault file, and telling which lack: the command line's door, which never gives one back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from regie import connectors as connector_folders
from regie.core.release import Release
from regie.core.tenant import SecretRef
from regie.gateway.vault import INSTALLATION, VaultFile
from regie.kit.discovery import connectors_in

__all__ = ["INSTALLATION", "MissingSecret", "keep_secrets", "missing_secrets"]


def keep_secrets(path: Path, tenant: str, values: Mapping[SecretRef, str]) -> None:
    """Write secrets of a tenant into the vault file, which is made if there is none.

    Raises:
        RegieError: The file cannot be opened with its key.
    """
    vault = VaultFile(path) if path.exists() else VaultFile.create(path)
    for reference, value in values.items():
        vault.put(tenant, reference, value)


@dataclass(frozen=True, slots=True)
class MissingSecret:
    """A connection refers to a secret that nobody has put into the vault."""

    tenant: str
    connection: str
    reference: SecretRef


def missing_secrets(path: Path, release: Release) -> list[MissingSecret]:
    """The secrets that a release's connections refer to and the vault does not have.

    Those that the gateway makes itself when they are first needed do not lack.

    Raises:
        AuthFailed: There is a vault file and it cannot be opened.
    """
    kept = set(VaultFile(path).names()) if path.exists() else set()
    made = {name: found.manifest.authentication.made for name, found in connectors_in(connector_folders).items()}
    return [
        MissingSecret(slug, name, reference)
        for slug, tenant in sorted(release.tenants.items())
        for name, connection in tenant.connections.items()
        for secret, reference in connection.secrets.items()
        if (slug, str(reference)) not in kept and secret not in made.get(connection.connector, ())
    ]
