"""How a run that has made as many changes as it may asks for more, and what becomes of it.

Called by the interpreter with its working copy of the run; as pure as the rest. The gateway counts, and refuses the
change that would be one too many. The step that wanted it waits then, and so does every other one that meets the limit;
what makes no change goes on. People are asked as by an approval, at a place of the run's own. A yes lets the run make
as many changes again, and the steps that wait try again; anything else stops the run, as a deadline does.
"""

from __future__ import annotations

from typing import Protocol

from pydantic import JsonValue

from regie.core import stopping
from regie.core.approval import ApprovalArguments, ApprovalOutcome, Rung
from regie.core.capability import Effect
from regie.core.definition import Kind, Step
from regie.core.errors import EvaluationError, Failure, LimitReached
from regie.core.expression import render
from regie.core.ladder import Life
from regie.core.places import ANSWER, LIMIT, START, undone_place, written_place
from regie.core.run import ApprovalPhase, ApprovalState, Pause, StepState
from regie.core.run_commands import CoveredStep, FindApprovers, MakePlan, SetTimer, Work
from regie.core.scope import Surroundings, place_in
from regie.core.status import StepStatus

WITHIN = "8h"
"""How long the owner's role has to answer when the file does not say whom to ask."""
WAS_OUT = -1
"""Of a step whose work was out when more was allowed: meeting the former limit, it tries again."""
MOST_PLANNED = 100
"""Steps whose plan is shown to whoever is asked; of a loop over thousands nobody reads more."""


class Limited(Life, Protocol):
    """What the limit needs of the interpreter's working copy of a run."""

    paused: Pause | None
    input: dict[str, JsonValue]


def asking_place(number: int) -> str:
    """Where the run asks for the n-th time, from 1. Not a legal step id."""
    return f"{LIMIT}[{number - 1}]"


def rungs_of(life: Limited) -> tuple[Rung, ...]:
    """Whom to ask: whom the file names, else the role of the domain's owner; nobody in a run that knows neither."""
    if life.definition.limit_ask:
        return life.definition.limit_ask
    role = life.facts.owner.rpartition(":")[2]
    return (Rung(who=f"role:{role}", within=WITHIN),) if role else ()


def takes(life: Limited, place: str, step: StepState, failure: Failure) -> bool:
    """Whether a step that failed waits for an answer, because the run has reached its limit and asks for more."""
    if failure.kind != LimitReached.__name__ or life.definition.limit is None or life.is_cut or not rungs_of(life):
        return False
    if undone_place(place) is not None or place in (START, ANSWER) or (life.facts.ticket and not life.requester):
        # Who asked for the run is not known, so nobody could make sure that somebody else says yes.
        return False
    if step.limited == WAS_OUT:
        if life.paused is None:
            life.hand_out(place, step, limited=0)
        else:
            # Nothing new begins now. The timer is held with whatever else comes, until the run is resumed.
            life.steps[place] = step.model_copy(update={"status": StepStatus.WAITING, "limited": 0})
            life.commands.append(SetTimer(timer=f"again:{place}:{step.attempt}", after_s=0.0))
        return True
    asked = _asked(life)
    is_open = asked > 0 and not life.steps[asking_place(asked)].status.is_final
    number = asked if is_open else asked + 1
    waiting = {"status": StepStatus.WAITING, "failure": failure, "limited": number}
    life.steps[place] = step.model_copy(update=waiting)
    return True


def look(life: Limited) -> tuple[str, StepState] | None:
    """Take an answer in, or begin to ask; where the run is asking, the place and state of that."""
    asked = _asked(life)
    if asked and life.steps[asking_place(asked)].status.is_final and not life.is_cut:
        _settle(life, asked)
    if life.paused is None and not life.is_cut and _waiting_for(life, asked + 1):
        asked += 1
        _begin(life, asked)
    if not asked or life.steps[asking_place(asked)].status.is_final:
        return None
    return asking_place(asked), life.steps[asking_place(asked)]


def work(life: Limited, place: str, state: StepState) -> Work:
    """The work that asking has out in its present phase."""
    approval = state.approval
    if approval is None or approval.phase is ApprovalPhase.PLANNING:
        return MakePlan(place=place, attempt=state.attempt, steps=wanted(life)[:MOST_PLANNED])
    who = approval.given.ask[approval.rung].who
    return FindApprovers(place=place, attempt=state.attempt, rung=approval.rung, who=who)


