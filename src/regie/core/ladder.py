"""How an approval goes: plan what it covers, find whom a rung means, ask, remind, escalate; yes, no or silence.

Called by the interpreter with its working copy of the run; as pure as the rest.
"""

from __future__ import annotations

from typing import Protocol

from pydantic import JsonValue, ValidationError

from regie.core.approval import ApprovalArguments, ApprovalOutcome, require_may_decide
from regie.core.block import Catalogue
from regie.core.capability import Effect
from regie.core.definition import Definition, Kind, Step
from regie.core.durations import parse_duration
from regie.core.errors import Denied, EvaluationError, Failure
from regie.core.expression import evaluate_condition, evaluate_items, render
from regie.core.run import ApprovalPhase, ApprovalState, Cancellation, RunFacts, StepState
from regie.core.run_commands import (
    ClearTimer,
    CloseApproval,
    Command,
    CoveredStep,
    FindApprovers,
    MakePlan,
    OpenApproval,
    Remind,
    SetTimer,
    Work,
)
from regie.core.run_events import ApproversFound, Decided, PlanMade
from regie.core.scope import Surroundings, place_in
from regie.core.status import StepStatus


class Life(Protocol):
    """What an approval needs of the interpreter's working copy of a run; see `interpreter.Life`."""

    definition: Definition
    catalogue: Catalogue
    commands: list[Command]
    facts: RunFacts
    requester: str
    steps: dict[str, StepState]
    assumed: dict[str, JsonValue]
    cancelled: Cancellation | None
    stopped: Failure | None

    @property
    def is_cut(self) -> bool:
        """Whether nothing new begins, because the run was cancelled or stopped."""
        ...

    def scope(self, step: Step, around: Surroundings) -> dict[str, JsonValue]:
        """Everything an expression at a step may name."""
        ...

    def hand_out(self, place: str, step: StepState, **update: object) -> None:
        """Give a step another attempt."""
        ...

    def finish(self, place: str, status: StepStatus, **update: object) -> None:
        """Make a step final."""
        ...


def arguments(life: Life, step: Step, around: Surroundings) -> ApprovalArguments:
    """The approval's arguments with every expression evaluated.

    Raises:
        EvaluationError: One does not evaluate to what belongs there.
    """
    rendered = render(step.arguments, life.scope(step, around))
    try:
        given = ApprovalArguments.model_validate(rendered)
        for rung in given.ask:
            parse_duration(rung.within)
            if rung.remind:
                parse_duration(rung.remind)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
        raise EvaluationError(f"The approval {step.id or step.place} cannot be asked: {wrong}.") from error
    except ValueError as error:
        raise EvaluationError(f"The approval {step.id or step.place} cannot be asked: {error}.") from error
    return given


def work(life: Life, step: Step, place: str, state: StepState, around: Surroundings) -> Work:
    """The work that an approval has out in its present phase."""
    approval = state.approval
    if approval is None or approval.phase is ApprovalPhase.PLANNING:
        return MakePlan(place=place, attempt=state.attempt, steps=covered(life, step, around))
    who = approval.given.ask[approval.rung].who
    return FindApprovers(place=place, attempt=state.attempt, rung=approval.rung, who=who)


def covered(life: Life, step: Step, around: Surroundings) -> tuple[CoveredStep, ...]:
    """Every writing step under the approval with the arguments it would get, if the answer were yes.

    Raises:
        EvaluationError: A covered step uses what is not known before the approval.
    """
    names = step.arguments.get("covers", [])
    yes: JsonValue = {"outcome": "done", **ApprovalOutcome(decision="approved").model_dump(mode="json")}
    if step.id:
        life.assumed = {step.id: yes}
    try:
        found: list[CoveredStep] = []
        for name in names if isinstance(names, list) else []:
            if (under := life.definition.by_id.get(str(name))) is None:
                raise EvaluationError(f"The approval covers {name!r}, and there is no step of that id.")
            _foresee(life, under, around, found)
        return tuple(found)
    finally:
        life.assumed = {}


def _foresee(life: Life, step: Step, around: Surroundings, found: list[CoveredStep]) -> None:
    if step.condition is not None and not evaluate_condition(step.condition, life.scope(step, around)):
        return
    if step.for_each is not None:
        for index, item in enumerate(evaluate_items(step.for_each.items, life.scope(step, around))):
            _foresee(life, step.body, around.item(index, step.for_each.variable, item), found)
        return
    for child in step.steps:
        _foresee(life, child, around, found)
    if step.kind is not Kind.USES or not step.uses:
        return
    if step.uses not in life.catalogue:
        raise EvaluationError(f"There is no block {step.uses} any more, so the plan cannot be made.")
    if life.catalogue[step.uses].effect is not Effect.READ:
        rendered = render(step.arguments, life.scope(step, around))
        found.append(
            CoveredStep(
                place=place_in(step, around.loop),
                uses=step.uses,
                arguments=rendered if isinstance(rendered, dict) else {},
            )
        )


