"""Authenticators of people, and the questions put to them. The web verifies what they answer; `assertions` keeps it.

A question is kept as a digest and counts once.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import DictRow

from regie.core.audit import Actor, Event, Fact
from regie.core.errors import InvalidInput, NotFound, Throttled
from regie.store import audit
from regie.store.database import Transaction

WITHIN_S = 300
"""Seconds within which a question has to be answered (Web Authentication Level 2, 13.4.3: five minutes at least)."""
MOST_ASKED = 20
"""How many questions to one person may be open."""
MOST = 20
"""How many authenticators somebody has."""
LONGEST_NAME = 100


@dataclass(frozen=True)
class Authenticator:
    """An authenticator that somebody has added.

    Attributes:
        id: Of its credential, in base64url.
        public_key: As COSE_Key.
        sign_count: What it told last; stays 0 for those that do not count.
    """

    id: str
    address: str
    name: str
    public_key: bytes
    sign_count: int
    added_at: datetime
    used_at: datetime | None


async def add(tx: Transaction, *, id: str, address: str, name: str, public_key: bytes, sign_count: int) -> None:  # noqa: A002  the column says id
    """Add one to an account.

    Raises:
        InvalidInput: It has no name, is somebody's already, or there are too many.
    """
    if not 0 < len(name.strip()) <= LONGEST_NAME or not name.isprintable():
        raise InvalidInput(f"An authenticator has a name of 1 to {LONGEST_NAME} characters.")
    # Whoever adds two at once takes turns, so that there are never too many.
    await tx.row("select pg_advisory_xact_lock(hashtextextended(%(a)s, 7238415006))", {"a": address})
    if len(await of(tx, address)) >= MOST:
        raise InvalidInput(f"There are {MOST} authenticators already.", hint="Remove one that you do not use.")
    added = await tx.change(
        """insert into regie.authenticator (id, address, name, public_key, sign_count)
           values (%(id)s, %(address)s, %(name)s, %(key)s, %(count)s) on conflict do nothing""",
        {"id": id, "address": address, "name": name.strip(), "key": public_key, "count": sign_count},
    )
    if added == 0:
        raise InvalidInput("This authenticator has been added already.")
    await _record(tx, Event.AUTHENTICATOR_ADDED, address, id, public_key)


async def remove(tx: Transaction, authenticator: str, *, address: str) -> None:
    """Forget one of somebody's.

    Raises:
        NotFound: They have no such authenticator.
    """
    row = await tx.row(
        "delete from regie.authenticator where id = %(id)s and address = %(address)s returning *",
        {"id": authenticator, "address": address},
    )
    if row is None:
        raise NotFound("There is no such authenticator.")
    await _record(tx, Event.AUTHENTICATOR_REMOVED, address, authenticator, row["public_key"])


async def of(tx: Transaction, address: str) -> list[Authenticator]:
    """Those of an account, the oldest first."""
    rows = await tx.rows(
        "select * from regie.authenticator where address = %(address)s order by added_at, id", {"address": address}
    )
    return [_authenticator(row) for row in rows]


async def lock(tx: Transaction, authenticator: str, *, address: str) -> Authenticator | None:
    """One of somebody's, while its count is compared: nobody else does so at the same time."""
    row = await tx.row(
        "select * from regie.authenticator where id = %(id)s and address = %(address)s for update",
        {"id": authenticator, "address": address},
    )
    return None if row is None else _authenticator(row)


async def use(tx: Transaction, authenticator: str, *, sign_count: int) -> None:
    """It was used; that is what it counts now."""
    await tx.change(
        """update regie.authenticator set sign_count = %(count)s, used_at = clock_timestamp() where id = %(id)s""",
        {"id": authenticator, "count": sign_count},
    )


async def ask(tx: Transaction, challenge: bytes, *, address: str, nonce: str, approval: str | None = None) -> None:
    """Keep a question until it is answered; those that nobody answered in time are forgotten.

    Args:
        approval: What it is about; none to add an authenticator.

    Raises:
        Throttled: Too many questions to this person are open.
    """
    await tx.change(
        "delete from regie.challenge where asked_at < clock_timestamp() - make_interval(secs => %(within)s)",
        {"within": WITHIN_S},
    )
    asked = await tx.change(
        """insert into regie.challenge (sha256, address, approval, nonce)
           select %(sha256)s, %(address)s, %(approval)s::uuid, %(nonce)s
           where (select count(*) from regie.challenge where address = %(address)s) < %(most)s""",
        {
            "sha256": _digest(challenge),
            "address": address,
            "approval": approval,
            "nonce": nonce,
            "most": MOST_ASKED,
        },
    )
    if asked == 0:
        raise Throttled("Your authenticator was asked too often and did not answer.", after_s=WITHIN_S)


async def take(tx: Transaction, challenge: bytes, *, address: str, approval: str | None = None) -> str | None:
    """The nonce of a question to this person about this, which is answered with that; none if nobody asked just now."""
    row = await tx.row(
        """delete from regie.challenge
           where sha256 = %(sha256)s and address = %(address)s and approval is not distinct from %(approval)s::uuid
             and asked_at >= clock_timestamp() - make_interval(secs => %(within)s)
           returning nonce""",
        {"sha256": _digest(challenge), "address": address, "approval": approval, "within": WITHIN_S},
    )
    return None if row is None else str(row["nonce"])


async def _record(tx: Transaction, event: Event, address: str, authenticator: str, public_key: bytes) -> None:
    """By its key, whoever checks a signature later knows whose it was."""
    told = {"id": authenticator, "public_key_sha256": hashlib.sha256(public_key).hexdigest()}
    fact = Fact(event=event, actor=Actor(type="person", id=address), detail={"authenticator": {**told}})
    await audit.append_outside(tx, "", "", [fact])


def _authenticator(row: DictRow) -> Authenticator:
    return Authenticator(
        id=row["id"],
        address=row["address"],
        name=row["name"],
        public_key=bytes(row["public_key"]),
        sign_count=row["sign_count"],
        added_at=row["added_at"],
        used_at=row["used_at"],
    )


def _digest(challenge: bytes) -> str:
    return hashlib.sha256(challenge).hexdigest()
