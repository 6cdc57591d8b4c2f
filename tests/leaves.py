"""Leaves that belong to no run: the product only writes them, and auditors read them in bundles."""

from __future__ import annotations

from regie.store import subjects
from regie.store.audit import Leaf
from regie.store.database import Transaction


async def read_outside(tx: Transaction, tenant: str, domain: str, limit: int = 100) -> list[Leaf]:
    """The newest of them, newest first."""
    rows = await tx.rows(
        """select i.entry_id, i.leaf, i.at from audit.entry i join audit.log l using (log_id)
           where l.tenant = %(tenant)s and l.domain = %(domain)s and i.run_id is null
           order by i.at desc, i.entry_id limit %(limit)s""",
        {"tenant": tenant, "domain": domain, "limit": limit},
    )
    names = await subjects.names_in(tx, tenant, domain, [bytes(row["leaf"]) for row in rows])
    return [Leaf(str(row["entry_id"]), 0, bytes(row["leaf"]), row["at"], names) for row in rows]
