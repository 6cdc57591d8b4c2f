"""What a run says about itself in the end, in words that fit on a ticket."""

from __future__ import annotations

from regie.core.effect import EffectNote
from regie.core.report import report

from .trial import EVA, Trial

STEPS = """
- id: approval
  uses: people.approve
  with:
    question: Well?
    ask: [ { who: "role:security-officer", within: 4h } ]
- if: steps.approval.decision == 'approved'
  uses: thing.write
- if: steps.approval.decision == 'approved'
  uses: thing.write
  on-error: [ { uses: thing.look } ]
- uses: thing.write
  with: { value: "${{ run.report }}" }
"""
MADE = EffectNote(capability="thing.write", target="thing:1", words="The lamp: on true -> false", changed=True)
NEEDLESS = EffectNote(capability="thing.write", target="thing:2", words="The door is closed already.", changed=False)


def after_approval(*, says_yes: bool = True, comment: str = "") -> Trial:
    trial = Trial(STEPS)
    trial.plans("approval")
    trial.finds("approval", EVA)
    trial.decides("approval", EVA, says_yes=says_yes, comment=comment)
    return trial


def test_a_report_says_who_agreed_what_was_changed_and_what_was_not() -> None:
    trial = after_approval(comment="Fine with me.")
    trial.ok("1", effects=(MADE, NEEDLESS))
    trial.fails("2")
    trial.ok("2/on-error/0")
    assert report(trial.state) == "\n\n".join([
        f"Approved by {EVA}. Fine with me.",
        "Changed:\n- The lamp: on true -> false",
        "Already as wanted:\n- The door is closed already.",
        "Failed:\n- 2: Terminal happened",
        "Workflow things.try, run run-1.",
    ])  # fmt: skip


def test_a_step_can_use_the_report_so_far() -> None:
    trial = after_approval()
    trial.ok("1", effects=(MADE,))
    trial.ok("2")
    work = trial.out["3"]
    assert work.kind == "perform"
    assert work.arguments["value"] == report(trial.state)
    assert "The lamp" in str(work.arguments["value"])


def test_a_no_and_silence_are_told_apart() -> None:
    assert report(after_approval(says_yes=False, comment="Too early.").state).startswith(
        f"Refused by {EVA}. Too early."
    )
    silent = Trial(STEPS)
    silent.plans("approval")
    silent.finds("approval", EVA)
    silent.fires("rung:approval:0")
    assert report(silent.state).startswith("Nobody who was asked has answered in time.")


def test_an_approval_that_nobody_could_be_asked_says_whom_it_meant() -> None:
    trial = Trial(STEPS)
    trial.plans("approval")
    trial.finds("approval")
    assert report(trial.state).startswith("Nobody could be asked: role:security-officer.")


def test_a_dry_run_says_that_nothing_was_written() -> None:
    trial = Trial(STEPS, dry=True)
    trial.plans("approval")
    trial.ok("1", effects=(MADE,))
    told = report(trial.state)
    assert "A dry run: approval is assumed, nothing is written." in told
    assert "Would change:\n- The lamp" in told
    assert "Approved by" not in told


def test_a_run_that_did_nothing_says_just_what_it_is() -> None:
    assert report(Trial("- { uses: thing.look }").state) == "Workflow things.try, run run-1."
