"""What holds for every definition, every order of events and every crash: generated runs, played to the end."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from regie.core.children import child_id
from regie.core.definition import ChildRun, Definition, ForEach, Kind, RetryRule, Step
from regie.core.effect import EffectNote
from regie.core.interpreter import Advance, advance, begin, outstanding
from regie.core.places import ANSWER, undo_place, undone_place, written_place
from regie.core.run import ApprovalPhase, Parent, RunFacts, RunState, StepState
from regie.core.run_commands import (
    AwaitEvent,
    CancelChild,
    ClearTimer,
    Command,
    FindApprovers,
    ForgetEvent,
    MakePlan,
    Perform,
    Remind,
    SetTimer,
    StartChild,
    TellParent,
    Work,
)
from regie.core.run_events import (
    EVENT,
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
from regie.core.status import RunStatus, StepStatus

from .trial import CATALOGUE, EVA, JAN, OLE, failure

pytestmark = pytest.mark.slow

SEVERAL = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
FACTS = RunFacts(id="run-1", tenant="acme", domain="things", workflow="things.try", started_by=JAN)
WITH_TICKET = FACTS.model_copy(update={"ticket": "ITSM-1"})
PARENT = Parent(run="run-0", place="it", lineage=("things.outer:it",), requester=JAN)
MOST_REMINDERS = 2
"""Reminders of one rung that these runs see; the rung's own timer comes at some time."""
LONGEST = 3000
"""Events in one run; more means that it goes in circles."""

# --- definitions ------------------------------------------------------------------------------------------------------


@st.composite
def bare_steps(draw: st.DrawFn, depth: int) -> Step:
    """One step without a place; `placed` gives it one."""
    inner = st.lists(bare_steps(depth - 1), min_size=1, max_size=3).map(tuple) if depth else st.nothing()
    kinds = ["look", "write", "write", "approve", "wait", "run", "run", "fail", "end"] + (
        ["do", "parallel", "parallel"] if depth else []
    )
    chosen = draw(st.sampled_from(kinds))
    parts: dict[str, object] = {"condition": draw(st.sampled_from([None, None, None, "true", "1 > 2"]))}
    match chosen:
        case "do" | "parallel":
            parts |= {"kind": Kind(chosen), "steps": draw(inner)}
        case "fail" | "end":
            return Step(place="", line=1, column=1, kind=Kind(chosen), message="so", condition=draw(GUARD))
        case "wait":
            parts |= {"kind": Kind.WAIT, "wait": draw(WAITS)}
        case "run":
            child = ChildRun(workflow="things.child", detach=draw(st.integers(0, 3)) == 0)
            parts |= {"kind": Kind.RUN, "run": child, "arguments": {"value": "${{ run.id }}"}}
        case "approve":
            rungs = draw(st.integers(1, 3))
            ask = [{"who": f"role:r{rung}", "within": "4h", "remind": "1h" if rung else ""} for rung in range(rungs)]
            parts |= {"kind": Kind.USES, "uses": "people.approve", "arguments": {"question": "Well?", "ask": list(ask)}}
        case _:
            retry = draw(st.sampled_from([None, RetryRule(attempts=2)]))
            parts |= {"kind": Kind.USES, "uses": f"thing.{chosen}", "retry": retry}
            parts["arguments"] = {"value": "${{ run.report }}"}
            if chosen == "write":
                parts["undo"] = draw(st.sampled_from([None, {"uses": "thing.write", "with": {"value": "back"}}]))
    if chosen != "wait" and draw(st.integers(0, 3)) == 0:
        items = draw(st.lists(st.integers(0, 9), max_size=4))
        most = draw(st.sampled_from([None, 1, 2, 3]))
        parts["for_each"] = ForEach(variable="item", items=str(items), at_most=most)
    if depth and draw(st.integers(0, 2)) == 0:
        parts["on_error"] = draw(inner)
    return Step.model_validate({"place": "", "line": 1, "column": 1, **parts})


EVENT_WAIT = {"event": "contract.sign", "where": {"who": "${{ run.id }}"}, "within": "1h"}
WAITS = st.sampled_from(
    ["1h", "${{ '2h' }}", {"until": "2026-12-24"}, EVENT_WAIT, EVENT_WAIT, {"until": "${{ run.id }}"}]
)
"""The last one is no moment, so the step fails."""
GUARD = st.sampled_from([None, "1 > 2", "1 > 2"])


