"""Putting secrets into the vault file, and telling which lack: the command line's door, which never gives one back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from regie import connectors as connector_folders
from regie.core.errors import InvalidInput, RegieError, Throttled, Unavailable
from regie.core.release import Release
from regie.core.tenant import SecretRef
from regie.gateway.backends import configuration
from regie.gateway.backends.configuration import VAULT
from regie.gateway.backends.secrets import Secrets, opened
from regie.gateway.vault import INSTALLATION, NoSecret, VaultFile
from regie.kit.discovery import connectors_in
from regie.settings import Settings

__all__ = [
    "INSTALLATION",
    "Looked",
    "Referred",
    "keep_secrets",
    "look_for_secrets",
    "missing_secrets",
    "referred_secrets",
    "refuse_what_is_kept_elsewhere",
]


def keep_secrets(path: Path, tenant: str, values: Mapping[SecretRef, str]) -> None:
    """Write secrets of a tenant into the vault file, which is made if there is none.

    Raises:
        RegieError: The file cannot be opened with its key.
    """
    vault = VaultFile(path) if path.exists() else VaultFile.create(path)
    for reference, value in values.items():
        vault.put(tenant, reference, value)


def refuse_what_is_kept_elsewhere(settings: Settings, tenant: str, reference: SecretRef) -> None:
    """Refuse a secret for which the vault would never be asked.

    Raises:
        InvalidInput: Another backend keeps it.
        DefinitionError: What says where secrets are kept is wrong.
    """
    place = configuration.read(settings.secrets_file).place(tenant, reference.domain)
    if place != VAULT:
        raise InvalidInput(
            f"{reference} of {tenant} is looked up in {place}, not in the vault.",
            hint=f"Put it there, or change {settings.secrets_file}.",
        )


@dataclass(frozen=True, slots=True)
class Referred:
    """A connection's use of a secret.

    Attributes:
        place: Name of the backend that keeps it.
        is_made: The gateway makes it itself when it is first needed.
    """

    tenant: str
    connection: str
    reference: SecretRef
    place: str
    is_made: bool


@dataclass(frozen=True, slots=True)
class Looked:
    """Whether a secret was found; never its value.

    Attributes:
        state: `kept`, `made`, `missing`, `denied`, `throttled`, `unreachable`.
        reason, hint: Why it was not, for people.
    """

    referred: Referred
    state: str
    reason: str = ""
    hint: str = ""

    @property
    def is_good(self) -> bool:
        """Whether a run that needs it can have it."""
        return self.state in {"kept", "made"}


def missing_secrets(settings: Settings, release: Release) -> list[Referred]:
    """The secrets that a release's connections refer to and the vault should have and does not. Asks nobody else.

    Those that the gateway makes itself when they are first needed do not lack.

    Raises:
        AuthFailed: There is a vault file and it cannot be opened.
        DefinitionError: What says where secrets are kept is wrong.
    """
    path = settings.vault_file
    kept = set(VaultFile(path).names()) if path.exists() else set()
    return [
        each
        for each in referred_secrets(settings, release)
        if each.place == VAULT and not each.is_made and (each.tenant, str(each.reference)) not in kept
    ]


def referred_secrets(settings: Settings, release: Release) -> list[Referred]:
    """Every secret that a release's connections refer to.

    Raises:
        DefinitionError: What says where secrets are kept is wrong.
    """
    return list(_referred(release, configuration.read(settings.secrets_file)))


async def look_for_secrets(settings: Settings, release: Release) -> list[Looked]:
    """Look every secret up that a release refers to, where it is kept.

    Raises:
        AuthFailed: The vault, or the credentials of a backend, cannot be used.
        DefinitionError: What says where secrets are kept is wrong.
    """
    found = configuration.read(settings.secrets_file)
    secrets = opened(VaultFile.create(settings.vault_file), found)
    try:
        return list(await asyncio.gather(*(_look(secrets, each) for each in _referred(release, found))))
    finally:
        await secrets.aclose()


async def _look(secrets: Secrets, each: Referred) -> Looked:
    if each.is_made:
        return Looked(each, "made")
    try:
        await secrets.get(each.tenant, each.reference)
    except RegieError as error:
        return Looked(each, _state(error), error.message, error.hint or "")
    return Looked(each, "kept")


def _state(error: RegieError) -> str:
    match error:
        case NoSecret():
            return "missing"
        case Throttled():
            return "throttled"
        case Unavailable():
            return "unreachable"
        case _:
            return "denied"


def _referred(release: Release, found: configuration.Configuration) -> Iterator[Referred]:
    made = {name: each.manifest.authentication.made for name, each in connectors_in(connector_folders).items()}
    for slug, tenant in sorted(release.tenants.items()):
        for name, connection in tenant.connections.items():
            for secret, reference in connection.secrets.items():
                is_made = secret in made.get(connection.connector, ())
                place = VAULT if is_made else found.place(slug, reference.domain)
                yield Referred(slug, name, reference, place, is_made)
