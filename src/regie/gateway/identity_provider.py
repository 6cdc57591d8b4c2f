"""The identity provider that people sign in with: OpenID Connect, authorization code with PKCE.

The web sends browsers there and brings back what they return with; this module alone speaks with the provider and holds
the client's secret. Sources: OpenID Connect Core 1.0 (3.1.3.7: what of an ID token is checked) and Discovery 1.0,
RFC 7636 (PKCE), RFC 8176 (methods of signing in), RFC 9700 (security of OAuth 2.0).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx2
import structlog
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, InvalidKeyIdError, JoseError, MissingClaimError
from joserfc.jwk import KeySet
from pydantic import BaseModel, ConfigDict, ValidationError

from regie.core.errors import AuthFailed, Denied, InvalidInput, RegieError, Unavailable
from regie.gateway.authentication import Secret
from regie.gateway_client import AddressReply, IdentityQuestion, IdentityReply, SignInQuestion, SignOutQuestion

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
"""Signatures that are accepted: with a public key, never with a shared secret, never none (RFC 8725, 3.1)."""
SKEW_S = 60.0
"""How far the provider's clock may be from ours."""
KNOWN_FOR_S = 3600.0
"""Seconds for which the provider's description and keys are not read again."""
KEYS_EVERY_S = 30.0
"""Least seconds between two readings of its keys because a token was signed with one that is not known."""
TIMEOUT_S = 15.0
LARGEST_ANSWER = 1024 * 1024
SECOND_FACTORS = frozenset({"otp", "hwk", "swk", "sms", "tel", "face", "fpt", "iris", "retina", "vbm", "sc", "pop"})
FIRST_FACTORS = frozenset({"pwd", "pin", "kba"})
"""Methods of RFC 8176, 2: one of each is more than one factor, as `mfa` says itself."""
_CODES = frozenset({"invalid_grant", "invalid_request", "access_denied", "invalid_scope", "unauthorized_client"})
"""Refusals that are about one sign-in (RFC 6749, 5.2); any other means that we are set up wrongly."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """How the provider is reached, and where it says what.

    Attributes:
        issuer: Its name, which is the address that its description stands under.
        address_claim: The claim that holds somebody's e-mail address, as tenants' files and tickets have it.
        groups_claim: The claim that holds the names of their groups.
    """

    issuer: str
    client_id: str
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    address_claim: str = "email"
    groups_claim: str = "groups"


class _Description(BaseModel):
    """What a provider says of itself (Discovery 1.0, 3), as far as it is used."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str = ""
    end_session_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


@dataclass(slots=True)
class _Known:
    """The provider as it was read last."""

    description: _Description
    keys: KeySet
    read_at_s: float


