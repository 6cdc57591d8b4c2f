"""Signed notes: checkpoints of logs, the keys that sign them and the lines of witnesses.

Formats: c2sp.org/signed-note, c2sp.org/tlog-checkpoint, c2sp.org/tlog-cosignature. The notary signs checkpoints, a
witness checks and countersigns them. Signing is a function of key and text alone: Ed25519 draws no random numbers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from regie.core.errors import InvalidInput

DASH = "\N{EM DASH}"
KEY_ID_BYTES = 4
TIME_BYTES = 8
MOST_LINES = 64
"""More signatures than that has no note of ours."""


class KeyKind(IntEnum):
    """What a key signs, as the byte before it in its text form."""

    LOG = 1
    WITNESS = 4


@dataclass(frozen=True)
class VerifierKey:
    """A public key with the name that its signatures carry."""

    name: str
    kind: KeyKind
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes by which its signatures are found."""
        return hashlib.sha256(self.name.encode() + b"\n" + self._typed).digest()[:KEY_ID_BYTES]

    @property
    def _typed(self) -> bytes:
        return bytes([self.kind]) + self.public

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self._typed).decode()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form (a *vkey*).

        Raises:
            InvalidInput: It is none, or of a kind that is not known here.
        """
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            typed = base64.b64decode(encoded, validate=True)
            key = cls(_name(name), KeyKind(typed[0]), typed[1:])
            Ed25519PublicKey.from_public_bytes(key.public)
        except (ValueError, IndexError):
            key = None
        if key is None or key.key_id.hex() != key_id:
            raise InvalidInput(f"{text!r} is no Ed25519 verifier key.", hint="It reads NAME+ID+KEY, in one line.")
        return key

    def has_signed(self, note: SignedNote) -> bool:
        """Whether one of the signatures of a note is by this key."""
        return any(self._fits(line, note.text) for line in note.signatures)

    def _fits(self, line: Signature, text: str) -> bool:
        if (line.name, line.key_id) != (self.name, self.key_id):
            return False
        signature, signed = line.value, text.encode()
        if self.kind is KeyKind.WITNESS:
            at_s, signature = int.from_bytes(signature[:TIME_BYTES], "big"), signature[TIME_BYTES:]
            signed = _cosigned(text, at_s)
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, signed)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Signature:
    """One signature line of a note; of a witness the value begins with the time."""

    name: str
    key_id: bytes
    value: bytes

    def __str__(self) -> str:
        return f"{DASH} {self.name} {base64.b64encode(self.key_id + self.value).decode()}\n"

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read a line, without its newline.

        Raises:
            InvalidInput: It is no signature line.
        """
        parts = line.split(" ")
        try:
            dash, name, encoded = parts
            value = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            dash, name, value = "", "", b""
        if dash != DASH or not name or len(value) <= KEY_ID_BYTES:
            raise InvalidInput("A signature line of a note cannot be read.")
        return cls(name, value[:KEY_ID_BYTES], value[KEY_ID_BYTES:])


@dataclass(frozen=True)
class SignedNote:
    """A text, ending in a newline, and who has signed it."""

    text: str
    signatures: tuple[Signature, ...] = ()

    def __str__(self) -> str:
        return f"{self.text}\n{''.join(map(str, self.signatures))}"

    @classmethod
    def parse(cls, encoded: str) -> Self:
        """Read a note.

        Raises:
            InvalidInput: It is none.
        """
        text, gap, lines = encoded.rpartition("\n\n")
        if not gap or not lines.endswith("\n") or lines.count("\n") > MOST_LINES:
            raise InvalidInput("This is no signed note: a text, an empty line, signature lines.")
        return cls(f"{text}\n", tuple(Signature.parse(line) for line in lines[:-1].split("\n")))

    def with_signatures(self, *signatures: Signature) -> SignedNote:
        """The note with further signatures."""
        return replace(self, signatures=(*self.signatures, *signatures))


@dataclass(frozen=True)
class Checkpoint:
    """The state of a log: its name, how many leaves it has, its root."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """The text that is signed; also, as a leaf of the anchor log, what that log holds."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, body: str) -> Self:
        """Read the text of a checkpoint; lines behind the third are extensions and left alone.

        Raises:
            InvalidInput: It is none.
        """
        try:
            origin, size, root, *_ = body.split("\n")
            checkpoint = cls(origin, int(size), base64.b64decode(root, validate=True))
        except ValueError:
            checkpoint = None
        if checkpoint is None or not body.startswith(checkpoint.body) or checkpoint.size < 0:
            raise InvalidInput("This is no checkpoint: a name, a size, a root.")
        return checkpoint


class SigningKey:
    """A private key. Whoever holds one signs with it under the names it is told.

    Args:
        seed: Its 32 bytes.
    """

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    def verifier(self, name: str, kind: KeyKind = KeyKind.LOG) -> VerifierKey:
        """What others check its signatures with."""
        return VerifierKey(name, kind, self.public)

    def sign(self, text: str, name: str) -> Signature:
        """Sign a checkpoint's text for a log."""
        return Signature(name, self.verifier(name).key_id, self._private.sign(text.encode()))

    def cosign(self, text: str, name: str, at_s: int) -> Signature:
        """Countersign it as a witness, at seconds since 1970."""
        value = at_s.to_bytes(TIME_BYTES, "big") + self._private.sign(_cosigned(text, at_s))
        return Signature(name, self.verifier(name, KeyKind.WITNESS).key_id, value)


def _cosigned(text: str, at_s: int) -> bytes:
    return f"cosignature/v1\ntime {at_s}\n{text}".encode()


def _name(name: str) -> str:
    if not name or any(character.isspace() or character == "+" for character in name):
        raise ValueError(name)
    return name
