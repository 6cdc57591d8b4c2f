"""Every tenant's secrets, each from the backend that the installation's configuration names for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import httpx2

from regie.core.errors import AuthFailed
from regie.core.tenant import SecretRef
from regie.gateway.aws_credentials import AwsClients, AwsPlace
from regie.gateway.backends import configuration as written
from regie.gateway.backends.aws import ParameterStore, SecretsManager
from regie.gateway.backends.configuration import VAULT, Configuration
from regie.gateway.backends.keeper import Keeper
from regie.gateway.backends.memory import Memory
from regie.gateway.backends.mounted import InEnvironment, MountedFiles
from regie.gateway.guarding import GuardedThread
from regie.gateway.vault import SecretBackend, SecretMaker, SecretText
from regie.kit.reaching import Dialler
from regie.settings import read_private, secret_variable


@runtime_checkable
class _Closable(Protocol):
    async def aclose(self) -> None: ...


class Secrets:
    """Looks secrets up where they are kept.

    Args:
        vault: Keeps what the gateway makes itself, and what no other backend does.
        backends: By name; closed with this.
        place: Name of the backend for a tenant's secrets of a domain.
    """

    def __init__(
        self,
        vault: SecretMaker,
        backends: Mapping[str, SecretBackend] | None = None,
        place: Callable[[str, str], str] = lambda tenant, domain: VAULT,  # noqa: ARG005  all alike
    ) -> None:
        self.vault = vault
        self._backends: dict[str, SecretBackend] = {**(backends or {}), VAULT: vault}
        self._place = place

    async def aclose(self) -> None:
        """Close what is open."""
        for each in self._backends.values():
            if isinstance(each, _Closable):
                await each.aclose()

    async def get(self, tenant: str, reference: SecretRef, refused: SecretText | None = None) -> SecretText:
        """The value of a tenant's secret; see `SecretBackend`."""
        return await self._backends[self._place(tenant, reference.domain)].get(tenant, reference, refused)


def opened(
    vault: SecretMaker,
    found: Configuration,
    *,
    transport: Callable[[], httpx2.BaseTransport] | None = None,
) -> Secrets:
    """The secrets of an installation. Nothing is asked yet.

    Args:
        transport: How Keeper is reached; over the network when nothing is said.

    Raises:
        AuthFailed: A file with credentials cannot be used.
    """
    backends = {name: _backend(name, each, transport) for name, each in found.backends.items()}
    return Secrets(vault, backends, found.place)


def _backend(name: str, found: written.Backend, transport: Callable[[], httpx2.BaseTransport] | None) -> SecretBackend:
    match found:
        case written.Files():
            return MountedFiles(found.folder)
        case written.Environment():
            return InEnvironment(secret_variable)
        case written.Keeper():
            way = transport() if transport else GuardedThread(found.networks)
            return Keeper(name, _credentials(name, found.device), _memory(name, found), way)
        case written.AwsSecretsManager():
            return SecretsManager(_clients(name, found).client, found.prefix, _memory(name, found))
        case written.AwsParameterStore():
            return ParameterStore(_clients(name, found).client, found.prefix, _memory(name, found))


def _memory(name: str, found: written.Remembered) -> Memory:
    return Memory(name, remember_s=found.remember, stale_s=found.stale)


def _clients(name: str, found: written.AwsSecretsManager | written.AwsParameterStore) -> AwsClients:
    place = AwsPlace(
        region=found.region,
        access_key=found.access_key,
        endpoint=found.endpoint,
        role=found.role,
        external_id=found.external_id,
        is_machine=not found.access_key,
    )

    async def secret(refused: SecretText | None = None) -> SecretText:  # noqa: ARG001  the file is read each time
        return SecretText(_credentials(name, found.secret_key) if found.secret_key else "")

    return AwsClients(place, secret, Dialler(found.networks))


def _credentials(name: str, file: Path) -> str:
    value = read_private(file)
    if not value:
        raise AuthFailed(
            f"The credentials of the backend {name} cannot be used: {file} lacks, is empty or open to others."
        )
    return value
