"""Errors on their way out: problem documents (RFC 9457). The one place that gives a class of error its status."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from regie.core.errors import (
    AuthFailed,
    Denied,
    FencedOut,
    InvalidInput,
    LimitReached,
    NotFound,
    OutcomeUnknown,
    RegieError,
    Retryable,
    Terminal,
    Throttled,
    WorldMoved,
)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
"""Seconds after which to try again, when the error does not know."""
_MOST_FAULTS = 10
_LONGEST_NAME = 60

log = structlog.get_logger(__name__)


class Unidentified(Denied):
    """Nobody we know asks: no credentials, or wrong ones."""


class OutOfReach(Denied):
    """Whoever asks is known, and may not do this there. The document says what is missing.

    Args:
        missing: The act and the place that would be needed, by name.
    """

    def __init__(self, message: str, *, missing: Mapping[str, str], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.missing = missing


class Conflict(Denied):
    """What is asked for does not fit how things stand by now."""


class TooLarge(InvalidInput):
    """The body has too many bytes."""


class WrongMedia(InvalidInput):
    """The body comes in a form that we do not read."""


class TooSlow(InvalidInput):
    """The body did not arrive in time."""


_STATUS: tuple[tuple[type[RegieError], HTTPStatus], ...] = (
    (Unidentified, HTTPStatus.UNAUTHORIZED),
    (Conflict, HTTPStatus.CONFLICT),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (WrongMedia, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (TooSlow, HTTPStatus.REQUEST_TIMEOUT),
    (InvalidInput, HTTPStatus.UNPROCESSABLE_ENTITY),
    (Denied, HTTPStatus.FORBIDDEN),
    (NotFound, HTTPStatus.NOT_FOUND),
    (WorldMoved, HTTPStatus.CONFLICT),
    (LimitReached, HTTPStatus.CONFLICT),
    (FencedOut, HTTPStatus.CONFLICT),
    (AuthFailed, HTTPStatus.BAD_GATEWAY),
    (Terminal, HTTPStatus.BAD_GATEWAY),
    (Throttled, HTTPStatus.TOO_MANY_REQUESTS),
    (Retryable, HTTPStatus.SERVICE_UNAVAILABLE),
    (OutcomeUnknown, HTTPStatus.SERVICE_UNAVAILABLE),
)
"""The first class that fits gives the status; an error of no class here is a fault of ours: 500."""

_HEADERS: dict[type[RegieError], dict[str, str]] = {
    Unidentified: {"WWW-Authenticate": 'Basic realm="Regie", charset="UTF-8", Bearer realm="Regie"'},
    # The rest of a body that we do not want is not read either.
    TooLarge: {"Connection": "close"},
    WrongMedia: {"Connection": "close"},
    TooSlow: {"Connection": "close"},
}


class Problem(BaseModel):
    """A problem document.

    Attributes:
        type: A URN of the kind.
        kind: Class name of the error: what programs decide by.
        missing: Of a refusal for lack of reach: the act and the place that would be needed.
    """

    model_config = ConfigDict(frozen=True)

    type: str
    title: str
    status: int
    detail: str
    kind: str
    hint: str | None = None
    missing: dict[str, str] | None = None


def status_of(error: RegieError) -> HTTPStatus:
    """The HTTP status of an error, by its class."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)


@dataclass(frozen=True, slots=True)
class Told:
    """An error as it is told to whoever asked, as a document or as a page."""

    status: HTTPStatus
    kind: str
    detail: str
    hint: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


BROKEN = Told(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "Broken",
    "Regie could not do this. What went wrong is in the log of the web process.",
)
"""When the fault is ours: what went wrong is in the log, not here."""


def told(error: RegieError) -> Told:
    """What an error tells. One that is a fault of ours is logged, and told without its details."""
    status = status_of(error)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("web:broke", kind=type(error).__name__, exc_info=error)
        return BROKEN
    headers = dict(_HEADERS.get(type(error), {}))
    if isinstance(error, Retryable | OutcomeUnknown):
        headers["Retry-After"] = str(RETRY_AFTER_S if error.after_s is None else max(1, math.ceil(error.after_s)))
    return Told(status, type(error).__name__, error.message, error.hint, headers)


def told_http(error: HTTPException, scope: Scope) -> Told:
    """What an error of the router tells. Of the methods of an address it names all (RFC 9110, 15.5.6)."""
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods_at(scope))
    detail = {
        HTTPStatus.NOT_FOUND: "There is nothing at this address.",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{scope['method']} is not possible here.",
    }.get(status, f"{status.phrase}.")
    return Told(status, status.phrase.title().replace(" ", ""), detail, headers=headers)


def _methods_at(scope: Scope) -> list[str]:
    """The methods that there are at an address; each may have a route of its own."""
    routes: Sequence[APIRoute] = scope["app"].state.every_route
    fitting = [route for route in routes if route.matches(scope)[0] is not Match.NONE]
    return sorted({method for route in fitting for method in route.methods or ()})


def problem(error: RegieError, **also: JsonValue) -> JSONResponse:
    """The document that tells an error. `also` are further members of it."""
    if isinstance(error, OutOfReach):
        also["missing"] = dict(error.missing)
    return document(told(error), **also)


def faults_of(error: ValidationError | RequestValidationError) -> str:
    """What is wrong with data that came in, field by field. What came in is not repeated: it may be a secret."""
    faults = error.errors()
    told = [f"{_where(fault['loc'])}{fault['msg']}" for fault in faults[:_MOST_FAULTS]]
    if len(faults) > _MOST_FAULTS:
        told.append(f"and {len(faults) - _MOST_FAULTS} more")
    return "; ".join(told)


def answer_errors(app: FastAPI) -> None:
    """Make every error of an app a problem document."""

    @app.exception_handler(RegieError)
    async def explained(_: Request, error: RegieError) -> JSONResponse:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    async def misunderstood(_: Request, error: RequestValidationError) -> JSONResponse:
        return problem(InvalidInput(f"This request cannot be used: {faults_of(error)}."))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        return document(told_http(error, request.scope))


def _where(path: tuple[int | str, ...]) -> str:
    names = [str(part)[:_LONGEST_NAME] for part in path]
    return f"{'.'.join(names)}: " if names else ""


def document(answer: Told, **also: JsonValue) -> JSONResponse:
    """The problem document of what is told. `also` are further members of it."""
    shown = Problem(
        type=f"urn:regie:error:{answer.kind}",
        title=answer.status.phrase,
        status=answer.status,
        detail=answer.detail,
        kind=answer.kind,
        hint=answer.hint,
    )
    content = {**also, **shown.model_dump(mode="json", exclude_none=True)}
    return JSONResponse(content, answer.status, headers=answer.headers, media_type=MEDIA_TYPE)
