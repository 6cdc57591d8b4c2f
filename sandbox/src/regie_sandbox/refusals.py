"""How each vendor says no. The routes raise `Refused`; the app turns it into the response it carries."""

import uuid
from typing import Any

from fastapi.responses import JSONResponse


class Refused(Exception):
    """Ends a request with a vendor's refusal."""

    def __init__(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status} {body}")
        self.status, self.body, self.headers = status, body, headers

    @property
    def response(self) -> JSONResponse:
        """The refusal as an answer."""
        return JSONResponse(self.body, self.status, self.headers)


def jira(
    status: int,
    *messages: str,
    errors: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> Refused:
    """An ErrorCollection, which is what Jira Cloud's REST v3 answers with."""
    return Refused(status, {"errorMessages": list(messages), "errors": errors or {}}, headers)


def graph(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Refused:
    """Graph's error object; the app adds date and request ids to `innerError`."""
    return Refused(status, {"error": {"code": code, "message": message, "innerError": {}}}, headers)


def graph_not_found(what: str) -> Refused:
    """The refusal for an object that does not exist, or a reference that is not there."""
    return graph(
        404,
        "Request_ResourceNotFound",
        f"Resource '{what}' does not exist or one of its queried reference-property objects are not present.",
    )


def graph_denied() -> Refused:
    """The refusal for a token without the permission."""
    return graph(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")


def slack(code: str, **more: Any) -> Refused:
    """What Slack answers instead of a status: 200, and that it is not ok."""
    return Refused(200, {"ok": False, "error": code, **more})


def entra(status: int, error: str, number: int, message: str, timestamp: str) -> Refused:
    """The token endpoint's error object, with the AADSTS number in text and list."""
    trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
    return Refused(
        status,
        {
            "error": error,
            "error_description": f"AADSTS{number}: {message} Trace ID: {trace} Correlation ID: {correlation} "
            f"Timestamp: {timestamp}",
            "error_codes": [number],
            "timestamp": timestamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={number}",
        },
    )
