"""An authenticated HTTP session that answers in our words: every vendor's failure becomes one of `core.errors` here.

The gateway makes one per connection and hands it to the connector, which therefore never sees a secret or a retry.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

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
from regie.kit.rates import Method, Outgoing, Pace

LARGEST_BODY = 5 * 1024 * 1024
"""Bytes of an answer that are read, after decompression; a page of any API we use is far smaller."""

LONGEST_S = 120.0
"""Seconds for one request and its whole answer: whoever sends a byte now and then does not hold a step for ever."""

LONGEST_WAIT_S = 24 * 3600.0
"""Seconds: no vendor's quota window is longer than a day, so a longer `Retry-After` is a mistake and is cut."""

_REQUEST_ID_HEADERS = (
    "request-id",
    "atl-request-id",
    "atl-traceid",
    "x-arequestid",
    "x-request-id",
    "x-amzn-requestid",
    "x-slack-req-id",
)
_PEM_CHAIN = "application/pem-certificate-chain"
"""How an ACME authority gives a certificate (RFC 8555, 7.4.2)."""
_SAFE_ID = re.compile(r"[A-Za-z0-9_.:=/+-]{1,128}")
_SAFE_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,80}")
_HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair: Python has put the whole ones together."""
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)

Params = Mapping[str, str | int]


class Wild(BaseModel):
    """A vendor's JSON object as far as we read it. Unknown fields are the vendor's business and are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")


Shape = TypeVar("Shape", bound=Wild)


def places_of(error: ValidationError) -> str:
    """Where a body has another shape than ours, without a word of what stands there."""
    return ", ".join(sorted({".".join(map(str, each["loc"])) or "the body" for each in error.errors()}))


def read_json(text: str | bytes) -> JsonValue:
    """Read the JSON of an outside system. Half a character, as of an emoji that was cut off, is replaced in its texts.

    Raises:
        ValueError: It is none.
        RecursionError: It is nested too deeply.
    """
    found: JsonValue = json.loads(text)
    written = json.dumps(found, ensure_ascii=False)
    # JSON may carry it escaped. Nothing that we send or store can.
    return json.loads(_HALF.sub("\N{REPLACEMENT CHARACTER}", written)) if _HALF.search(written) else found


def segment(text: str) -> str:
    """Write one part of a path so that it stays one part, whatever a person typed.

    Raises:
        InvalidInput: The text is empty or would climb in the path.
    """
    if text in {"", ".", ".."}:
        raise InvalidInput(f"{text!r} cannot name anything in an address")
    return quote(text, safe="")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the vendor said.

    Attributes:
        status: HTTP status: 2xx, or one that the caller named.
        json: The body; None when it was empty, a text where the vendor says that it is a PEM chain.
        headers: By lower-case name.
        request_id: The vendor's own id of the request, empty when it gave none.
        request: Method and path, for error messages.
        was_write: Whether the request may have changed something.
        next_page: Where a list goes on, if its `Link` header says so (RFC 8288); empty at its end.
    """

    status: int
    json: JsonValue
    headers: Mapping[str, str]
    request_id: str
    request: str
    was_write: bool
    next_page: str = ""

    def read_as(self, shape: type[Shape]) -> Shape:
        """Read the body as a shape.

        Raises:
            OutcomeUnknown: The body of a write has another shape, so nobody can say what was done.
            Terminal: The body of a read has another shape: the vendor's contract is not the one we know.
        """
        try:
            return shape.model_validate(self.json)
        except ValidationError as error:
            places = places_of(error)
        # Raised outside the handler: the validation error would carry the vendor's text into tracebacks.
        message = f"The answer to {self.request} has a shape we do not know: look at {places}"
        raise OutcomeUnknown(message) if self.was_write else Terminal(message)


class _Leaving(httpx2.Auth):
    """A client's own authentication; knows whether the request that it is for has left, and was not turned down.

    It may take its time over tokens and secrets before: whatever goes wrong then, nothing has happened yet.
    """

    def __init__(self, own: httpx2.Auth | None) -> None:
        self._own = own or httpx2.Auth()
        self.has_left = False

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Pass on what the authentication sends and gets."""
        async with aclosing(self._own.async_auth_flow(request)) as flow:
            outgoing = await anext(flow)
            while True:
                self.has_left = True
                response = yield outgoing
                self.has_left = response.status_code != httpx2.codes.UNAUTHORIZED
                try:
                    outgoing = await flow.asend(response)
                except StopAsyncIteration:
                    return


