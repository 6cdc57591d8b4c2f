"""Who asks: the operator or a program by a token, a person by address and password. API and pages call it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from regie.core.audit import Actor
from regie.core.errors import InvalidInput
from regie.core.reach import EVERYTHING, Reach
from regie.core.token_digest import token_digest
from regie.store import accounts, api_tokens, provisioning, releases
from regie.store.accounts import Account
from regie.store.database import Database, Transaction
from regie.store.provisioning import NOT_PROVISIONED
from regie.web.caller import Caller, caller_of
from regie.web.limits import SignInThrottle
from regie.web.problems import Unidentified

REMEMBERED_S = 60.0
"""Seconds for which a password that was right is not worked out again: a check costs a tenth of a second of CPU."""
REMEMBERED = 1_000
CHECKS_AT_ONCE = 2

ANSWER_AT = "/sign-in/answer"
"""Where browsers come back to from the identity provider."""

OPERATOR_NAME = r"^[a-z0-9._-]{1,64}$"
"""Under which names the operator's token may be used."""
_OPERATOR = re.compile(OPERATOR_NAME)
_LONGEST_ADDRESS = 254


@dataclass(frozen=True, slots=True)
class WaysIn:
    """How people sign in. Nothing said, nobody does.

    Attributes:
        has_local_accounts: Accounts with a password kept here may.
        origin: The address at which browsers reach this; empty when nobody has said.
        answer_address: Where the identity provider sends browsers back to; empty when there is no provider.
        operator_group: Its group whose members are operators; empty for none.
    """

    has_local_accounts: bool = False
    origin: str = ""
    answer_address: str = ""
    operator_group: str = ""


NOBODY = WaysIn()


class Doorkeeper:
    """Knows everybody by their `Authorization` header.

    Args:
        operator_token: Not empty.
        ways_in: How people sign in.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        database: Database,
        operator_token: str,
        ways_in: WaysIn,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not operator_token:
            raise InvalidInput("The operator's token is empty: everybody would have it.")
        self._database = database
        self._operator = token_digest(operator_token)
        self._ways_in = ways_in
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
                token = credentials.strip()
                is_of_program = token.startswith(api_tokens.PREFIX)
                return await self._by_api_token(token) if is_of_program else self._by_token(token, operator)
            case "basic":
                return await self._by_password(*_read_basic(credentials.strip()))
            case _:
                raise Unidentified(
                    "Say who you are: with an API token, the operator's token, or an account's address and password."
                )

    async def sign_in(self, address: str, password: str) -> Account:
        """The account that somebody wants to sign in to a browser with; the password is always worked out.

        Raises:
            Unidentified: Address and password do not fit.
            Throttled: Signing in as that address failed too often.
        """
        return await self._check(_read_address(address), password)

    async def caller_of(self, tx: Transaction, account: Account) -> Caller:
        """What somebody who has signed in may do, by their roles and by what the current release gives their groups."""
        provisioned = NOT_PROVISIONED if account.is_local else await provisioning.provisioned(tx, account.address)
        if not account.groups and not provisioned.groups:
            return caller_of(account, {}, provisioned=provisioned)
        try:
            tenants = (await releases.current(tx)).tenants
        except InvalidInput:
            # None is loaded yet.
            tenants = {}
        return caller_of(account, tenants, self._ways_in.operator_group, provisioned)

    async def _by_api_token(self, token: str) -> Caller:
        """A program, which may do what its token says, and never more than who made it may now."""
        async with self._database.reading() as tx:
            shown = await api_tokens.find(tx, token)
            owner = await self.caller_of(tx, shown.owner) if shown and shown.owner else None
        if shown is None:
            raise Unidentified("There is no such API token.")
        if shown.token.stands != "valid":
            at = shown.token.expires_at.strftime("%Y-%m-%d %H:%M UTC")
            reason = "was revoked" if shown.token.stands == "revoked" else f"expired at {at}"
            raise Unidentified(f"This API token {reason}.", hint="Whoever gave it to you can make another one.")
        if shown.owner is not None and not shown.owner.is_active:
            raise Unidentified("Whoever made this API token is deactivated.", hint="Others can make another one.")
        if shown.is_due:
            async with self._database.transaction() as tx:
                await api_tokens.use(tx, shown.token.id)
        reach = Reach(scopes=(shown.token.scope,))
        return Caller(
            Actor(type="program", id=shown.token.id),
            "",
            reach if owner is None else reach.within(owner.reach),
            named=f"The token {shown.token.name}",
        )

    def _by_token(self, token: str, operator: str | None) -> Caller:
        if not hmac.compare_digest(token_digest(token), self._operator):
            raise Unidentified("This is not the operator's token.")
        name = "operator" if operator is None else operator
        if not _OPERATOR.fullmatch(name):
            raise InvalidInput("Regie-Operator holds a name of 1 to 64 letters a-z, digits, dots, dashes, underscores.")
        return Caller(Actor(type="operator", id=name), "", EVERYTHING, named="The operator's token")

    async def _by_password(self, address: str, password: str) -> Caller:
        digest = hmac.digest(self._memory_key, f"{len(address)}:{address}:{password}".encode(), "sha256")
        account = self._recall(digest)
        if account is not None:
            async with self._database.reading() as tx:
                # That the password is right counts for the account as it was: not for one that was deactivated since.
                if account == await accounts.get(tx, account.address):
                    return await self.caller_of(tx, account)
        account = await self._check(address, password)
        while len(self._remembered) >= REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = (self._clock() + REMEMBERED_S, account)
        async with self._database.reading() as tx:
            return await self.caller_of(tx, account)

    def _recall(self, digest: bytes) -> Account | None:
        until, account = self._remembered.get(digest, (0.0, None))
        if account is not None and self._clock() >= until:
            del self._remembered[digest]
            return None
        return account

    async def _check(self, address: str, password: str) -> Account:
        if not self._ways_in.has_local_accounts:
            raise Unidentified(
                "Nobody signs in with a password here.",
                hint="Programs use an API token; people sign in on the pages, through the identity provider.",
            )
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
