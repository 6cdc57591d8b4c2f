"""Deliveries from outside systems: the web passes them on as they came, here they are found genuine or refused."""

from __future__ import annotations

import json
from collections.abc import Mapping

from regie.core.audit import Actor, Event, Fact
from regie.core.errors import Denied, InvalidInput
from regie.gateway.connections import Connections, Inlet
from regie.gateway.identify import WEB, Caller
from regie.gateway_client import InboundEvent
from regie.kit.inbound import delivery_of
from regie.store import audit, releases
from regie.store.database import Database

LARGEST_BODY = 1024 * 1024
"""Bytes of one delivery."""


async def receive(
    database: Database,
    connections: Connections,
    caller: Caller,
    *,
    tenant: str,
    connection: str,
    headers: Mapping[str, str],
    body: bytes,
) -> InboundEvent:
    """Check a delivery against its connection's secret and read it.

    Args:
        headers: As the outside system sent them.
        body: The raw bytes, as sent.

    Raises:
        Denied: The caller is not the web, there is no such connection, or the delivery is not genuine.
        InvalidInput: It is genuine and cannot be read.
    """
    if caller.name != WEB:
        raise Denied(f"{caller.name} does not pass on deliveries.")
    async with database.reading() as tx:
        release = await releases.current(tx)
    inlet = await connections.inlet(release, tenant, connection)
    try:
        delivery = delivery_of(inlet.rule, headers, body, inlet.secret.reveal())
    except Denied:
        await _write_refusal(database, tenant, connection, inlet)
        raise
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput(f"The delivery {delivery} for {connection} is genuine and no JSON.") from None
    event = inlet.connector.inbound(inlet.settings, payload)
    return InboundEvent(delivery=delivery, domains=inlet.domains, event=event.model_dump(mode="json"))


async def _write_refusal(database: Database, tenant: str, connection: str, inlet: Inlet) -> None:
    """Leave a trace in the logs of all domains that a genuine delivery could have started a run in."""
    fact = Fact(
        event=Event.TRIGGER_REFUSED,
        actor=Actor(type="ticket_system", id=connection),
        detail={"connection": connection, "reason": "not_genuine"},
    )
    async with database.transaction() as tx:
        for domain in inlet.domains:
            await audit.append_outside(tx, tenant, domain, [fact])