class IdentityProvider:
    """One provider, of the whole installation.

    Args:
        secret: Looks the client's secret up; none for a public client.
        transport: How it is reached; over the network when nothing is said.
        now: Seconds of the epoch.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        settings: ProviderSettings,
        secret: Secret | None = None,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
        now: Callable[[], float] = time.time,  # noqa: TID251  tokens carry times of the wall clock
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _require_safe(settings.issuer, settings.issuer)
        self._settings = settings
        self._secret = secret
        self._transport = transport
        self._now = now
        self._clock = clock
        self._known: _Known | None = None
        self._reading = asyncio.Lock()

    async def address(self, asked: SignInQuestion) -> AddressReply:
        """Where a browser is sent to sign in.

        Raises:
            Unavailable: The provider does not answer.
            AuthFailed: What it says of itself cannot be used.
        """
        known = await self._read()
        async with await self._client(known, asked.redirect_uri) as client:
            address, _ = client.create_authorization_url(
                known.description.authorization_endpoint,
                state=asked.state,
                nonce=asked.nonce,
                code_verifier=asked.verifier,
            )
        return AddressReply(address=address)

    async def end_address(self, asked: SignOutQuestion) -> AddressReply:
        """Where a browser is sent to sign out at the provider (RP-Initiated Logout 1.0); empty without a page.

        Raises:
            Unavailable: The provider does not answer.
            AuthFailed: What it says of itself cannot be used.
        """
        where = (await self._read()).description.end_session_endpoint
        query = urlencode({"client_id": self._settings.client_id, "post_logout_redirect_uri": asked.back_to})
        return AddressReply(address=f"{where}{'&' if '?' in where else '?'}{query}" if where else "")

    async def identity(self, asked: IdentityQuestion) -> IdentityReply:
        """Who has signed in, by the code that a browser came back with. A code counts once.

        Raises:
            Denied: The provider does not know the code, or what it vouches for is not for us, not for this sign-in,
                not of now, or not enough.
            Unavailable: The provider does not answer.
            AuthFailed: It does not know us.
        """
        known = await self._read()
        if asked.issuer is not None and asked.issuer != known.description.issuer:
            raise Denied("The answer comes from another identity provider (RFC 9207).")
        try:
            async with await self._client(known, asked.redirect_uri) as client:
                token = await client.fetch_token(
                    known.description.token_endpoint,
                    code=asked.code,
                    code_verifier=asked.verifier,
                    grant_type="authorization_code",
                )
                claims = await self.read_id_token(str(token.get("id_token", "")), asked.nonce)
                more = await self._userinfo(client, known, claims)
        except AuthlibBaseError as error:
            raise _refusal(str(error.error)) from None
        except (httpx2.HTTPError, ValueError) as error:
            raise Unavailable(f"The identity provider gives no token ({type(error).__name__}).") from None
        return self._reply(claims, {**more, **claims})

    async def read_id_token(self, written: str, nonce: str) -> dict[str, Any]:
        """The claims of an ID token, once everything about it is right.

        Raises:
            Denied: Its signature, issuer, audience, nonce or time is not what it must be; the message says which.
        """
        known = await self._read()
        try:
            try:
                token = jwt.decode(written, known.keys, algorithms=ALGORITHMS)
            except InvalidKeyIdError:
                known = await self._read(with_new_keys=True)
                token = jwt.decode(written, known.keys, algorithms=ALGORITHMS)
            claims = CodeIDToken(
                token.claims,
                token.header,
                {
                    "iss": {"essential": True, "value": self._settings.issuer},
                    "aud": {"essential": True, "value": self._settings.client_id},
                    "sub": {"essential": True},
                },
                {"nonce": nonce, "client_id": self._settings.client_id},
            )
            claims.validate(now=int(self._now()), leeway=int(SKEW_S))
        except (JoseError, ValueError, TypeError) as error:
            raise Denied(f"The identity provider's token does not count: {_fault(error)}.") from None
        return dict(token.claims)

    async def _userinfo(self, client: AsyncOAuth2Client, known: _Known, claims: dict[str, Any]) -> dict[str, Any]:
        """What the ID token leaves out and the provider tells when asked (Core 1.0, 5.3); of the same person only."""
        wanted = {self._settings.address_claim, self._settings.groups_claim}
        if wanted <= claims.keys() or not known.description.userinfo_endpoint:
            return {}
        answer = await client.get(known.description.userinfo_endpoint)
        if not answer.is_success:
            return {}
        told = answer.json()
        if not isinstance(told, dict) or told.get("sub") != claims["sub"]:
            raise Denied("The identity provider tells of somebody else than who has signed in.")
        return told

    def _reply(self, claims: dict[str, Any], told: dict[str, Any]) -> IdentityReply:
        address = told.get(self._settings.address_claim)
        if not isinstance(address, str) or "@" not in address or _is_unverified(told):
            raise Denied(
                f"The identity provider tells no verified address in the claim `{self._settings.address_claim}`.",
                hint="Ask whoever runs Regie here to set REGIE_OIDC_ADDRESS_CLAIM, or the provider's claims.",
            )
        groups = told.get(self._settings.groups_claim, ())
        if self._settings.groups_claim in told.get("_claim_names", {}):
            # Entra ID leaves them out when somebody has more than 200: no groups, no roles.
            _log.warning("identity:groups_left_out", claim=self._settings.groups_claim)
        amr = _texts(claims.get("amr"))
        auth_time = claims.get("auth_time")
        is_multiple = "mfa" in amr or bool(FIRST_FACTORS & set(amr) and SECOND_FACTORS & set(amr))
        mfa_age_s = max(0.0, self._now() - auth_time) if is_multiple and isinstance(auth_time, int) else None
        name = told.get("name")
        return IdentityReply(
            issuer=self._settings.issuer,
            subject=str(claims["sub"]),
            address=address.strip().lower(),
            display_name=name if isinstance(name, str) and name.strip() else address,
            groups=_texts(groups),
            amr=amr,
            mfa_age_s=mfa_age_s,
        )

    async def _client(self, known: _Known, redirect_uri: str) -> AsyncOAuth2Client:
        """One talk. How we authenticate follows from what the provider takes; a secret goes nowhere else."""
        secret = (await self._secret()).reveal() if self._secret is not None else None
        supported = known.description.token_endpoint_auth_methods_supported
        by_post = secret is not None and "client_secret_basic" not in supported and "client_secret_post" in supported
        return AsyncOAuth2Client(
            client_id=self._settings.client_id,
            client_secret=secret,
            token_endpoint_auth_method="client_secret_post" if by_post else None,
            scope=" ".join(self._settings.scopes),
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            transport=self._transport,
            timeout=TIMEOUT_S,
            trust_env=False,
        )

    async def _read(self, *, with_new_keys: bool = False) -> _Known:
        """The provider's description and keys; read anew when they are old, or too old for a key that is not known."""
        async with self._reading:
            known = self._known
            age_s = self._clock() - known.read_at_s if known is not None else 0.0
            if known is None or age_s >= (KEYS_EVERY_S if with_new_keys else KNOWN_FOR_S):
                known = self._known = await self._fetch()
            return known

    async def _fetch(self) -> _Known:
        issuer = self._settings.issuer
        where = issuer.rstrip("/") + "/.well-known/openid-configuration"
        try:
            async with httpx2.AsyncClient(transport=self._transport, timeout=TIMEOUT_S, trust_env=False) as http:
                description = _Description.model_validate_json(await _content(http, where))
                if description.issuer != issuer:
                    raise AuthFailed(
                        f"The identity provider at {issuer} calls itself otherwise.",
                        hint="Set REGIE_OIDC_ISSUER to exactly the `issuer` of its description.",
                    )
                for address in (
                    description.authorization_endpoint,
                    description.token_endpoint,
                    description.jwks_uri,
                    description.userinfo_endpoint or issuer,
                ):
                    _require_safe(address, issuer)
                keys = KeySet.import_key_set(_json(await _content(http, description.jwks_uri)))
        except httpx2.HTTPError as error:
            raise Unavailable(f"The identity provider does not answer ({type(error).__name__}).") from None
        except (ValidationError, JoseError, KeyError, TypeError, ValueError):
            raise AuthFailed(f"What the identity provider at {issuer} says of itself cannot be used.") from None
        return _Known(description, keys, self._clock())


