"""Who asks: the operator by the installation's token, or a person by address and password. API and pages call it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from regie.core.audit import Actor
from regie.core.errors import Denied, InvalidInput
from regie.store import accounts
from regie.store.accounts import OPERATOR_ROLE, Account
from regie.store.database import Database
from regie.web.limits import SignInThrottle
from regie.web.problems import Unidentified

REMEMBERED_S = 60.0
"""Seconds for which a password that was right is not worked out again: a check costs a tenth of a second of CPU."""
REMEMBERED = 1_000
CHECKS_AT_ONCE = 2

_OPERATOR = re.compile(r"[a-z0-9._-]{1,64}")
_LONGEST_ADDRESS = 254


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks.

    Attributes:
        actor: How the audit log calls them.
        address: Of the account signed in with; empty for the operator's token, which is nobody in person.
        is_operator: May see every run and approval, and start runs.
    """

    actor: Actor
    address: str
    is_operator: bool

    def is_person(self, address: str) -> bool:
        """Whether that is this caller's address."""
        return bool(self.address) and self.address.casefold() == address.casefold()

    def require_operator(self) -> None:
        """Make sure that the caller is the operator.

        Raises:
            Denied: It is somebody else.
        """
        if not self.is_operator:
            raise Denied("This needs the operator's token or an account with the role operator.")


def caller_of(account: Account) -> Caller:
    """Whoever has signed in with an account."""
    return Caller(Actor(type="person", id=account.address), account.address, is_operator=OPERATOR_ROLE in account.roles)


class Doorkeeper:
    """Knows everybody by their `Authorization` header.

    Args:
        operator_token: Not empty.
        clock: Seconds that only go forward.
    """

    def __init__(self, database: Database, operator_token: str, clock: Callable[[], float] = time.monotonic) -> None:
        if not operator_token:
            raise InvalidInput("The operator's token is empty: everybody would have it.")
        self._database = database
        self._operator = _digest(operator_token)
        self._clock = clock
        self._throttle = SignInThrottle(clock)
        self._checking = asyncio.Semaphore(CHECKS_AT_ONCE)
        # Remembered under a keyed digest: neither the memory of this process nor a dump of it shows a password.
        self._memory_key = secrets.token_bytes(32)
        self._remembered: dict[bytes, tuple[float, Account]] = {}

    async def identify(self, authorization: str | None, operator: str | None) -> Caller:
        """Who sent a request.

        Args:
            authorization: Its `Authorization` header.
            operator: Its `Regie-Operator` header: under which name the operator's token is used.

        Raises:
            Unidentified: Nobody we know.
            Throttled: Signing in as that address failed too often.
            InvalidInput: The operator's name is no name.
        """
        scheme, _, credentials = (authorization or "").partition(" ")
        match scheme.lower():
            case "bearer":
                return self._by_token(credentials.strip(), operator)
            case "basic":
                return await self._by_password(*_read_basic(credentials.strip()))
            case _:
                raise Unidentified("Say who you are: an account's address and password, or the operator's token.")

    async def sign_in(self, address: str, password: str) -> Account:
        """The account that somebody wants to sign in to a browser with; the password is always worked out.

        Raises:
            Unidentified: Address and password do not fit.
            Throttled: Signing in as that address failed too often.
        """
        return await self._check(_read_address(address), password)

    def _by_token(self, token: str, operator: str | None) -> Caller:
        if not hmac.compare_digest(_digest(token), self._operator):
            raise Unidentified("This is not the operator's token.")
        name = "operator" if operator is None else operator
        if not _OPERATOR.fullmatch(name):
            raise InvalidInput("Regie-Operator holds a name of 1 to 64 letters a-z, digits, dots, dashes, underscores.")
        return Caller(Actor(type="operator", id=name), "", is_operator=True)

    async def _by_password(self, address: str, password: str) -> Caller:
        digest = hmac.digest(self._memory_key, f"{len(address)}:{address}:{password}".encode(), "sha256")
        account = self._recall(digest)
        if account is None:
            account = await self._check(address, password)
            while len(self._remembered) >= REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[digest] = (self._clock() + REMEMBERED_S, account)
        return caller_of(account)

    def _recall(self, digest: bytes) -> Account | None:
        until, account = self._remembered.get(digest, (0.0, None))
        if account is not None and self._clock() >= until:
            del self._remembered[digest]
            return None
        return account

    async def _check(self, address: str, password: str) -> Account:
        self._throttle.take(address)
        try:
            async with self._checking, self._database.reading() as tx:
                account = await accounts.verify(tx, address, password)
        except BaseException:
            # No password was found wrong: the database is away, or whoever asked has gone.
            self._throttle.give_back(address)
            raise
        if account is None:
            raise Unidentified("Address and password do not fit.")
        self._throttle.give_back(address)
        return account


def _read_basic(credentials: str) -> tuple[str, str]:
    """Address and password (RFC 7617), the address in the form accounts have."""
    try:
        address, colon, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise Unidentified("The credentials cannot be read.") from None
    if not colon:
        raise Unidentified("The credentials cannot be read.")
    return _read_address(address), password


def _read_address(written: str) -> str:
    """An address in the form accounts have."""
    address = written.strip().casefold()
    if not address.isprintable() or not 0 < len(address) <= _LONGEST_ADDRESS:
        raise Unidentified("The credentials cannot be read.")
    return address


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
