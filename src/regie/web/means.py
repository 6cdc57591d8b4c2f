"""What every route works with, and how it gets at it: the means of the process, the caller, the body as a record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Header, Request
from pydantic import BaseModel, ConfigDict, ValidationError

from regie.core.block import Catalogue
from regie.core.errors import InvalidInput, Unavailable
from regie.core.release import Release
from regie.engine.postgres import PostgresEngine
from regie.gateway_client import GatewayClient
from regie.store import releases
from regie.store.database import Database, Transaction
from regie.web.caller import Caller
from regie.web.identify import OPERATOR_NAME, Doorkeeper, WaysIn
from regie.web.problems import WrongMedia, faults_of

Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Means:
    """Made once for a process.

    Attributes:
        metrics_token: The token with which metrics are read, as it is now.
        contract: The API as an OpenAPI document.
        stopping: Set when the process is about to end: whoever waits for something answers now.
    """

    database: Database
    gateway: GatewayClient
    engine: PostgresEngine
    doorkeeper: Doorkeeper
    ways_in: WaysIn
    catalogue: Catalogue
    metrics_token: Callable[[], str]
    contract: Callable[[], dict[str, Any]]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


def _means(request: Request) -> Means:
    means: Means = request.app.state.means
    return means


Having = Annotated[Means, Depends(_means)]


class Nothing(BaseModel):
    """A body that says nothing but that it was sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")


async def _caller(
    means: Having,
    authorization: Annotated[str | None, Header()] = None,
    regie_operator: Annotated[str | None, Header(json_schema_extra={"pattern": OPERATOR_NAME})] = None,
) -> Caller:
    return await means.doorkeeper.identify(authorization, regie_operator)


Asking = Annotated[Caller, Depends(_caller)]


class BodyOf(Generic[Body]):
    """A dependency that reads the body as a record, after it is known who sends it.

    Only `application/json` is read: a page of another site cannot send that without asking first, so it cannot use the
    sign-in that a browser remembers.
    """

    def __init__(self, model: type[Body]) -> None:
        self.model = model

    async def __call__(self, request: Request, _: Asking) -> Body:
        """Read it.

        Raises:
            WrongMedia, InvalidInput: It cannot be read as that record.
        """
        media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise WrongMedia("The body must be application/json.")
        try:
            return self.model.model_validate_json(await request.body())
        except ValidationError as error:
            raise InvalidInput(f"The body cannot be used: {faults_of(error)}.") from None


async def current_release(tx: Transaction) -> Release:
    """The release that new runs get.

    Raises:
        Unavailable: There is none yet: the same request can succeed once the operator has loaded one.
    """
    try:
        return await releases.current(tx)
    except InvalidInput as error:
        raise Unavailable(error.message, after_s=30, hint=error.hint) from error
