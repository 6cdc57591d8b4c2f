"""Accounts of the operator's people: those of the identity provider, and local ones for installations without one.

An account of the provider is named for good by issuer and subject; its address, name and groups are what the provider
told last. Passwords of local ones are kept as scrypt hashes, each with what it cost. A check takes as long for an
unknown address as for the dearest password. Whoever is deactivated is nobody from that moment on: no sign-in, no
session, no token.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg.rows import DictRow
from pydantic import JsonValue

from regie.core.audit import Actor, Event, Fact
from regie.core.errors import InvalidInput, NotFound
from regie.store import audit
from regie.store.database import Transaction

SALT_BYTES = 16
HASH_BYTES = 32
LONGEST_PASSWORD = 1024


@dataclass(frozen=True)
class Cost:
    """What it costs to check one password (RFC 7914, 2).

    Attributes:
        log_n: Binary logarithm of N.
        block, lanes: r and p.
    """

    log_n: int
    block: int
    lanes: int


OF_A_PERSON = Cost(15, 8, 3)
"""Of equal strength to N=2^17, r=8, p=1, in 32 MiB (OWASP Password Storage Cheat Sheet)."""
OF_A_MACHINE = Cost(4, 8, 1)
"""What is random cannot be guessed, however cheap a guess is."""


@dataclass(frozen=True)
class Account:
    """Somebody who may sign in.

    Attributes:
        roles: Held here; what groups bring is looked up for each request.
        groups: Those at the identity provider.
        is_local: Signs in with a password kept here.
    """

    address: str
    display_name: str
    roles: tuple[str, ...]
    added_at: datetime
    groups: tuple[str, ...] = ()
    is_local: bool = True
    is_active: bool = True


@dataclass(frozen=True)
class Identity:
    """Whom the identity provider vouches for.

    Attributes:
        issuer, subject: Name them for good (OpenID Connect Core 1.0, 2).
        address: Their e-mail address, in lower case.
    """

    issuer: str
    subject: str
    address: str
    display_name: str
    groups: tuple[str, ...] = ()


async def add(
    tx: Transaction,
    *,
    address: str,
    display_name: str,
    password: str,
    roles: Sequence[str],
    by: Actor,
    cost: Cost = OF_A_PERSON,
) -> Account:
    """Add an account.

    Args:
        cost: Of a check; less than `OF_A_PERSON` only for passwords made of 80 random bits or more.

    Raises:
        InvalidInput: There is one for this address, or the password is empty or endless.
    """
    if not 0 < len(password) <= LONGEST_PASSWORD:
        raise InvalidInput(f"A password has 1 to {LONGEST_PASSWORD} characters.")
    row = await tx.row(
        """insert into regie.account (address, display_name, password_hash, roles)
           values (lower(%(address)s), %(display_name)s, %(hash)s, %(roles)s::text[])
           on conflict do nothing returning *""",
        {
            "address": address.casefold(),
            "display_name": display_name,
            "hash": await asyncio.to_thread(_hashed, password, secrets.token_bytes(SALT_BYTES), cost),
            "roles": list(roles),
        },
    )
    if row is None:
        raise InvalidInput(f"There is already an account for {address}.")
    account = account_of(row)
    await _record(tx, Event.ACCOUNT_ADDED, by, {"account": _told(account)})
    return account


async def welcome(tx: Transaction, who: Identity) -> Account:
    """The account of somebody whom the identity provider vouches for, as the provider tells it now; made if need be.

    Raises:
        InvalidInput: The address is somebody else's here, or the account is deactivated.
    """
    values = {
        "issuer": who.issuer,
        "subject": who.subject,
        "address": who.address.casefold(),
        "name": who.display_name,
        "groups": sorted(set(who.groups)),
    }
    # Two people who come at once with one address, or one who comes twice, take turns.
    await tx.row("select pg_advisory_xact_lock(hashtextextended(%(address)s, 7238415004))", values)
    found = await tx.rows(
        """select * from regie.account
           where address = %(address)s or (issuer, subject) = (%(issuer)s, %(subject)s) for update""",
        values,
    )
    known = [row for row in found if (row["issuer"], row["subject"]) == (who.issuer, who.subject)]
    # Whoever was announced beforehand has no subject yet, and is linked when they first come.
    announced = [row for row in found if row["subject"] is None and row["password_hash"] is None]
    if len(found) > 1 or (found and not known and not announced):
        raise InvalidInput(
            f"There is another account for {who.address} here.",
            hint="An operator removes it first: regie account remove.",
        )
    before = account_of(found[0]) if found else None
    if before is not None and not before.is_active:
        raise InvalidInput("This account is deactivated.", hint="An operator activates it again.")
    written: LiteralString = (
        """update regie.account set address = %(address)s, display_name = %(name)s, groups = %(groups)s::text[],
                  issuer = %(issuer)s, subject = %(subject)s
           where address = %(before)s returning *"""
        if before
        else """insert into regie.account (address, display_name, issuer, subject, groups)
                values (%(address)s, %(name)s, %(issuer)s, %(subject)s, %(groups)s::text[]) returning *"""
    )
    [row] = await tx.rows(written, {**values, "before": before.address if before else ""})
    account = account_of(row)
    by = Actor(type="person", id=account.address)
    if before is None:
        await _record(tx, Event.ACCOUNT_ADDED, by, {"account": _told(account)})
    elif before != account:
        await _record(tx, Event.ACCOUNT_CHANGED, by, {"account": _told(account), "before": _told(before)})
    return account


async def announce(tx: Transaction, address: str, display_name: str, *, is_active: bool, by: Actor) -> Account:
    """Add somebody whom the identity provider is to vouch for when they first come.

    Raises:
        InvalidInput: There is an account for this address already.
    """
    row = await tx.row(
        """insert into regie.account (address, display_name, is_active) values (%(address)s, %(name)s, %(on)s)
           on conflict (address) do nothing returning *""",
        {"address": address.casefold(), "name": display_name, "on": is_active},
    )
    if row is None:
        raise InvalidInput(f"There is already an account for {address}.")
    await _record(tx, Event.ACCOUNT_ADDED, by, {"account": _told(account_of(row))})
    return account_of(row)


async def is_linked(tx: Transaction, address: str) -> bool:
    """Whether an identity provider has vouched for somebody with this account: whoever is not has never signed in."""
    row = await tx.row(
        "select from regie.account where address = %(address)s and subject is not null", {"address": address.casefold()}
    )
    return row is not None


async def rename(tx: Transaction, address: str, new: str, display_name: str, *, by: Actor) -> None:
    """Have an account under another address or name; whoever calls has made sure that the address is free."""
    values = {"address": address, "new": new.casefold(), "name": display_name}
    row = await tx.row(
        """update regie.account set address = %(new)s, display_name = %(name)s
           where address = %(address)s and (address, display_name) <> (%(new)s, %(name)s) returning *""",
        values,
    )
    if row is not None and address != new:
        before: dict[str, JsonValue] = {"id": address}
        await _record(tx, Event.ACCOUNT_CHANGED, by, {"account": _told(account_of(row)), "before": before})


async def set_active(tx: Transaction, address: str, *, is_active: bool, by: Actor) -> Account:
    """Deactivate an account, which ends its sessions, or activate it again.

    Raises:
        NotFound: There is none for this address.
    """
    row = await tx.row(
        "update regie.account set is_active = %(on)s where address = lower(%(a)s) returning *",
        {"a": address.casefold(), "on": is_active},
    )
    if row is None:
        raise NotFound(f"There is no account for {address}.")
    account = account_of(row)
    if not is_active:
        await tx.change("delete from regie.session where address = %(a)s", {"a": account.address})
    event = Event.ACCOUNT_ACTIVATED if is_active else Event.ACCOUNT_DEACTIVATED
    await _record(tx, event, by, {"account": {"id": account.address}})
    return account


async def remove(tx: Transaction, address: str, *, by: Actor) -> None:
    """Forget an account, its sessions with it. What it did stays in the logs, where people stand by a commitment.

    Raises:
        NotFound: There is none for this address.
    """
    row = await tx.row("delete from regie.account where address = lower(%(a)s) returning *", {"a": address.casefold()})
    if row is None:
        raise NotFound(f"There is no account for {address}.")
    await _record(tx, Event.ACCOUNT_REMOVED, by, {"account": {"id": row["address"]}})


async def verify(tx: Transaction, address: str, password: str) -> Account | None:
    """The account, if the password is its; None for a wrong password and for an unknown address alike."""
    # One question for both, so that the answer takes as long.
    [row] = await tx.rows(
        """select found.*, anybody.password_hash as of_anybody
           from (select) nothing
           left join regie.account found
             on address = lower(%(a)s) and found.password_hash is not null and found.is_active
           left join lateral (select password_hash from regie.account where password_hash is not null
                              order by substring(password_hash from 'ln=([0-9]+)')::int desc limit 1) anybody
             on true""",
        {"a": address.casefold()},
    )
    expected = row["password_hash"] or _of_nobody(row["of_anybody"])
    cost, salt = _read(expected)
    given = await asyncio.to_thread(_hashed, password[:LONGEST_PASSWORD], salt, cost)
    fits = hmac.compare_digest(given, expected)
    return account_of(row) if fits and row["address"] is not None and len(password) <= LONGEST_PASSWORD else None


async def get(tx: Transaction, address: str) -> Account | None:
    """The account of that address."""
    row = await tx.row("select * from regie.account where address = lower(%(a)s)", {"a": address.casefold()})
    return None if row is None else account_of(row)


async def list_accounts(tx: Transaction) -> list[Account]:
    """Every account, by address."""
    return [account_of(row) for row in await tx.rows("select * from regie.account order by address")]


def _hashed(password: str, salt: bytes, cost: Cost) -> str:
    """The hash with what is needed to work it out again: `$scrypt$ln=15,r=8,p=3$SALT$HASH`, both in base64."""
    hashed = hashlib.scrypt(
        password.encode(),
        salt=salt,
        n=2**cost.log_n,
        r=cost.block,
        p=cost.lanes,
        maxmem=256 * 2**cost.log_n * cost.block,
        dklen=HASH_BYTES,
    )
    return _written(cost, salt, hashed)


def _written(cost: Cost, salt: bytes, hashed: bytes) -> str:
    in_base64 = (base64.b64encode(part).decode() for part in (salt, hashed))
    return "$".join(("", "scrypt", f"ln={cost.log_n},r={cost.block},p={cost.lanes}", *in_base64))


def _read(written: str) -> tuple[Cost, bytes]:
    """Cost and salt of a hash."""
    _, _, cost, salt, _ = written.split("$")
    log_n, block, lanes = (int(part.partition("=")[2]) for part in cost.split(","))
    return Cost(log_n, block, lanes), base64.b64decode(salt)


def _of_nobody(anybody: str | None) -> str:
    """What no password has, at the price of the dearest: so the time tells no address whose password can be guessed."""
    cost = OF_A_PERSON if anybody is None else _read(anybody)[0]
    return _written(cost, bytes(SALT_BYTES), bytes(HASH_BYTES))


def _told(account: Account) -> dict[str, JsonValue]:
    """An account as a leaf tells it."""
    told: dict[str, JsonValue] = {"id": account.address, "roles": list(account.roles)}
    return {**told, "groups": list(account.groups)} if account.groups else told


async def _record(tx: Transaction, event: Event, by: Actor, detail: dict[str, JsonValue]) -> None:
    await audit.append_outside(tx, "", "", [Fact(event=event, actor=by, detail=detail)])


def account_of(row: DictRow) -> Account:
    """An account from its row."""
    return Account(
        address=row["address"],
        display_name=row["display_name"],
        roles=tuple(row["roles"]),
        added_at=row["added_at"],
        groups=tuple(row["groups"]),
        is_local=row["password_hash"] is not None,
        is_active=row["is_active"],
    )
