"""The pure heart: `advance(definition, catalogue, state, event)` gives the next state and the commands that follow.

No input or output, no clock, no randomness: an engine feeds events in and carries commands out. The definition is
walked from the top after every event; what is finished is passed over, what is out is left alone, what may begin
begins. So the state is all there is, an event that comes twice changes nothing, and after a crash `outstanding` says
what to do again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from pydantic import JsonValue

from regie.core import cancelling, children, event_starts, ladder, limit, pausing, stopping, waiting
from regie.core.approval import APPROVE
from regie.core.block import Catalogue, Retry
from regie.core.definition import Definition, Kind, Step
from regie.core.errors import EvaluationError, Failure, InvalidInput
from regie.core.expression import evaluate_condition, evaluate_items, render
from regie.core.inputs import build_input, needs_ticket
from regie.core.places import ANSWER, LIMIT, START, undo_place, undone_place, written_place
from regie.core.report import report
from regie.core.run import ApprovalState, Cancellation, RunFacts, RunState, StepState
from regie.core.run_commands import CloseRun, Command, Perform, SetTimer, StepEnded, Work
from regie.core.run_events import (
    ApproversFound,
    Begun,
    Cancelled,
    ChildEnded,
    Decided,
    Event,
    EventArrived,
    Failed,
    Paused,
    PlanMade,
    Postponed,
    Resumed,
    Succeeded,
    TimerFired,
)
from regie.core.scope import Surroundings, place_in, view_steps
from regie.core.status import RunStatus, StepStatus

READ_TICKET, COMMENT_TICKET = "ticket.read", "ticket.comment"
"""Blocks of the two implicit steps around the input."""
PENDING_LIMIT_S = 24 * 3600.0
"""How long a change that takes effect later may take in all, unless the step's `timeout` says otherwise."""
SHORTEST_AGAIN_S = 0.2
"""Least pause before asking again about a change that takes effect later."""
HIDDEN_REPORTER = (
    "The ticket system does not tell the e-mail address of whoever asks, so nobody can make sure that somebody else "
    "says yes. Either they hide it in their profile there, or its service account may not see addresses."
)
START_AGAIN = "Nothing was changed. Please open a new ticket in which this is right."
DOUBTFUL = ("OutcomeUnknown", "NotVerified", "TimedOut")
"""Kinds of failure after which something may have been changed all the same."""
MOST_DOUBLINGS = 40
"""Pauses between tries stop doubling here at the latest: a second has become 30,000 years."""
IMPLICIT = Step(place=START, kind=Kind.USES, line=1, column=1)


@dataclass(frozen=True, slots=True)
class Advance:
    """The next state and what follows from it."""

    state: RunState
    commands: tuple[Command, ...]


def begin(facts: RunFacts) -> RunState:
    """The state of a run that has been accepted and not yet moved; `Begun` moves it."""
    requester = facts.started_by if "@" in facts.started_by and not facts.ticket else ""
    if facts.cause is not None:
        requester = facts.cause.requester or requester
    if facts.parent is not None:
        requester = facts.parent.requester
    return RunState(facts=facts, requester=requester)


def advance(definition: Definition, catalogue: Catalogue, state: RunState, event: Event) -> Advance:
    """Take one event in.

    An event that is late, repeated or about something else changes nothing.
    """
    if state.status.is_final:
        return Advance(state, ())
    life = Life(definition, catalogue, state)
    life.take(event)
    life.progress()
    return Advance(life.state(), tuple(life.commands))


def has_begun(state: RunState) -> bool:
    """Whether a run has been moved since it was accepted. Until then `Begun` is to come."""
    return state.ready or any(not step.kept for step in state.steps.values())


def outstanding(definition: Definition, catalogue: Catalogue, state: RunState) -> tuple[Work, ...]:
    """The work that is out, to hand out again after a crash. Empty for a parked or finished run."""
    if state.status.is_final or not has_begun(state):
        return ()
    life = Life(definition, catalogue, state, is_replaying=True)
    life.progress()
    return tuple(
        command for command in life.commands if isinstance(command, Work) and not pausing.is_answered(state, command)
    )


UNDER_WAY = (StepStatus.RUNNING, StepStatus.WAITING)
BUSY = "busy"
NEXT = "next"
CUT = "cut"
Flow = str | Failure
"""What a step tells the step around it: still busy, go on, cut off since the run is cancelled or stopped as a whole, or
failed for good."""


