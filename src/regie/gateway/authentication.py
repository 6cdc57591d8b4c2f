"""How a connection proves who it is: authentication for httpx2, made by `connections.py` as the manifest asks.

Secrets are looked up for each use, so that a new value counts at once.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

import httpx2

from regie.core.errors import AuthFailed, Throttled, Unavailable
from regie.gateway.vault import SecretText
from regie.kit.session import retry_after_s

Secret = Callable[[], Awaitable[SecretText]]
"""Looks one secret up in the vault."""

EARLY_S = 60.0
"""Seconds before its end at which a token counts as spent, so that none ends on its way to the outside system."""
TOKEN_TIMEOUT_S = 15.0
"""Seconds a token endpoint gets to answer."""


class Basic(httpx2.Auth):
    """HTTP Basic (RFC 7617) with an account name and a secret."""

    def __init__(self, account: str, secret: Secret) -> None:
        self._account = account
        self._secret = secret

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Add the header; httpx2 calls this for each request."""
        pair = f"{self._account}:{(await self._secret()).reveal()}".encode()
        request.headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
        yield request


@dataclass(frozen=True, slots=True)
class _Token:
    value: SecretText
    spent_at: float


class ClientCredentials(httpx2.Auth):
    """OAuth 2.0 client credentials (RFC 6749, 4.4): one token for all requests of a connection.

    The token is fetched through a client of its own: a token endpoint that does not answer must not look like a write
    whose outcome is unknown.

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
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": (await self._secret()).reveal(),
            "scope": self._scope,
        }
        asked_at = self._clock()
        try:
            async with httpx2.AsyncClient(
                transport=self._transport, timeout=TOKEN_TIMEOUT_S, trust_env=False
            ) as client:
                response = await client.post(self._token_url, data=form)
        except httpx2.TransportError:
            # The cause is left out: its request carries the secret.
            raise Unavailable(f"The token endpoint {self._token_url} does not answer.") from None
        return self._read(response, asked_at)

    def _read(self, response: httpx2.Response, asked_at: float) -> _Token:
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
            answer = response.json()
            value, lifetime_s = str(answer["access_token"]), float(answer["expires_in"])
        except (ValueError, KeyError, TypeError):
            raise Unavailable(
                f"The token endpoint {self._token_url} answers with something else than a token."
            ) from None
        return _Token(SecretText(value), asked_at + lifetime_s - EARLY_S)