async def _content(http: httpx2.AsyncClient, address: str) -> bytes:
    """A document, within bounds."""
    async with http.stream("GET", address) as answer:
        answer.raise_for_status()
        content = bytearray()
        async for part in answer.aiter_bytes():
            content += part
            if len(content) > LARGEST_ANSWER:
                raise ValueError("too large")
    return bytes(content)


def _json(content: bytes) -> Any:
    return httpx2.Response(200, content=content).json()


def _require_safe(address: str, issuer: str) -> None:
    """Make sure that an address of the provider is spoken to over TLS; on this machine itself it need not be.

    Raises:
        InvalidInput: It is not.
    """
    parts, whose = urlsplit(address), urlsplit(issuer)
    is_here = whose.hostname in {"127.0.0.1", "::1", "localhost"} and parts.hostname == whose.hostname
    if parts.scheme != "https" and not (is_here and parts.scheme == "http"):
        raise InvalidInput(f"The identity provider's address {address} is not https.")


def _texts(value: object) -> tuple[str, ...]:
    """A claim that should be a list of texts."""
    if isinstance(value, str):
        return (value,)
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list | tuple) else ()


def _refusal(code: str) -> RegieError:
    """What the provider's refusal means; a code that is none of the protocol's is not repeated."""
    if code in _CODES:
        return Denied(
            f"The identity provider refuses this sign-in: {code}.",
            hint="An answer counts once and only for a short time: begin again.",
        )
    return AuthFailed(
        "The identity provider does not take our client.",
        hint="Compare REGIE_OIDC_CLIENT_ID, the client's secret and its redirect address with what the provider has.",
    )


def _fault(error: Exception) -> str:
    """Why a token does not count, without repeating any of it."""
    claim = str(getattr(error, "claim", "") or "")
    named = {
        "aud": "it is for another audience",
        "azp": "it is for another audience",
        "iss": "it is another issuer's",
        "nonce": "it belongs to another sign-in",
        "iat": "it comes from the future: compare the clocks",
        "nbf": "it counts from a later time only: compare the clocks",
        "at_hash": "it belongs to another access token",
    }
    match error:
        case ExpiredTokenError():
            return "it has expired: compare the clocks"
        case MissingClaimError():
            return f"it lacks {claim}"
        case InvalidClaimError():
            return named.get(claim, f"its {claim} is wrong")
        case _:
            return "its signature is not the provider's"


def _is_unverified(told: dict[str, Any]) -> bool:
    """Whether the provider says that it has not verified the address; some say it as a text."""
    return str(told.get("email_verified", True)).lower() == "false"