def take_plan(life: Life, place: str, state: StepState, event: PlanMade) -> None:
    """The plan is known: in a dry run that is all; else look for whom to ask first."""
    if state.approval is None or state.approval.phase is not ApprovalPhase.PLANNING:
        return
    approval = state.approval.model_copy(update={"plan": event.plan})
    if life.facts.dry:
        outcome = ApprovalOutcome(decision="approved", comment="assumed in a dry run")
        life.finish(place, StepStatus.DONE, approval=approval, output=outcome.model_dump(mode="json"))
        return
    finding = approval.model_copy(update={"phase": ApprovalPhase.FINDING})
    life.hand_out(place, state, approval=finding, tries=0)


def take_approvers(life: Life, place: str, state: StepState, event: ApproversFound) -> None:
    """Ask the people of a rung; go straight to the next rung when it means nobody who may decide.

    A rung of people who were asked before still gets its time: they may be the manager and the security officer in one.
    """
    approval = state.approval
    if approval is None or approval.phase is not ApprovalPhase.FINDING or event.rung != approval.rung:
        return
    themselves = (life.requester, life.facts.started_by, *approval.given.about)
    concerned = {person.strip().casefold() for person in themselves}
    already = {person.casefold() for person in approval.asked}
    meant = [person for person in event.approvers if person.casefold() not in concerned]
    asked = (*approval.asked, *dict.fromkeys(person for person in meant if person.casefold() not in already))
    if not meant:
        _next_rung(life, place, state, approval)
        return
    given = approval.given
    rung = given.ask[approval.rung]
    approval = approval.model_copy(update={"phase": ApprovalPhase.ASKING, "asked": asked})
    life.steps[place] = state.model_copy(update={"status": StepStatus.WAITING, "approval": approval, "tries": 0})
    within_s = parse_duration(rung.within)
    life.commands.append(
        OpenApproval(
            place=place,
            rung=approval.rung + 1,
            rungs=len(given.ask),
            question=given.question,
            plan=approval.plan,
            approvers=asked,
            requester=life.requester,
            expires_after_s=within_s,
            is_first=not already,
        )
    )
    life.commands.append(SetTimer(timer=f"rung:{place}:{approval.rung}", after_s=within_s))
    if rung.remind and parse_duration(rung.remind) < within_s:
        life.commands.append(SetTimer(timer=f"remind:{place}:{approval.rung}", after_s=parse_duration(rung.remind)))


def take_timer(life: Life, place: str, state: StepState, purpose: str, number: str) -> None:
    """A rung's time is up, or a reminder is due; a timer of an earlier rung is late and changes nothing."""
    approval = state.approval
    if approval is None or approval.phase is not ApprovalPhase.ASKING or number != str(approval.rung):
        return
    rung = approval.rung
    if purpose == "rung":
        life.commands.append(ClearTimer(timer=f"remind:{place}:{rung}"))
        _next_rung(life, place, state, approval)
        return
    if not (remind := approval.given.ask[rung].remind):
        return
    again_s = parse_duration(remind)
    life.commands.append(Remind(place=place, rung=rung + 1))
    life.commands.append(SetTimer(timer=f"remind:{place}:{rung}", after_s=again_s))


def take_decision(life: Life, event: Decided) -> None:
    """Somebody decided. A decision by somebody who may not decide is ignored here as well as refused at the door."""
    state = life.steps.get(event.place)
    if state is None or state.approval is None or not state.approval.asked or life.is_cut:
        return
    if state.status not in (StepStatus.RUNNING, StepStatus.WAITING):
        return
    try:
        for concerned in (life.requester, life.facts.started_by):
            require_may_decide(event.by, requester=concerned, approvers=list(state.approval.asked))
    except Denied:
        return
    # While the next rung is being looked up, nobody on it has been asked yet.
    rung = state.approval.rung + (state.approval.phase is ApprovalPhase.ASKING)
    outcome = ApprovalOutcome(decision=event.decision, by=event.by, comment=event.comment, rung=rung)
    _clear_timers(life, event.place, state.approval)
    life.finish(event.place, StepStatus.DONE, output=outcome.model_dump(mode="json"))


def _next_rung(life: Life, place: str, state: StepState, approval: ApprovalState) -> None:
    if approval.rung + 1 < len(approval.given.ask):
        further = approval.model_copy(update={"phase": ApprovalPhase.FINDING, "rung": approval.rung + 1})
        life.hand_out(place, state, approval=further, tries=0)
        return
    _clear_timers(life, place, approval)
    close(life, place, approval)
    outcome = ApprovalOutcome(decision="timeout")
    life.finish(place, StepStatus.DONE, approval=approval, output=outcome.model_dump(mode="json"))


def withdraw(life: Life, place: str, approval: ApprovalState) -> None:
    """Nobody needs to decide any more, since the run is cancelled or stopped."""
    _clear_timers(life, place, approval)
    if approval.asked:
        life.commands.append(CloseApproval(place=place, decision="cancelled"))


def close(life: Life, place: str, approval: ApprovalState) -> None:
    """From now on nobody may decide; where nobody was asked, there is nothing to close."""
    if approval.asked:
        life.commands.append(CloseApproval(place=place))


def _clear_timers(life: Life, place: str, approval: ApprovalState) -> None:
    life.commands.append(ClearTimer(timer=f"rung:{place}:{approval.rung}"))
    life.commands.append(ClearTimer(timer=f"remind:{place}:{approval.rung}"))
