"""Runs that are steps of other runs: what the interpreter asks for and takes in, and which children are allowed."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.core.checking import validate, validate_draft
from regie.core.children import DEEPEST, child_id
from regie.core.definition import ChildRun, Definition, Kind, Step
from regie.core.effect import EffectNote
from regie.core.errors import DefinitionError, Fault
from regie.core.interpreter import advance, begin
from regie.core.reading import read_definition, read_draft
from regie.core.run import Parent
from regie.core.run_commands import CancelChild, StartChild, TellParent
from regie.core.run_events import Begun, ChildEnded, Succeeded
from regie.core.status import RunStatus

from .test_checking import CATALOGUE, SETTINGS
from .trial import CATALOGUE as TRIAL_CATALOGUE
from .trial import JAN, OLE, Trial, failure

CHANGED = EffectNote(capability="thing.write", target="thing:1", words="on: a -> b", changed=True)


def ended(trial: Trial, place: str, status: RunStatus = RunStatus.DONE, **more: object) -> None:
    """The child at a place is over."""
    event = {"place": place, "run": child_id(trial.facts.id, place), "status": status, "report": "All.", **more}
    trial.take(ChildEnded.model_validate(event))


def test_a_child_is_asked_for_and_its_end_is_the_steps_result() -> None:
    trial = Trial(
        """
        - id: other
          run: { workflow: things.other, with: { who: "${{ input.who }}" } }
        - uses: thing.look
          with: { value: "${{ steps.other.outcome }} ${{ steps.other.run }} ${{ steps.other.report }}" }
        """,
        head="input: { who: { type: text } }",
        given={"who": "Ann"},
        started_by=JAN,
    )
    child = child_id("run-1", "other")
    assert trial.said(StartChild) == [
        StartChild(
            place="other", run=child, workflow="things.other", given={"who": "Ann"}, detached=False, requester=JAN
        )
    ]
    assert (trial.status, trial.outcome("other"), trial.outstanding()) == ("waiting", "waiting", ())
    ended(trial, "other")
    assert trial.out["1"].arguments == {"value": f"done {child} All."}  # type: ignore[union-attr]  # the only work
    trial.ok("1")
    assert trial.status == "done"


def test_the_id_of_a_child_says_who_started_it_where() -> None:
    ids = [child_id(run, place) for run in ("a", "b") for place in ("x", "x[0]", "x[1]")]
    assert len(set(ids)) == len(ids)
    assert [child_id(run, place) for run in ("a", "b") for place in ("x", "x[0]", "x[1]")] == ids
    assert all(str(uuid.UUID(each)) == each for each in ids)


def test_a_detached_child_is_not_waited_for() -> None:
    trial = Trial("- { id: other, run: { workflow: things.other, detach: true } }", ticket="")
    assert trial.status == "done"
    assert trial.step("other").output == {"run": child_id("run-1", "other")}
    assert [command.detached for command in trial.said(StartChild)] == [True]  # type: ignore[union-attr]  # said


def test_refused_is_a_result_and_makes_the_run_refused() -> None:
    trial = Trial("- { id: other, run: things.other }\n- if: steps.other.outcome == 'refused'\n  uses: thing.look\n")
    ended(trial, "other", RunStatus.REFUSED)
    trial.ok("1")
    assert trial.status == "refused"


@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.CANCELLED])
def test_a_child_that_failed_fails_its_step_and_on_error_may_handle_it(status: RunStatus) -> None:
    trial = Trial("""
        - id: other
          run: things.other
          on-error:
            - uses: thing.look
              with: { value: "${{ error.kind }}" }
        - uses: thing.look
          with: { value: "${{ steps.other.outcome }}" }
        """)
    ended(trial, "other", status, failure=failure("NotFound"))
    assert trial.out["other/on-error/0"].arguments == {"value": "ChildFailed"}  # type: ignore[union-attr]  # the only work
    trial.ok("other/on-error/0")
    assert trial.out["1"].arguments == {"value": status.value}  # type: ignore[union-attr]  # the only work
    trial.ok("1")
    assert trial.status == "done"


def test_what_children_did_is_in_the_report_of_the_parent() -> None:
    trial = Trial("- { id: other, run: things.other }\n- fail: So\n", ticket="ITSM-1")
    ended(trial, "other", effects=[CHANGED], taken_back=[CHANGED], decisions=["Approved by Eva."])
    told = trial.out["answer"].arguments["text"]  # type: ignore[union-attr]  # the only work
    assert isinstance(told, str)
    for words in ("Approved by Eva.", "Changed:\n- on: a -> b", "Taken back:\n- on: a -> b"):
        assert words in told


def test_doubt_about_a_child_is_doubt_about_its_parent() -> None:
    texts = []
    for in_doubt in (False, True):
        trial = Trial("- { id: other, run: things.other }\n", ticket="ITSM-1")
        ended(trial, "other", RunStatus.FAILED, in_doubt=in_doubt)
        texts.append(trial.out["answer"].arguments["text"])  # type: ignore[union-attr]  # the only work
    assert ["Nothing was changed" in str(text) for text in texts] == [True, False]


def test_the_end_of_another_child_or_a_second_end_changes_nothing() -> None:
    trial = Trial("- { id: other, run: things.other }\n- uses: thing.look\n")
    assert trial.take(ChildEnded(place="other", run="somebody", status=RunStatus.DONE)) == ()
    assert trial.take(ChildEnded(place="1", run=child_id("run-1", "other"), status=RunStatus.DONE)) == ()
    ended(trial, "other")
    before = trial.state
    ended(trial, "other", RunStatus.FAILED)
    assert trial.state == before


def test_children_of_items_are_limited_like_any_items() -> None:
    trial = Trial("- { id: all, for-each: 'n in [1, 2, 3]', at-most: 2, run: things.other }\n")
    assert [child.place for child in trial.said(StartChild)] == ["all[0]", "all[1]"]  # type: ignore[union-attr]  # said
    ended(trial, "all[1]")
    assert [child.place for child in trial.said(StartChild)][2:] == ["all[2]"]  # type: ignore[union-attr]  # said
    ended(trial, "all[0]")
    ended(trial, "all[2]")
    assert trial.status == "done"


def test_who_cancels_a_parent_cancels_its_children_and_awaits_them() -> None:
    trial = Trial("""
        - parallel:
            - { id: one, run: things.other }
            - { id: two, run: things.other }
            - { id: free, run: { workflow: things.other, detach: true } }
            - wait: 1h
        """)
    trial.cancels(OLE, "Too late")
    assert trial.said(CancelChild) == [
        CancelChild(place=place, run=child_id("run-1", place), by=OLE, reason="Too late") for place in ("one", "two")
    ]
    assert (trial.status, trial.outcome("one"), trial.outcome("0/3")) == ("waiting", "waiting", "cancelled")
    ended(trial, "one", RunStatus.CANCELLED)
    assert trial.status == "waiting"
    ended(trial, "two", effects=[CHANGED])
    assert (trial.status, trial.outcome("one"), trial.outcome("two")) == ("cancelled", "cancelled", "done")


def parent(*, detached: bool = False, depth: int = 1) -> Parent:
    lineage = tuple(f"things.p:{number}" for number in range(depth))
    return Parent(run="run-0", place="it", lineage=lineage, requester=JAN, detached=detached)


@pytest.mark.parametrize("detached", [False, True])
def test_a_child_tells_its_end_to_its_parent_or_else_to_its_ticket(*, detached: bool) -> None:
    trial = Trial("- uses: thing.write\n", ticket="ITSM-1")
    facts = trial.facts.model_copy(update={"parent": parent(detached=detached)})
    state = begin(facts)
    assert state.requester == JAN
    for event in (Begun(), Succeeded(place="0", attempt=1, output=None, effects=(CHANGED,))):
        step = advance(trial.definition, TRIAL_CATALOGUE, state, event)
        state = step.state
    told = [command for command in step.commands if isinstance(command, TellParent)]
    assert len(told) == (0 if detached else 1)
    for each in told:
        assert (each.run, each.ended.place, each.ended.run) == ("run-0", "it", facts.id)
        assert (each.ended.status, each.ended.effects) == (RunStatus.DONE, (CHANGED,))


def test_no_more_than_so_many_runs_stand_in_a_row() -> None:
    trial = Trial("- { id: other, run: things.other }\n")
    for depth, failed in ((DEEPEST - 2, False), (DEEPEST - 1, True)):
        facts = trial.facts.model_copy(update={"parent": parent(depth=depth)})
        state = advance(trial.definition, TRIAL_CATALOGUE, begin(facts), Begun()).state
        assert (state.status is RunStatus.FAILED) == failed


def test_a_child_of_another_domain_is_denied_even_where_nobody_has_checked() -> None:
    step = Step(place="0", kind=Kind.RUN, run=ChildRun(workflow="others.other"), line=1, column=1)
    trial = Trial(Definition(workflow="things.try", title="t", owner="team:test", steps=(step,)))
    assert trial.said(StartChild) == []
    assert trial.state.failure is not None
    assert trial.state.failure.kind == "Denied"


# --- which children are allowed ---------------------------------------------------------------------------------------

HEAD = "title: T\nowner: team:test\n"
CHILD_INPUT = """input:
  who: { type: email }
  day: { type: date, from: ticket.fields.day }
  count: { type: integer, default: 3 }
  kind: { type: choice, one-of: [soft, hard], required: false }
