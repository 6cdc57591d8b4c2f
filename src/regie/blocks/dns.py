"""Blocks about DNS records."""

from __future__ import annotations

from regie.core.block import Context, block
from regie.core.capabilities import dns


@block("dns.set_record", needs=(dns.SET_RECORD,))
async def set_record(
    ctx: Context,
    name: str,
    value: str,
    kind: dns.RecordType = "TXT",
    connection: str = "",
) -> dns.RecordState:
    """Give a DNS name a value, beside those that it has. Done when every name server of its zone answers with it.

    Example:
        uses: dns.set_record
        with: { name: _acme-challenge.shop.example.com, value: abc }
    """
    wanted = dns.RecordValue(name=name, kind=kind, value=value, connection=connection)
    return await ctx.change(dns.SET_RECORD, wanted)


@block("dns.remove_record", needs=(dns.REMOVE_RECORD,))
async def remove_record(
    ctx: Context,
    name: str,
    value: str,
    kind: dns.RecordType = "TXT",
    connection: str = "",
) -> dns.RecordState:
    """Take one value of a DNS name away. It has the arguments of `dns.set_record`, whose undo it is.

    Example:
        uses: dns.remove_record
        with: { name: _acme-challenge.shop.example.com, value: abc }
    """
    wanted = dns.RecordValue(name=name, kind=kind, value=value, connection=connection)
    return await ctx.change(dns.REMOVE_RECORD, wanted)
