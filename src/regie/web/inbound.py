"""Deliveries from outside systems: found genuine by the gateway, matched with workflows, stored, then answered."""

from __future__ import annotations

import structlog
from fastapi import APIRouter, Request, Response, status
from pydantic import BaseModel, ConfigDict, JsonValue

from regie import logs
from regie.core.audit import Actor, Event, Fact
from regie.core.definition import Definition
from regie.core.errors import Denied, InvalidInput, NotFound, RegieError, Retryable, Unavailable
from regie.core.release import Release
from regie.core.starts import TicketStart
from regie.core.tenant import Connection, Tenant
from regie.engine.port import StartRequest
from regie.engine.postgres import PostgresEngine
from regie.gateway_client import InboundEvent
from regie.store import audit
from regie.store.database import Transaction
from regie.telemetry import traces
from regie.web import deciding, withdrawing
from regie.web.answers import DeliveryAccepted, DeliveryCancelled, DeliveryIgnored, StartedByDelivery
from regie.web.means import Having, Means, current_release

NOT_CHECKED_AGAIN_S = 60.0
"""Seconds after which a delivery that could not be checked may come again."""

log = structlog.get_logger(__name__)
router = APIRouter()


class Announced(BaseModel):
    """What a delivery announces, as the gateway's connector has read it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str
    event: str = ""
    ticket: str = ""
    project: str = ""
    request_type: str = ""
    reason: str = ""
    challenge: str = ""


Taken = DeliveryAccepted | DeliveryCancelled | DeliveryIgnored


@router.post("/v1/inbound/{tenant}/{connection}", status_code=status.HTTP_202_ACCEPTED, response_model=Taken)
async def deliver(means: Having, tenant: str, connection: str, request: Request) -> Taken | Response:
    """Take a delivery."""
    async with means.database.reading() as tx:
        _addressee(await current_release(tx), tenant, connection)
    logs.bind(tenant=tenant, connection=connection)
    # Whoever sends it does not choose our ids: the header is no part of what is signed.
    sent_in = request.headers.get(traces.HEADER, "")
    with traces.span("take delivery", {"regie.tenant": tenant}, kind="answers", link=sent_in):
        return await _take(means, tenant, connection, request)


async def _take(means: Means, tenant: str, connection: str, request: Request) -> Taken | Response:
    delivery = await _checked(means, tenant, connection, request)
    announced = Announced.model_validate(delivery.event)
    if announced.kind == "ticket_closed" and announced.ticket:
        return await _withdraw(means, tenant, connection, delivery)
    if announced.kind in {"acknowledged", "decided"}:
        return await _answer(means, tenant, connection, delivery, announced)
    if announced.kind != "ticket_created" or not announced.ticket:
        return DeliveryIgnored(reason=announced.reason or "it announces nothing we act on")
    async with means.database.transaction() as tx:
        release = await current_release(tx)
        whose, through = _addressee(release, tenant, connection)
        domains = [domain for domain in whose.domains if domain in delivery.domains]
        matching = [
            definition
            for _, definition in sorted(release.definitions.items())
            if definition.domain in domains and _starts(definition, through, announced)
        ]
        if not matching:
            await _note_refusal(tx, (tenant, connection), domains, delivery.delivery, announced)
            return DeliveryIgnored(reason="no workflow starts with this kind of ticket")
        runs = [await _start(tx, means.engine, (tenant, connection), announced, each) for each in matching]
    return DeliveryAccepted(runs=runs)


async def _answer(means: Means, tenant: str, connection: str, delivery: InboundEvent, announced: Announced) -> Response:
    """Answer a chat as it wants it, whatever came of the press: only 200 counts, and nobody reads what is in it."""
    reason = announced.reason
    if announced.kind == "decided":
        pressed = deciding.Pressed.model_validate(delivery.event)
        async with means.database.transaction() as tx:
            whose, _ = _addressee(await current_release(tx), tenant, connection)
            domains = [domain for domain in whose.domains if domain in delivery.domains]
            reason = await deciding.decide_for(
                tx,
                (tenant, connection),
                domains,
                delivery.delivery,
                pressed,
                doorkeeper=means.doorkeeper,
                catalogue=means.catalogue,
            )
    log.info("delivery:answered", event_kind=announced.kind, reason=reason)
    return Response(announced.challenge, media_type="text/plain")


async def _withdraw(means: Means, tenant: str, connection: str, delivery: InboundEvent) -> Taken:
    """People have closed a ticket: cancel what runs for it."""
    closed = withdrawing.Closed.model_validate(delivery.event)
    async with means.database.transaction() as tx:
        whose, _ = _addressee(await current_release(tx), tenant, connection)
        domains = [domain for domain in whose.domains if domain in delivery.domains]
        cancelled = await withdrawing.cancel_for(tx, (tenant, connection), domains, delivery.delivery, closed)
    if not cancelled:
        return DeliveryIgnored(reason="nothing runs for this ticket that people could withdraw")
    return DeliveryCancelled(cancelled=cancelled)


def _addressee(release: Release, tenant: str, connection: str) -> tuple[Tenant, Connection]:
    """Whom a delivery is for. An unknown tenant and an unknown connection look the same from outside."""
    whose = release.tenants.get(tenant)
    through = whose.connections.get(connection) if whose else None
    if whose is None or through is None:
        raise NotFound("There is no such place to deliver to.")
    return whose, through


async def _checked(means: Means, tenant: str, connection: str, request: Request) -> InboundEvent:
    """Have the gateway check a delivery. Strangers are not told why it was refused: the reason may show our set-up."""
    try:
        return await means.gateway.inbound(tenant, connection, await request.body(), dict(request.headers))
    except Denied as error:
        log.warning("delivery:refused", reason=error.message)
        raise Denied("This delivery was not found genuine.") from None
    except (InvalidInput, Retryable):
        raise
    except RegieError as error:
        log.exception("delivery:not_checked", kind=type(error).__name__)
        raise Unavailable("This delivery cannot be checked now.", after_s=NOT_CHECKED_AGAIN_S) from None


def _starts(definition: Definition, through: Connection, announced: Announced) -> bool:
    return any(
        (start.system, start.project, start.request_type)
        == (through.connector, announced.project, announced.request_type)
        for start in definition.starts(TicketStart)
    )


async def _start(
    tx: Transaction, engine: PostgresEngine, place: tuple[str, str], announced: Announced, definition: Definition
) -> StartedByDelivery:
    """Start one workflow for a ticket, once: the ticket is the trigger, whatever delivery tells about it."""
    tenant, connection = place
    request = StartRequest(
        tenant=tenant,
        workflow=definition.workflow,
        trigger_key=f"{connection}:{announced.event}:{announced.ticket}:{definition.workflow}",
        started_by=Actor(type="ticket_system", id=connection),
        ticket=announced.ticket,
    )
    started = await engine.start_in(tx, request)
    return StartedByDelivery(id=started.key.run, workflow=definition.workflow, is_new=started.is_new)


async def _note_refusal(
    tx: Transaction, place: tuple[str, str], domains: list[str], delivery: str, announced: Announced
) -> None:
    """Leave a trace in the logs of all domains that the delivery could have started something in."""
    tenant, connection = place
    detail: dict[str, JsonValue] = {
        "connection": connection,
        "delivery": delivery,
        "trigger": f"{connection}:{announced.event}:{announced.ticket}",
        "reason": "no_workflow",
    }
    fact = Fact(event=Event.TRIGGER_REFUSED, actor=Actor(type="ticket_system", id=connection), detail=detail)
    for domain in domains:
        await audit.append_outside(tx, tenant, domain, [fact])
