"""Calls to AWS, signed with the connection's credentials, answering in our words."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
)

from regie.core.errors import (
    AuthFailed,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Refused,
    RegieError,
    Terminal,
    Throttled,
    Unavailable,
)
from regie.kit.access import Calls
from regie.kit.keys import Material, Resolve
from regie.kit.paging import MOST_PAGES

_SAFE_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,80}")
_READS = ("Describe", "List", "Get", "Head", "Batch", "Test")
# Codes are the vendor's; what they share is how they are built: docs.aws.amazon.com, "Common errors" of each service.
_THROTTLES = frozenset(
    {"Throttling", "ThrottlingException", "ThrottledException", "RequestLimitExceeded", "TooManyRequestsException"}
    | {"RequestThrottled", "RequestThrottledException", "SlowDown", "PriorRequestNotComplete"}
)
_REFUSED_CREDENTIALS = frozenset(
    {"AccessDenied", "AccessDeniedException", "AuthFailure", "ExpiredToken", "ExpiredTokenException"}
    | {"IncompleteSignature", "InvalidAccessKeyId", "InvalidClientTokenId", "MissingAuthenticationToken"}
    | {"SignatureDoesNotMatch", "UnauthorizedOperation", "UnrecognizedClientException", "403", "401"}
)
_NOT_FOUND = ("NotFound", "NotFoundException", "NoSuch")

_TURNED_DOWN = frozenset(
    {"AuthFailure", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId"}
    | {"SignatureDoesNotMatch", "UnrecognizedClientException"}
)
"""The key itself is not accepted, so nothing was done; a newer one may be."""


class ClientFor(Protocol):
    """Gives the boto3 client of a service, with credentials, region, time limits, and no retries of its own."""

    async def __call__(self, service: str, permissions: tuple[str, ...] = (), refused: Any = None) -> Any:
        """A client.

        Args:
            permissions: What it will need.
            refused: A client whose key AWS has just turned down; the same one comes back if there is no newer key.
        """
        ...


class Aws:
    """One connection's way to AWS.

    Args:
        client_for: The gateway's.
        calls: Paces and watches; the manifest's endpoints are `/SERVICE/OPERATION`, such as `/acm/ImportCertificate`.
        resolve: Fills in what a call passes on unread.
        permissions: What the current capability needs.
    """

    def __init__(
        self, client_for: ClientFor, calls: Calls, resolve: Resolve, permissions: tuple[str, ...] = ()
    ) -> None:
        self._client_for = client_for
        self._calls = calls
        self._resolve = resolve
        self._permissions = permissions

    def needing(self, permissions: tuple[str, ...]) -> Aws:
        """The same, for a capability that needs these permissions."""
        return Aws(self._client_for, self._calls, self._resolve, permissions)

    async def call(self, service: str, operation: str, **arguments: Any) -> Mapping[str, Any]:
        """Call an operation once, and give its answer without the metadata; `request_id` is added.

        Args:
            service: As boto3 names it: `acm`, `route53`, `elbv2`.
            operation: As AWS names it: `ListCertificates`.
            arguments: As AWS names them; a `Material` stands for bytes of a kept certificate, and is left
                out where it has none: a certificate without intermediates.

        Raises:
            RegieError: One of AuthFailed, NotFound, Refused, Throttled, Unavailable, Terminal; and OutcomeUnknown when
                the operation writes and may have happened.
        """
        was_write = not operation.startswith(_READS)
        given = await self._filled_in(arguments)
        request = f"{self._calls.vendor}: {service} {operation}"
        async with self._calls.one("POST" if was_write else "GET", f"/{service}/{operation}", place=service):
            failure: RegieError
            try:
                answer = await self._answer(service, operation, given)
            except ClientError as error:
                failure = self._failure(error, request, was_write=was_write)
            except BotoCoreError as error:
                failure = _unanswered(error, request, was_write=was_write)
            else:
                metadata = answer.pop("ResponseMetadata", {})
                return {**answer, "request_id": str(metadata.get("RequestId", ""))}
            # Raised outside the handlers: their errors hold the request.
            raise failure

    async def _answer(self, service: str, operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Ask; once more with a newer key where AWS does not accept the one that we have."""
        client = await self._client_for(service, self._permissions)
        try:
            return await asyncio.to_thread(_ask, client, operation, given)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in _TURNED_DOWN:
                raise
            newer = await self._client_for(service, self._permissions, client)
            if newer is client:
                raise
        return await asyncio.to_thread(_ask, newer, operation, given)

    async def _filled_in(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        given = {}
        for name, value in arguments.items():
            found = await self._resolve(value) if isinstance(value, Material) else value
            if not isinstance(value, Material) or found:
                given[name] = found
        return given

    async def entries(
        self,
        service: str,
        operation: str,
        *,
        of: str,
        follow: Mapping[str, str],
        most_pages: int = MOST_PAGES,
        **arguments: Any,
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Every entry of a list, page by page.

        Args:
            of: The list in an answer.
            follow: Which of an answer's fields, by argument, say where the next page begins, such as
                `{"Marker": "NextMarker"}`. None of them in an answer means that it was the last page.
            most_pages: After so many the list is taken for endless.

        Raises:
            RegieError: What `call` raises, and Terminal: the pages go in a circle or do not end.
        """
        start: dict[str, Any] = {}
        begun: list[dict[str, Any]] = []
        for _ in range(most_pages):
            begun.append(start)
            answer = await self.call(service, operation, **{**arguments, **start})
            for each in answer.get(of, []):
                yield each
            start = {name: answer[field] for name, field in follow.items() if answer.get(field)}
            if not start:
                return
            if start in begun:
                raise Terminal(f"The pages of {service} {operation} go in a circle")
        raise Terminal(
            f"{service} {operation} has more than {most_pages} pages; a part of it is not taken for all of it"
        )

    def _failure(self, error: ClientError, request: str, *, was_write: bool) -> RegieError:
        """The one place where a code of AWS becomes one of our errors."""
        code = str(error.response.get("Error", {}).get("Code", ""))
        code = code if _SAFE_CODE.fullmatch(code) else ""
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        said = f"{request} answered {status} {code}".rstrip()
        if code in _THROTTLES or status == 429:
            return Throttled(said)
        if code in _REFUSED_CREDENTIALS or status in {401, 403}:
            needed = ", ".join(self._permissions)
            return AuthFailed(said, hint=f"does the connection have {needed}?" if needed else None)
        if code.endswith(_NOT_FOUND[:2]) or code.startswith(_NOT_FOUND[2]) or status == 404:
            return NotFound(said)
        if status >= 500:
            return OutcomeUnknown(said) if was_write else Unavailable(said)
        return Refused(said, status=status, code=code)


def _ask(client: Any, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    known: Mapping[str, str] = client.meta.method_to_api_mapping
    method = next((name for name, each in known.items() if each == operation), None)
    if method is None:
        raise Terminal(f"there is no operation {operation}")
    answer: dict[str, Any] = getattr(client, method)(**arguments)
    return answer


def _unanswered(error: BotoCoreError, request: str, *, was_write: bool) -> RegieError:
    if isinstance(error, ParamValidationError):
        return InvalidInput(f"{request} was asked with something that AWS does not take")
    if isinstance(error, NoCredentialsError):
        return AuthFailed(f"{request} has no credentials")
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return Unavailable(f"{request} could not connect")
    if isinstance(error, HTTPClientError):
        return OutcomeUnknown(f"{request} got no answer") if was_write else Unavailable(f"{request} got no answer")
    return Terminal(f"{request} could not be made: {type(error).__name__}")
