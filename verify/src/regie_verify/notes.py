"""Reads signed notes, checkpoints, keys, proofs: signed-note, tlog-checkpoint, -cosignature, -proof of c2sp.org."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LOG, WITNESS = 1, 4
"""Kinds of keys."""
DASH = "\N{EM DASH}"


class Unreadable(Exception):
    """Something does not have the form that it must have."""


@dataclass(frozen=True)
class Key:
    """A public key and the name it signs under."""

    name: str
    kind: int
    public: bytes

    @classmethod
    def read(cls, vkey: str) -> Key:
        """Read the text form, NAME+ID+KEY."""
        name, _, rest = vkey.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        typed = unbase64(encoded, "a key")
        key = cls(name, typed[0] if typed else 0, typed[1:])
        if key.kind not in (LOG, WITNESS) or len(key.public) != 32 or key.key_id.hex() != key_id:
            raise Unreadable(f"{vkey!r} is no Ed25519 key of a log or a witness")
        return key

    @property
    def key_id(self) -> bytes:
        """The four bytes that its signatures begin with."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def named(self, name: str) -> Key:
        """The same key under another name."""
        return Key(name, self.kind, self.public)


@dataclass(frozen=True)
class Note:
    """A text and the signatures below it: name, then the bytes behind it."""

    text: str
    signatures: tuple[tuple[str, bytes], ...]

    @classmethod
    def read(cls, encoded: str) -> Note:
        """Read a signed note."""
        text, gap, below = encoded.rpartition("\n\n")
        lines = below.split("\n")
        if not gap or lines.pop() != "" or not lines:
            raise Unreadable("a signed note must have a text, an empty line and signatures")
        signatures = []
        for line in lines:
            dash, _, rest = line.partition(" ")
            name, _, value = rest.partition(" ")
            if dash != DASH or not name:
                raise Unreadable("a signature line cannot be read")
            signatures.append((name, unbase64(value, "a signature")))
        return cls(f"{text}\n", tuple(signatures))

    def signed_at(self, key: Key) -> int | None:
        """When a key has signed it, in seconds since 1970; 0 for logs, which do not say. None when it has not."""
        for name, value in self.signatures:
            if name != key.name or value[:4] != key.key_id:
                continue
            at, signature, message = 0, value[4:], self.text.encode()
            if key.kind == WITNESS:
                at, signature = int.from_bytes(signature[:8], "big"), signature[8:]
                message = f"cosignature/v1\ntime {at}\n".encode() + message
            try:
                Ed25519PublicKey.from_public_bytes(key.public).verify(signature, message)
            except (InvalidSignature, ValueError):
                continue
            return at
        return None

    def is_signed_by(self, keys: list[Key], name: str) -> bool:
        """Whether one of some keys has signed it under a name."""
        return any(self.signed_at(key.named(name)) is not None for key in keys)


@dataclass(frozen=True)
class Checkpoint:
    """A log's name, size and root."""

    origin: str
    size: int
    root: bytes

    @classmethod
    def read(cls, text: str) -> Checkpoint:
        """Read the text of a checkpoint."""
        lines = text.split("\n")
        if len(lines) < 4 or not lines[0] or not is_number(lines[1]):
            raise Unreadable("a checkpoint must have a name, a size and a root")
        root = unbase64(lines[2], "a root")
        if len(root) != 32:
            raise Unreadable("a root must have 32 bytes")
        return cls(lines[0], int(lines[1]), root)


@dataclass(frozen=True)
class Proof:
    """That a log holds something at a place, and the checkpoint this is so under."""

    index: int
    hashes: tuple[bytes, ...]
    note: Note

    @classmethod
    def read(cls, encoded: str) -> Proof:
        """Read a proof of inclusion."""
        head, gap, note = encoded.partition("\n\n")
        lines = head.split("\n")
        if not gap or lines.pop(0) != "c2sp.org/tlog-proof@v1":
            raise Unreadable("this is no proof of inclusion")
        if lines and lines[0].startswith("extra "):
            lines.pop(0)
        word, _, index = (lines.pop(0) if lines else "").partition(" ")
        if word != "index" or not is_number(index):
            raise Unreadable("a proof must say which place it is about")
        return cls(int(index), tuple(unbase64(line, "a hash") for line in lines), Note.read(note))


def unbase64(text: str, what: str) -> bytes:
    """Decode base64 strictly."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable(f"{what} is no base64") from None


def is_number(text: str) -> bool:
    """Whether a text is a decimal number as checkpoints write it."""
    return text == "0" or (text.isascii() and text.isdigit() and text[0] != "0" and len(text) < 19)
