"""How an outside effect may repeat, the keys under which the effect ledger knows it, and what a run notes of it."""

from __future__ import annotations

from enum import StrEnum

from regie.core import canonical
from regie.core.data import Data


class Repeat(StrEnum):
    """How a connector's write may happen again when nobody knows whether it happened."""

    OBSERVABLE = "observable"
    """The state can be read back: observe, then plan."""
    MARKER = "marker"
    """We plant a mark and search for it first."""
    ONCE = "once"
    """Cannot be observed: never again on an unknown outcome; a person decides."""
    HARMLESS = "harmless"
    """Cannot be observed, but a repeat hurts nobody."""


class EffectState(StrEnum):
    """Where one effect stands in the ledger."""

    INTENDED = "intended"
    """Written before the call: it may have happened."""
    PENDING = "pending"
    """The vendor accepted it and finishes later."""
    RECEIVED = "received"
    """Done, verified, with a receipt."""
    UNCHANGED = "unchanged"
    """Nothing was needed: the world already was as wanted."""
    FAILED = "failed"
    """The vendor refused it: it did not happen."""
    UNKNOWN = "unknown"
    """No answer came and observing could not settle it: a person must."""


class EffectNote(Data):
    """What a step did or found needless, for reports, pages and the run's own record.

    Attributes:
        words: The change, or why none was needed, in words for people.
        changed: Whether the outside world was changed.
        digest: The change's digest; empty when nothing changed.
        request_id: The outside system's id of the request.
    """

    capability: str
    target: str
    words: str
    changed: bool
    digest: str = ""
    request_id: str = ""


def attempt_key(run: str, place: str) -> str:
    """Names one step of one run: survives retries and crashes. 64 hexadecimal characters."""
    return canonical.digest(["attempt", run, place])


def effect_key(*, tenant: str, domain: str, workflow: str, intent: str, place: str, target: str) -> str:
    """Names what is meant, whoever runs it: survives a second run for the same ticket. 64 hexadecimal characters.

    Args:
        intent: The ticket that asked for it, or the run when there is no ticket.
        place: Where in the definition the step stands, loop items included.
        target: What it is done to.
    """
    return canonical.digest(["effect", tenant, domain, workflow, intent, place, target])


def object_key(*, tenant: str, domain: str, capability: str, name: str) -> str:
    """Names an object that is meant to exist once for good, whichever run asks for it. 64 hexadecimal characters.

    Args:
        name: As requests give it, such as a certificate and the period it is about.
    """
    return canonical.digest(["object", tenant, domain, capability, name])


def marker(key: str) -> str:
    """The mark planted in a vendor's object for an effect key: short enough to read, long enough not to collide."""
    return f"regie-{key[:20]}"
