"""How a connection proves who it is: authentication for httpx2, made by `connections.py` as the manifest asks.

Secrets are looked up for each use. What the gateway remembers of one may be older than what its keeper has by now, so
one that the outside system turns down is looked up anew, and the request is made once more if there is a newer one.
"""

from __future__ import annotations

import asyncio
import base64
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

import httpx2
from pydantic import Field, ValidationError

from regie.core.errors import AuthFailed, Throttled, Unavailable
from regie.gateway.vault import SecretText
from regie.kit.session import Wild, read_capped, retry_after_s


class Secret(Protocol):
    """Looks one secret up where it is kept."""

    async def __call__(self, refused: SecretText | None = None) -> SecretText:
        """Its value.

        Args:
            refused: A value that the outside system has turned down; see `SecretBackend`.
        """
        ...


EARLY_S = 60.0
"""Seconds before its end at which a token counts as spent, so that none ends on its way to the outside system."""
TOKEN_TIMEOUT_S = 15.0
"""Seconds a token endpoint gets for its whole answer."""
LARGEST_TOKEN_ANSWER = 64 * 1024
"""Bytes of such an answer that are read; a token with hundreds of claims is far smaller."""
_REFUSED = frozenset({httpx2.codes.BAD_REQUEST, httpx2.codes.UNAUTHORIZED})
"""How a token endpoint says `invalid_client` (RFC 6749, 5.2)."""


class _Shown(httpx2.Auth, ABC):
    """A secret that is shown with each request, in a header."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    @abstractmethod
    def _header(self, secret: SecretText) -> str:
        """The header's value."""

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Add the header; after a 401 once more, if there is a newer secret. httpx2 calls this for each request."""
        shown = await self._secret()
        request.headers["Authorization"] = self._header(shown)
        response = yield request
        if response.status_code == httpx2.codes.UNAUTHORIZED:
            newer = await self._secret(shown)
            if not newer.is_same(shown):
                request.headers["Authorization"] = self._header(newer)
                yield request


class Basic(_Shown):
    """HTTP Basic (RFC 7617) with an account name and a secret."""

    def __init__(self, account: str, secret: Secret) -> None:
        super().__init__(secret)
        self._account = account

    def _header(self, secret: SecretText) -> str:
        return "Basic " + base64.b64encode(f"{self._account}:{secret.reveal()}".encode()).decode()


class Bearer(_Shown):
    """A token that the outside system has given out for good (RFC 6750)."""

    def _header(self, secret: SecretText) -> str:
        return f"Bearer {secret.reveal()}"


@dataclass(frozen=True, slots=True)
class _Token:
    value: SecretText
    spent_at: float


class _Given(Wild):
    """A token and the seconds that it lives (RFC 6749, 5.1 and A.12)."""

    access_token: str = Field(pattern=r"^[\x20-\x7E]+$")
    expires_in: float = Field(allow_inf_nan=False)


class ClientCredentials(httpx2.Auth):
    """OAuth 2.0 client credentials (RFC 6749, 4.4): one token for all requests of a connection.

    The token is fetched through a client of its own, within a time and a size of its own: whatever is wrong with a
    token endpoint must not look like a write whose outcome is unknown.

    Args:
        token_url: The token endpoint.
        scope: What the token is asked for.
        transport: How the token endpoint is reached; the network unless a test says otherwise.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        *,
        token_url: str,
        client_id: str,
        secret: Secret,
        scope: str,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token_url = token_url
        self._client_id = client_id
        self._secret = secret
        self._scope = scope
        self._transport = transport
        self._clock = clock
        self._token: _Token | None = None
        self._refreshing = asyncio.Lock()

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Add a token; after one 401 fetch another and try once more. httpx2 calls this for each request."""
        token = await self._fresh(refused=None)
        request.headers["Authorization"] = f"Bearer {token.value.reveal()}"
        response = yield request
        if response.status_code == httpx2.codes.UNAUTHORIZED:
            token = await self._fresh(refused=token)
            request.headers["Authorization"] = f"Bearer {token.value.reveal()}"
            yield request

    async def _fresh(self, *, refused: _Token | None) -> _Token:
        """The cached token, or a new one; whoever waited for somebody else's refresh uses that one."""
        async with self._refreshing:
            known = self._token
            if known is None or known is refused or self._clock() >= known.spent_at:
                self._token = known = await self._fetch()
            return known

    async def _fetch(self) -> _Token:
        shown = await self._secret()
        asked_at = self._clock()
        response, body = await self._ask(shown)
        if response.status_code in _REFUSED:
            newer = await self._secret(shown)
            if not newer.is_same(shown):
                asked_at = self._clock()
                response, body = await self._ask(newer)
        return self._read(response, body, asked_at)

    async def _ask(self, secret: SecretText) -> tuple[httpx2.Response, bytes | None]:
        """The endpoint's answer and its body, which is None when it is too large to be one."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": secret.reveal(),
            "scope": self._scope,
        }
        try:
            async with (
                asyncio.timeout(TOKEN_TIMEOUT_S),
                httpx2.AsyncClient(transport=self._transport, timeout=TOKEN_TIMEOUT_S, trust_env=False) as client,
                client.stream("POST", self._token_url, data=form) as response,
            ):
                return response, await read_capped(response, LARGEST_TOKEN_ANSWER)
        except (httpx2.HTTPError, TimeoutError):
            # The cause is left out: its request carries the secret.
            raise Unavailable(f"The token endpoint {self._token_url} does not answer.") from None

    def _read(self, response: httpx2.Response, body: bytes | None, asked_at: float) -> _Token:
        if response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
            raise Throttled(
                f"The token endpoint {self._token_url} asks us to slow down.",
                after_s=retry_after_s(response.headers),
            )
        if response.status_code >= httpx2.codes.INTERNAL_SERVER_ERROR:
            raise Unavailable(f"The token endpoint {self._token_url} answers {response.status_code}.")
        if response.status_code != httpx2.codes.OK:
            raise AuthFailed(
                f"The token endpoint {self._token_url} refuses client {self._client_id} ({response.status_code}).",
                hint="Check the connection's client id, secret and scope.",
            )
        try:
            given = _Given.model_validate_json(body or b"")
        except ValidationError:
            given = None
        if given is None:
            # Raised outside the handler: the validation error would carry the token.
            raise Unavailable(f"The token endpoint {self._token_url} answers with something else than a token.")
        return _Token(SecretText(given.access_token), asked_at + given.expires_in - EARLY_S)
