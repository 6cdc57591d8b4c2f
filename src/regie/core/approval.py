"""Who must say yes, and what counts as yes. Read by the interpreter, the store and the web.

Silence never means yes: after the last rung of the ladder the outcome is `timeout`, which is not `approved`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from regie.core.capability import Record
from regie.core.errors import Denied

APPROVE = "people.approve"
"""The block that asks people, which the interpreter itself carries out."""
DecisionWord = Literal["approved", "refused", "timeout"]


class Rung(Record):
    """One rung of the ladder: whom to ask, how long to wait before the next rung, when to remind.

    `who` is `user:ADDRESS`, `role:NAME` (the tenant says who holds it) or `manager_of ADDRESS`.
    """

    who: str
    within: str
    remind: str = ""


class ApprovalArguments(Record):
    """What an approval step is given in its definition. Durations are text such as `8h` or `90s`.

    Attributes:
        about: Addresses of the people whom the question is about: nobody decides about themselves.
    """

    question: str
    covers: list[str] = []
    about: list[str] = []
    ask: list[Rung] = Field(min_length=1)
    otherwise: Literal["deny"] = "deny"


class ApprovalOutcome(Record):
    """How the approval ended, as data: only `approved` means yes. `rung` counts from 1, 0 when nobody decided."""

    decision: DecisionWord
    by: str = ""
    comment: str = ""
    rung: int = 0


def closed(status: str, *, by: str | None, at: datetime) -> str:
    """Why an approval that is over needs no decision any more, in words.

    Args:
        status: What it ended as.
        by: Address of whoever decided, if anybody did.
        at: When it ended.
    """
    moment = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    if status == "cancelled":
        return f"The run was cancelled at {moment}: nobody needs to decide any more."
    if by is None:
        return f"Nobody decided in time: this approval ended at {moment}."
    return f"{by} has already decided this: {status}, {moment}."


def require_may_decide(person: str, *, requester: str, approvers: list[str]) -> None:
    """Make sure of four eyes and the ladder: only somebody asked decides, never the requester.

    Args:
        person: Address of whoever wants to decide.
        requester: Address of whoever asked for the run; empty when a program did.
        approvers: Addresses asked so far.

    Raises:
        Denied: This person may not decide this request.
    """
    if person.casefold() == requester.casefold():
        raise Denied(
            f"{person} asked for this run and cannot approve it.", hint="Somebody else on the list must decide."
        )
    if person.casefold() not in {approver.casefold() for approver in approvers}:
        raise Denied(f"{person} has not been asked to decide this.", hint="Asked so far: " + ", ".join(approvers))
