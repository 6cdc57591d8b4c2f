"""Events from outside: a program tells what has happened; runs that wait for it go on, workflows that want it start."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response, status
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from regie.core.errors import InvalidInput
from regie.core.event_starts import OF_A_RUN
from regie.core.outside_event import OutsideEvent
from regie.core.reach import Act
from regie.web.answers import EventTaken
from regie.web.means import Asking, BodyOf, Having
from regie.web.problems import faults_of

router = APIRouter(prefix="/v1/events")


class TellEvent(BaseModel):
    """An event to tell. `event` is its name, `noun.verb`; `data` are its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str = Field(max_length=100)
    domain: str = Field(max_length=100)
    event: str = Field(max_length=200)
    data: dict[str, JsonValue] = {}


@router.post(
    "",
    status_code=status.HTTP_202_ACCEPTED,
    responses={200: {"model": EventTaken, "description": "It was there already"}},
)
async def tell_event(
    means: Having,
    caller: Asking,
    told: Annotated[TellEvent, Depends(BodyOf(TellEvent))],
    response: Response,
    idempotency_key: Annotated[str, Header(min_length=1, max_length=200)],
) -> EventTaken:
    """Take an event; the `Idempotency-Key` is its id, and the same one in the same domain is the same event."""
    caller.require(Act.TELL, told.tenant, told.domain)
    if idempotency_key.startswith(OF_A_RUN):
        raise InvalidInput(f"An event's id does not begin with {OF_A_RUN}: so begin those of events of runs.")
    try:
        event = OutsideEvent(
            tenant=told.tenant, domain=told.domain, id=idempotency_key, name=told.event, data=told.data
        )
    except ValidationError as error:
        raise InvalidInput(f"This event cannot be used: {faults_of(error)}.") from None
    is_new = await means.engine.publish(event, caller.actor)
    if not is_new:
        response.status_code = status.HTTP_200_OK
    return EventTaken(id=event.id, tenant=event.tenant, domain=event.domain, event=event.name, is_new=is_new)
