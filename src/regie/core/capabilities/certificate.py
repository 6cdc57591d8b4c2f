"""Capabilities about certificates: order one, prove a name, have it issued, put it in place, know what there is.

A certificate that Regie keeps has a *reference*, `secret://DOMAIN/certificate-ID`: under it the gateway holds chain and
private key, and no answer holds either. Every issued certificate has a reference of its own, so that a former one can
be put in place again. A serial is lower-case hexadecimal without leading zeros.

A want with a field `connection` names the tenant's connection that is meant; where it is empty, the only one serves.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime

from regie.core.capability import Capability, Effect, Record

KeyKind = Literal["ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096"]
"""Kinds of keys that public authorities sign (CA/Browser Forum baseline requirements, 6.1.5)."""
ProofKind = Literal["dns-01", "http-01"]
"""How control of a name is proven to an ACME authority (RFC 8555, 8.3 and 8.4)."""


class Certificate(Record):
    """A certificate as its source tells of it.

    Attributes:
        id: The source's own name of it: an ARN, a path; for a kept one its reference.
        names: The names it is for, sorted, in lower case; wildcards as written.
        serial: Lower-case hexadecimal; empty while none is issued.
        issuer: Common name of who signed it.
        authority_key: Key identifier of the issuer, lower-case hexadecimal; with the serial it names the certificate to
            its authority (RFC 9773, 4.1). Empty where the certificate does not tell.
        key: Kind and size of its key, such as `rsa-2048`.
        state: `issued`, `pending`, `expired`, `revoked`, `failed`, `imported`, or `unreadable`: there is something that
            should be a certificate.
        renewed_by: Who renews it, in words: `source` does by itself, `regie`, `nobody`.
        renewal: How the source's own renewal of it stands: `pending`, `waits_for_proof`, `done`, `failed`; empty where
            none is known.
        used_by: What uses it, as the source names that.
        is_used: No where the source knows that nothing uses it.
        findings: What is wrong with it as far as the source can see: codes as in `tls`, and `renewal_failed`; the cause
            stands behind a colon.
    """

    id: str
    names: list[str]
    serial: str = ""
    issuer: str = ""
    authority_key: str = ""
    not_before: AwareDatetime | None = None
    not_after: AwareDatetime | None = None
    key: str = ""
    state: str = "issued"
    renewed_by: str = "nobody"
    renewal: str = ""
    used_by: list[str] = []
    is_used: bool = True
    findings: list[str] = []


class Source(Record):
    """Where to look for certificates; a page begins at `cursor`."""

    connection: str = ""
    cursor: str = ""


class Inventory(Record):
    """A page of certificates, sorted by id. `cursor` is where the next page begins, empty after the last one."""

    certificates: list[Certificate]
    cursor: str = ""


class CertificateList(Record):
    """The list of certificates of a source."""

    connection: str = ""


class Pages(Record):
    """Where each page of such a list begins, in its order; an empty list has none.

    Attributes:
        certificates: How many are listed.
    """

    cursors: list[str]
    certificates: int


class CertificateQuery(Record):
    """One certificate of a source, by the source's own name of it."""

    certificate: str
    connection: str = ""


class RenewalQuery(Record):
    """The certificate whose renewal is asked about: its issuer's key identifier and its serial, hexadecimal."""

    authority_key: str
    serial: str
    connection: str = ""


class RenewalWindow(Record):
    """When an authority wants a certificate renewed (RFC 9773).

    Attributes:
        offered: Whether the authority says so at all; if not, everything else is empty.
        reason: Page that explains it to people, when the authority names one.
        again_after_s: Seconds after which to ask again.
    """

    offered: bool
    start: AwareDatetime | None = None
    end: AwareDatetime | None = None
    reason: str = ""
    again_after_s: float = 0.0


class NewOrder(Record):
    """A certificate to order.

    Attributes:
        names: DNS names, wildcards allowed; order and letter case do not count.
        proof: How control of the names will be shown; a wildcard wants `dns-01`.
        replaces: Reference of the kept certificate that it renews; empty for a first one.
        profile: The authority's name of a kind of certificate, such as a short-lived one; empty for its default.
    """

    names: list[str]
    proof: ProofKind = "dns-01"
    replaces: str = ""
    profile: str = ""
    connection: str = ""


class Proof(Record):
    """What has to be shown for one name of an order.

    Attributes:
        name: The DNS name, without a wildcard's `*.`.
        authorisation: Address at the authority under which the name is proven.
        record: For dns-01: the full name of the TXT record ...
        value: ... and its value.
        path: For http-01: the path at port 80 of the name ...
        content: ... and what it must answer.
    """

    name: str
    kind: ProofKind
    authorisation: str
    record: str = ""
    value: str = ""
    path: str = ""
    content: str = ""


