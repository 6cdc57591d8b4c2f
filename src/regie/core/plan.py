"""What a write would do, field by field, before it is done. Connectors plan; approvers sign; the gateway compares."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from regie.core import canonical


class FieldChange(BaseModel):
    """One field that would get another value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str
    before: JsonValue
    after: JsonValue


class NoChange(BaseModel):
    """The world already is as wanted; `because` says so in words for people."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["no_change"] = "no_change"
    capability: str
    target: str
    because: str


class Change(BaseModel):
    """One difference to make in the outside world.

    Attributes:
        target: Vendor-neutral address of the thing changed, stable between plan and apply (`user:ID`, `ticket:KEY`).
        title: The target in words for people; not part of the digest.
        fields: What gets another value, in a fixed order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["change"] = "change"
    capability: str
    target: str
    title: str
    fields: tuple[FieldChange, ...]

    @cached_property
    def digest(self) -> str:
        """What an approver signs: SHA-256 over capability, target and each field before and after."""
        return canonical.digest(
            {
                "capability": self.capability,
                "target": self.target,
                "fields": [field.model_dump(mode="json") for field in self.fields],
            }
        )

    def in_words(self) -> str:
        """The change on one line, such as `Jan Janssen: enabled true -> false`."""
        parts = (f"{part.field} {_in_words(part.before)} -> {_in_words(part.after)}" for part in self.fields)
        # A title is often a name that somebody outside has given; it must not look like further lines.
        return f"{' '.join(self.title.split())}: {', '.join(parts)}"


LONGEST_IN_WORDS = 120
"""Most characters of one value in a change told on one line; the plan itself keeps it whole."""


def _in_words(value: JsonValue) -> str:
    text = canonical.encode(value).decode()
    return text if len(text) <= LONGEST_IN_WORDS else f"{text[:LONGEST_IN_WORDS]}..."


Planned = Annotated[NoChange | Change, Field(discriminator="kind")]


class Receipt(BaseModel):
    """What the outside system answered to a change.

    Attributes:
        request_id: The vendor's own id of the request, to find it in their logs.
        remote_id: The vendor's id of what was made, if something was made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: str = ""
    remote_id: str = ""


class Pending(BaseModel):
    """The change was accepted and takes effect later; ask again with the handle after so many seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    handle: JsonValue
    again_after_s: float
    receipt: Receipt = Receipt()


class PlannedStep(BaseModel):
    """What one step under an approval would do: one line of what the approver sees."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    place: str
    uses: str
    planned: Planned


def change_digests(plan: list[PlannedStep]) -> list[str]:
    """The digests an approval of this plan signs, in plan order."""
    return [step.planned.digest for step in plan if isinstance(step.planned, Change)]


def plan_digest(plan: list[PlannedStep]) -> str:
    """One digest over the list of change digests: what the approval leaf records."""
    return canonical.digest(list(change_digests(plan)))
