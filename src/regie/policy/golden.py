"""Golden tables: questions with the decisions that the owner of a workspace expects, asked whenever it is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator

from regie.core.durations import parse_duration
from regie.core.errors import InvalidInput
from regie.core.needs import needs_at
from regie.core.reach import Act
from regie.core.release import Release
from regie.core.tenant import Written
from regie.policy import people, steps
from regie.policy.cedar import Decision, Policies
from regie.policy.people import Asker, Kind, PlanFacts, Proof, RunFacts
from regie.policy.request import Request
from regie.policy.steps import StepFacts

_WHO = re.compile(r"person:[^@\s]+@[^@\s]+|program:[0-9a-z]+|operator(:[a-z0-9._-]{1,64})?|step:\S+")


def _somebody(text: str) -> str:
    if not _WHO.fullmatch(text):
        raise ValueError("write person:ADDRESS, program:TOKEN, operator or step:PLACE")
    return text


Who = Annotated[str, AfterValidator(_somebody)]
Action = Literal[
    "call",
    "plan",
    "apply",
    "change",
    "start",
    "view",
    "view_inputs",
    "cancel",
    "pause",
    "resume",
    "wake",
    "rerun",
    "decide",
]
_KINDS: dict[str, Kind] = {"person": "person", "program": "program", "operator": "operator"}
STEPS_ASK = ("call", "plan", "apply", "change")


class Question(Written):
    """A question as people write it. What is left out is as it is when nobody says anything.

    Attributes:
        who: `person:ADDRESS`, `program:TOKEN`, `operator` or `step:PLACE`.
        roles: Of the person's account or groups, `TENANT/ROLE` a tenant's own; what its file gives is known.
        is_of_tenant: The person belongs to the tenant without any of these roles, as whom its directory has brought.
        acts: What the scope of the program's token allows there.
        about: Of `view`: a run, or one of its approvals.
        requester, starter, asked, paused_by: Addresses of people around the run.
        program: The token with which the run was started.
        by_form: Of `start`: with a form, not by the API.
        plan: Of `decide`: the capabilities that change something, each with its effect.
        is_confirmed, has_authenticator, is_local: Of `decide`: how sure it is who decides.
        mfa_age: How long ago a second factor was shown, such as `10m`.
        capability: What a step asks for.
        target, effect, connection, connector, approved_by: Of a change.
        is_dry, has_changed, is_own_ticket, may_plan: What stands around a step's question.
    """

    who: Who
    action: Action
    tenant: str
    workflow: str
    roles: tuple[str, ...] = ()
    is_of_tenant: bool = False
    acts: tuple[Act, ...] = ()
    about: Literal["run", "approval"] = "run"
    requester: str = ""
    starter: str = ""
    program: str = ""
    asked: tuple[str, ...] = ()
    paused_by: str = ""
    by_form: bool = False
    decision: Literal["approved", "refused"] = "approved"
    plan: dict[str, Literal["write", "destructive"]] = {}
    is_confirmed: bool = False
    has_authenticator: bool = False
    is_local: bool = False
    mfa_age: str | None = None
    capability: str = ""
    target: str = ""
    effect: Literal["write", "destructive"] = "write"
    connection: str = ""
    connector: str = ""
    approved_by: tuple[str, ...] = ()
    is_dry: bool = False
    has_changed: bool = False
    is_own_ticket: bool = False
    may_plan: bool = False

    def request(self, release: Release) -> Request:
        """The question as the gateway or the web would put it.

        Raises:
            InvalidInput: The release has no such tenant or workflow, or nobody would ask that.
        """
        tenant = release.tenant(self.tenant, known=release.tenants)
        definition = release.definition(self.workflow, known=release.definitions)
        kind, _, name = self.who.partition(":")
        if (kind == "step") != (self.action in STEPS_ASK):
            raise InvalidInput(f"A {kind} never asks to {self.action}.", hint=f"Steps ask to {', '.join(STEPS_ASK)}.")
        if kind == "step":
            return self._of_step(release, name)
        asker = Asker(
            name or "operator",
            tenant,
            frozenset(self.roles),
            _KINDS[kind],
            frozenset(self.acts),
            is_of_tenant=self.is_of_tenant,
        )
        if self.action == "start":
            return people.start(asker, tenant, definition, by_form=self.by_form)
        run = RunFacts(
            tenant=self.tenant,
            domain=definition.domain,
            workflow=self.workflow,
            requester=self.requester,
            starter=self.starter,
            program=self.program,
            asked=frozenset(self.asked),
            paused_by=self.paused_by,
            plan=PlanFacts(frozenset(self.plan.values()), frozenset(self.plan), len(self.plan)),
        )
        match self.action:
            case "view":
                return people.see_approval(asker, run) if self.about == "approval" else people.see(asker, run)
            case "view_inputs":
                return people.view_inputs(asker, run, release.domains[definition.domain].classification)
            case "decide":
                return people.decide(asker, run, self.decision, self._proof)
            case "cancel" | "pause" | "resume" | "wake" | "rerun":
                return people.steer(asker, run, self.action)
            case _:
                raise InvalidInput(f"Nobody asks to {self.action}.")

    @property
    def _proof(self) -> Proof:
        age_s = None if self.mfa_age is None else int(parse_duration(self.mfa_age))
        return Proof(self.is_confirmed, self.has_authenticator, self.is_local, age_s)

    def _of_step(self, release: Release, place: str) -> Request:
        definition = release.definition(self.workflow)
        needs = needs_at(definition, release.blocks, place)
        step = StepFacts.of(
            needs,
            tenant=self.tenant,
            domain=definition.domain,
            workflow=self.workflow,
            at=place,
            is_dry=self.is_dry,
        )
        if self.action == "change":
            return steps.change(
                step,
                self.target,
                capability=self.capability,
                effect=self.effect,
                connection=self.connection,
                connector=self.connector,
                requester=self.requester,
                approved_by=self.approved_by,
            )
        asking: steps.Asking = "plan" if self.action == "plan" else "apply" if self.action == "apply" else "call"
        return steps.ask(
            step,
            asking,
            self.capability,
            may_plan=self.may_plan or self.is_dry or needs.is_approval or bool(needs.approvals),
            has_changed=self.has_changed,
            is_own_ticket=self.is_own_ticket,
        )


class Row(Question):
    """One line of a golden table.

    Attributes:
        by: Id of a policy that must be among those that decide; any when empty.
        why: What the owner had in mind, for whoever breaks it.
    """

    expect: Literal["allow", "deny"]
    by: str = ""
    why: str = ""


class Table(Written):
    """A file of golden decisions."""

    decisions: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """A line with what came of it.

    Attributes:
        number: In its table, from 0.
        decision: None when the question cannot be put.
        fault: What is wrong with it; empty when it is as expected.
    """

    number: int
    row: Row
    decision: Decision | None
    fault: str


def check(table: Table, policies: Policies, release: Release) -> Iterator[Checked]:
    """Ask every question of a table."""
    for number, row in enumerate(table.decisions):
        try:
            decision = policies.decide(row.request(release))
        except InvalidInput as error:
            yield Checked(number, row, None, error.message)
            continue
        is_as_expected = decision.is_allowed == (row.expect == "allow") and (not row.by or row.by in decision.policies)
        yield Checked(number, row, decision, "" if is_as_expected else _fault(row, decision))


def _fault(row: Row, decision: Decision) -> str:
    expected = f"{row.expect}{f' by {row.by}' if row.by else ''}"
    why = f": {row.why}" if row.why else ""
    return f"{row.who} {row.action} {row.workflow}: expected {expected}, found {in_words(decision)}{why}"


def in_words(decision: Decision) -> str:
    """A decision in a few words."""
    word = "allow" if decision.is_allowed else "deny"
    if decision.errors:
        return f"{word}, because a policy could not be evaluated ({decision.errors[0]})"
    return f"{word} by {', '.join(decision.policies)}" if decision.policies else f"{word}, because no policy allows it"
