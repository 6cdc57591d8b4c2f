"""Which of a tenant's connections serves a capability, and the connector that speaks through it.

A connector gets a session that is already authenticated. Connections are kept while their configuration stays the
same, so that a new release does not ask for a new token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx2

from regie.core import canonical
from regie.core.errors import Denied, InvalidInput, NotFound
from regie.core.release import Release
from regie.core.tenant import Connection, Priority, SecretRef
from regie.gateway.authentication import Basic, ClientCredentials, Secret
from regie.gateway.budgets import Asker, Budgets
from regie.gateway.checking import faults_of
from regie.gateway.observing import Observed
from regie.gateway.pacing import ConnectionPace
from regie.gateway.vault import SecretBackend, SecretText
from regie.kit import manifest as declared
from regie.kit.connector import Connector, Provided, Settings, provided
from regie.kit.discovery import Found
from regie.kit.inbound import InboundRule
from regie.kit.session import Session

TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
"""Seconds one request to a vendor may take."""

TransportFor = Callable[[str], httpx2.AsyncBaseTransport]
"""How an address is reached: the network, or an imitation in tests."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A tenant's connection, ready to do one capability for one question."""

    tenant: str
    connection: str
    connector: Connector
    provided: Provided


@dataclass(frozen=True, slots=True)
class _Checked:
    """A connection that fits its connector, and what follows from it for every question.

    Attributes:
        connection: As configured; another release may have another one under the same name.
        manifest: With what the vendor allows this very connection.
        settings: With the defaults filled in.
        client: Its way to the outside.
    """

    connection: Connection
    manifest: declared.Manifest
    settings: Settings
    client: httpx2.AsyncClient


@dataclass(frozen=True, slots=True)
class Inlet:
    """A tenant's connection as a source of deliveries."""

    domains: tuple[str, ...]
    rule: InboundRule
    secret: SecretText
    connector: type[Connector]
    settings: Settings


