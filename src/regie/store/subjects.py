"""Who the people in the audit log are: kept beside it, each sealed under a key of their own, until they are erased.

A leaf names a person by a commitment (`core/subject.py`). Salt and value lie here, sealed under the person's key, which
is sealed under the data key of tenant and domain. Without them nobody can tell who was meant, and every proof holds.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg.rows import DictRow

from regie.core.audit import Fact
from regie.core.subject import ERASED, SALT_BYTES, commitment, commitments_in, people_in, with_names
from regie.store.database import Transaction
from regie.store.key_file import KEY_BYTES, NONCE_BYTES, SealBroken, opened


@dataclass(frozen=True)
class Disclosed:
    """A person in a log. `salt` is hexadecimal; both are empty once the person is erased."""

    subject: str
    salt: str
    value: str


async def committed(tx: Transaction, tenant: str, domain: str, facts: Sequence[Fact]) -> Sequence[Fact]:
    """Facts with commitments in place of people; whoever is new in this log gets one."""
    people = sorted({person for fact in facts for person in people_in(fact)})
    if not people:
        return facts
    marks = {person: mark_of(tenant, domain, person) for person in people}
    known = await _known(tx, tenant, domain, marks)
    for mark, person in sorted({mark: person for person, mark in marks.items() if mark not in known}.items()):
        await _add(tx, tenant, domain, mark, person)
    if known.keys() != set(marks.values()):
        known = await _known(tx, tenant, domain, marks)
    names = {person: known[mark] for person, mark in marks.items()}
    return [with_names(fact, names) for fact in facts]


async def disclosed(tx: Transaction, tenant: str, domain: str, leaves: Iterable[bytes]) -> list[Disclosed]:
    """What is kept of the people whom leaves of a log name."""
    subjects = sorted({subject for leaf in leaves for subject in commitments_in(leaf)})
    if not subjects:
        return []
    rows = await tx.rows(
        """select tenant, domain, subject, wrapped, sealed from audit.subject
           where tenant = %(tenant)s and domain = %(domain)s and subject = any(%(subjects)s)""",
        {"tenant": tenant, "domain": domain, "subjects": subjects},
    )
    return [_opened(tx, row) for row in rows]


async def names_in(tx: Transaction, tenant: str, domain: str, leaves: Iterable[bytes]) -> dict[str, str]:
    """What to show in place of the commitments in leaves of a log; of one that cannot be opened, itself."""
    return {each.subject: each.value or ERASED for each in await disclosed(tx, tenant, domain, leaves)}


def mark_of(tenant: str, domain: str, person: str) -> bytes:
    """By what a person is found again until they are erased, however their address is written."""
    return hashlib.sha256(f"subject/v1|{tenant}|{domain}|{person.casefold()}".encode()).digest()


async def _known(tx: Transaction, tenant: str, domain: str, marks: Mapping[str, bytes]) -> dict[bytes, str]:
    rows = await tx.rows(
        """select mark, subject from audit.subject
           where tenant = %(tenant)s and domain = %(domain)s and mark = any(%(marks)s)""",
        {"tenant": tenant, "domain": domain, "marks": list(marks.values())},
    )
    return {bytes(row["mark"]): row["subject"] for row in rows}


async def _add(tx: Transaction, tenant: str, domain: str, mark: bytes, person: str) -> None:
    """Give a person a commitment in a log; when somebody else does so at once, theirs counts."""
    salt, key, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(KEY_BYTES), secrets.token_bytes(NONCE_BYTES)
    subject = commitment(salt, person)
    plain = json.dumps({"salt": salt.hex(), "value": person}).encode()
    await tx.change(
        """insert into audit.subject (tenant, domain, subject, mark, wrapped, sealed)
           values (%(tenant)s, %(domain)s, %(subject)s, %(mark)s, %(wrapped)s, %(sealed)s) on conflict do nothing""",
        {
            "tenant": tenant,
            "domain": domain,
            "subject": subject,
            "mark": mark,
            "wrapped": tx.sealer.seal(key, tenant=tenant, domain=domain, table="subject.wrapped", pk=subject),
            "sealed": nonce + AESGCM(key).encrypt(nonce, plain, _bound(tenant, domain, subject)),
        },
    )


def _opened(tx: Transaction, row: DictRow) -> Disclosed:
    tenant, domain, subject = row["tenant"], row["domain"], row["subject"]
    if row["wrapped"] is None or row["sealed"] is None:
        return Disclosed(subject, "", "")
    try:
        key = tx.sealer.open(row["wrapped"], tenant=tenant, domain=domain, table="subject.wrapped", pk=subject)
        said = json.loads(opened(AESGCM(key), row["sealed"], 0, _bound(tenant, domain, subject)))
    except SealBroken:
        return Disclosed(subject, "", subject)
    return Disclosed(subject, said["salt"], said["value"])


def _bound(tenant: str, domain: str, subject: str) -> bytes:
    return f"{tenant}|{domain}|subject.sealed|{subject}".encode()
