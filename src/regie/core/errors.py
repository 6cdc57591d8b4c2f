"""The whole vocabulary of errors. The class decides what happens next; the message and the hint are for people.

Everyone raises these; the interpreter's retry rule and the web's problem documents read only the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict


class RegieError(Exception):
    """Something Regie can explain.

    Args:
        message: What is wrong and where, in one sentence.
        hint: What to do about it, when there is something to do.
    """

    may_retry: ClassVar[bool] = False
    """Whether trying the same thing again later can help."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a file that a person wrote. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.file}:{self.line}:{self.column}: {self.message}{hint}"


class DefinitionError(RegieError):
    """A definition or a workspace file is wrong; its author must change it. Carries every fault, in file order."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = sorted(faults, key=lambda fault: (fault.file, fault.line, fault.column))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class InvalidInput(RegieError):
    """What a person, a ticket or a program handed in cannot be used; whoever handed it in must change it."""


class Denied(RegieError):
    """A policy, a grant or an approval does not allow this. Trying again changes nothing."""


class EvaluationError(RegieError):
    """An expression met data it cannot work on: a missing field, a text where a boolean belongs."""


class Terminal(RegieError):
    """The outside system said no for good: repeating the same request cannot succeed."""


class Refused(Terminal):
    """The outside system understood the request and will not do it as asked.

    Args:
        message: What was refused, in one sentence.
        status: HTTP status of the refusal.
        code: The vendor's own code for the reason; empty where it gave none that is safe to repeat.
    """

    def __init__(self, message: str, *, status: int, code: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


class NotFound(Terminal):
    """The thing that the step is about does not exist in the outside system."""


class AuthFailed(Terminal):
    """The outside system does not accept our credentials or lacks a permission: the connection needs attention."""


class LimitReached(Terminal):
    """The run has made as many changes as its definition allows one run; nothing more is changed."""


class WorldMoved(Terminal):
    """What would be changed now is not what was approved. Carries both, so that a person can compare.

    Args:
        message: Which target moved.
        approved: The approved change, as text for people.
        found: The change that would be needed now, as text for people.
    """

    def __init__(self, message: str, *, approved: str, found: str, hint: str | None = None) -> None:
        super().__init__(f"{message} Approved: {approved}. Needed now: {found}.", hint=hint)
        self.approved = approved
        self.found = found


class NotVerified(Terminal):
    """The change was made, but reading back does not show it."""


class ChildFailed(Terminal):
    """The run that a step has started failed, or was cancelled by itself; its own page says why."""


class Retryable(RegieError):
    """Nothing happened and the same request may succeed later.

    Args:
        after_s: Seconds the outside system asked us to wait, when it said so.
    """

    may_retry: ClassVar[bool] = True

    def __init__(self, message: str, *, after_s: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.after_s = after_s


class Throttled(Retryable):
    """The outside system asks us to slow down, or a domain has too many runs waiting already."""


class BudgetSpent(Throttled):
    """Our own rate budget of the outside system has no room at the moment: nothing was sent, and no try is lost."""


class Unavailable(Retryable):
    """The outside system, the gateway or the database does not answer at the moment."""


class TimedOut(Retryable):
    """A step did not finish within its time; what it may have changed is settled by observing again."""


class OutcomeUnknown(RegieError):
    """A write was sent and no answer came: it may have happened. Reconcile by observing; never repeat blindly.

    Args:
        after_s: Seconds the outside system asked us to wait, when it said so.
    """

    def __init__(self, message: str, *, after_s: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.after_s = after_s


class AuditBroken(RegieError):
    """The audit record cannot be written, so the action must not happen."""


class FencedOut(RegieError):
    """Somebody else owns this run now; whoever gets this drops everything it holds about the run."""


class Failure(BaseModel):
    """An error as data: what a step result, a run state or a problem document carries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """Class name of the error: stable across versions, what `error.kind` in `on-error` shows."""
    message: str
    hint: str | None = None
    may_retry: bool = False
    after_s: float | None = None

    @classmethod
    def of(cls, error: RegieError) -> Self:
        """Describe an error as data."""
        after_s = error.after_s if isinstance(error, Retryable) else None
        return cls(
            kind=type(error).__name__,
            message=error.message,
            hint=error.hint,
            may_retry=error.may_retry,
            after_s=after_s,
        )
