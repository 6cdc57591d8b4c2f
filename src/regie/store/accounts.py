"""Local accounts of the operator's people, for installations without a directory. The CLI adds, web and CLI check.

Passwords are kept as scrypt hashes. A check takes as long for an unknown address as for a known one.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import DictRow
from pydantic import JsonValue

from regie.core.audit import Actor, Event, Fact
from regie.core.errors import InvalidInput
from regie.store import audit
from regie.store.database import Transaction

COST, BLOCK, LANES = 2**15, 8, 3
"""scrypt parameters of equal strength to N=2^17, r=8, p=1 in 32 MiB (OWASP Password Storage Cheat Sheet)."""
SALT_BYTES = 16
LONGEST_PASSWORD = 1024
OPERATOR_ROLE = "operator"
"""The role of an account that may see and start everything."""


@dataclass(frozen=True)
class Account:
    """Somebody who may sign in."""

    address: str
    display_name: str
    roles: tuple[str, ...]
    added_at: datetime


async def add(
    tx: Transaction, *, address: str, display_name: str, password: str, roles: Sequence[str], by: Actor
) -> Account:
    """Add an account.

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
            "hash": await asyncio.to_thread(_hashed, password, secrets.token_bytes(SALT_BYTES)),
            "roles": list(roles),
        },
    )
    if row is None:
        raise InvalidInput(f"There is already an account for {address}.")
    account = _account(row)
    detail: dict[str, JsonValue] = {"account": {"id": account.address, "roles": list(account.roles)}}
    await audit.append_outside(tx, "", "", [Fact(event=Event.ACCOUNT_ADDED, actor=by, detail=detail)])
    return account


async def verify(tx: Transaction, address: str, password: str) -> Account | None:
    """The account, if the password is its; None for a wrong password and for an unknown address alike."""
    row = await tx.row("select * from regie.account where address = lower(%(a)s)", {"a": address.casefold()})
    expected = row["password_hash"] if row is not None else _NOBODY
    salt = base64.b64decode(expected.partition("$")[0])
    given = await asyncio.to_thread(_hashed, password[:LONGEST_PASSWORD], salt)
    fits = hmac.compare_digest(given, expected)
    return _account(row) if fits and row is not None and len(password) <= LONGEST_PASSWORD else None


async def get(tx: Transaction, address: str) -> Account | None:
    """The account of that address."""
    row = await tx.row("select * from regie.account where address = lower(%(a)s)", {"a": address.casefold()})
    return None if row is None else _account(row)


async def list_accounts(tx: Transaction) -> list[Account]:
    """Every account, by address."""
    return [_account(row) for row in await tx.rows("select * from regie.account order by address")]


def _hashed(password: str, salt: bytes) -> str:
    """Salt and hash, each in base64, with a dollar sign between them."""
    hashed = hashlib.scrypt(password.encode(), salt=salt, n=COST, r=BLOCK, p=LANES, maxmem=256 * COST * BLOCK, dklen=32)
    return f"{base64.b64encode(salt).decode()}${base64.b64encode(hashed).decode()}"


_NOBODY = f"{base64.b64encode(bytes(SALT_BYTES)).decode()}${base64.b64encode(bytes(32)).decode()}"
"""Compared with when there is no such account; no password has this hash."""


def _account(row: DictRow) -> Account:
    return Account(row["address"], row["display_name"], tuple(row["roles"]), row["added_at"])