"""
CHILD = f"workflow: identity.child\n{HEAD}{CHILD_INPUT}steps:\n  - end:\n"
PARENT = "workflow: identity.parent\n" + HEAD + "input: { who: { type: email }, many: { type: integer } }\nsteps:\n"


def found(steps: str, *others: str) -> list[Fault]:
    """What is wrong with a parent beside other workflows."""
    draft = read_draft(PARENT + steps, "parent.yaml")
    known = {each.workflow: each for each in (read_definition(text, "other.yaml")[0] for text in (CHILD, *others))}
    try:
        validate_draft(draft, CATALOGUE, SETTINGS, workflows={**known, draft.definition.workflow: draft.definition})
    except DefinitionError as error:
        return error.faults
    return []


@pytest.mark.parametrize(
    "steps",
    [
        "  - run: identity.child\n    with: { who: a@example.com }\n",
        "  - run: { workflow: identity.child, with: { who: '${{ input.who }}', day: 2026-11-30, kind: soft } }\n",
        (
            "  - run: { workflow: identity.child, with: { who: '${{ input.who }}', count: '${{ input.many }}' } }\n"
            "    on-error:\n      - end:\n"
        ),
        (
            "  - for-each: who in ['a@example.com']\n    at-most: 1\n    run: identity.child\n"
            "    with: { who: '${{ who }}' }\n"
        ),
        (
            "  - id: it\n    run: { workflow: identity.child, with: { who: a@example.com }, detach: true }\n"
            "  - if: steps.it.run != ''\n    end:\n"
        ),
        (
            "  - id: it\n    run: identity.child\n    with: { who: a@example.com }\n"
            "  - if: steps.it.outcome == 'refused'\n    fail: '${{ steps.it.report }}'\n"
        ),
    ],
)
def test_children_that_are_right(steps: str) -> None:
    assert found(steps) == []


@pytest.mark.parametrize(
    ("steps", "message", "hint"),
    [
        ("  - run: identity.chidl\n", "there is no workflow 'identity.chidl'", "did you mean identity.child?"),
        ("  - run: hr.child\n", "is of the domain hr", "grants"),
        ("  - run: identity.child\n", "needs the input 'who'", None),
        ("  - run: { workflow: identity.child, with: { hwo: x } }\n", "has no input 'hwo'", "did you mean who?"),
        ("  - run: { workflow: identity.child, with: { who: nobody } }\n", "one e-mail address", None),
        ("  - run: identity.child\n    with: { who: a@b.nl, count: many }\n", "count must be a whole number", None),
        ("  - run: identity.child\n    with: { who: a@b.nl, kind: heavy }\n", "must be one of soft, hard", None),
        ("  - run: identity.child\n    with: { who: a@b.nl, day: soon }\n", "day must be a date", None),
        ("  - run: identity.child\n    with: { who: '${{ input.many }}' }\n", "a number is given where a text", None),
        ("  - run: identity.child\n    with: { who: '${{ input.woh }}' }\n", "no field 'woh'", "did you mean who?"),
        ("  - run: { workflow: identity.child, with: { who: a@b.nl } }\n    with: {}\n", "is here twice", None),
        ("  - run: { workflow: identity.child, wait: 1h }\n", "'wait' is not a word of `run`", None),
        ("  - run: { with: {} }\n", "`run` has no 'workflow'", None),
        ("  - run: { workflow: identity.child, detach: 'yes' }\n", "`detach` is true or false", None),
        ("  - run: identity.child\n    with: { who: a@b.nl }\n    undo: ticket.close\n", "`undo` does not go", None),
        ("  - run: identity.child\n    with: { who: a@b.nl }\n    timeout: 1h\n", "`timeout` does not go", None),
        (
            (
                "  - id: it\n    run: { workflow: identity.child, with: { who: a@b.nl }, detach: true }\n"
                "  - fail: '${{ steps.it.report }}'\n"
            ),
            "gives no field 'report'",
            "known: outcome, run",
        ),
        (
            (
                "  - id: it\n    run: identity.child\n    with: { who: a@b.nl }\n"
                "  - if: steps.it.outcome == 'rejected'\n    end:\n"
            ),
            "it is never 'rejected'",
            "refused",
        ),
    ],
)
def test_children_that_are_wrong(steps: str, message: str, hint: str | None) -> None:
    faults = found(steps)
    assert any(message in fault.message and (hint is None or hint in (fault.hint or "")) for fault in faults), faults


def other(name: str, *steps: str) -> str:
    return f"workflow: identity.{name}\n{HEAD}steps:\n" + "".join(f"  - {step}\n" for step in steps)


def test_workflows_that_run_each_other_in_a_circle() -> None:
    [fault] = found("  - run: identity.one\n", other("one", "run: identity.two"), other("two", "run: identity.parent"))
    assert fault.message.endswith("identity.parent -> identity.one -> identity.two -> identity.parent")
    [*_, fault] = found("  - run: identity.parent\n")
    assert fault.message.endswith("identity.parent -> identity.parent")
    # A circle below is told where it is, and does not keep this one from being checked.
    assert found("  - run: identity.one\n", other("one", "run: identity.two"), other("two", "run: identity.one")) == []


@given(st.integers(1, 12))
def test_how_many_runs_may_stand_in_a_row(length: int) -> None:
    row = [other(f"n{at}", f"run: identity.n{at + 1}") for at in range(length - 1)] + [other(f"n{length - 1}", "end:")]
    faults = found("  - run: identity.n0\n", *row)
    assert bool(faults) == (length + 1 > DEEPEST)
    assert all(f"more than {DEEPEST} runs would stand in a row" in fault.message for fault in faults)


ASKS = """  - id: ask
    uses: people.approve
    with: { question: Well?, ask: [{ who: "role:team-lead", within: 1h }] }
