"""Sessions of people in a browser: begun by signing in, found by a cookie, over after a while. The pages use it.

The cookie holds a random token; the table holds its digest, so whoever reads the table cannot sign in with it. Times
are the database's.
"""

import secrets
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from regie.core.audit import Actor, Event, Fact
from regie.core.errors import InvalidInput
from regie.core.token_digest import token_digest
from regie.store import audit
from regie.store.accounts import Account, account_of
from regie.store.database import Transaction

IDLE_S = 30 * 60
"""Seconds without a page after which a session is over."""
LONGEST_S = 12 * 3600
"""Seconds after which a session is over in any case."""
SEEN_EVERY_S = 60
"""Seconds within which a page does not count as seen once more, so that looking seldom writes."""
TOKEN_BYTES = 32


@dataclass(frozen=True)
class SignedInBy:
    """How somebody has shown who they are.

    Attributes:
        amr: The methods, as the identity provider calls them (RFC 8176).
        mfa_age_s: Seconds since more than one factor was shown; none when only one was.
    """

    amr: tuple[str, ...] = ()
    mfa_age_s: float | None = None


NO_FACTOR = SignedInBy()


@dataclass(frozen=True)
class Session:
    """A sign-in that is not over.

    Attributes:
        age_s: Seconds since it began.
        left_s: Seconds until it is over if no page is seen meanwhile.
        is_due: It is worth writing down that it was seen again.
        mfa_age_s: Seconds since a second factor was shown in it; none when that never happened.
    """

    account: Account
    age_s: float
    left_s: float
    is_due: bool
    mfa_age_s: float | None = None


async def begin(
    tx: Transaction, address: str, *, by: Literal["password", "identity_provider"], how: SignedInBy = NO_FACTOR
) -> str:
    """Begin a session of an account and give its token: the cookie's value. Sessions that are over are forgotten.

    Raises:
        InvalidInput: There is no such account.
    """
    token = secrets.token_urlsafe(TOKEN_BYTES)
    await tx.change(
        """delete from regie.session
           where seen_at < clock_timestamp() - make_interval(secs => %(idle)s)
              or created_at < clock_timestamp() - make_interval(secs => %(longest)s)""",
        {"idle": IDLE_S, "longest": LONGEST_S},
    )
    begun = await tx.change(
        """insert into regie.session (token_sha256, address, mfa_at)
           select %(token)s, address, clock_timestamp() - make_interval(secs => %(mfa_age_s)s::float8)
           from regie.account where address = %(address)s and is_active""",
        {"token": token_digest(token), "address": address, "mfa_age_s": how.mfa_age_s},
    )
    if begun == 0:
        raise InvalidInput(f"There is no account for {address}.")
    detail: dict[str, JsonValue] = {"session": {"by": by, "amr": list(how.amr)}}
    fact = Fact(event=Event.SESSION_BEGUN, actor=Actor(type="person", id=address), detail=detail)
    await audit.append_outside(tx, "", "", [fact])
    return token


async def find(tx: Transaction, token: str) -> Session | None:
    """The session of a token, with the account as it is now; none when it is over or never was."""
    row = await tx.row(
        """select a.*, s.left_s, extract(epoch from s.now - s.mfa_at)::float8 as mfa_age_s,
                  extract(epoch from s.now - s.created_at)::float8 as age_s,
                  s.seen_at < s.now - make_interval(secs => %(every)s) as is_due
           from (select *, clock_timestamp() as now,
                        extract(epoch from least(seen_at + make_interval(secs => %(idle)s),
                                                 created_at + make_interval(secs => %(longest)s))
                                           - clock_timestamp())::float8 as left_s
                 from regie.session where token_sha256 = %(token)s) s
           join regie.account a using (address)
           where s.left_s > 0 and a.is_active""",
        {"token": token_digest(token), "idle": IDLE_S, "longest": LONGEST_S, "every": SEEN_EVERY_S},
    )
    if row is None:
        return None
    return Session(account_of(row), row["age_s"], row["left_s"], row["is_due"], row["mfa_age_s"])


async def see(tx: Transaction, token: str) -> None:
    """Write down that a session was seen again."""
    await tx.change(
        "update regie.session set seen_at = clock_timestamp() where token_sha256 = %(token)s",
        {"token": token_digest(token)},
    )


async def end(tx: Transaction, token: str) -> None:
    """End a session; ending it twice is no fault."""
    await tx.change("delete from regie.session where token_sha256 = %(token)s", {"token": token_digest(token)})