@dataclass
class Life:
    """One advance in progress: a working copy of the state, and the walk over the definition."""

    definition: Definition
    catalogue: Catalogue
    before: RunState
    is_replaying: bool = False
    commands: list[Command] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Copy what changes; step states themselves are immutable."""
        self.facts = self.before.facts
        self.steps = dict(self.before.steps)
        self.order = list(self.before.order)
        self.requester = self.before.requester
        self.ready = self.before.ready
        self.input = self.before.input
        self.ended = self.before.ended
        self.cancelled = self.before.cancelled
        self.paused = self.before.paused
        self.paused_too = self.before.paused_too
        self.held = list(self.before.held)
        self.stopped = self.before.stopped
        self.failure = self.before.failure
        self.status = self.before.status
        self.fresh: set[str] = set()
        self.is_working = False
        self.assumed: dict[str, JsonValue] = {}
        self._report: tuple[int, str] = (-1, "")

    def state(self) -> RunState:
        """The state after this advance."""
        return self.before.model_copy(
            update={
                "status": self.status,
                "requester": self.requester,
                "ready": self.ready,
                "input": self.input,
                "steps": dict(self.steps),
                "order": tuple(self.order),
                "failure": self.failure,
                "ended": self.ended,
                "cancelled": self.cancelled,
                "paused": self.paused,
                "paused_too": self.paused_too,
                "held": tuple(self.held),
                "stopped": self.stopped,
            }
        )

    @property
    def is_cut(self) -> bool:
        """Whether nothing new begins, because the run was cancelled or stopped as a whole."""
        return self.cancelled is not None or self.stopped is not None

    # --- taking an event in -------------------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Change the one step that an event is about, if the event is not late."""
        match event:
            case Begun():
                return
            case Paused():
                pausing.take(self, event)
            case Resumed() | Cancelled():
                kept = pausing.lift(self, event)
                if isinstance(event, Cancelled):
                    cancelling.take(self, event)
                for earlier in kept:
                    self.take(earlier)
            case _ if pausing.keeps(self, event):
                if event not in self.held:
                    self.held.append(event)
            case _:
                self._take_at_step(event)

    def _take_at_step(self, event: Event) -> None:
        match event:
            case TimerFired(timer=timer):
                self._take_timer(timer)
            case Decided():
                ladder.take_decision(self, event)
            case ChildEnded():
                children.take_end(self, event)
            case EventArrived():
                waiting.take_event(self, event)
            case Succeeded() | Failed() | Postponed() | PlanMade() | ApproversFound():
                step = self.steps.get(event.place)
                is_awaited = step is not None and step.status is StepStatus.RUNNING and step.attempt == event.attempt
                # Attempt 0 is a step that only holds others: nothing was handed out for it.
                if step is not None and is_awaited and event.attempt > 0:
                    self._take_answer(step, event)

    def _take_answer(self, step: StepState, event: Succeeded | Failed | Postponed | PlanMade | ApproversFound) -> None:
        match event:
            case Failed():
                self._take_failure(event.place, step, event)
            # Nobody says yes by claiming that an approval's planning succeeded.
            case Succeeded() | Postponed() if step.approval is not None:
                return
            case Succeeded():
                effects = (*step.effects, *event.effects)
                self.finish(event.place, StepStatus.DONE, output=event.output, effects=effects)
            case Postponed() | PlanMade() | ApproversFound() if self._is_stopping(event.place):
                handle = event.handle if isinstance(event, Postponed) else None
                cancelling.stop(self, event.place, step.model_copy(update={"handle": handle}))
            case Postponed():
                self._postpone(event.place, step, event)
            case PlanMade():
                ladder.take_plan(self, event.place, step, event)
            case ApproversFound():
                ladder.take_approvers(self, event.place, step, event)

    def _take_timer(self, timer: str) -> None:
        """Timers are named `PURPOSE:PLACE:NUMBER`; the number tells a late one from the present one."""
        if timer == stopping.DEADLINE:
            stopping.take_deadline(self)
            return
        purpose, _, rest = timer.partition(":")
        place, _, number = rest.rpartition(":")
        step = self.steps.get(place)
        if step is None or step.status is not StepStatus.WAITING:
            return
        match purpose:
            case "again" if number == str(step.attempt) and step.attempt > 0:
                self.hand_out(place, step)
            case "wait" if number == "0" and self._written(place).kind is Kind.WAIT:
                waiting.take_deadline(self, place, self._written(place))
            case "rung" | "remind":
                ladder.take_timer(self, place, step, purpose, number)

    def _take_failure(self, place: str, step: StepState, event: Failed) -> None:
        if limit.takes(self, place, step, event.failure):
            self._note_end(place, step.attempt, StepStatus.WAITING, event.failure)
            return
        stopping.take_failure(self, event.failure)
        tries = step.tries + 1
        rule = self._retry_rule(place)
        step = step.model_copy(update={"tries": tries, "effects": (*step.effects, *event.effects)})
        if event.failure.may_retry and tries < rule.attempts and not self._is_stopping(place):
            pause = _pause(rule, tries, self.facts.id, place, event.failure.after_s)
            self.steps[place] = step.model_copy(update={"status": StepStatus.WAITING})
            self.commands.append(SetTimer(timer=f"again:{place}:{step.attempt}", after_s=pause))
            self._note_end(place, step.attempt, StepStatus.WAITING, event.failure)
        else:
            self.steps[place] = step
            self.fail(place, event.failure)

    def _postpone(self, place: str, step: StepState, event: Postponed) -> None:
        waited_s = step.waited_s + max(event.again_after_s, SHORTEST_AGAIN_S)
        written = self._written(place)
        if waited_s > (written.timeout_s or PENDING_LIMIT_S):
            self.fail(
                place, Failure(kind="TimedOut", message="It was postponed again and again, and not done in time.")
            )
            return
        self.steps[place] = step.model_copy(
            update={"status": StepStatus.WAITING, "handle": event.handle, "waited_s": waited_s}
        )
        pause_s = max(event.again_after_s, SHORTEST_AGAIN_S)
        self.commands.append(SetTimer(timer=f"again:{place}:{step.attempt}", after_s=pause_s))

    # --- changing one step --------------------------------------------------------------------------------------------

    def hand_out(self, place: str, step: StepState, **update: object) -> None:
        """Give a step another attempt; the walk emits the work, since only it knows the scope."""
        attempt = step.attempt + 1
        self.steps[place] = step.model_copy(update={"status": StepStatus.RUNNING, "attempt": attempt, **update})
        self.fresh.add(place)

    def finish(self, place: str, status: StepStatus, **update: object) -> None:
        """Make a step final."""
        step = self.steps.get(place) or StepState(status=status)
        self.steps[place] = step.model_copy(update={"status": status, "handle": None, "arguments": None, **update})
        self.order.append(place)
        self._note_end(place, step.attempt, status, self.steps[place].failure)

    def fail(self, place: str, failure: Failure) -> None:
        """A step failed for good: its `on-error` takes over, or it is final."""
        written = self._written(place)
        if (asking := self.steps[place].approval) is not None and not self.is_cut:
            ladder.close(self, place, asking)
        # Behind `end` nothing new begins, so nobody would handle it.
        if written.on_error and not self._is_item(place) and not self.is_cut and not self.ended:
            self.steps[place] = self.steps[place].model_copy(update={"status": StepStatus.HANDLING, "failure": failure})
            self._note_end(place, self.steps[place].attempt, StepStatus.HANDLING, failure)
        else:
            self.finish(place, StepStatus.FAILED, failure=failure)

    def _note_end(self, place: str, attempt: int, status: StepStatus, failure: Failure | None) -> None:
        written = self._written(place)
        own = {START: READ_TICKET, ANSWER: COMMENT_TICKET, LIMIT: APPROVE}.get(written_place(place))
        uses = own or written.uses or written.kind.value
        self.commands.append(StepEnded.made(place=place, attempt=attempt, uses=uses, status=status, failure=failure))

    def _written(self, place: str) -> Step:
        return self.definition.by_place.get(written_place(place), IMPLICIT)

    def _is_item(self, place: str) -> bool:
        """Whether this is one item of a loop: of a loop, `on-error` belongs to the whole."""
        written = written_place(place)
        indices = place[len(written) :].count(".") + 1 if place != written else 0
        return indices > len(self.definition.loops.get(written, ()))

    def _is_stopping(self, place: str) -> bool:
        """Whether a step has no further attempt, because the run is cut off; the ticket is told all the same.

        A run that is stopped as a whole takes back what it has changed; a cancelled one does not.
        """
        if place == ANSWER or (self.cancelled is None and undone_place(place) is not None):
            return False
        return self.is_cut

    def _retry_rule(self, place: str) -> Retry:
        written = self._written(place)
        uses = {START: READ_TICKET, ANSWER: COMMENT_TICKET}.get(place, written.uses or "")
        default = self.catalogue[uses].retry if uses in self.catalogue else Retry()
        said = written.retry
        if said is None:
            return default
        return Retry(
            attempts=said.attempts or default.attempts,
            first_s=default.first_s if said.first_s is None else said.first_s,
            most_s=default.most_s if said.most_s is None else said.most_s,
        )

    # --- the walk -----------------------------------------------------------------------------------------------------

    def progress(self) -> None:
        """Begin whatever may begin, from the input to the last step, and close the run when nothing is left."""
        if (asking := limit.look(self)) is not None:
            self._emit(*asking, partial(limit.work, self, *asking))
        flow = self._prepare()
        has_begun = flow == NEXT
        if has_begun:
            flow = self._sequence(self.definition.steps, Surroundings())
        if flow != BUSY and self.stopped is not None:
            flow, has_begun = self.stopped, True
        if has_begun and isinstance(flow, Failure) and self._stop(flow) == BUSY:
            flow = BUSY
        if flow != BUSY and self.cancelled is not None and self._tell_cancelled(self.cancelled) == BUSY:
            flow = BUSY
        if flow == BUSY:
            moving = RunStatus.RUNNING if self.is_working else RunStatus.WAITING
            self.status = moving if self.paused is None else RunStatus.PAUSED
            return
        self.paused, self.paused_too, self.held = None, None, []
        self.failure = flow if isinstance(flow, Failure) else None
        self.status = self._final_status(flow)
        if (told := children.farewell(self.state(), in_doubt=self._is_in_doubt())) is not None:
            self.commands.append(told)
        self.commands.append(CloseRun(status=self.status, failure=self.failure))

    def _final_status(self, flow: Flow) -> RunStatus:
        if self.cancelled is not None:
            return RunStatus.CANCELLED
        if isinstance(flow, Failure):
            return RunStatus.FAILED
        return RunStatus.REFUSED if self._was_refused() else RunStatus.DONE

    def _was_refused(self) -> bool:
        return children.was_refused(self.steps.values()) or any(
            step.approval is not None and isinstance(step.output, dict) and step.output.get("decision") != "approved"
            for step in self.steps.values()
            if step.status is StepStatus.DONE
        )

    def _prepare(self) -> Flow:
        """Read the ticket, then accept the input or tell the ticket what is wrong with it."""
        if self.facts.rerun_of and not self.is_cut:
            # Input and requester were taken over: the ticket may say something else by now.
            self.ready = True
        if self.ready:
            return NEXT
        ticket: JsonValue = None
        # Also read where only an approval needs it: the ticket says who asked, and who asked may not say yes.
        asks_people = any(step.uses == APPROVE for step in self.definition.by_place.values())
        may_ask = asks_people or self.definition.limit is not None
        if self.facts.ticket and (needs_ticket(self.definition) or may_ask):
            if self.is_cut and START not in self.steps:
                return CUT
            flow = self._implicit(START, READ_TICKET, {"ticket": self.facts.ticket})
            if flow != NEXT:
                return flow
            ticket = self.steps[START].output
        if self.is_cut:
            return CUT
        try:
            self.input = self._read_input(ticket)
            self.requester = _requester(ticket, must_be_known=asks_people) or self.requester
        except InvalidInput as error:
            return self._answer(Failure.of(error))
        self.ready = True
        return NEXT

    def _read_input(self, ticket: JsonValue) -> dict[str, JsonValue]:
        """The run's input.

        Raises:
            InvalidInput: It cannot be used, or was found unfit when the run was accepted.
        """
        if self.facts.unfit:
            raise InvalidInput(self.facts.unfit)
        return build_input(self.definition, self.facts.given, ticket if isinstance(ticket, dict) else None)

    def _answer(self, failure: Failure) -> Flow:
        text = f"This request cannot be carried out. {failure.message}\n\n{START_AGAIN}"
        return BUSY if self._comment(text) == BUSY else failure

    def _stop(self, failure: Failure) -> Flow:
        """The run has failed for good: take back what can be, then tell the ticket."""
        if self._undo() == BUSY:
            return BUSY
        return self._tell(failure) if self.cancelled is None else NEXT

    def _tell(self, failure: Failure) -> Flow:
        """Tell the ticket that the run stops, unless an `on-error` of the workflow has told it all there is."""
        has_undone = any(undone_place(place) is not None for place in self.steps)
        on_error = {
            below.place for step in self.definition.by_place.values() for top in step.on_error for below in top.walk()
        }
        for place, state in self.steps.items():
            is_told = self._written(place).uses == COMMENT_TICKET and state.status is StepStatus.DONE
            if is_told and written_place(place) in on_error and not has_undone and self.stopped is None:
                return NEXT
        return self._comment(f"This request was stopped. {failure.message}\n\n{self._what_was_changed()}")

    def _tell_cancelled(self, cancellation: Cancellation) -> Flow:
        return self._comment(cancelling.in_words(cancellation, self._what_was_changed()))

    def _what_was_changed(self) -> str:
        has_touched = any(note.changed for step in self.steps.values() if not step.kept for note in step.effects)
        return self._reported() if has_touched or self._is_in_doubt() else f"Nothing was changed. Run {self.facts.id}."

    def _is_in_doubt(self) -> bool:
        """Whether something may have been changed that no step knows about."""
        return any(
            (step.failure and step.failure.kind in DOUBTFUL)
            # Cut off between two tries: nobody says what the last one has done.
            or (
                step.status is StepStatus.CANCELLED
                and step.attempt
                and step.approval is None
                and place != START
                and not step.limited
            )
            or (step.child is not None and step.child.in_doubt)
            for place, step in self.steps.items()
        )

    def _comment(self, text: str) -> Flow:
        """Say something on the ticket, if there is one, this is no dry run, and no parent will say it."""
        is_told_by_parent = self.facts.parent is not None and not self.facts.parent.detached
        if not self.facts.ticket or self.facts.dry or is_told_by_parent:
            return NEXT
        return self._implicit(ANSWER, COMMENT_TICKET, {"ticket": self.facts.ticket, "text": text})

    def _implicit(self, place: str, uses: str, arguments: dict[str, JsonValue]) -> Flow:
        step = self.steps.get(place)
        if step is None:
            if self.paused is not None:
                return BUSY
            self.hand_out(place, StepState(status=StepStatus.RUNNING), arguments=arguments)
            step = self.steps[place]
        if step.status is StepStatus.FAILED and step.failure is not None:
            return step.failure
        if step.status.is_final:
            return NEXT
        self._emit(place, step, lambda: self._perform(place, step, uses, None))
        return BUSY

    def _sequence(self, steps: tuple[Step, ...], around: Surroundings) -> Flow:
        for step in steps:
            flow = self._visit(step, around)
            if flow != NEXT:
                return flow
        return NEXT

    def _visit(self, step: Step, around: Surroundings) -> Flow:
        place = place_in(step, around.loop)
        state = self.steps.get(place)
        if state is None:
            if self.ended or self.is_cut:
                return CUT if self.is_cut else NEXT
            if self.paused is not None:
                return BUSY
            self._begin(step, place, around)
            state = self.steps[place]
        if state.status in UNDER_WAY:
            flow = self._go_on(step, place, state, around)
            if self.steps[place].status in UNDER_WAY:
                if flow == BUSY:
                    return BUSY
                if isinstance(flow, Failure):
                    self.fail(place, flow)
                else:
                    self.finish(place, StepStatus.CANCELLED if flow == CUT else StepStatus.DONE)
            state = self.steps[place]
        if state.status is StepStatus.HANDLING:
            return self._handle(step, place, state, around)
        if state.status is StepStatus.CANCELLED:
            return CUT
        return state.failure if state.status is StepStatus.FAILED and state.failure and not state.handled else NEXT

    def _handle(self, step: Step, place: str, state: StepState, around: Surroundings) -> Flow:
        failure = state.failure or Failure(kind="Failed", message="failed")
        error: JsonValue = {"kind": failure.kind, "message": failure.message, "step": step.id or step.place}
        flow = self._sequence(step.on_error, around.handling(error))
        if flow == BUSY:
            return BUSY
        if flow == CUT:
            self.finish(place, StepStatus.CANCELLED)
            return CUT
        if isinstance(flow, Failure):
            self.finish(place, StepStatus.FAILED, failure=flow)
            return flow
        self.finish(place, StepStatus.FAILED, handled=True)
        return NEXT

    def _go_on(self, step: Step, place: str, state: StepState, around: Surroundings) -> Flow:
        """Look after a step that has begun: its children, or the work that is out for it."""
        if step.for_each is not None:
            return self._loop(step, state, around)
        match step.kind:
            case Kind.DO:
                return self._sequence(step.steps, around)
            case Kind.PARALLEL:
                return self._parallel(step.steps, around)
            case Kind.WAIT | Kind.RUN:
                return BUSY
            case Kind.USES if step.uses == APPROVE:
                self._emit(place, state, lambda: ladder.work(self, step, place, state, around))
            case _:
                self._emit(place, state, lambda: self._perform(place, state, step.uses or "", step.timeout_s))
        return BUSY

    def _emit(self, place: str, state: StepState, make: Callable[[], Work]) -> None:
        if state.status is not StepStatus.RUNNING:
            return
        if place in self.fresh or self.is_replaying:
            self.fresh.discard(place)
            try:
                self.commands.append(make())
            except EvaluationError as error:
                self.fail(place, Failure.of(error))
                return
        self.is_working = True

    def _way_back(self, step: Step, around: Surroundings) -> dict[str, JsonValue] | None:
        """What it would take to take a step back, worked out before it changes anything."""
        if step.taking_back is None:
            return None
        arguments = render(step.taking_back.arguments, self.scope(step, around))
        return arguments if isinstance(arguments, dict) else {}

    def _undo(self) -> Flow:
        """Take back what the run has changed, the latest first, one after the other; one that fails stops no other."""
        if self.facts.dry:
            return NEXT
        for done in reversed(self.order):
            arguments = self.steps[done].undo
            if arguments is None or not any(note.changed for note in self.steps[done].effects):
                continue
            place = undo_place(done)
            if place not in self.steps and self.cancelled is not None:
                continue
            if place not in self.steps and self.paused is not None:
                return BUSY
            if place not in self.steps:
                self.hand_out(place, StepState(status=StepStatus.RUNNING), arguments=arguments)
            step = self.steps[place]
            if not step.status.is_final:
                self._emit(place, step, partial(self._take_back, place, step))
                return BUSY
        return NEXT

    def _take_back(self, place: str, step: StepState) -> Perform:
        return self._perform(place, step, self._written(place).uses or "", None)

    def _perform(self, place: str, state: StepState, uses: str, timeout_s: float | None) -> Perform:
        default_s = self.catalogue[uses].timeout_s if uses in self.catalogue else 60.0
        return Perform.made(
            place=place,
            attempt=state.attempt,
            uses=uses,
            arguments=state.arguments or {},
            handle=state.handle,
            timeout_s=default_s if timeout_s is None else timeout_s,
        )

    def _parallel(self, steps: tuple[Step, ...], around: Surroundings) -> Flow:
        """Every branch runs to its end; once one has failed, no branch that has not begun begins."""
        begun = [step for step in steps if place_in(step, around.loop) in self.steps]
        flows = [self._visit(step, around) for step in begun]
        for step in steps:
            if step not in begun and not any(isinstance(flow, Failure) for flow in flows):
                flows.append(self._visit(step, around))
        return _joined(flows)

    def _loop(self, step: Step, state: StepState, around: Surroundings) -> Flow:
        rule = step.for_each
        if rule is None or state.items is None:
            return NEXT
        arounds = [around.item(index, rule.variable, item) for index, item in enumerate(state.items)]
        begun = [place_in(step, inner.loop) in self.steps for inner in arounds]
        flows = [self._visit(step.body, inner) for inner, has_begun in zip(arounds, begun, strict=True) if has_begun]
        for inner, has_begun in zip(arounds, begun, strict=True):
            if has_begun:
                continue
            if any(isinstance(flow, Failure) for flow in flows) or (rule.at_most or len(arounds)) <= flows.count(BUSY):
                break
            flows.append(self._visit(step.body, inner))
        return _joined(flows)

    def _begin(self, step: Step, place: str, around: Surroundings) -> None:
        """Begin a step, skip it, or fail it because an expression of its does not work out."""
        self.steps[place] = StepState(status=StepStatus.RUNNING)
        try:
            if step.condition is not None and not evaluate_condition(step.condition, self.scope(step, around)):
                self.finish(place, StepStatus.SKIPPED)
            elif step.for_each is not None:
                items = evaluate_items(step.for_each.items, self.scope(step, around))
                self.steps[place] = StepState(status=StepStatus.RUNNING, items=items)
            else:
                self._begin_kind(step, place, around)
        except EvaluationError as error:
            self.fail(place, Failure.of(error))

    def _begin_kind(self, step: Step, place: str, around: Surroundings) -> None:
        match step.kind:
            case Kind.DO | Kind.PARALLEL:
                return
            case Kind.USES if step.uses == APPROVE:
                asking = ApprovalState(given=ladder.arguments(self, step, around))
                self.hand_out(place, StepState(status=StepStatus.RUNNING, approval=asking))
            case Kind.USES if step.uses == event_starts.PUBLISH:
                event_starts.publish(self, step, place, around)
            case Kind.USES:
                given = step.arguments if step.is_literal else render(step.arguments, self.scope(step, around))
                arguments = given if isinstance(given, dict) else {}
                self.hand_out(place, self.steps[place], arguments=arguments, undo=self._way_back(step, around))
            case Kind.FAIL:
                message = render(step.message or "", self.scope(step, around))
                self.fail(place, Failure(kind="Failed", message=str(message)))
            case Kind.END:
                self.ended = True
                self.finish(place, StepStatus.DONE)
            case Kind.WAIT:
                self._wait(step, place, self.scope(step, around))
            case Kind.RUN:
                children.begin(self, step, place, around)

    def _wait(self, step: Step, place: str, scope: dict[str, JsonValue]) -> None:
        """Hold the step until its timer fires; nothing would change meanwhile, so a dry run goes on."""
        wanted: tuple[Command, ...]
        if step.awaits_event:
            wanted = waiting.event_of(step, place, scope)
        else:
            wanted = (waiting.timer_of(step, place, scope, self.facts.time_zone),)
        if self.facts.dry:
            self.finish(place, StepStatus.DONE, output=waiting.NO_EVENT if step.awaits_event else None)
            return
        self.steps[place] = StepState(status=StepStatus.WAITING)
        self.commands.extend(wanted)

    # --- what expressions see -----------------------------------------------------------------------------------------

    def scope(self, step: Step, around: Surroundings) -> dict[str, JsonValue]:
        """Everything an expression at a step may name."""
        facts = self.facts
        return {
            "input": self.input,
            "settings": facts.settings,
            "run": {
                "id": facts.id,
                "workflow": facts.workflow,
                "tenant": facts.tenant,
                "domain": facts.domain,
                "ticket": facts.ticket,
                "requester": self.requester,
                "dry": facts.dry,
                "given": list[JsonValue](sorted(facts.given)),
                **({"report": self._reported()} if step.reads_report else {}),
            },
            "steps": {**view_steps(self.definition, self.steps, around, step.place), **self.assumed}
            if step.reads_steps
            else {},
            **around.names,
        }

    def _reported(self) -> str:
        if self._report[0] != len(self.order):
            self._report = (len(self.order), report(self.state()))
        return self._report[1]


