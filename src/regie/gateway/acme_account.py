"""The account at an ACME authority that a connection stands for: every request signed with its key (RFC 8555, 6).

A connector writes plain JSON; here it is wrapped, with a nonce of the authority, under the account's key. The key is
made when it is first needed and never leaves the vault and this process.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

import httpx2
from acme import jws
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.json_util import decode_b64jose, encode_b64jose
from josepy.jwa import ES256
from josepy.jwk import JWKEC

from regie.core.errors import AuthFailed, Throttled, Unavailable
from regie.gateway.vault import SecretText
from regie.kit.session import retry_after_s

_PROBLEM = "urn:ietf:params:acme:error:"
_SIGNED = "application/jose+json"
_OF_THE_BODY = {"content-length", "content-type", "transfer-encoding"}
_TIMEOUT = httpx2.Timeout(15.0).as_dict()
NONCE_TRIES = 10
"""Requests sent again because the authority did not like the nonce; it may have forgotten those that we have."""
MOST_NONCES = 20
"""Nonces kept for later; an authority gives one with each answer."""


@dataclass(frozen=True, slots=True)
class Key:
    """An account key, ready to sign."""

    signer: JWKEC
    thumbprint: str


class AccountKey:
    """Looks the account's key up, and has it made the first time.

    Args:
        secret: Gives the key as PEM, made if need be.
    """

    def __init__(self, secret: Callable[[], Awaitable[SecretText]]) -> None:
        self._secret = secret

    async def key(self) -> Key:
        """The key. Read each time, so that a clear one does not stay in memory."""
        pem = (await self._secret()).reveal().encode()
        try:
            loaded = serialization.load_pem_private_key(pem, password=None)
        except ValueError:
            raise AuthFailed("the account key in the vault is no private key") from None
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise AuthFailed("the account key in the vault is no elliptic curve key", hint="Remove it: one is made.")
        signer = JWKEC(key=loaded)
        return Key(signer, encode_b64jose(signer.thumbprint(hashes.SHA256)))


def new_account_key() -> str:
    """A fresh account key, as PEM."""
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


class AcmeAccount(httpx2.Auth):
    """Signs each POST of a connection with its account key; what is read with GET is open to all.

    A body becomes the payload, and none an empty payload, which is how an authority is asked (RFC 8555, 6.3). A request
    that the authority turns down for its nonce alone is sent again: it was not looked at. Nonces and the account are
    asked for through a client of its own: an authority that does not answer then has not been asked for anything.

    Args:
        directory: Address of the authority's directory.
        account: The key.
        contact: Address that the authority may write to; empty for none.
        transport: How the authority is reached.
    """

    def __init__(
        self, *, directory: str, account: AccountKey, contact: str, transport: httpx2.AsyncBaseTransport
    ) -> None:
        self._directory = directory
        self._account = account
        self._contact = contact
        self._transport = transport
        self._places: dict[str, str] = {}
        self._kid = ""
        self._nonces: deque[str] = deque(maxlen=MOST_NONCES)
        self._registering = asyncio.Lock()

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Send a request in the account's name; httpx2 calls this for each one."""
        if request.method != "POST":
            self._keep_nonce((yield request))
            return
        payload = await request.aread()
        for _ in range(NONCE_TRIES):
            kid = await self._registered()
            url = str(request.url)
            # Whoever asks about the account itself proves the key, not the account (RFC 8555, 7.3.1).
            named = None if url == await self._place("newAccount") else kid
            content = await self._signed(url, payload, nonce=await self._nonce(), kid=named)
            response = yield httpx2.Request(
                "POST",
                request.url,
                headers={
                    **{name: value for name, value in request.headers.items() if name not in _OF_THE_BODY},
                    "Content-Type": _SIGNED,
                },
                content=content,
                extensions=request.extensions,
            )
            self._keep_nonce(response)
            problem = await _problem_of(response)
            if problem == "accountDoesNotExist":
                # The authority has lost it: the same key opens it again.
                self._kid = "" if self._kid == kid else self._kid
            elif problem != "badNonce":
                return
        # Not one of them was looked at, so nothing has happened.
        raise Unavailable("The authority does not accept our requests: it knows neither its nonces nor our account.")

    async def _registered(self) -> str:
        """Address of the account; the authority gives the one that a key has already (RFC 8555, 7.3.1)."""
        async with self._registering:
            if not self._kid:
                asked = {
                    "termsOfServiceAgreed": True,
                    **({"contact": [f"mailto:{self._contact}"]} if self._contact else {}),
                }
                self._kid = await self._register(json.dumps(asked).encode())
            return self._kid

    async def _register(self, payload: bytes) -> str:
        place = await self._place("newAccount")
        for _ in range(NONCE_TRIES):
            content = await self._signed(place, payload, nonce=await self._nonce(), kid=None)
            answer = await self._ask("POST", place, content)
            self._keep_nonce(answer)
            problem = await _problem_of(answer)
            if problem == "badNonce":
                continue
            if answer.status_code == httpx2.codes.TOO_MANY_REQUESTS:
                raise Throttled("The authority opens no more accounts now.", after_s=retry_after_s(answer.headers))
            if answer.is_server_error:
                raise Unavailable(f"The authority answers {answer.status_code} to a new account.")
            if not answer.is_success or "location" not in answer.headers:
                raise AuthFailed(
                    f"The authority opens no account for us: {answer.status_code} {problem}".rstrip(),
                    hint="Check the contact address, and whether the authority wants to know its accounts beforehand.",
                )
            return answer.headers["location"]
        raise Unavailable("The authority accepts none of its own nonces.")

    async def _nonce(self) -> str:
        if not self._nonces:
            self._keep_nonce(await self._ask("HEAD", await self._place("newNonce")))
        try:
            return self._nonces.popleft()
        except IndexError:
            raise Unavailable("The authority gives no nonce.") from None

    async def _place(self, name: str) -> str:
        """Where the authority takes something, as its directory says."""
        if not self._places:
            answer = await self._ask("GET", self._directory)
            try:
                found = answer.json()
                self._places = {each: str(found[each]) for each in ("newNonce", "newAccount")}
            except (ValueError, KeyError, TypeError):
                raise Unavailable(f"{self._directory} is no directory of an authority.") from None
        return self._places[name]

    async def _ask(self, method: str, url: str, content: bytes | None = None) -> httpx2.Response:
        headers = {"Content-Type": _SIGNED} if content else {}
        request = httpx2.Request(method, url, headers=headers, content=content, extensions={"timeout": _TIMEOUT})
        try:
            answer = await self._transport.handle_async_request(request)
            await answer.aread()
        except httpx2.TransportError:
            raise Unavailable(f"The authority at {request.url.host} does not answer.") from None
        return answer

    async def _signed(self, url: str, payload: bytes, *, nonce: str, kid: str | None) -> bytes:
        key = (await self._account.key()).signer
        signed = jws.JWS.sign(payload, key=key, alg=ES256, nonce=decode_b64jose(nonce), url=url, kid=kid)
        written: str = signed.json_dumps()
        return written.encode()

    def _keep_nonce(self, response: httpx2.Response) -> None:
        if nonce := response.headers.get("replay-nonce"):
            self._nonces.append(nonce)


async def _problem_of(response: httpx2.Response) -> str:
    """The authority's word for what was wrong (RFC 8555, 6.7), without its prefix; empty where nothing was."""
    if response.is_success:
        return ""
    try:
        await response.aread()
        kind = str(response.json().get("type", ""))
    except (httpx2.HTTPError, ValueError, AttributeError):
        return ""
    found = kind.removeprefix(_PROBLEM)
    return found if found != kind and found.isalnum() else ""
