"""Keys and certificates as an implementation may use them: it names them, and the gateway's side holds and uses them.

A private key is made, signs and is put in place without an implementation ever seeing it. `Material` stands for what a
file or a call needs of it; the access fills in the bytes at the last moment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from regie.core.capabilities.certificate import KeptCertificate, KeyKind


class Part(StrEnum):
    """A part of a kept certificate, as PEM."""

    CERTIFICATE = "certificate"
    """The server's own certificate alone."""
    INTERMEDIATES = "intermediates"
    """What leads from it to the root, without either; may be empty."""
    CHAIN = "chain"
    """Both, the server's own first: what nginx calls a certificate file."""
    PRIVATE_KEY = "private-key"
    """The private key, as PKCS #8. Filled in only if it fits the certificate."""
    EVERYTHING = "everything"
    """Chain and private key in one, as HAProxy wants it. Filled in only if they fit."""


@dataclass(frozen=True, slots=True)
class Material:
    """Bytes that an implementation may pass on and not read: a part of the certificate with this reference."""

    certificate: str
    part: Part


Resolve = Callable[[Material], Awaitable[bytes]]
"""How an access comes by the bytes. The gateway's; implementations have none."""


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """A request for a certificate (PKCS #10, RFC 2986).

    Attributes:
        certificate: Reference under which the key waits for its certificate.
        der: The request, signed with that key.
    """

    certificate: str
    der: bytes


class Keys(Protocol):
    """The keys and certificates of one tenant in one domain."""

    async def request(self, order: str, names: Sequence[str], kind: KeyKind) -> SigningRequest:
        """Make a key for an order, or find the one made before, and have it sign a request for the names.

        Args:
            order: What the key is for, such as the order's address: the same one always gets the same key.

        Raises:
            InvalidInput: A name cannot stand in a certificate.
        """
        ...

    async def keep(self, certificate: str, chain_pem: str, names: Sequence[str]) -> KeptCertificate:
        """Keep the chain that was issued for a key and names. Again with the same chain changes nothing.

        Raises:
            Refused: It is for another key or other names, is not in order, or another chain is kept already.
            NotFound: There is no key under that reference.
        """
        ...

    async def reference(self, order: str) -> str:
        """The reference under which a certificate for an order is or will be kept.

        An empty order is one that is only planned: then it is a reference whose certificate has the serial `planned`.
        """
        ...

    async def get(self, certificate: str) -> KeptCertificate:
        """A kept certificate.

        Raises:
            NotFound: None is kept under that reference.
        """
        ...

    async def with_serial(self, serial: str) -> KeptCertificate | None:
        """The kept certificate with a serial, if one is kept."""
        ...

    async def thumbprint(self) -> str:
        """Of the connection's ACME account key (RFC 7638), base64url: public, part of every proof.

        Raises:
            Denied: The connection has no account.
        """
        ...
