"""The gateway as a process: opens its database, vault and tokens, and answers on the loopback until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

import uvicorn
from pydantic import TypeAdapter, ValidationError

from regie import crashpoints
from regie.core.errors import InvalidInput
from regie.core.tenant import SecretRef, WrittenSecretRef
from regie.gateway.access import TransportFor
from regie.gateway.app import make_gateway
from regie.gateway.backends import configuration
from regie.gateway.backends.secrets import opened
from regie.gateway.guarding import Guarded
from regie.gateway.identify import Callers, tokens_of
from regie.gateway.identity_provider import IdentityProvider, ProviderSettings
from regie.gateway.vault import INSTALLATION, SecretBackend, VaultFile
from regie.settings import Settings, read_private
from regie.store.database import Database
from regie.store.sealer import Sealer
from regie.telemetry import exporting

_REFERENCE: TypeAdapter[SecretRef] = TypeAdapter(WrittenSecretRef)
LOOPBACK = "127.0.0.1"
CONNECTIONS_TO_DATABASE = 20
FINISH_WITHIN_S = 20
"""Seconds for questions under way once the process is told to stop."""


def provider_of(settings: Settings, vault: SecretBackend) -> IdentityProvider | None:
    """The identity provider that the settings name, if they do.

    Raises:
        InvalidInput: They name half of one, or one that cannot be used.
    """
    if not settings.oidc_issuer and not settings.oidc_client_id:
        return None
    if not settings.oidc_issuer or not settings.oidc_client_id or not settings.public_url:
        raise InvalidInput(
            "An identity provider needs REGIE_OIDC_ISSUER, REGIE_OIDC_CLIENT_ID and REGIE_PUBLIC_URL: one lacks."
        )
    secret = None
    if settings.oidc_client_secret:
        try:
            reference = _REFERENCE.validate_python(settings.oidc_client_secret)
        except ValidationError:
            raise InvalidInput(
                "REGIE_OIDC_CLIENT_SECRET is no secret reference.", hint="Such as secret://installation/oidc-client."
            ) from None
        secret = partial(vault.get, INSTALLATION, reference)
    return IdentityProvider(
        ProviderSettings(
            issuer=settings.oidc_issuer,
            client_id=settings.oidc_client_id,
            scopes=tuple(settings.oidc_scopes.split()),
            address_claim=settings.oidc_address_claim,
            groups_claim=settings.oidc_groups_claim,
        ),
        secret,
        transport=Guarded(_networks_of_provider(settings)),
    )


def _networks_of_provider(settings: Settings) -> list[IPv4Network | IPv6Network]:
    """Where the identity provider may be besides the public internet: what is named, and this machine if it is named.

    Raises:
        InvalidInput: One is no network.
    """
    is_here = urlsplit(settings.oidc_issuer).hostname in {"localhost", LOOPBACK, "::1"}
    try:
        return [
            ip_network(each) for each in (*settings.oidc_reach.split(), *(("127.0.0.0/8", "::1") if is_here else ()))
        ]
    except ValueError:
        raise InvalidInput(
            "REGIE_OIDC_REACH names no networks.", hint="Such as 10.20.0.0/16, separated by blanks."
        ) from None


async def serve(
    settings: Settings,
    *,
    port: int,
    listening: Callable[[str], None],
    transport_for: TransportFor | None = None,
) -> None:
    """Serve until the process is told to stop.

    Args:
        port: On the loopback; 0 takes a free one.
        listening: Told the address once requests are taken.
        transport_for: How a vendor's address is reached; over the network when nothing is said.

    Raises:
        AuthFailed: The vault, or the credentials of a backend, cannot be used.
        DefinitionError: What says where secrets are kept is wrong.
        Unavailable: The database does not answer.
    """
    crashpoints.arm(settings.crash_at)
    vault = VaultFile.create(settings.vault_file)
    vault.names()  # a vault that does not open is told now, not at the first question
    secrets = opened(vault, configuration.read(settings.secrets_file))
    sealer = Sealer.from_file(settings.sealing_key_file)
    callers = Callers(lambda: tokens_of(settings))
    with socket.create_server((LOOPBACK, port)) as door, exporting.exported(settings.traces_url, "gateway"):
        # Each connection inherits it. Without it the second packet of an answer waits 40 ms for the first to be
        # acknowledged; asyncio sets it only for sockets that it makes itself.
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with Database(
            settings.database_url, sealer, max_connections=CONNECTIONS_TO_DATABASE, by_key=True
        ) as database:
            config = uvicorn.Config(
                make_gateway(
                    database,
                    vault,
                    callers,
                    secrets=secrets,
                    transport_for=transport_for,
                    metrics_token=lambda: read_private(settings.metrics_token_file),
                    identity_provider=provider_of(settings, vault),
                ),
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=FINISH_WITHIN_S,
                timeout_keep_alive=KEEP_S,
            )
            # The door is open: what comes before the server runs waits in its queue.
            listening(f"http://{LOOPBACK}:{door.getsockname()[1]}")
            await uvicorn.Server(config).serve(sockets=[door])


KEEP_S = 65
"""Seconds for which an idle connection is kept. Askers give one up after 5 s: if we did too, a question could meet it
just as it closes."""