def wanted(life: Limited) -> tuple[CoveredStep, ...]:
    """What the run wants to do and is known by now: the steps that wait, and what is left of the loops around them."""
    found = {
        place: CoveredStep(place=place, uses=written.uses or "", arguments=step.arguments or {})
        for place, step in life.steps.items()
        if step.limited > 0
        and step.status is StepStatus.WAITING
        and (written := life.definition.by_place.get(written_place(place))) is not None
    }
    for step in life.definition.by_place.values():
        if step.for_each is not None and step.kind is Kind.USES and _changes(life, step):
            for left in _left_of_loop(life, step):
                found.setdefault(left.place, left)
    return tuple(found.values())


def _changes(life: Limited, step: Step) -> bool:
    block = life.catalogue.get(step.uses or "")
    return block is not None and block.effect is not Effect.READ


def _left_of_loop(life: Limited, step: Step) -> list[CoveredStep]:
    """The items of a loop under way that have not begun. Of loops within loops nobody knows them from here."""
    state = life.steps.get(step.place)
    if state is None or state.items is None or state.status.is_final or step.for_each is None:
        return []
    left = []
    for index, item in enumerate(state.items):
        around = Surroundings().item(index, step.for_each.variable, item)
        place = place_in(step.body, around.loop)
        if place in life.steps:
            continue
        try:
            arguments = render(step.arguments, life.scope(step, around))
        except EvaluationError:
            continue
        left.append(
            CoveredStep(place=place, uses=step.uses or "", arguments=arguments if isinstance(arguments, dict) else {})
        )
    return left


def _asked(life: Limited) -> int:
    """How often the run has begun to ask."""
    return sum(written_place(place) == LIMIT for place in life.steps)


def _waiting_for(life: Limited, number: int) -> list[str]:
    return [
        place
        for place, step in life.steps.items()
        if step.limited == number and step.status is StepStatus.WAITING and step.approval is None
    ]


def _begin(life: Limited, number: int) -> None:
    limit = life.definition.limit or 0
    known = len(wanted(life))
    more = "1 more step is" if known == 1 else f"{known} more steps are"
    question = (
        f"A run of {life.definition.title} has made all {limit * number} changes that it may make. "
        f"So far {more} known that may change something. May it make up to {limit} changes more?"
    )
    given = ApprovalArguments(question=question, ask=list(rungs_of(life)))
    asking = StepState(status=StepStatus.RUNNING, approval=ApprovalState(given=given))
    life.hand_out(asking_place(number), asking)


def _settle(life: Limited, number: int) -> None:
    """The run has its answer: the steps that wait try again, or the run stops."""
    waiting = _waiting_for(life, number)
    asking = life.steps[asking_place(number)]
    if not waiting:
        return
    if _said_yes(asking):
        for place, step in list(life.steps.items()):
            if step.status is StepStatus.RUNNING and step.attempt and step.approval is None:
                life.steps[place] = step.model_copy(update={"limited": WAS_OUT})
        for place in waiting:
            life.hand_out(place, life.steps[place], failure=None, limited=0)
        return
    first = life.steps[waiting[0]].failure
    message = f"{first.message if first else 'The run has reached its limit.'} {_why_not(asking)}"
    failure = Failure(kind=LimitReached.__name__, message=message, hint=first.hint if first else None)
    for place in waiting:
        life.finish(place, StepStatus.FAILED, failure=life.steps[place].failure)
    stopping.stop(life, failure)


def _said_yes(asking: StepState) -> bool:
    return asking.status is StepStatus.DONE and _outcome(asking).decision == "approved"


def _outcome(asking: StepState) -> ApprovalOutcome:
    return ApprovalOutcome.model_validate(asking.output)


def _why_not(asking: StepState) -> str:
    if asking.failure is not None:
        return f"Nobody could be asked for more: {asking.failure.message}"
    outcome = _outcome(asking)
    if outcome.decision == "refused":
        return f"{outcome.by} was asked for more and refused." + (f" {outcome.comment}" if outcome.comment else "")
    if asking.approval is None or not asking.approval.asked:
        return "There is nobody who could be asked for more."
    return "Nobody who was asked for more has answered in time."
