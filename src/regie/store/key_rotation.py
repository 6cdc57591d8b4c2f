"""The data keys as operators see them: which there are, and a new one for a tenant in a domain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from regie.core.audit import Actor, Event, Fact
from regie.core.errors import InvalidInput
from regie.store import audit
from regie.store.database import Transaction


@dataclass(frozen=True)
class NewestKey:
    """The data key that seals for a tenant in a domain. `uses` counts what it has sealed, as far as that was told."""

    tenant: str
    domain: str
    version: int
    uses: int
    made_at: datetime


async def list_keys(tx: Transaction) -> list[NewestKey]:
    """The newest data key of each tenant in each domain."""
    rows = await tx.rows(
        """select distinct on (tenant, domain) tenant, domain, version, uses, made_at from regie.data_key
           order by tenant, domain, version desc"""
    )
    return [NewestKey(**row) for row in rows]


async def check(tx: Transaction, key: NewestKey) -> None:
    """Make sure that a data key can be unwrapped.

    Raises:
        SealBroken: The key file of its domain is lost, or another one.
    """
    tx.sealer.data_keys.to_open(key.tenant, key.domain, key.version)


async def rotate(tx: Transaction, tenant: str, domain: str, by: Actor) -> int:
    """Give a tenant a new data key in a domain, and write its leaf. Processes use it within a minute.

    Returns:
        Its version. When two people do it at once, both get the same.

    Raises:
        InvalidInput: Nothing has been sealed for that tenant in that domain.
        SealBroken: The key file of the domain is lost, or others may read it.
    """
    place = {"tenant": tenant, "domain": domain}
    row = await tx.row(
        "select max(version) as newest from regie.data_key where tenant = %(tenant)s and domain = %(domain)s", place
    )
    if row is None or row["newest"] is None:
        raise InvalidInput(f"Nothing has been sealed for {tenant} in {domain}.", hint="See: regie keys list")
    version = int(row["newest"]) + 1
    wrapped = tx.sealer.data_keys.fresh(tenant, domain, version, is_first=False)
    made = await tx.change(
        """insert into regie.data_key (tenant, domain, version, wrapped)
           values (%(tenant)s, %(domain)s, %(version)s, %(wrapped)s) on conflict do nothing""",
        {**place, "version": version, "wrapped": wrapped},
    )
    if made:
        fact = Fact(event=Event.DATA_KEY_ROTATED, actor=by, detail={"data_key": version})
        await audit.append_outside(tx, tenant, domain, [fact])
    return version