class OrderState(Record):
    """An order; `order` is its address at the authority, empty while only planned.

    Attributes:
        state: `pending` (names to prove), `ready` (to finalise), `processing`, `valid` (issued) or `planned`.
        proofs: What has to be shown, name by name; nothing for a name that the authority knows to be ours already.
    """

    order: str
    state: str
    names: list[str]
    proofs: list[Proof] = []
    expires: AwareDatetime | None = None


class Proving(Record):
    """One name of an order whose proof is in place: the authority may look now."""

    authorisation: str
    name: str
    kind: ProofKind
    connection: str = ""


class ProvenState(Record):
    """Whether the authority has seen the proof: `pending` or `valid`."""

    name: str
    state: str


class Finalising(Record):
    """An order whose names are proven: have the certificate issued for a new key of this kind."""

    order: str
    names: list[str]
    key: KeyKind = "ec-p256"
    connection: str = ""


class KeptCertificate(Record):
    """A certificate that Regie keeps; while only planned, everything but the names is empty."""

    certificate: str
    serial: str
    names: list[str]
    issuer: str = ""
    authority_key: str = ""
    not_before: AwareDatetime | None = None
    not_after: AwareDatetime | None = None
    key: str = ""


class Target(Record):
    """A place that serves a certificate, by the name that its connection gives it."""

    target: str
    connection: str = ""


NOTHING = "nothing"
"""In place of a certificate: the target is to have none."""


class Deployment(Record):
    """A certificate to put in place at a target.

    Attributes:
        certificate: Reference of a kept one. Where the target takes its certificates from a store, also the store's own
            name of one, such as an ARN, or `nothing`. Empty means what was there before Regie came, where the target
            keeps that itself.
    """

    target: str
    certificate: str
    connection: str = ""


class DeployedState(Record):
    """What a target has.

    Attributes:
        serial: What it serves to whoever connects; empty when it serves none.
        connection: As it was asked for, so that the answer says where to ask again.
        certificate: Reference of the same certificate where Regie keeps it, else empty.
        restore: What `certificate.deploy` takes to have this very certificate in place again, whoever put it there.
        installed: Serial of what is written in its configuration; differs from `serial` until it has reloaded.
    """

    target: str
    serial: str
    restore: str
    connection: str = ""
    certificate: str = ""
    installed: str = ""
    not_after: AwareDatetime | None = None


class Importing(Record):
    """A kept certificate to hand to a store; `replaces` is the store's name of the one whose place it takes."""

    certificate: str
    replaces: str = ""
    connection: str = ""


class Publication(Record):
    """What a name must answer at a path below `/.well-known/acme-challenge/` for as long as its proof takes."""

    name: str
    path: str
    content: str
    connection: str = ""


class PublicationState(Record):
    """Whether the path answers so."""

    name: str
    path: str
    published: bool


LIST = Capability("certificate.list", Effect.READ, Source, Inventory, "List the certificates of a source.")
LIST_PAGES = Capability(
    "certificate.list_pages",
    Effect.READ,
    CertificateList,
    Pages,
    "Find out how many pages of certificates a source has.",
)
FIND = Capability("certificate.find", Effect.READ, CertificateQuery, Certificate, "Look one certificate up.")
RENEWAL_WINDOW = Capability(
    "certificate.renewal_window",
    Effect.READ,
    RenewalQuery,
    RenewalWindow,
    "Ask the authority when a certificate should be renewed.",
)
FIND_DEPLOYED = Capability(
    "certificate.find_deployed", Effect.READ, Target, DeployedState, "Look up which certificate a target has."
)
ORDER = Capability("certificate.order", Effect.WRITE, NewOrder, OrderState, "Order a certificate.")
PROVE = Capability(
    "certificate.prove", Effect.WRITE, Proving, ProvenState, "Have the authority look at the proof for a name."
)
FINALISE = Capability(
    "certificate.finalise", Effect.WRITE, Finalising, KeptCertificate, "Have an ordered certificate issued."
)
IMPORT = Capability(
    "certificate.import", Effect.WRITE, Importing, Certificate, "Hand a kept certificate to a store of certificates."
)
DEPLOY = Capability(
    "certificate.deploy", Effect.WRITE, Deployment, DeployedState, "Put a kept certificate in place at a target."
)
PUBLISH_PROOF = Capability(
    "certificate.publish_proof", Effect.WRITE, Publication, PublicationState, "Have a name answer with a proof."
)
WITHDRAW_PROOF = Capability(
    "certificate.withdraw_proof", Effect.WRITE, Publication, PublicationState, "Take a proof away again."
)