def _requester(ticket: JsonValue, *, must_be_known: bool) -> str:
    """The address of whoever opened a ticket; empty without a ticket.

    Raises:
        InvalidInput: The ticket does not tell, and has to.
    """
    if not isinstance(ticket, dict) or not isinstance(reporter := ticket.get("reporter"), dict):
        return ""
    if must_be_known and not reporter.get("email"):
        raise InvalidInput(HIDDEN_REPORTER)
    return str(reporter.get("email") or "")


def _joined(flows: list[Flow]) -> Flow:
    """What several branches come to: busy while any is, else cut off, else the first failure as written, else on."""
    for flow in (BUSY, CUT):
        if flow in flows:
            return flow
    return next((flow for flow in flows if isinstance(flow, Failure)), NEXT)


def _pause(rule: Retry, tries: int, run: str, place: str, after_s: float | None) -> float:
    """Seconds before the next try: doubling, spread over its upper half, never less than the vendor asked for.

    The spread comes from the run and the place, not from chance, so that a replay gives the same pause.
    """
    longest = min(rule.most_s, rule.first_s * 2.0 ** min(tries - 1, MOST_DOUBLINGS))
    spread = int.from_bytes(hashlib.sha256(f"{run}/{place}/{tries}".encode()).digest()[:4], "big") / 2**32
    return max(after_s or 0.0, longest * (0.5 + spread / 2))