"""
DESTRUCTIVE = "uses: identity.disable_account\n    with: { user: jan@example.com }"


def test_nothing_destructive_happens_unseen_behind_an_approval() -> None:
    behind = ASKS + "  - if: steps.ask.decision == 'approved'\n    run: identity.one\n"
    assert found(behind, other("one", "end:")) == []
    for children in (
        (other("one", DESTRUCTIVE),),
        (other("one", "run: identity.two"), other("two", DESTRUCTIVE)),
    ):
        [fault] = found(behind, *children)
        assert "takes something away without asking" in fault.message
        # Without an approval there is nothing that anybody could have relied on.
        assert found("  - run: identity.one\n", *children) == []
    asking = other("one") + ASKS + "  - if: steps.ask.decision == 'approved'\n    " + DESTRUCTIVE + "\n"
    assert found(behind, asking) == []


def test_an_approval_cannot_cover_a_child() -> None:
    covers = ASKS.replace("Well?,", "Well?, covers: [it],")
    steps = covers + "  - id: it\n    do:\n      - run: identity.one\n"
    [fault] = found(steps, other("one", "end:"))
    assert fault.message == "step 'it' runs another workflow, and an approval shows steps of its own run only"


def test_a_file_by_itself_is_checked_as_far_as_can_be() -> None:
    validate(PARENT + "  - run: identity.whatever\n    with: { a: 1 }\n", "x.yaml", CATALOGUE, SETTINGS)
    with pytest.raises(DefinitionError, match="nope"):
        validate(PARENT + "  - run: identity.whatever\n    with: { a: '${{ nope }}' }\n", "x.yaml", CATALOGUE, SETTINGS)