class Connections:
    """Every tenant's connections.

    Args:
        vault: Where the secrets are.
        connectors: Every connector there is, by folder name.
        budgets: How fast the vendors may be asked.
        transport_for: How a vendor's address is reached; over the network when nothing else is said.
    """

    def __init__(
        self,
        vault: SecretBackend,
        connectors: Mapping[str, Found],
        budgets: Budgets,
        transport_for: TransportFor | None = None,
    ) -> None:
        self._vault = vault
        self._connectors = connectors
        self._transport_for = transport_for
        self._budgets = budgets
        self._open: dict[tuple[str, str, str], httpx2.AsyncClient] = {}
        self._checked: dict[tuple[str, str], _Checked] = {}

    async def aclose(self) -> None:
        """Close every connection to a vendor."""
        for client in self._open.values():
            await client.aclose()
        self._open.clear()
        self._checked.clear()

    def serving(
        self, release: Release, tenant: str, domain: str, capability: str, *, is_patient: bool = False
    ) -> Serving:
        """The one connection that serves a capability for a tenant in a domain, for one question.

        Args:
            is_patient: Rather wait long for a rate budget than be asked to come again.

        Raises:
            Denied: None does, more than one does, or the one that does is not complete.
        """
        offers = {
            name: self._provided(connection, capability)
            for name, connection in sorted(release.tenant(tenant).connections.items())
            if domain in connection.domains
        }
        found = {name: offer for name, offer in offers.items() if offer is not None}
        if not found:
            raise Denied(
                f"No connection of {tenant} serves {capability} in domain {domain}.",
                hint="Connections there: " + (", ".join(offers) or "none"),
            )
        if len(found) > 1:
            raise Denied(
                f"More than one connection of {tenant} serves {capability} in domain {domain}: {', '.join(found)}.",
                hint="Take the domain out of all but one of them.",
            )
        [(name, offer)] = found.items()
        priority = release.domains[domain].priority if domain in release.domains else "normal"
        connector = self._connector(
            release.tenant(tenant).connections[name],
            (tenant, name),
            capability=capability,
            priority=priority,
            is_patient=is_patient,
        )
        return Serving(tenant, name, connector, offer)

    async def inlet(self, release: Release, tenant: str, name: str) -> Inlet:
        """The connection that a delivery came in for.

        Raises:
            Denied: There is no such connection, or its connector takes no deliveries.
            AuthFailed: The secret its deliveries are signed with is not in the vault.
        """
        owner = release.tenants.get(tenant)
        connection = owner.connections.get(name) if owner else None
        found = self._connectors.get(connection.connector) if connection else None
        if connection is None or found is None or found.manifest.inbound is None:
            raise Denied("There is no such place to deliver to.")
        self._check(tenant, name, connection, found)
        rule = found.manifest.inbound
        return Inlet(
            domains=connection.domains,
            rule=rule,
            secret=await self._vault.get(tenant, connection.secrets[rule.secret]),
            connector=found.connector,
            settings=found.manifest.effective(connection.settings),
        )

    def through(self, release: Release, tenant: str, name: str, capability: str) -> Serving | None:
        """One connection, to do a capability; none when its connector cannot.

        Raises:
            Denied: The connection is not complete.
        """
        connection = release.tenant(tenant).connections[name]
        offer = self._provided(connection, capability)
        if offer is None:
            return None
        # A delivery waits for it, and its sender does not wait long.
        connector = self._connector(connection, (tenant, name), capability=capability, priority="high", is_patient=True)
        return Serving(tenant, name, connector, offer)

    async def probe(self, release: Release, tenant: str, name: str) -> None:
        """Ask the outside system the one harmless question that the connector's manifest names.

        Raises:
            NotFound: There is no such connection.
            InvalidInput: Its connector names no question.
            Denied: It is not complete.
            AuthFailed: A secret is missing, or the outside system does not accept it.
            Retryable: The outside system does not answer.
        """
        owner = release.tenants.get(tenant)
        connection = owner.connections.get(name) if owner else None
        found = self._connectors.get(connection.connector) if connection else None
        if connection is None or found is None:
            raise NotFound(f"There is no connection {name} of {tenant}.")
        if not found.manifest.probe:
            raise InvalidInput(f"The connector {found.name} names no harmless question to ask.")
        connector = self._connector(connection, (tenant, name), capability="probe", priority="low", is_patient=True)
        await connector.session.get(found.manifest.probe, accept={404})

    def _provided(self, connection: Connection, capability: str) -> Provided | None:
        found = self._connectors.get(connection.connector)
        return provided(found.connector).get(capability) if found else None

    def _connector(
        self,
        connection: Connection,
        place: tuple[str, str],
        *,
        capability: str,
        priority: Priority,
        is_patient: bool,
    ) -> Connector:
        """The connector of a connection, at the pace of one question."""
        found = self._connectors[connection.connector]
        known = self._check_once(connection, place, found)
        pace = ConnectionPace(
            self._budgets,
            known.manifest,
            connection=place,
            settings=known.settings,
            capability=capability,
            asker=Asker(place[0], priority),
            is_patient=is_patient,
        )
        session = Session(known.client, vendor=found.manifest.title, pace=pace)
        return found.connector(session, known.settings)

    def _check_once(self, connection: Connection, place: tuple[str, str], found: Found) -> _Checked:
        """What is known of a connection, worked out again when a release has another one there."""
        known = self._checked.get(place)
        # The very same object: a release is read once and never changes.
        if known is None or known.connection is not connection:
            tenant, name = place
            self._check(tenant, name, connection, found)
            known = self._checked[place] = _Checked(
                connection,
                found.manifest.allowing(connection.limits),
                found.manifest.effective(connection.settings),
                self._client(tenant, name, connection),
            )
        return known

    def _client(self, tenant: str, name: str, connection: Connection) -> httpx2.AsyncClient:
        key = (tenant, name, canonical.digest(connection.model_dump(mode="json")))
        if key not in self._open:
            found = self._connectors[connection.connector]
            address = str(found.manifest.effective(connection.settings)[found.manifest.address])
            self._open[key] = httpx2.AsyncClient(
                base_url=address,
                auth=self._authentication(tenant, connection, found),
                transport=self._way_to(address, found),
                timeout=TIMEOUT,
                follow_redirects=False,
                trust_env=False,
            )
        return self._open[key]

    def _check(self, tenant: str, name: str, connection: Connection, found: Found) -> None:
        """Refuse a connection whose configuration does not fit, before anything is sent through it."""
        if faults := faults_of(connection, found):
            raise Denied(f"Connection {name} of {tenant} is not complete: {'; '.join(faults)}.")

    def _authentication(self, tenant: str, connection: Connection, found: Found) -> httpx2.Auth:
        settings = found.manifest.effective(connection.settings)
        match found.manifest.authentication:
            case declared.Basic() as basic:
                secret = self._secret(tenant, connection.secrets[basic.secret])
                return Basic(str(settings[basic.user]), secret)
            case declared.ClientCredentials() as oauth:
                token_url = str(settings[oauth.token_url])
                return ClientCredentials(
                    token_url=token_url,
                    client_id=str(settings[oauth.client_id]),
                    secret=self._secret(tenant, connection.secrets[oauth.client_secret]),
                    scope=oauth.scope,
                    transport=self._way_to(token_url, found),
                )

    def _way_to(self, address: str, found: Found) -> httpx2.AsyncBaseTransport:
        """How an address is reached; what goes there is counted and traced."""
        way = self._transport_for(address) if self._transport_for else httpx2.AsyncHTTPTransport(trust_env=False)
        return Observed(way, found.name)

    def _secret(self, tenant: str, reference: SecretRef) -> Secret:
        async def look_up() -> SecretText:
            return await self._vault.get(tenant, reference)

        return look_up