class Session:
    """One connection's way to its vendor.

    Args:
        client: Has the base address, the authentication and the time limits; follows no redirects.
        vendor: The vendor's name for error messages.
        permissions: What the current capability needs; named in the hint of a 403.
        pace: Keeps it within what the vendor allows; as fast as it goes when nothing is said.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient,
        *,
        vendor: str,
        permissions: tuple[str, ...] = (),
        pace: Pace | None = None,
    ) -> None:
        self._client = client
        self._vendor = vendor
        self._permissions = permissions
        self._pace = pace

    @property
    def address(self) -> str:
        """The base address, without a slash at its end."""
        return str(self._client.base_url).rstrip("/")

    def needing(self, permissions: tuple[str, ...]) -> Session:
        """The same session, for a capability that needs these permissions of the vendor."""
        return Session(self._client, vendor=self._vendor, permissions=permissions, pace=self._pace)

    def paced(self, pace: Pace) -> Session:
        """The same session, kept within what the vendor allows."""
        return Session(self._client, vendor=self._vendor, permissions=self._permissions, pace=pace)

    async def get(
        self,
        path: str,
        *,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
    ) -> Answer:
        """Read. `path` is relative to the address, or a whole URL at the same host (a paging link).

        Args:
            path: Relative to the address; parts that come from outside go through `segment`.
            params: Query parameters.
            headers: Further headers.
            accept: Statuses besides 2xx that are an answer rather than a failure.

        Raises:
            RegieError: One of AuthFailed, NotFound, Refused, Throttled, Unavailable, Terminal.
        """
        return await self._send("GET", path, params=params, headers=headers, accept=accept)

    async def query(self, path: str, *, json: JsonValue = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Read with POST, as ACME (RFC 8555, 6.3) and other vendors want it; raises what `get` raises."""
        return await self._send("POST", path, params=None, body=json, headers=headers, accept=(), was_write=False)

    async def post(
        self,
        path: str,
        *,
        params: Params | None = None,
        json: JsonValue = None,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
    ) -> Answer:
        """Write with POST; raises what `get` raises, and OutcomeUnknown when the write may have happened."""
        return await self._send("POST", path, params=params, body=json, headers=headers, accept=accept)

    async def patch(
        self,
        path: str,
        *,
        params: Params | None = None,
        json: JsonValue = None,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
    ) -> Answer:
        """Write with PATCH; raises what `post` raises."""
        return await self._send("PATCH", path, params=params, body=json, headers=headers, accept=accept)

    async def put(
        self,
        path: str,
        *,
        params: Params | None = None,
        json: JsonValue = None,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
    ) -> Answer:
        """Write with PUT; raises what `post` raises."""
        return await self._send("PUT", path, params=params, body=json, headers=headers, accept=accept)

    async def delete(
        self,
        path: str,
        *,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
    ) -> Answer:
        """Write with DELETE; raises what `post` raises."""
        return await self._send("DELETE", path, params=params, headers=headers, accept=accept)

    async def _send(
        self,
        method: Method,
        path: str,
        *,
        params: Params | None,
        headers: Mapping[str, str] | None,
        accept: Collection[int],
        body: JsonValue = None,
        was_write: bool | None = None,
    ) -> Answer:
        """Send one request and turn whatever happens into an answer or one of our errors."""
        if was_write is None:
            was_write = method != "GET"
        url = self._address_of(path)
        place = url.raw_path.partition(b"?")[0].decode("ascii")
        request = f"{self._vendor}: {method} {place}"
        outgoing = self._outgoing(method, url, params, body) if self._pace else None
        urgency = await self._pace.enter(outgoing) if self._pace and outgoing else {}
        leaving = _Leaving(self._client.auth)
        failure: RegieError
        try:
            async with (
                asyncio.timeout(LONGEST_S),
                self._client.stream(
                    method,
                    url,
                    # The query of a paging link must survive: an empty mapping would replace it.
                    params=dict(params) if params else None,
                    # Escaped, so that half a surrogate pair in somebody's text cannot break the encoding.
                    content=None if body is None else json.dumps(body, allow_nan=False),
                    headers={
                        **({} if body is None else {"Content-Type": "application/json"}),
                        **urgency,
                        **(headers or {}),
                    },
                    auth=leaving,
                    follow_redirects=False,
                ) as response,
            ):
                raw = await read_capped(response, LARGEST_BODY)
            if self._pace and outgoing:
                await self._pace.heard(outgoing, response.status_code, _lower(response.headers))
            return self._answer(response, raw, request, accept, was_write=was_write)
        except _NOT_SENT:
            failure = Unavailable(f"{request} could not connect")
        except (httpx2.HTTPError, TimeoutError) as error:
            is_late = isinstance(error, httpx2.TimeoutException | TimeoutError)
            what = "timed out" if is_late else "lost its connection"
            kind = OutcomeUnknown if was_write and leaving.has_left else Unavailable
            failure = kind(f"{request} {what}")
        # Raised outside the handlers: an httpx2 error holds the request, and with it the credentials.
        raise failure

    def _address_of(self, path: str) -> httpx2.URL:
        """A path as an address, still quoted.

        Raises:
            Terminal: It is a URL at another host: our credentials would go there. Or no address at all.
        """
        try:
            url = httpx2.URL(path)
        except httpx2.InvalidURL:
            raise Terminal(f"{self._vendor} points to something that is no address") from None
        home = self._client.base_url
        if url.is_absolute_url and (url.scheme, url.host, url.port) != (home.scheme, home.host, home.port):
            raise Terminal(f"{self._vendor} points to another host than its own; nothing was sent there")
        return url

    def _outgoing(self, method: Method, url: httpx2.URL, params: Params | None, body: JsonValue) -> Outgoing:
        """A request as its limits see it; a paging link brings its query with it."""
        home = self._client.base_url.raw_path.partition(b"?")[0].decode("ascii").rstrip("/")
        place = url.raw_path.partition(b"?")[0].decode("ascii")
        if url.is_absolute_url:
            place = place.removeprefix(home)
        query = {**url.params, **{name: str(value) for name, value in (params or {}).items()}}
        return Outgoing(method, place, query, body)

    def _answer(
        self, response: httpx2.Response, raw: bytes | None, request: str, accept: Collection[int], *, was_write: bool
    ) -> Answer:
        """Judge a status and a body; `raw` is None when the body was too large to read."""
        status = response.status_code
        body, is_readable = _parse(raw, response.headers.get("content-type", ""))
        if not (response.is_success or status in accept):
            raise self._failure(response, body, request, was_write=was_write)
        if response.is_success and not is_readable:
            message = f"{request} answered {status} with a body that cannot be read"
            raise OutcomeUnknown(message) if was_write else Unavailable(message)
        return Answer(
            status=status,
            json=body,
            headers=_lower(response.headers),
            request_id=_request_id(response.headers),
            request=request,
            was_write=was_write,
            next_page=response.links.get("next", {}).get("url", ""),
        )

    def _failure(self, response: httpx2.Response, body: JsonValue, request: str, *, was_write: bool) -> RegieError:  # noqa: PLR0911  a table
        """The one place where a vendor's status becomes one of our errors."""
        status = response.status_code
        after_s = retry_after_s(response.headers)
        said = f"{request} answered {status}"
        if status == 401:
            return AuthFailed(said, hint=f"{self._vendor} does not accept the connection's credentials: renew them")
        if status == 403:
            needed = ", ".join(self._permissions)
            return AuthFailed(said, hint=f"does the connection have {needed}?" if needed else None)
        if status in {404, 410}:
            return NotFound(said)
        if status == 429:
            return Throttled(said, after_s=after_s)
        if status == 408 or status >= 500:
            # Also with a Retry-After: no vendor promises that nothing was done before it asked for time.
            kind = OutcomeUnknown if was_write else Unavailable
            return kind(said, after_s=after_s)
        if status < 400:
            # A redirect of a write may come after the deed (303); of a read it is a wrong address.
            message = f"{said}, a redirect"
            hint = "is the address of the connection the vendor's API?"
            return OutcomeUnknown(message, hint=hint) if was_write else Terminal(message, hint=hint)
        code = _code(body)
        return Refused(f"{said} {code}".rstrip(), status=status, code=code)


