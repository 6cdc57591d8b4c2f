"""Certificates that were issued for keys of ours, by reference. The gateway writes them; keys are not here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from regie.store.database import Transaction


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """One issued certificate.

    Attributes:
        reference: `secret://DOMAIN/NAME`, under which the vault has its key.
        serial: Lower-case hexadecimal without leading zeros.
        chain: PEM, the certificate itself first.
    """

    tenant: str
    domain: str
    reference: str
    serial: str
    chain: str
    not_after: datetime


async def keep(tx: Transaction, certificate: Certificate) -> Certificate:
    """Write one down unless one is there under its reference; gives the one that is there then."""
    await tx.change(
        """insert into regie.certificate (tenant, domain, reference, serial, chain, not_after)
           values (%(tenant)s, %(domain)s, %(reference)s, %(serial)s, %(chain)s, %(not_after)s)
           on conflict do nothing""",
        {
            "tenant": certificate.tenant,
            "domain": certificate.domain,
            "reference": certificate.reference,
            "serial": certificate.serial,
            "chain": certificate.chain,
            "not_after": certificate.not_after,
        },
    )
    return await find(tx, certificate.tenant, certificate.domain, certificate.reference) or certificate


async def find(tx: Transaction, tenant: str, domain: str, reference: str) -> Certificate | None:
    """The certificate under a reference."""
    row = await tx.row(
        """select tenant, domain, reference, serial, chain, not_after from regie.certificate
           where tenant = %(tenant)s and domain = %(domain)s and reference = %(reference)s""",
        {"tenant": tenant, "domain": domain, "reference": reference},
    )
    return Certificate(**row) if row else None


async def with_serial(tx: Transaction, tenant: str, domain: str, serial: str) -> Certificate | None:
    """The latest certificate with a serial; two authorities may use the same one."""
    row = await tx.row(
        """select tenant, domain, reference, serial, chain, not_after from regie.certificate
           where tenant = %(tenant)s and domain = %(domain)s and serial = %(serial)s order by kept_at desc limit 1""",
        {"tenant": tenant, "domain": domain, "serial": serial},
    )
    return Certificate(**row) if row else None
