"""What parties outside have said: timestamp tokens (RFC 3161) and receipts of deposits, each about one checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING

from cryptography.x509 import Certificate, load_pem_x509_certificates

from regie_verify.notes import Unreadable

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse

DIGESTS = {"2.16.840.1.101.3.4.2.1": "sha256", "2.16.840.1.101.3.4.2.2": "sha384", "2.16.840.1.101.3.4.2.3": "sha512"}
"""Object identifiers of digests that tokens may be over."""

INSTALL = "pip install rfc3161-client"


@dataclass(frozen=True)
class Said:
    """What was said about a checkpoint, in words, and what is wrong with it; nothing when it holds."""

    words: str
    wrong: str = ""


def authorities(pem: bytes) -> list[Certificate]:
    """The certificates in a PEM file.

    Raises:
        Unreadable: There are none, or the package that reads tokens is not installed.
    """
    if find_spec("rfc3161_client") is None:
        raise Unreadable(f"to check timestamps: {INSTALL}")
    try:
        return load_pem_x509_certificates(pem)
    except ValueError:
        raise Unreadable("the file of the timestamp authority holds no certificates") from None


def read_token(token: bytes, checkpoint: bytes, roots: Sequence[Certificate]) -> Said:
    """Look whether a token is over a checkpoint and leads to one of the certificates, when there are any."""
    if find_spec("rfc3161_client") is None:
        return Said(f"not read ({INSTALL})")
    # Optional: bundles without timestamps are checked without it.
    from rfc3161_client import VerificationError, decode_timestamp_response  # noqa: PLC0415
    from rfc3161_client.verify import VerifierBuilder  # noqa: PLC0415

    try:
        response = decode_timestamp_response(token)
        at = _written(response.tst_info.gen_time)
        if not _is_over(response, checkpoint):
            return Said(at, "the timestamp is over something else")
        if roots:
            VerifierBuilder(roots=list(roots)).build().verify_message(response, checkpoint)
    except VerificationError as error:
        return Said("", f"the timestamp is not signed by who should: {error}")
    except ValueError:
        return Said("", "the timestamp is no token of RFC 3161")
    return Said(at)


def read_deposit(receipt: bytes, checkpoint: bytes) -> Said:
    """Look whether a receipt is about a checkpoint. Only who reads the bucket knows whether it is there."""
    try:
        said = json.loads(receipt)
        place = f"s3://{said['bucket']}/{said['key']} until {said['retained_until']}"
        is_over = said["sha256"] == hashlib.sha256(checkpoint).hexdigest()
        datetime.fromisoformat(said["retained_until"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return Said("", "the receipt of a deposit cannot be read")
    return Said(place, "" if is_over else "the receipt is about something else")


def _is_over(response: TimeStampResponse, checkpoint: bytes) -> bool:
    imprint = response.tst_info.message_imprint
    digest = DIGESTS.get(imprint.hash_algorithm.dotted_string)
    return digest is not None and hashlib.new(digest, checkpoint).digest() == imprint.message


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
