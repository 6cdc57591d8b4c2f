"""Makes the access of a connection for one question: by the kind that the manifest names, authenticated and paced.

What is worth keeping open (HTTP clients, AWS sessions) is kept while the connection's configuration stays the same, so
that a new release does not ask for a new token.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Protocol, TypeVar

import dns.exception
import dns.tsig
import httpx2
from pydantic import JsonValue

from regie.core import canonical
from regie.core.errors import AuthFailed, Denied, InvalidInput
from regie.core.tenant import Connection, SecretRef
from regie.gateway.acme_account import AccountKey, AcmeAccount, new_account_key
from regie.gateway.authentication import Basic, Bearer, ClientCredentials, Secret
from regie.gateway.aws_credentials import Acting, AwsClients, AwsPlace
from regie.gateway.backends.secrets import Secrets
from regie.gateway.guarding import Guarded
from regie.gateway.keyring import Keyring
from regie.gateway.observing import Observed, ObservedCalls
from regie.gateway.ssh import Ssh, SshHost, SshPlace
from regie.gateway.vault import SecretText
from regie.kit import manifest as declared
from regie.kit.access import Access, Calls
from regie.kit.aws import Aws
from regie.kit.connector import Settings
from regie.kit.discovery import Found
from regie.kit.dns import Dns, Server
from regie.kit.host import Host
from regie.kit.local_host import LocalHost
from regie.kit.network import Network
from regie.kit.rates import Pace
from regie.kit.reaching import Dialler
from regie.kit.session import Session
from regie.kit.tls.asking import Answers, GuardedFetch, Revocation
from regie.kit.tls.handshake import MOST_HANDSHAKES, Client
from regie.kit.tls.looking import Tls
from regie.kit.tls.roots import roots
from regie.kit.tls.scanning import Scanner
from regie.kit.tls.trust import Roots

TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
"""Seconds one request to a vendor may take."""

TransportFor = Callable[[str], httpx2.AsyncBaseTransport]
"""How an address is reached: the network, or an imitation in tests."""


class _Closable(Protocol):
    async def aclose(self) -> None: ...


Kept = TypeVar("Kept", bound=_Closable)


@dataclass(frozen=True, slots=True)
class Asked:
    """One question's use of a connection.

    Attributes:
        settings: With the manifest's defaults filled in.
        keyring: Of the domain that asks.
        acting: For whom it asks.
    """

    tenant: str
    name: str
    connection: Connection
    found: Found
    settings: Settings
    keyring: Keyring
    pace: Pace
    acting: Acting

    @property
    def networks(self) -> list[IPv4Network | IPv6Network]:
        """What it may reach besides the public internet."""
        return [ip_network(each) for each in self.connection.reach]

    @property
    def dialler(self) -> Dialler:
        """Opens its connections, to where they may go."""
        return Dialler(self.networks)

    def setting(self, name: str) -> str:
        """A setting as text; empty when it has no value."""
        value = self.settings.get(name)
        return "" if value is None else str(value)


class Accesses:
    """Makes accesses.

    Args:
        secrets: Where the secrets are.
        transport_for: How an address is reached over HTTP; over the network when nothing is said.
    """

    def __init__(self, secrets: Secrets, transport_for: TransportFor | None = None) -> None:
        self._secrets = secrets
        self._transport_for = transport_for
        self._open: dict[tuple[str, str, str, str], _Closable] = {}
        self._latest: dict[tuple[str, str, str], tuple[Connection, _Closable]] = {}
        # Shared by all connections, so that the memory of a gateway is bounded however many customers it looks for.
        self._answers = Answers(_clock)
        self._handshakes = asyncio.Semaphore(MOST_HANDSHAKES)

    async def aclose(self) -> None:
        """Close everything that is open."""
        for each in self._open.values():
            await each.aclose()
        self._open.clear()
        self._latest.clear()

    def of(self, asked: Asked) -> Access:
        """The access of a connection, for one question."""
        manifest = asked.found.manifest
        calls = Calls(manifest.title, asked.pace, ObservedCalls(asked.found.name))
        match manifest.access:
            case "http":
                return Session(self._client(asked), vendor=manifest.title, pace=asked.pace)
            case "aws":
                return Aws(partial(self._aws(asked).client, acting=asked.acting), calls, asked.keyring.resolve)
            case "dns":
                return Dns(Server.at(asked.setting(manifest.address)), partial(self._tsig, asked), calls, asked.dialler)
            case "host":
                return self._host(asked, calls)
            case "network":
                return Network(calls, asked.dialler)
            case "tls":
                return Tls(self._scanner(asked), calls, self._host(asked, calls))

    def account(self, tenant: str, connection: Connection, found: Found) -> AccountKey | None:
        """The key of a connection's account at an ACME authority, if it has one; made when it is first looked up."""
        how = found.manifest.authentication
        if not isinstance(how, declared.AcmeAccount):
            return None
        reference = connection.secrets[how.account_key]
        return AccountKey(partial(self._secrets.vault.make, tenant, reference, new_account_key))

    def _kept(self, asked: Asked, kind: type[Kept], make: Callable[[], Kept]) -> Kept:
        place = (kind.__name__, asked.tenant, asked.name)
        connection, latest = self._latest.get(place, (None, None))
        # The very same object: a release is read once and never changes.
        if connection is asked.connection and isinstance(latest, kind):
            return latest
        key = (*place, canonical.digest(asked.connection.model_dump(mode="json")))
        found = self._open.get(key)
        if not isinstance(found, kind):
            self._open[key] = found = make()
        self._latest[place] = (asked.connection, found)
        return found

    def _client(self, asked: Asked) -> httpx2.AsyncClient:
        def make() -> httpx2.AsyncClient:
            address = asked.setting(asked.found.manifest.address)
            way = self._way_to(address, asked)
            return httpx2.AsyncClient(
                base_url=address,
                auth=self._authentication(asked, way),
                transport=way,
                timeout=TIMEOUT,
                follow_redirects=False,
                trust_env=False,
            )

        return self._kept(asked, httpx2.AsyncClient, make)

    def _aws(self, asked: Asked) -> AwsClients:
        how = asked.found.manifest.authentication
        if not isinstance(how, declared.AwsKeys):
            raise Denied(f"{asked.found.manifest.title} has no credentials of AWS")
        place = AwsPlace(
            region=asked.setting(how.region),
            access_key=asked.setting(how.access_key),
            endpoint=asked.setting(asked.found.manifest.address),
            role=asked.setting(how.role),
            external_id=asked.setting(how.external_id),
        )
        secret = self._secret(asked.tenant, asked.connection.secrets[how.secret_key])
        return self._kept(asked, AwsClients, lambda: AwsClients(place, secret, asked.dialler))

    def _scanner(self, asked: Asked) -> Scanner:
        manifest = asked.found.manifest
        if manifest.looking is None:
            raise Denied(f"{manifest.title} does not say where it may look")
        rules = manifest.looking

        def make() -> Scanner:
            dialler = Dialler(_networks(asked.settings.get(rules.networks)))
            with_public = asked.settings.get(rules.public_roots) is not False
            return Scanner(
                Client(dialler, places=self._handshakes),
                _roots(asked.setting(manifest.trusts), with_public=with_public),
                _clock,
                Revocation(GuardedFetch(dialler), self._answers),
            )

        return self._kept(asked, Scanner, make)

    async def _tsig(self, asked: Asked) -> dns.tsig.Key | None:
        how = asked.found.manifest.authentication
        if not isinstance(how, declared.Tsig):
            return None
        secret = await self._secrets.get(asked.tenant, asked.connection.secrets[how.secret])
        try:
            return dns.tsig.Key(asked.setting(how.key_name), secret.reveal(), asked.setting(how.algorithm))
        except (ValueError, dns.exception.DNSException, NotImplementedError):
            message = f"The key of connection {asked.name} of {asked.tenant} cannot be used."
        raise AuthFailed(message, hint="Its secret is base64, its algorithm such as hmac-sha256.")

    def _host(self, asked: Asked, calls: Calls) -> Host:
        manifest = asked.found.manifest
        rules = manifest.host or declared.HostRules(folders=())
        folders: list[str] = []
        for name in rules.folders:
            value = asked.settings.get(name)
            folders.extend([str(each) for each in value] if isinstance(value, list) else [str(value)] if value else [])
        values = {name: str(value) for name, value in asked.settings.items() if isinstance(value, str | int)}
        make: Callable[..., Host] = LocalHost
        how = manifest.authentication
        if isinstance(how, declared.SshKey) and (address := asked.setting(manifest.address)):
            place = SshPlace(address, asked.setting(how.user), asked.setting(how.host_key))
            secret = self._secret(asked.tenant, asked.connection.secrets[how.private_key])
            make = partial(SshHost, self._kept(asked, Ssh, lambda: Ssh(place, secret, asked.dialler)))
        return make(
            network=Network(calls, asked.dialler),
            calls=calls,
            resolve=asked.keyring.resolve,
            folders=folders,
            commands={name: [part.format_map(values) for part in parts] for name, parts in rules.commands.items()},
            sockets={name: asked.setting(name) for name in rules.sockets},
        )

    def _authentication(self, asked: Asked, way: httpx2.AsyncBaseTransport) -> httpx2.Auth | None:
        """How a connection proves who it is.

        Args:
            way: To its address; whoever closes the client closes it.
        """
        secrets = asked.connection.secrets
        match asked.found.manifest.authentication:
            case declared.Basic() as basic:
                return Basic(asked.setting(basic.user), self._secret(asked.tenant, secrets[basic.secret]))
            case declared.Bearer() as bearer:
                return Bearer(self._secret(asked.tenant, secrets[bearer.secret]))
            case declared.ClientCredentials() as oauth:
                token_url = asked.setting(oauth.token_url)
                return ClientCredentials(
                    token_url=token_url,
                    client_id=asked.setting(oauth.client_id),
                    secret=self._secret(asked.tenant, secrets[oauth.client_secret]),
                    scope=oauth.scope,
                    transport=self._way_to(token_url, asked),
                )
            case declared.AcmeAccount() as acme:
                account = self.account(asked.tenant, asked.connection, asked.found)
                return AcmeAccount(
                    directory=asked.setting(asked.found.manifest.address),
                    account=account or AccountKey(self._secret(asked.tenant, secrets[acme.account_key])),
                    contact=asked.setting(acme.contact),
                    transport=way,
                )
            case _:
                return None

    def _way_to(self, address: str, asked: Asked) -> httpx2.AsyncBaseTransport:
        """How an address is reached; what goes there is counted and traced."""
        if self._transport_for:
            return Observed(self._transport_for(address), asked.found.name)
        trusted = asked.setting(asked.found.manifest.trusts)
        return Observed(Guarded(asked.networks, _trusting(trusted) if trusted else None), asked.found.name)

    def _secret(self, tenant: str, reference: SecretRef) -> Secret:
        async def look_up(refused: SecretText | None = None) -> SecretText:
            return await self._secrets.get(tenant, reference, refused)

        return look_up


def _trusting(pem: str) -> ssl.SSLContext:
    """Trust these authorities and no others: a private vendor is not vouched for by public ones."""
    try:
        return ssl.create_default_context(cadata=pem)
    except ssl.SSLError:
        raise Denied("the setting with the authorities to trust holds no certificates in PEM") from None


def _clock() -> datetime:
    return datetime.now(UTC)  # noqa: TID251  a lifetime is compared with the machine's clock, as every TLS client does


def _networks(named: JsonValue) -> list[IPv4Network | IPv6Network]:
    try:
        return [ip_network(str(each)) for each in named] if isinstance(named, list) else []
    except ValueError:
        message = "The setting with the networks that may be reached holds something else."
    raise Denied(message, hint="Write each as 10.20.0.0/16 or 2001:db8::/32.")


def _roots(pem: str, *, with_public: bool) -> Roots:
    try:
        return roots(pem, with_public=with_public)
    except InvalidInput:
        raise Denied("the setting with the authorities to trust holds no certificates in PEM") from None