def placed(steps: tuple[Step, ...], prefix: str = "") -> tuple[Step, ...]:
    """The same steps with the places that the reader would give them."""
    return tuple(
        step.model_copy(
            update={
                "place": f"{prefix}{at}",
                "steps": placed(step.steps, f"{prefix}{at}/"),
                "on_error": placed(step.on_error, f"{prefix}{at}/on-error/"),
            }
        )
        for at, step in enumerate(steps)
    )


def has_end_within(step: Step) -> bool:
    """`end` beside running branches stops what has not begun by then, so the order of events matters."""
    return any(below.kind is Kind.END for below in step.walk() if below is not step)


DEFINITIONS = st.lists(bare_steps(2), min_size=1, max_size=4).map(
    lambda steps: Definition(workflow="things.try", title="t", owner="team:test", steps=placed(tuple(steps)))
)

# --- what comes of each attempt ---------------------------------------------------------------------------------------

SCRIPTS = (
    "ok", "ok", "ok", "ok", "retry,ok", "retry,retry,ok", "retry,retry,retry,retry,retry,retry", "terminal",
    "later,ok", "later,retry,later,ok", "retry,terminal",
)  # fmt: skip
ENDS = ("done", "done", "done", "refused", "failed", "cancelled")
LADDERS = ("yes:0", "yes:0", "yes:1", "no:0", "no:1", "never:0", "yes:2")


@dataclass(frozen=True)
class Fate:
    """What every attempt at every place comes to, chosen before the run begins and independent of any order."""

    seed: int

    def pick(self, choices: tuple[str, ...], place: str) -> str:
        return choices[zlib.crc32(f"{self.seed}/{place}".encode()) % len(choices)]

    def answer(self, work: Work) -> Event:
        place, attempt = work.place, work.attempt
        word = self.pick(SCRIPTS, place).split(",")[min(attempt, 99) - 1 :][:1] or ["ok"]
        match word[0], work:
            case "retry", _:
                return Failed(place=place, attempt=attempt, failure=failure("Unavailable", may_retry=True))
            case "terminal", _:
                return Failed(place=place, attempt=attempt, failure=failure())
            case "later", Perform():
                return Postponed(place=place, attempt=attempt, handle=place, again_after_s=60.0)
            case _, MakePlan():
                return PlanMade(place=place, attempt=attempt, plan=())
            case _, FindApprovers():
                people = {"0": (), "1": (EVA,), "2": (EVA, OLE), "3": (JAN,)}
                found = people[self.pick(("0", "1", "1", "2", "3"), f"{place}/{work.rung}")]
                return ApproversFound(place=place, attempt=attempt, rung=work.rung, approvers=found)
        is_changed = self.pick(("yes", "yes", "no"), f"{place}/changed") == "yes"
        effect = EffectNote(capability="thing.write", target=place, words=f"{place}: a -> b", changed=is_changed)
        return Succeeded(place=place, attempt=attempt, output={"value": f"{place} {attempt}"}, effects=(effect,))

    def end_of(self, child: StartChild, *, is_cancelled: bool) -> ChildEnded:
        """How a child ends; one that is cancelled may have been done before it heard of that."""
        word = self.pick(ENDS, child.place)
        if is_cancelled and word != "done":
            word = "cancelled"
        why = failure() if word == "failed" else None
        return ChildEnded(place=child.place, run=child.run, status=RunStatus(word), failure=why, report=child.place)

    def event(self, place: str) -> EventArrived | None:
        """The event that a step waits for, if it ever comes."""
        if self.pick(("comes", "comes", "never"), f"{place}/event") == "never":
            return None
        return EventArrived(place=place, event="contract.sign", id=place, data={"place": place})

    def decision(self, place: str, state: StepState) -> Decided | None:
        """The decision that is made on the present rung, if one is."""
        word, _, at = self.pick(LADDERS, place).partition(":")
        approval = state.approval
        if approval is None or word == "never" or approval.rung < int(at) or approval.phase is not ApprovalPhase.ASKING:
            return None
        return Decided(place=place, decision="approved" if word == "yes" else "refused", by=approval.asked[-1])


# --- playing a run ----------------------------------------------------------------------------------------------------


