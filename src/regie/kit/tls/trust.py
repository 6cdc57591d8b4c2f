"""Whom a certificate's signature leads to: the path from a presented chain to an authority that is trusted.

The verdict is OpenSSL's, which most clients use; when it says no, we look why. No input or output: roots are handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from OpenSSL.crypto import (
    FILETYPE_ASN1,
    X509,
    X509Store,
    X509StoreContext,
    X509StoreContextError,
    X509StoreFlags,
    dump_certificate,
)
from OpenSSL.SSL import X509VerificationCodes

from regie.core.capabilities.tls import Code
from regie.kit.tls.certificates import Parsed, parse, signed_by

LONGEST_PATH = 10
"""Certificates from the endpoint's own to a root; clients stop at about as many."""


@dataclass(frozen=True, slots=True)
class Path:
    """Where a chain leads.

    Attributes:
        certificates: From the endpoint's own towards the root, each signed by the next, as far as they are known.
        fault: Why it leads to nobody who is trusted; none when it does.
        cause: More exactly, where the fault has several causes: OpenSSL's number, such as `openssl-24`.
        culprit: The certificate the fault is about, where it is about one.
    """

    certificates: tuple[Parsed, ...]
    fault: Code | None = None
    cause: str = ""
    culprit: Parsed | None = None


class Roots:
    """The certificates somebody trusts: roots, and whatever else a customer has named.

    Args:
        trusted: All of them.
    """

    def __init__(self, trusted: Iterable[Parsed]) -> None:
        self._trusted = {each.der: each for each in trusted}
        self._certificates = [X509.from_cryptography(each.x509) for each in self._trusted.values()]
        self._moment: datetime | None = None
        self._store = X509Store()

    def __len__(self) -> int:
        return len(self._trusted)

    def path(self, presented: Sequence[Parsed], now: datetime) -> Path:
        """Follow a chain.

        Whether the endpoint's own certificate is out of its time is another question, so the path is judged for the
        moment of its lifetime that is nearest to now.

        Args:
            presented: The endpoint's own certificate first; the others in any order.
            now: Aware.
        """
        leaf, others = presented[0], presented[1:]
        store = self._at(_within(leaf, now).astimezone(UTC).replace(microsecond=0))
        rest = [X509.from_cryptography(each.x509) for each in others]
        try:
            found = X509StoreContext(store, X509.from_cryptography(leaf.x509), rest).get_verified_chain()
        except X509StoreContextError as error:
            return self._refused(presented, error)
        return Path(tuple(self._known(each, presented) for each in found))

    def _at(self, moment: datetime) -> X509Store:
        """A store that judges for a moment.

        OpenSSL keeps to the first moment that a store is given (X509_VERIFY_PARAM_inherit in x509_vpm.c), so
        another moment needs another store. Many chains that are looked at together share theirs.
        """
        if moment != self._moment:
            store = X509Store()
            # A customer may trust an authority below a root, or one certificate that signed itself.
            store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
            for each in self._certificates:
                store.add_cert(each)
            store.set_time(moment)
            self._moment, self._store = moment, store
        return self._store

    def _refused(self, presented: Sequence[Parsed], error: X509StoreContextError) -> Path:
        """Say why, in our words, and how far the chain can be followed all the same."""
        followed = self._follow(presented)
        number = int(error.errors[0])
        if number == X509VerificationCodes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
            return Path(followed, Code.SELF_SIGNED, culprit=presented[0])
        if number == X509VerificationCodes.ERR_SELF_SIGNED_CERT_IN_CHAIN:
            return Path(followed, Code.UNTRUSTED_ROOT, culprit=followed[-1])
        if number in _ISSUER_UNKNOWN:
            # Servers leave the root out, so behind a presented authority only an unknown root can be missing, mostly.
            is_alone = len(followed) == 1
            return Path(followed, Code.CHAIN_INCOMPLETE if is_alone else Code.UNTRUSTED_ROOT, culprit=followed[-1])
        code = _TIMES.get(number, Code.CHAIN_INVALID)
        cause = "" if number in _TIMES else f"openssl-{number}"
        return Path(followed, code, cause, self._known(error.certificate, presented))

    def _follow(self, presented: Sequence[Parsed]) -> tuple[Parsed, ...]:
        """The endpoint's own certificate, its issuer, that one's issuer ... as far as they are presented or trusted."""
        path = [presented[0]]
        left = {each.der: each for each in (*presented[1:], *self._trusted.values())}
        left.pop(path[0].der, None)
        while not path[-1].is_self_issued and len(path) < LONGEST_PATH:
            issuer = next((each for each in left.values() if signed_by(path[-1], each)), None)
            if issuer is None:
                break
            path.append(left.pop(issuer.der))
        return tuple(path)

    def _known(self, certificate: X509, presented: Sequence[Parsed]) -> Parsed:
        der = dump_certificate(FILETYPE_ASN1, certificate)
        return self._trusted.get(der) or next((each for each in presented if each.der == der), None) or parse(der)


def _within(leaf: Parsed, now: datetime) -> datetime:
    """The moment of a certificate's lifetime that is nearest to now."""
    return max(leaf.x509.not_valid_before_utc, min(now, leaf.x509.not_valid_after_utc))


_ISSUER_UNKNOWN = {
    X509VerificationCodes.ERR_UNABLE_TO_GET_ISSUER_CERT,
    X509VerificationCodes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
    X509VerificationCodes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
}
_TIMES = {
    X509VerificationCodes.ERR_CERT_HAS_EXPIRED: Code.EXPIRED,
    X509VerificationCodes.ERR_CERT_NOT_YET_VALID: Code.NOT_YET_VALID,
}