def _lower(headers: httpx2.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


async def read_capped(response: httpx2.Response, largest: int) -> bytes | None:
    """The decompressed body, or None once it is larger than so many bytes."""
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > largest:
            return None
        parts.append(part)
    return b"".join(parts)


def _parse(raw: bytes | None, media_type: str) -> tuple[JsonValue, bool]:
    """The JSON or PEM in a body and whether the body could be read; an empty body is a readable None."""
    if raw is None:
        return None, False
    if media_type.partition(";")[0].strip().lower() == _PEM_CHAIN and raw.isascii():
        return raw.decode("ascii"), True
    if not raw.strip():
        return None, True
    try:
        return read_json(raw), True
    except (ValueError, RecursionError):
        return None, False


def _request_id(headers: httpx2.Headers) -> str:
    """The vendor's id of the request, if it is one that may be written down."""
    found = next((headers[name] for name in _REQUEST_ID_HEADERS if name in headers), "")
    return found if _SAFE_ID.fullmatch(found) else ""


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as `Retry-After` says: whole seconds or a date (RFC 9110, 10.2.3). Names in lower case.

    A date is compared with the answer's own `Date`, so that nobody's clock but the vendor's counts; without one the
    vendor's wish cannot be known.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        # Nine digits are 31 years; more would only make the number slow to read.
        return LONGEST_WAIT_S if len(text) > 9 else min(float(text), LONGEST_WAIT_S)
    until, now = _http_date(text), _http_date(headers.get("date", ""))
    if until is None or now is None:
        return None
    return min(max((until - now).total_seconds(), 0.0), LONGEST_WAIT_S)


def _http_date(text: str) -> datetime | None:
    """A date as HTTP writes it (always in GMT), or None."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo else None


def _code(body: JsonValue) -> str:
    """The vendor's code for a refusal: Graph's `error.code`, OAuth's `error`, or the fields Jira names in `errors`.

    Of a problem document (RFC 9457) it is the `type`, which for ACME is a URN.

    Only text that looks like a code is repeated, for messages may quote what a person typed.
    """
    if not isinstance(body, dict):
        return ""
    error, fields = body.get("error"), body.get("errors")
    found: list[object] = [error.get("code") if isinstance(error, dict) else error, body.get("code"), body.get("type")]
    if isinstance(fields, dict):
        found.extend(fields)
    return ",".join(each for each in found if isinstance(each, str) and _SAFE_CODE.fullmatch(each))[:200]
