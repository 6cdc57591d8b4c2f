"""Blocks about TLS endpoints and certificate files: what they present, and what is wrong with it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from regie.core.block import Context, block
from regie.core.capabilities import tls

Port = Annotated[int, Field(ge=1, le=65535)]


@block("tls.inspect", needs=(tls.INSPECT,))
async def inspect(  # noqa: PLR0917  its arguments are given by name
    ctx: Context,
    host: str,
    port: Port = 443,
    server_name: str = "",
    starttls: tls.StartTls = "none",
    connection: str = "",
) -> tls.Inspection:
    """Connect to a TLS endpoint and look at the certificates that it presents.

    What is wrong is in `findings`, the worst first. An endpoint that cannot be reached has a finding that says why; the
    step does not fail. `server_name` is asked for and looked for in the certificate; the host when it is empty.

    Example:
        uses: tls.inspect
        with: { host: mail.example.com, port: 25, starttls: smtp }
    """
    asked = tls.EndpointQuery(host=host, port=port, server_name=server_name, starttls=starttls, connection=connection)
    return await ctx.call(tls.INSPECT, asked)


@block("tls.inspect_many", needs=(tls.INSPECT_MANY,), timeout_s=75.0)
async def inspect_many(ctx: Context, endpoints: list[tls.Endpoint], connection: str = "") -> tls.Summaries:
    """Look at up to 200 TLS endpoints and sum each of them up: serial, lifetime, what is wrong.

    A page takes 45 seconds at most, whatever its endpoints do; what there was no time for has the finding
    `not_inspected`. For thousands of endpoints go through their pages with `for-each` and give each page to a child
    run, so that no run carries all of them.

    Example:
        uses: tls.inspect_many
        with:
          endpoints:
            - { host: www.example.com }
            - { host: 192.0.2.10, port: 8443, server_name: api.example.com }
    """
    return await ctx.call(tls.INSPECT_MANY, tls.Endpoints(endpoints=endpoints, connection=connection))


@block("tls.inspect_listed", needs=(tls.INSPECT_LISTED,), timeout_s=75.0)
async def inspect_listed(ctx: Context, connection: str = "", cursor: str = "") -> tls.ListedSummaries:
    """Look at a page of the TLS endpoints that the customer's connection lists, and sum each of them up.

    `cursor` of the result is where the next page begins; it is empty after the last one. A page takes 45 seconds at
    most; what there was no time for has the finding `not_inspected`.

    Example:
        uses: tls.inspect_listed
        with: { connection: endpoints }
    """
    return await ctx.call(tls.INSPECT_LISTED, tls.Listed(connection=connection, cursor=cursor))


@block("tls.inspect_files", needs=(tls.INSPECT_FILES,))
async def inspect_files(ctx: Context, connection: str = "", cursor: str = "") -> tls.FilePage:
    """Look at a page of the certificate files in the folders of a connection (PEM, DER and PKCS #7).

    `cursor` of the result is where the next page begins; it is empty after the last one.

    Example:
        uses: tls.inspect_files
        with: { connection: files-of-web-1 }
    """
    return await ctx.call(tls.INSPECT_FILES, tls.Files(connection=connection, cursor=cursor))
