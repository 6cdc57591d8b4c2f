"""What a run did, in plain words: the text that `run.report` gives and that ends up on the ticket."""

from __future__ import annotations

from regie.core.approval import ApprovalOutcome
from regie.core.effect import EffectNote
from regie.core.places import LIMIT, undone_place, written_place
from regie.core.run import RunState
from regie.core.status import StepStatus

_UNWELL = (StepStatus.FAILED, StepStatus.HANDLING, StepStatus.CANCELLED)


def report(state: RunState) -> str:
    """Paragraphs and `- ` list items: who agreed, what was changed, what needed no change, what failed."""
    parts = [*decisions(state)]
    notes = [
        note
        for place in state.order
        if place in state.steps and undone_place(place) is None and not state.steps[place].kept
        for note in state.steps[place].effects
    ]
    undone = [note for place in state.order if undone_place(place) is not None for note in state.steps[place].effects]
    undone += [note for step in state.steps.values() if step.child for note in step.child.taken_back]
    before = [
        note for place in state.order if state.steps[place].kept for note in state.steps[place].effects if note.changed
    ]
    parts += _listed(f"Changed before, by run {state.facts.rerun_of}:", before)
    parts += _listed("Would change:" if state.facts.dry else "Changed:", [note for note in notes if note.changed])
    parts += _listed("Already as wanted:", [note for note in notes if not note.changed])
    parts += _listed("Taken back:", undone)
    failed = [
        f"- {place}: {step.failure.message}"
        for place, step in state.steps.items()
        if step.failure and step.status in _UNWELL and (step.attempt or step.child)
    ]
    if failed:
        parts.append("Failed:\n" + "\n".join(failed))
    parts.append(f"Workflow {state.facts.workflow}, run {state.facts.id}.")
    return "\n\n".join(parts)


def decisions(state: RunState) -> list[str]:
    """What people decided in a run and in its children, a line each."""
    lines: list[str] = []
    for place in state.order:
        step = state.steps[place]
        lines += step.child.decisions if step.child else ()
        if step.approval is None or step.status is not StepStatus.DONE:
            continue
        outcome = ApprovalOutcome.model_validate(step.output)
        if written_place(place) == LIMIT:
            if outcome.decision == "approved":
                said = f" {outcome.comment}" if outcome.comment else ""
                lines.append(f"{outcome.by} has let it make more changes than its limit.{said}")
            continue
        match outcome.decision:
            case "approved" if state.facts.dry:
                lines.append("A dry run: approval is assumed, nothing is written.")
            case "approved":
                lines.append(f"Approved by {outcome.by}." + (f" {outcome.comment}" if outcome.comment else ""))
            case "refused":
                lines.append(f"Refused by {outcome.by}." + (f" {outcome.comment}" if outcome.comment else ""))
            case "timeout" if not step.approval.asked:
                whom = ", ".join(rung.who for rung in step.approval.given.ask)
                lines.append(f"Nobody could be asked: {whom}.")
            case "timeout":
                lines.append("Nobody who was asked has answered in time.")
    return lines


def _listed(heading: str, notes: list[EffectNote]) -> list[str]:
    return [heading + "\n" + "\n".join(f"- {note.words}" for note in notes)] if notes else []
