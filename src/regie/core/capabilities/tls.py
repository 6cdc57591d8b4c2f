"""Capabilities about TLS endpoints: what a server shows to whoever connects, and what is wrong with it.

What is wrong is data: a finding with a stable code. An endpoint that nobody can reach is a finding too, not an error.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from regie.core.capability import Capability, Effect, Record

MOST_ENDPOINTS = 200
"""Endpoints of one page: so many are inspected within one question to the gateway, whatever they do."""

StartTls = Literal["none", "smtp", "imap", "pop3", "ldap", "postgres", "xmpp"]
"""Whether TLS begins at once, or is asked for in a protocol first."""

Severity = Literal["info", "low", "medium", "high"]


class Code(StrEnum):
    """What can be found. Tickets and workflows compare these words, so they stay as they are."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    REVOKED = "revoked"
    NAME_MISMATCH = "name_mismatch"
    SELF_SIGNED = "self_signed"
    CHAIN_INCOMPLETE = "chain_incomplete"
    CHAIN_INVALID = "chain_invalid"
    UNTRUSTED_ROOT = "untrusted_root"
    WRONG_PURPOSE = "wrong_purpose"
    UNREADABLE = "unreadable"
    UNREACHABLE = "unreachable"
    NO_TLS = "no_tls"
    STARTTLS_NOT_OFFERED = "starttls_not_offered"
    WEAK_KEY = "weak_key"
    WEAK_SIGNATURE = "weak_signature"
    OLD_PROTOCOL = "old_protocol"
    REVOCATION_UNKNOWN = "revocation_unknown"
    NOT_INSPECTED = "not_inspected"

    @property
    def severity(self) -> Severity:
        """`high`: a careful client refuses; `medium`: it should; `low`: it could not be found out."""
        if self in {Code.REVOCATION_UNKNOWN, Code.NOT_INSPECTED}:
            return "low"
        return "medium" if self in {Code.WEAK_KEY, Code.WEAK_SIGNATURE, Code.OLD_PROTOCOL} else "high"


class Finding(Record):
    """One thing that is wrong.

    Attributes:
        code: What.
        severity: That of the code.
        cause: A stable word for why, where a code has several: `refused`, `timeout` and `dns` of `unreachable`.
        certificate: Position in the presented chain, 0 for the server's own; none where it is about none of them.
        text: One sentence for people.
    """

    code: Code
    severity: Severity
    cause: str = ""
    certificate: int | None = None
    text: str


class PresentedCertificate(Record):
    """One certificate as far as we read it (RFC 5280).

    Attributes:
        subject: As RFC 4514 writes it.
        issuer: Likewise.
        serial: Lower-case hexadecimal without leading zeros.
        sha256: Digest of the whole certificate, hexadecimal.
        names: DNS names in ASCII and addresses that it is for, in its own order.
        key: Kind and size of its key: `rsa-2048`, `ec-p256`, `ed25519`, `dsa-1024`; `other` where it cannot be told.
        signature: How its issuer signed it, such as `ecdsa-with-SHA256`.
        authority_key: Key identifier of its issuer, hexadecimal; empty where it does not tell.
    """

    subject: str
    issuer: str
    serial: str
    sha256: str
    names: list[str]
    not_before: AwareDatetime
    not_after: AwareDatetime
    key: str
    signature: str = ""
    authority_key: str = ""


class Endpoint(Record):
    """Where to connect. `server_name` is asked for (SNI) and looked for in the certificate; the host when empty."""

    host: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    port: int = Field(default=443, ge=1, le=65535)
    server_name: str = Field(default="", max_length=253)
    starttls: StartTls = "none"


class EndpointQuery(Endpoint):
    """One endpoint to look at, through a connection where the tenant has several."""

    connection: str = ""


class Inspection(Record):
    """What an endpoint showed. Unreachable is a finding, and then `chain` is empty.

    Attributes:
        reached: Whether it presented a certificate.
        serial, names, issuer, authority_key, not_before, not_after, key: Of the first certificate; empty without one.
        address: The address that was connected to; empty when none was.
        protocol: Version that was agreed on, such as `TLSv1.3`.
        chain: As presented, whether it verifies or not; the server's own certificate first.
        findings: Sorted by severity, the worst first; empty when nothing is wrong.
    """

    host: str
    port: int
    server_name: str
    starttls: StartTls = "none"
    reached: bool
    serial: str = ""
    names: list[str] = []
    issuer: str = ""
    authority_key: str = ""
    not_before: AwareDatetime | None = None
    not_after: AwareDatetime | None = None
    key: str = ""
    address: str = ""
    protocol: str = ""
    chain: list[PresentedCertificate] = []
    findings: list[Finding] = []


class Summary(Record):
    """An inspection in few words, as a list of thousands can carry it.

    Attributes:
        findings: Codes of what is wrong, the worst first, each with its cause behind a colon where it has one.
        severity: Of the worst finding; `info` without one.
    """

    host: str
    port: int
    server_name: str
    reached: bool
    serial: str = ""
    authority_key: str = ""
    issuer: str = ""
    not_before: AwareDatetime | None = None
    not_after: AwareDatetime | None = None
    findings: list[str] = []
    severity: Severity = "info"


class Endpoints(Record):
    """A page of endpoints to look at."""

    endpoints: list[Endpoint] = Field(max_length=MOST_ENDPOINTS)
    connection: str = ""


class Summaries(Record):
    """What a page of endpoints showed, in the order asked for.

    Attributes:
        endpoints: One for each that was asked for.
        troubled: How many of them have a finding of high or medium severity.
    """

    endpoints: list[Summary]
    troubled: int


class Listed(Record):
    """A page of the endpoints that a connection lists; the first begins at the empty cursor."""

    connection: str = ""
    cursor: str = ""


class ListedSummaries(Summaries):
    """What such a page showed. `cursor` is where the next one begins, empty after the last one."""

    cursor: str = ""


class Files(Record):
    """The certificate files of a host, a page at a time; the first begins at the empty cursor."""

    connection: str = ""
    cursor: str = ""


class FileInspection(Record):
    """What a file holds, and what is wrong with it. A file without a certificate has the finding `unreadable`."""

    path: str
    certificates: list[PresentedCertificate]
    findings: list[Finding]


class FilePage(Record):
    """A page of files, sorted by path. `cursor` is where the next page begins, empty after the last one."""

    files: list[FileInspection]
    cursor: str = ""


INSPECT = Capability(
    "tls.inspect", Effect.READ, EndpointQuery, Inspection, "Connect to an endpoint and look at its certificate."
)
INSPECT_MANY = Capability(
    "tls.inspect_many", Effect.READ, Endpoints, Summaries, "Look at a page of endpoints and sum each of them up."
)
INSPECT_LISTED = Capability(
    "tls.inspect_listed",
    Effect.READ,
    Listed,
    ListedSummaries,
    "Look at a page of the endpoints that a connection lists and sum each of them up.",
)
INSPECT_FILES = Capability(
    "tls.inspect_files", Effect.READ, Files, FilePage, "Look at the certificate files in the folders of a host."
)
