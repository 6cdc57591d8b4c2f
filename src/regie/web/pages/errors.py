"""Errors as pages: what went wrong, in words, and what to do. Addresses of the API keep their problem documents."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote, urlencode

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Scope

from regie.core.errors import InvalidInput, RegieError
from regie.web.means import Means
from regie.web.pages.looking import LOOKING
from regie.web.pages.rendering import page
from regie.web.pages.visitor import SignInNeeded, Visitor, find_visitor
from regie.web.problems import Told, faults_of, told, told_http

_TITLES: dict[int, str] = {
    400: "That cannot be understood",
    401: "Please sign in",
    403: "This is not yours to do",
    404: "Nothing is here",
    405: "This cannot be done here",
    409: "Things have changed meanwhile",
    413: "That is too much",
    415: "That cannot be read",
    422: "That cannot be used",
    429: "Too many tries",
    500: "Something went wrong here",
    502: "Another system does not play along",
    503: "This does not work right now",
}
_ADVICE: dict[int, str] = {
    401: "Sign in, then try again.",
    403: "If you should be allowed to, ask whoever runs Regie here to give your account the role.",
    404: "Check the address. What you may not see is not shown either: are you signed in with the right account?",
    409: "Go back, look at how things stand now, and decide again.",
    422: "Go back and change what is named above.",
    429: "Wait a little, then try again.",
    500: "Nothing of this was kept. Tell whoever runs Regie here; the log of the web process says what it was.",
    503: "Wait a moment, then load the page again. Nothing was lost.",
}
"""What to do when the error itself has no hint."""


def is_page(scope: Scope) -> bool:
    """Whether an address is one of a page rather than of the API."""
    path: str = scope["path"]
    return not (path in {"/health", "/metrics", "/v1"} or path.startswith(("/v1/", "/scim/")))


def error_page(answer: Told, visitor: Visitor | None = None) -> Response:
    """The page that tells an error."""
    return page(
        "error.html",
        visitor,
        status=answer.status,
        headers={name: text for name, text in answer.headers.items() if name != "WWW-Authenticate"},
        code=int(answer.status),
        heading=_TITLES.get(answer.status, answer.status.phrase),
        detail=answer.detail,
        advice=answer.hint or _ADVICE.get(answer.status, ""),
    )


def sign_in_address(then: str) -> str:
    """Where to sign in and then go on."""
    return f"/sign-in?{urlencode({'next': then}, quote_via=quote)}"


def answer_errors(app: FastAPI) -> None:
    """Make the errors of pages pages. The handlers for the API must be there already."""
    of_api = dict(app.exception_handlers)

    async def explained(request: Request, error: Exception) -> Response:
        if not is_page(request.scope):
            response: Response = await of_api[_kind(error)](request, error)
            return response
        if isinstance(error, SignInNeeded) and request.method in LOOKING:
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(sign_in_address(request.url.path + query), HTTPStatus.SEE_OTHER)
        return error_page(_told(request, error), await _whoever(request))

    for kind in (RegieError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, explained)


def _kind(error: Exception) -> type[Exception]:
    return next(kind for kind in (RegieError, RequestValidationError, HTTPException) if isinstance(error, kind))


def _told(request: HTTPConnection, error: Exception) -> Told:
    match error:
        case RegieError():
            return told(error)
        case RequestValidationError():
            return told(InvalidInput(f"This request cannot be used: {faults_of(error)}."))
        case HTTPException():
            return told_http(error, request.scope)
        case _:
            raise error


async def _whoever(request: Request) -> Visitor | None:
    """Whoever has signed in, for the head of the page; an error on the way there is not worth another one."""
    means: Means = request.app.state.means
    try:
        return await find_visitor(means, request, is_seen=False)
    except RegieError:
        return None
