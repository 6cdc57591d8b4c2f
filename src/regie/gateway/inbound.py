"""Deliveries from outside systems: the web passes them on as they came, here they are found genuine or refused."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping

from pydantic import JsonValue

from regie.core.audit import Actor, Event, Fact
from regie.core.capabilities import message, ticket
from regie.core.errors import Denied, InvalidInput, NotFound, Unavailable
from regie.core.release import Release
from regie.core.starts import TicketStart
from regie.gateway.connections import Connections, Inlet
from regie.gateway.effects import Effects
from regie.gateway.identify import WEB, Caller
from regie.gateway_client import InboundEvent
from regie.kit.inbound import InboundEvent as Announced
from regie.kit.inbound import delivery_of, payload_of
from regie.store import audit, releases
from regie.store.database import Database

LARGEST_BODY = 1024 * 1024
"""Bytes of one delivery."""
READ_WITHIN_S = 10.0
"""Seconds to find out what a delivery does not tell; the vendors whose webhooks we take wait 10 to 20 for an answer."""

REFUSAL_EVERY_S = 60.0
"""Seconds in which a connection writes one leaf about refused deliveries: whoever sends them must not fill the log."""
IDENTIFIED_WITHIN_S = 2.0
"""Seconds to find out who pressed a button: a chat waits 3 for the answer to a press."""


class Inbox:
    """Takes deliveries.

    Args:
        effects: Reads through a connection, within its rate budget.
    """

    def __init__(self, database: Database, connections: Connections, effects: Effects) -> None:
        self._database = database
        self._connections = connections
        self._effects = effects
        self._told_s: dict[tuple[str, str], float] = {}
        """When a connection last wrote a leaf about refused deliveries."""
        self._untold = Counter[tuple[str, str]]()
        """How many it has refused since then."""

    async def receive(
        self, caller: Caller, *, tenant: str, connection: str, headers: Mapping[str, str], body: bytes
    ) -> InboundEvent:
        """Check a delivery against its connection's secret and read it.

        Args:
            headers: As the outside system sent them.
            body: The raw bytes, as sent.

        Raises:
            Denied: The caller is not the web, there is no such connection, or the delivery is not genuine.
            AuthFailed: The secret that deliveries are signed with is kept nowhere.
            InvalidInput: It is genuine and cannot be read.
            Retryable, AuthFailed: It does not tell all, and the outside system cannot be asked now.
        """
        if caller.name != WEB:
            raise Denied(f"{caller.name} does not pass on deliveries.")
        async with self._database.reading() as tx:
            release, now = await releases.current(tx), await tx.clock()
        inlet = self._connections.inlet(release, tenant, connection)
        try:
            delivery = await _delivered(inlet, headers, body, now.timestamp())
        except Denied:
            await self._count_forged(tenant, connection, inlet)
            raise
        try:
            announced = inlet.connector.inbound(inlet.settings, payload_of(inlet.rule, headers, body))
        except InvalidInput:
            await self._write_refusal(tenant, connection, inlet, reason="unreadable", delivery=delivery)
            raise
        if announced.kind == "decided":
            event = await self._with_person(release, tenant, connection, announced)
        else:
            event = await self._completed(release, tenant, connection, announced)
        return InboundEvent(delivery=delivery, domains=inlet.domains, event=event.model_dump(mode="json"))

    async def _completed(self, release: Release, tenant: str, name: str, event: Announced) -> Announced:
        """The event with its request type, looked up in the ticket where the payload does not tell it.

        Only for projects in which some workflow starts by tickets: of others nobody wants to know.
        """
        system = release.tenant(tenant).connections[name].connector
        places = {
            (start.system, start.project) for each in release.definitions.values() for start in each.starts(TicketStart)
        }
        if event.kind != "ticket_created" or event.request_type or (system, event.project) not in places:
            return event
        serving = self._connections.through(release, tenant, name, ticket.READ.name)
        if serving is None:
            return event
        want: dict[str, JsonValue] = {"ticket": event.ticket}
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                found = await self._effects.call(serving, want)
        except TimeoutError:
            raise Unavailable(f"The request type of {event.ticket} could not be read in time.") from None
        except NotFound:
            # Deleted meanwhile, or hidden from us: a ticket that nobody can work on starts nothing.
            return event
        return event.model_copy(update={"request_type": ticket.Ticket.model_validate(found).request_type})

    async def _with_person(self, release: Release, tenant: str, name: str, event: Announced) -> Announced:
        """The decision with the address of whoever took it, where the chat vouches for one."""
        serving = self._connections.through(release, tenant, name, message.IDENTIFY.name)
        if serving is None:
            return event.model_copy(update={"kind": "acknowledged", "reason": "it does not tell who people are"})
        try:
            async with asyncio.timeout(IDENTIFIED_WITHIN_S):
                found = await self._effects.call(serving, {"id": event.by_id})
        except TimeoutError:
            raise Unavailable("It could not be found out in time who decided.") from None
        except NotFound:
            return event.model_copy(update={"kind": "acknowledged", "reason": "nobody knows who decided"})
        person = message.PersonFound.model_validate(found)
        if not person.email:
            return event.model_copy(update={"kind": "acknowledged", "reason": person.reason})
        return event.model_copy(update={"by": person.email})

    async def _count_forged(self, tenant: str, connection: str, inlet: Inlet) -> None:
        """Write down that deliveries are not genuine, how many, and not each of them."""
        place, now_s = (tenant, connection), time.monotonic()
        self._untold[place] += 1
        if now_s - self._told_s.get(place, -REFUSAL_EVERY_S) < REFUSAL_EVERY_S:
            return
        self._told_s[place] = now_s
        await self._write_refusal(tenant, connection, inlet, reason="not_genuine", deliveries=self._untold.pop(place))

    async def _write_refusal(self, tenant: str, connection: str, inlet: Inlet, **why: JsonValue) -> None:
        """Leave a trace in the logs of all domains that the delivery could have started a run in."""
        fact = Fact(
            event=Event.TRIGGER_REFUSED,
            actor=Actor(type="ticket_system", id=connection),
            detail={"connection": connection, **why},
        )
        async with self._database.transaction(tenant) as tx:
            for domain in inlet.domains:
                await audit.append_outside(tx, tenant, domain, [fact])


async def _delivered(inlet: Inlet, headers: Mapping[str, str], body: bytes, now_s: float) -> str:
    """The id of a genuine delivery. One that is signed with a newer secret than we remember is genuine, too.

    Raises:
        Denied: It is not genuine.
    """
    known = await inlet.secret()
    try:
        return delivery_of(inlet.rule, headers, body, known.reveal(), now_s=now_s)
    except Denied:
        newer = await inlet.secret(known)
        if newer.is_same(known):
            raise
        return delivery_of(inlet.rule, headers, body, newer.reveal(), now_s=now_s)
