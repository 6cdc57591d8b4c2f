"""Which of a tenant's connections serves a capability, and the connector that speaks through it.

A connector gets an access that is already authenticated; `access.py` makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from regie.core.errors import Denied, InvalidInput, NotFound
from regie.core.release import Release
from regie.core.tenant import Connection, Priority
from regie.gateway.access import Accesses, Asked, TransportFor
from regie.gateway.authentication import Secret
from regie.gateway.aws_credentials import Acting
from regie.gateway.backends.secrets import Secrets
from regie.gateway.budgets import Asker, Budgets
from regie.gateway.checking import faults_of
from regie.gateway.keyring import Keyring
from regie.gateway.pacing import ConnectionPace
from regie.kit.connector import Connector, Provided, Settings, provided
from regie.kit.discovery import Found
from regie.kit.inbound import SignedBody, SignedMoment
from regie.kit.manifest import Manifest
from regie.store.database import Database


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
    """

    connection: Connection
    manifest: Manifest
    settings: Settings


@dataclass(frozen=True, slots=True)
class Inlet:
    """A tenant's connection as a source of deliveries."""

    domains: tuple[str, ...]
    rule: SignedBody | SignedMoment
    secret: Secret
    connector: type[Connector]
    settings: Settings


class Connections:
    """Every tenant's connections.

    Args:
        secrets: Where the secrets are.
        connectors: Every connector there is, by folder name.
        budgets: How fast the vendors may be asked.
        database: Where certificates are kept.
        transport_for: How a vendor's address is reached; over the network when nothing else is said.
    """

    def __init__(
        self,
        secrets: Secrets,
        connectors: Mapping[str, Found],
        budgets: Budgets,
        database: Database,
        transport_for: TransportFor | None = None,
    ) -> None:
        self._secrets = secrets
        self._connectors = connectors
        self._budgets = budgets
        self._database = database
        self._accesses = Accesses(secrets, transport_for)
        self._checked: dict[tuple[str, str], _Checked] = {}

    async def aclose(self) -> None:
        """Close every connection to a vendor, and to who keeps secrets."""
        await self._accesses.aclose()
        await self._secrets.aclose()
        self._checked.clear()

    def serving(
        self,
        release: Release,
        tenant: str,
        domain: str,
        capability: str,
        *,
        through: str = "",
        is_patient: bool = False,
        run: str = "",
        corr: str = "",
    ) -> Serving:
        """The one connection that serves a capability for a tenant in a domain, for one question.

        Args:
            through: Name of the connection that is meant; the only one that serves it when empty.
            is_patient: Rather wait long for a rate budget than be asked to come again.
            run, corr: The run that asks, and its correlation id; both empty outside of runs.

        Raises:
            Denied: None does, more than one does, or the one that does is not complete.
        """
        offers = {
            name: self._provided(connection, capability)
            for name, connection in sorted(release.tenant(tenant).connections.items())
            if domain in connection.domains
        }
        found = {name: offer for name, offer in offers.items() if offer is not None and through in {"", name}}
        if not found:
            which = f"Connection {through}" if through else "No connection"
            raise Denied(
                f"{which} of {tenant} {'does not serve' if through else 'serves'} {capability} in domain {domain}.",
                hint="Connections there: " + (", ".join(offers) or "none"),
            )
        if len(found) > 1:
            raise Denied(
                f"More than one connection of {tenant} serves {capability} in domain {domain}: {', '.join(found)}.",
                hint="Name the one that is meant, or take the domain out of all but one of them.",
            )
        [(name, offer)] = found.items()
        priority = release.domains[domain].priority if domain in release.domains else "normal"
        connector = self._connector(
            release.tenant(tenant).connections[name],
            (tenant, name),
            acting=Acting(tenant, domain, run, corr),
            capability=capability,
            priority=priority,
            is_patient=is_patient,
        )
        return Serving(tenant, name, connector, offer)

    def inlet(self, release: Release, tenant: str, name: str) -> Inlet:
        """The connection that a delivery came in for.

        Raises:
            Denied: There is no such connection, or its connector takes no deliveries.
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
            secret=partial(self._secrets.get, tenant, connection.secrets[rule.secret]),
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
        connector = self._connector(
            connection,
            (tenant, name),
            acting=Acting(tenant, connection.domains[0]),
            capability=capability,
            priority="high",
            is_patient=True,
        )
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
        connector = self._connector(
            connection,
            (tenant, name),
            acting=Acting(tenant, connection.domains[0]),
            capability="probe",
            priority="low",
            is_patient=True,
        )
        await connector.probe(found.manifest.probe)

    def _provided(self, connection: Connection, capability: str) -> Provided | None:
        found = self._connectors.get(connection.connector)
        return provided(found.connector).get(capability) if found else None

    def _connector(
        self,
        connection: Connection,
        place: tuple[str, str],
        *,
        acting: Acting,
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
        tenant, name = place
        keyring = Keyring(
            self._database,
            self._secrets.vault,
            tenant=tenant,
            domain=acting.domain,
            account=self._accesses.account(tenant, connection, found),
        )
        asked = Asked(tenant, name, connection, found, known.settings, keyring, pace, acting)
        return found.connector(self._accesses.of(asked), known.settings, keyring)

    def _check_once(self, connection: Connection, place: tuple[str, str], found: Found) -> _Checked:
        """What is known of a connection, worked out again when a release has another one there."""
        known = self._checked.get(place)
        # The very same object: a release is read once and never changes.
        if known is None or known.connection is not connection:
            self._check(*place, connection, found)
            known = self._checked[place] = _Checked(
                connection, found.manifest.allowing(connection.limits), found.manifest.effective(connection.settings)
            )
        return known

    def _check(self, tenant: str, name: str, connection: Connection, found: Found) -> None:
        """Refuse a connection whose configuration does not fit, before anything is sent through it."""
        if faults := faults_of(connection, found):
            raise Denied(f"Connection {name} of {tenant} is not complete: {'; '.join(faults)}.")
