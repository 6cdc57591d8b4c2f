"""Putting secrets into the vault file: the one door for the command line, which never reads one back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from regie.core.tenant import SecretRef
from regie.gateway.vault import VaultFile


def keep_secrets(path: Path, tenant: str, values: Mapping[SecretRef, str]) -> None:
    """Write secrets of a tenant into the vault file, which is made if there is none.

    Raises:
        RegieError: The file cannot be opened with its key.
    """
    vault = VaultFile(path) if path.exists() else VaultFile.create(path)
    for reference, value in values.items():
        vault.put(tenant, reference, value)
