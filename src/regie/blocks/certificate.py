"""Blocks about certificates: order, prove, issue, put in place, look up."""

from __future__ import annotations

from regie.core.block import Context, block
from regie.core.capabilities import certificate as certificates


@block("certificate.list", needs=(certificates.LIST,))
async def list_certificates(ctx: Context, connection: str = "", cursor: str = "") -> certificates.Inventory:
    """List the certificates that a source knows, a page at a time.

    Example:
        uses: certificate.list
        with: { connection: aws }
    """
    return await ctx.call(certificates.LIST, certificates.Source(connection=connection, cursor=cursor))


@block("certificate.list_pages", needs=(certificates.LIST_PAGES,))
async def list_pages(ctx: Context, connection: str = "") -> certificates.Pages:
    """Find out where each page of a source's list of certificates begins.

    Go through `cursors` with `for-each`, and give each to a child run that does `certificate.list`.

    Example:
        uses: certificate.list_pages
        with: { connection: aws }
    """
    return await ctx.call(certificates.LIST_PAGES, certificates.CertificateList(connection=connection))


@block("certificate.find", needs=(certificates.FIND,))
async def find(ctx: Context, certificate: str, connection: str = "") -> certificates.Certificate:
    """Look one certificate up at its source. `certificate` is the source's own name of it.

    Example:
        uses: certificate.find
        with: { certificate: "arn:aws:acm:eu-west-1:111122223333:certificate/12345678-1234-1234-1234-123456789012" }
    """
    return await ctx.call(
        certificates.FIND, certificates.CertificateQuery(certificate=certificate, connection=connection)
    )


@block("certificate.renewal_window", needs=(certificates.RENEWAL_WINDOW,))
async def renewal_window(
    ctx: Context, authority_key: str, serial: str, connection: str = ""
) -> certificates.RenewalWindow:
    """Ask the authority when it wants a certificate renewed. Not every authority says; `offered` tells.

    Example:
        uses: certificate.renewal_window
        with: { authority_key: 69885b6b87468a7c5c8c2b3f1d9d1e2f3a4b5c6d, serial: 87654321abcdef }
    """
    asked = certificates.RenewalQuery(authority_key=authority_key, serial=serial, connection=connection)
    return await ctx.call(certificates.RENEWAL_WINDOW, asked)


@block("certificate.find_deployed", needs=(certificates.FIND_DEPLOYED,))
async def find_deployed(ctx: Context, target: str, connection: str = "") -> certificates.DeployedState:
    """Look up which certificate a target serves. `certificate` is its reference where Regie keeps it.

    Example:
        uses: certificate.find_deployed
        with: { target: shop, connection: web-1 }
    """
    return await ctx.call(certificates.FIND_DEPLOYED, certificates.Target(target=target, connection=connection))


@block("certificate.order", needs=(certificates.ORDER,))
async def order(
    ctx: Context,
    *,
    names: list[str],
    proof: certificates.ProofKind = "dns-01",
    replaces: str = "",
    profile: str = "",
    connection: str = "",
) -> certificates.OrderState:
    """Order a certificate. The result says what has to be shown for each name; nothing is issued yet.

    `replaces` is the reference of the certificate that it renews: some authorities then waive their limits.

    Example:
        uses: certificate.order
        with: { names: [shop.example.com, www.shop.example.com] }
    """
    wanted = certificates.NewOrder(names=names, proof=proof, replaces=replaces, profile=profile, connection=connection)
    return await ctx.change(certificates.ORDER, wanted)


@block("certificate.prove", needs=(certificates.PROVE,))
async def prove(
    ctx: Context, authorisation: str, name: str, kind: certificates.ProofKind, connection: str = ""
) -> certificates.ProvenState:
    """Have the authority look at the proof for one name of an order, which must be in place by now.

    Example:
        uses: certificate.prove
        with: { authorisation: "https://acme.example/authz/1", name: shop.example.com, kind: dns-01 }
    """
    asked = certificates.Proving(authorisation=authorisation, name=name, kind=kind, connection=connection)
    return await ctx.change(certificates.PROVE, asked)


@block("certificate.finalise", needs=(certificates.FINALISE,))
async def finalise(
    ctx: Context, order: str, names: list[str], key: certificates.KeyKind = "ec-p256", connection: str = ""
) -> certificates.KeptCertificate:
    """Have an ordered certificate issued, for a new key that stays with the gateway. One order gives one certificate.

    Example:
        uses: certificate.finalise
        with: { order: "https://acme.example/order/1", names: [shop.example.com] }
    """
    asked = certificates.Finalising(order=order, names=names, key=key, connection=connection)
    return await ctx.change(certificates.FINALISE, asked)


@block("certificate.import", needs=(certificates.IMPORT,))
async def import_certificate(
    ctx: Context,
    certificate: str,
    replaces: str = "",
    connection: str = "",
) -> certificates.Certificate:
    """Hand a kept certificate, with its key, to a store of certificates.

    `replaces` is the store's name of the one whose place it takes; without it the store makes a new entry.

    Example:
        uses: certificate.import
        with: { certificate: "secret://certificates/certificate-0123456789abcdef0123456789abcdef" }
    """
    asked = certificates.Importing(certificate=certificate, replaces=replaces, connection=connection)
    return await ctx.change(certificates.IMPORT, asked)


@block("certificate.deploy", needs=(certificates.DEPLOY,))
async def deploy(ctx: Context, target: str, certificate: str, connection: str = "") -> certificates.DeployedState:
    """Put a kept certificate in place at a target, and see that it is served. If it is not, the former one comes back.

    Example:
        uses: certificate.deploy
        with:
          target: shop
          certificate: secret://certificates/certificate-0123456789abcdef0123456789abcdef
    """
    wanted = certificates.Deployment(target=target, certificate=certificate, connection=connection)
    return await ctx.change(certificates.DEPLOY, wanted)


@block("certificate.publish_proof", needs=(certificates.PUBLISH_PROOF,))
async def publish_proof(
    ctx: Context, name: str, path: str, content: str, connection: str = ""
) -> certificates.PublicationState:
    """Have the web server of a name answer with a proof (http-01), until it is withdrawn.

    Example:
        uses: certificate.publish_proof
        with: { name: shop.example.com, path: /.well-known/acme-challenge/abc, content: abc.def }
    """
    wanted = certificates.Publication(name=name, path=path, content=content, connection=connection)
    return await ctx.change(certificates.PUBLISH_PROOF, wanted)


@block("certificate.withdraw_proof", needs=(certificates.WITHDRAW_PROOF,))
async def withdraw_proof(
    ctx: Context, name: str, path: str, content: str, connection: str = ""
) -> certificates.PublicationState:
    """Take a published proof away again.

    Example:
        uses: certificate.withdraw_proof
        with: { name: shop.example.com, path: /.well-known/acme-challenge/abc, content: abc.def }
    """
    wanted = certificates.Publication(name=name, path=path, content=content, connection=connection)
    return await ctx.change(certificates.WITHDRAW_PROOF, wanted)