@dataclass
class Play:
    """One run in a chosen order of events, with every rule checked after each of them."""

    definition: Definition
    fate: Fate
    order: list[int]
    crashes: frozenset[int] = frozenset()
    replays: frozenset[int] = frozenset()
    pauses: frozenset[int] = frozenset()
    state: RunState = field(init=False)
    out: dict[tuple[str, int], Work] = field(default_factory=dict)
    ghosts: list[Event] = field(default_factory=list)
    timers: dict[str, float] = field(default_factory=dict)
    taken: list[Event] = field(default_factory=list)
    handed: set[tuple[str, int]] = field(default_factory=set)
    children: dict[str, StartChild] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    dismissed: set[str] = field(default_factory=set)
    awaited: set[str] = field(default_factory=set)
    told: list[TellParent] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin, with a ticket or without, as a child or not."""
        facts = WITH_TICKET if self.fate.seed % 2 else FACTS
        self.state = begin(facts.model_copy(update={"parent": PARENT}) if self.fate.seed % 3 == 0 else facts)

    def to_the_end(self) -> RunState:
        self.take(Begun())
        for number in range(LONGEST):
            if self.state.status.is_final:
                return self.state
            if number in self.crashes:
                self.crash()
            if number in self.replays and self.taken:
                self.replay(self.taken[self.choose(len(self.taken), number)])
            if number in self.pauses:
                self.take(Paused(by=OLE) if self.state.paused is None else Resumed(by=OLE))
            if self.state.status.is_final:
                return self.state
            actions = list(self.actions())
            if self.state.paused is not None and not (actions and number % 7):
                self.take(Resumed(by=OLE))
                continue
            assert actions, f"stuck: {self.state}"
            actions[self.choose(len(actions), number)]()
        raise AssertionError(f"no end after {LONGEST} events")

    def choose(self, among: int, number: int) -> int:
        return self.order[number % len(self.order)] % among

    def actions(self) -> Iterator[Callable[[], None]]:
        """Everything that can happen next."""
        for mark, work in self.out.items():
            yield lambda mark=mark, work=work: self.answer(mark, work)  # type: ignore[misc]  # mypy sees no default
        for at, ghost in enumerate(self.ghosts):
            yield lambda at=at, ghost=ghost: self.haunt(at, ghost)  # type: ignore[misc]  # same
        for timer in self.timers:
            if self.taken.count(TimerFired(timer=timer)) == MOST_REMINDERS:
                continue
            place = timer.partition(":")[2].rpartition(":")[0]
            if place in self.awaited and self.fate.event(place) is not None:
                continue
            # Whoever decides on a rung does so in its time; silence is only where nobody does.
            if not timer.startswith("rung:") or self.fate.decision(place, self.state.steps[place]) is None:
                yield lambda timer=timer: self.fire(timer)  # type: ignore[misc]  # same
        for child in self.children.values():
            yield lambda child=child: self.bury(child)  # type: ignore[misc]  # same
        for place in self.awaited:
            if (event := self.fate.event(place)) is not None:
                yield lambda event=event: self.arrive(event)  # type: ignore[misc]  # same
        for place, step in self.state.steps.items():
            if step.status is StepStatus.WAITING and (decided := self.fate.decision(place, step)):
                yield lambda decided=decided: self.take(decided)  # type: ignore[misc]  # same

    def answer(self, mark: tuple[str, int], work: Work) -> None:
        del self.out[mark]
        self.take(self.fate.answer(work))

    def haunt(self, at: int, ghost: Event) -> None:
        """A worker that was thought dead answers after all."""
        del self.ghosts[at]
        self.take(ghost)
        mark = (getattr(ghost, "place", ""), getattr(ghost, "attempt", 0))
        self.out.pop(mark, None)

    def bury(self, child: StartChild) -> None:
        """A child has come to its end."""
        del self.children[child.place]
        self.take(self.fate.end_of(child, is_cancelled=child.place in self.dismissed))

    def arrive(self, event: EventArrived) -> None:
        self.awaited.discard(event.place)
        self.take(event)

    def fire(self, timer: str) -> None:
        del self.timers[timer]
        self.take(TimerFired(timer=timer))

    def crash(self) -> None:
        """Everything in memory is gone; state and timers are not. Work that was out is handed out again."""
        again = {(work.place, work.attempt): work for work in outstanding(self.definition, CATALOGUE, self.state)}
        assert again.keys() == self.out.keys()
        assert all(type(again[mark]) is type(self.out[mark]) for mark in again)
        self.ghosts += [self.fate.answer(work) for work in self.out.values()]
        self.out = again

    def replay(self, event: Event) -> None:
        step = self.advanced(event)
        assert step.state == self.state
        reminds = isinstance(event, TimerFired) and event.timer.startswith("remind:")
        assert step.commands == () or (reminds and all(isinstance(note, Remind | SetTimer) for note in step.commands))

    def take(self, event: Event) -> None:
        step = self.advanced(event)
        self.taken.append(event)
        self.state = RunState.model_validate_json(step.state.model_dump_json())
        assert self.state == step.state, "the state does not survive JSON"
        for command in step.commands:
            self.carry_out(command)
        self.check()

    def advanced(self, event: Event) -> Advance:
        before = self.state.model_dump_json()
        step = advance(self.definition, CATALOGUE, self.state, event)
        assert self.state.model_dump_json() == before, "advance changed its input"
        assert advance(self.definition, CATALOGUE, RunState.model_validate_json(before), event) == step
        return step

    def carry_out(self, command: Command) -> None:
        match command:
            case SetTimer():
                self.timers[command.timer] = command.after_s
            case ClearTimer():
                self.timers.pop(command.timer, None)
            case Perform() | MakePlan() | FindApprovers():
                mark = (command.place, command.attempt)
                assert mark not in self.handed, f"handed out twice: {mark}"
                self.handed.add(mark)
                self.out[mark] = command
            case StartChild():
                assert command.run == child_id(self.state.facts.id, command.place)
                assert command.place not in self.started, f"started twice: {command.place}"
                self.started.add(command.place)
                if not command.detached:
                    self.children[command.place] = command
            case CancelChild():
                assert command.place in self.children
                assert command.place not in self.dismissed
                self.dismissed.add(command.place)
            case AwaitEvent():
                self.awaited.add(command.place)
            case ForgetEvent():
                self.awaited.remove(command.place)
            case TellParent():
                self.told.append(command)

    def check(self) -> None:
        """What holds after every event."""
        if self.state.status.is_final:
            assert not any(step.status in UNFINISHED for step in self.state.steps.values())
            assert sorted(self.state.order) == sorted(self.state.steps)
            assert not self.children
            assert not self.awaited
            waits_for_it = self.state.facts.parent is not None
            assert [each.ended.status for each in self.told] == ([self.state.status] if waits_for_it else [])
            self.check_undone()
            return
        assert not self.told
        # Answers that are late find nothing waiting for them; what is out is exactly what runs.
        awaited = {
            (place, step.attempt)
            for place, step in self.state.steps.items()
            if step.status is StepStatus.RUNNING and step.attempt
        }
        awaited -= {(getattr(kept, "place", ""), getattr(kept, "attempt", 0)) for kept in self.state.held}
        self.out = {mark: work for mark, work in self.out.items() if mark in awaited}
        assert self.out.keys() == awaited
        is_paused = self.state.paused is not None
        assert self.state.status.value == ("paused" if is_paused else "running" if awaited else "waiting")
        kept_ends = {kept.place for kept in self.state.held if isinstance(kept, ChildEnded)}
        kept_events = {kept.place for kept in self.state.held if isinstance(kept, EventArrived)}
        kept_timers = {kept.timer for kept in self.state.held if isinstance(kept, TimerFired)}
        for place, step in self.state.steps.items():
            if step.status is StepStatus.WAITING:
                rung = step.approval.rung if step.approval else -1
                timers = {f"again:{place}:{step.attempt}", f"rung:{place}:{rung}", f"wait:{place}:0"}
                assert len(timers & (self.timers.keys() | kept_timers)) == (0 if step.child else 1), place
                assert (place in self.children.keys() | kept_ends) == (step.child is not None), place
                written = self.definition.by_place.get(written_place(place))
                assert (place in self.awaited | kept_events) == (written is not None and written.awaits_event), place
        self.check_limits()

    def check_undone(self) -> None:
        """A run that failed has taken back what it changed, the latest first; no other run has taken back anything."""
        undone = [place for place in self.state.order if undone_place(place) is not None]
        changed = [
            place
            for place in self.state.order
            if self.state.steps[place].undo is not None
            and any(each.changed for each in self.state.steps[place].effects)
        ]
        if self.state.status is RunStatus.FAILED:
            assert undone == [undo_place(place) for place in reversed(changed)]
        elif self.state.cancelled is None:
            assert undone == []

    def check_limits(self) -> None:
        under_way: dict[str, int] = {}
        for place, step in self.state.steps.items():
            written = self.definition.by_place.get(written_place(place))
            if written and written.for_each and step.items is None and step.status in UNFINISHED:
                loop = place.rpartition(".")[0] if "." in place else written.place
                under_way[loop] = under_way.get(loop, 0) + 1
                assert under_way[loop] <= (written.for_each.at_most or len(self.state.steps))


UNFINISHED = (StepStatus.RUNNING, StepStatus.WAITING, StepStatus.HANDLING)
ORDERS = st.lists(st.integers(0, 40), min_size=1, max_size=30)
MOMENTS = st.frozensets(st.integers(0, 60), max_size=12)
FATES = st.integers(0, 10**6).map(Fate)


def is_settled_by_order(definition: Definition, state: RunState) -> bool:
    """Whether the order of events decided how far something got: a limited loop that a failure stopped."""
    return any(
        written.for_each is not None and written.for_each.at_most and step.status is StepStatus.FAILED
        for place, step in state.steps.items()
        if (written := definition.by_place.get(written_place(place)))
    )


@SEVERAL
@given(DEFINITIONS, FATES, ORDERS, ORDERS)
def test_any_order_of_events_comes_to_the_same(
    definition: Definition, fate: Fate, one: list[int], other: list[int]
) -> None:
    assume(not any(has_end_within(step) for step in definition.steps))
    first = Play(definition, fate, one).to_the_end()
    second = Play(definition, fate, other).to_the_end()
    if is_settled_by_order(definition, first) or is_settled_by_order(definition, second):
        return
    assert second.status == first.status
    assert second.failure == first.failure
    assert second.steps == first.steps


@SEVERAL
@given(DEFINITIONS, FATES, ORDERS, MOMENTS, MOMENTS)
def test_crashes_and_replays_come_to_the_same(
    definition: Definition, fate: Fate, order: list[int], crashes: frozenset[int], replays: frozenset[int]
) -> None:
    assume(not any(has_end_within(step) for step in definition.steps))
    undisturbed = Play(definition, fate, order).to_the_end()
    disturbed = Play(definition, fate, order, crashes, replays).to_the_end()
    if is_settled_by_order(definition, undisturbed) or is_settled_by_order(definition, disturbed):
        return
    assert disturbed.status == undisturbed.status
    assert disturbed.failure == undisturbed.failure
    assert disturbed.steps == undisturbed.steps


@SEVERAL
@given(DEFINITIONS, FATES, ORDERS, MOMENTS, MOMENTS)
def test_paused_and_resumed_at_any_moment_a_run_comes_to_the_same(
    definition: Definition, fate: Fate, order: list[int], crashes: frozenset[int], pauses: frozenset[int]
) -> None:
    assume(not any(has_end_within(step) for step in definition.steps))
    undisturbed = Play(definition, fate, order).to_the_end()
    paused = Play(definition, fate, order, crashes, pauses=pauses).to_the_end()
    assert (paused.paused, paused.held) == (None, ())
    if is_settled_by_order(definition, undisturbed) or is_settled_by_order(definition, paused):
        return
    assert paused.status == undisturbed.status
    assert paused.failure == undisturbed.failure
    assert paused.steps == undisturbed.steps


@SEVERAL
@given(DEFINITIONS, FATES, ORDERS, st.integers(0, 25))
def test_while_a_run_is_paused_nothing_is_handed_out(
    definition: Definition, fate: Fate, order: list[int], moment: int
) -> None:
    play = Play(definition, fate, order)
    play.take(Begun())
    for number in range(moment):
        actions = list(play.actions())
        if play.state.status.is_final or not actions:
            break
        actions[play.choose(len(actions), number)]()
    assume(not play.state.status.is_final and ANSWER not in play.state.steps)
    play.take(Paused(by=OLE))
    handed, begun = set(play.handed), set(play.state.steps)
    for number in range(moment, moment + 40):
        if play.state.status.is_final or not (actions := list(play.actions())):
            break
        actions[play.choose(len(actions), number)]()
    assert (play.handed, set(play.state.steps)) == (handed, begun)


@SEVERAL
@given(DEFINITIONS, FATES, ORDERS, MOMENTS)
def test_every_run_ends_even_where_end_stands_between_branches(
    definition: Definition, fate: Fate, order: list[int], crashes: frozenset[int]
) -> None:
    assert Play(definition, fate, order, crashes).to_the_end().status.is_final


@SEVERAL
@given(DEFINITIONS, FATES, ORDERS, MOMENTS, st.integers(0, 25))
def test_cancelled_at_any_moment_a_run_ends_without_anything_new(
    definition: Definition, fate: Fate, order: list[int], crashes: frozenset[int], moment: int
) -> None:
    play = Play(definition, fate, order, crashes)
    play.take(Begun())
    for number in range(moment):
        actions = list(play.actions())
        if play.state.status.is_final or not actions:
            break
        actions[play.choose(len(actions), number)]()
    assume(not play.state.status.is_final)
    was_ending = ANSWER in play.state.steps
    handed, begun = set(play.handed), set(play.state.steps)
    play.take(Cancelled(by=OLE))
    state = play.to_the_end()
    if was_ending:
        assert state.cancelled is None
        return
    assert state.status is RunStatus.CANCELLED
    assert {place for place, _ in play.handed - handed} <= {ANSWER}
    assert set(state.steps) - begun <= {ANSWER}
    assert not set(play.timers) - {f"again:{ANSWER}:{attempt}" for attempt in range(99)}


PLACES = st.sampled_from(
    ["0", "1", "2", "0/0", "0/1", "1/0", "0[0]", "0[1]", "0/0[0]", "0/on-error/0", "start", "", "["]
)
NUMBERS = st.integers(-1, 4)
OUTSIDERS: st.SearchStrategy[Event] = st.one_of(
    st.just(Begun()),
    st.builds(Succeeded, place=PLACES, attempt=NUMBERS, output=st.sampled_from([None, {}, {"decision": "approved"}])),
    st.builds(Failed, place=PLACES, attempt=NUMBERS, failure=st.builds(failure, may_retry=st.booleans())),
    st.builds(
        Postponed, place=PLACES, attempt=NUMBERS, handle=st.none(), again_after_s=st.floats(-1, 1e9, allow_nan=False)
    ),
    st.builds(PlanMade, place=PLACES, attempt=NUMBERS, plan=st.just(())),
    st.builds(
        ApproversFound,
        place=PLACES,
        attempt=NUMBERS,
        rung=NUMBERS,
        approvers=st.sampled_from([(), (EVA,), (JAN,), ("",), (EVA, OLE)]),
    ),
    st.builds(
        Decided,
        place=PLACES,
        decision=st.sampled_from(["approved", "refused"]),
        by=st.sampled_from([EVA, JAN, OLE, ""]),
    ),
    st.builds(TimerFired, timer=st.text(max_size=12)),
    st.builds(
        lambda place, status, is_right: ChildEnded(
            place=place, run=child_id("run-1", place) if is_right else "run-9", status=status
        ),
        PLACES,
        st.sampled_from([RunStatus.DONE, RunStatus.REFUSED, RunStatus.FAILED, RunStatus.CANCELLED]),
        st.booleans(),
    ),
    st.builds(EventArrived, place=PLACES, event=st.just("contract.sign"), id=st.just("1"), data=st.just({"a": 1})),
    st.builds(Cancelled, by=st.just(OLE)),
    st.builds(Paused, by=st.just(OLE)),
    st.builds(Resumed, by=st.just(OLE)),
    st.builds(
        lambda purpose, place, number: TimerFired(timer=f"{purpose}:{place}:{number}"),
        st.sampled_from(["again", "rung", "remind", "wait", "x"]),
        PLACES,
        NUMBERS,
    ),
)


@SEVERAL
@given(DEFINITIONS, st.lists(OUTSIDERS, max_size=25))
def test_whatever_event_comes_nothing_breaks_and_the_run_can_still_move(
    definition: Definition, events: list[Event]
) -> None:
    state = begin(FACTS)
    for event in [Begun(), *events]:
        assert EVENT.validate_json(EVENT.dump_json(event)) == event
        before = state.model_dump_json()
        step = advance(definition, CATALOGUE, state, event)
        assert state.model_dump_json() == before
        state = RunState.model_validate_json(step.state.model_dump_json())
        assert state == step.state
        if not state.status.is_final:
            is_waiting = any(one.status is StepStatus.WAITING for one in state.steps.values())
            assert is_waiting or state.paused or outstanding(definition, CATALOGUE, state)
