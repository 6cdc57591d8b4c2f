"""What the gateway asks: may this step ask for that capability, and make this very change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from regie.core.needs import AROUND, Needs
from regie.core.places import undone_place, written_place
from regie.policy.request import Entity, Ref, Request, Value, people, person_ref

Asking = Literal["call", "plan", "apply"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """What policies may know of a step.

    Attributes:
        place: As written in the definition; `at` is where it stands in the run, with the indices of its loops.
        needs: Names of the capabilities that its block needs.
        approvals: Places of the approvals that cover it.
        undone: The place that it takes back; empty when it is no undo.
        is_around: It reads the ticket before the first step, or answers it after the last one.
    """

    tenant: str
    domain: str
    workflow: str
    place: str
    at: str
    needs: frozenset[str]
    approvals: frozenset[str] = frozenset()
    undone: str = ""
    is_dry: bool = False
    is_approval: bool = False
    is_around: bool = False

    @classmethod
    def of(cls, needs: Needs, *, tenant: str, domain: str, workflow: str, at: str, is_dry: bool) -> Self:
        """What the definition says of a place of a run."""
        return cls(
            tenant=tenant,
            domain=domain,
            workflow=workflow,
            place=written_place(at),
            at=at,
            needs=needs.capabilities,
            approvals=frozenset(needs.approvals),
            undone=undone_place(at) or "",
            is_dry=is_dry,
            is_approval=needs.is_approval,
            is_around=at in AROUND,
        )

    @property
    def entity(self) -> Entity:
        """The step for Cedar. Every run of the workflow has the same ones."""
        return Entity(
            Ref("Step", f"{self.tenant}/{self.workflow}/{self.place}"),
            {
                "tenant": self.tenant,
                "domain": self.domain,
                "workflow": self.workflow,
                "place": self.place,
                "needs": self.needs,
                "approvals": self.approvals,
                "is_dry": self.is_dry,
                "is_approval": self.is_approval,
                "is_undo": bool(self.undone),
                "is_around": self.is_around,
            },
        )

    def words(self, **other: str) -> dict[str, str]:
        """What policies may say about it."""
        return {
            "who": f"Step {self.at} of {self.workflow}",
            "tenant": self.tenant,
            "domain": self.domain,
            "workflow": self.workflow,
            "place": self.at,
            "undone": self.undone,
            **other,
        }


def ask(
    step: StepFacts,
    asking: Asking,
    capability: str,
    *,
    may_plan: bool = False,
    has_changed: bool = False,
    is_own_ticket: bool = False,
) -> Request:
    """May a step ask for a capability? Put before a vendor is spoken with.

    Args:
        may_plan: A dry run, an approval, or what one covers.
        has_changed: Of an undo: there is something to take back.
        is_own_ticket: The question is about the run's own ticket.
    """
    return Request(
        principal=step.entity,
        action=asking,
        resource=Entity(
            Ref("Capability", capability), {"tenant": step.tenant, "domain": step.domain, "name": capability}
        ),
        context={"may_plan": may_plan, "has_changed": has_changed, "is_own_ticket": is_own_ticket},
        words=step.words(action=asking, capability=capability),
    )


def change(
    step: StepFacts,
    target: str,
    *,
    capability: str,
    effect: str,
    connection: str,
    connector: str,
    requester: str = "",
    approved_by: Iterable[str] = (),
) -> Request:
    """May a step make this very change? Put before its intent is written down.

    Args:
        target: The connector's name for what is changed.
        effect: Of the capability: `write` or `destructive`.
        requester: Address of whoever asked for the run; empty when a program did.
        approved_by: Addresses of those who approved it.
    """
    context: dict[str, Value] = {"approved_by": people(approved_by)}
    if requester:
        context["requester"] = person_ref(requester)
    about: dict[str, Value] = {
        "tenant": step.tenant,
        "domain": step.domain,
        "capability": capability,
        "effect": effect,
        "connection": connection,
        "connector": connector,
    }
    return Request(
        principal=step.entity,
        action="change",
        resource=Entity(Ref("Target", target), about),
        context=context,
        words=step.words(action="change", capability=capability, target=target),
    )
