"""Checks the steps that run other workflows: which these are, and what no child may do unseen. Called by `checking.py`.

The rules:

* A child is a workflow of the same release and the same domain: grants, workers and quotas end at a domain's border.
* Workflows that run each other form no circle, and no row of more than `children.DEEPEST`.
* An approval shows the plan of steps of its own run. So it cannot cover a step that runs a workflow; and behind an
  approval no workflow is run that takes something away without asking by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from regie.core.approval import APPROVE
from regie.core.block import Catalogue
from regie.core.capability import Effect
from regie.core.children import DEEPEST
from regie.core.definition import Definition, Kind
from regie.core.errors import Fault
from regie.core.nearest import did_you_mean
from regie.core.precedence import Layout, Spot, comes_after
from regie.core.reading import Positions

Workflows = Mapping[str, Definition | None]
"""The workflows of a release by name; none for one that could not be read."""


def child_faults(
    definition: Definition, layout: Layout, positions: Positions, catalogue: Catalogue, workflows: Workflows | None
) -> Iterator[Fault]:
    """Everything that is wrong with the choice of the workflows that a definition runs.

    Args:
        definition: As read.
        layout: Its steps.
        positions: Where its parts stand.
        catalogue: The blocks there are.
        workflows: The release's; none to leave open what depends on them.
    """
    approvals = [spot for spot in layout.spots.values() if spot.step.uses == APPROVE]
    for approval in approvals:
        yield from _covered(approval, layout, positions)
    for spot in layout.spots.values():
        if spot.step.run is None:
            continue
        name = spot.step.run.workflow
        message, hint = _wrong_name(definition, name, workflows)
        before = [approval for approval in approvals if comes_after(spot, approval)]
        if not message and workflows is not None and before and _acts_unasked(name, workflows, catalogue):
            message = f"{name} takes something away without asking, and the approval before cannot show what"
            hint = "let that workflow ask by itself, before its first destructive step"
        if message:
            node = positions.of(spot.step.place, "run")
            yield positions.source.fault(node.below("workflow"), message, hint=hint)


def _wrong_name(definition: Definition, name: str, workflows: Workflows | None) -> tuple[str, str | None]:
    """What is wrong with running a workflow of that name here; an empty text if nothing is."""
    domain = name.partition(".")[0]
    if domain != definition.domain:
        message = f"a child is of the same domain, {definition.domain}, and {name} is of the domain {domain}"
        return message, "a domain's steps act with that domain's grants only"
    if workflows is None:
        return "", None
    if name not in workflows and name != definition.workflow:
        near = [known for known in workflows if known.partition(".")[0] == domain]
        return f"there is no workflow {name!r}", did_you_mean(name, near)
    known = {**workflows, definition.workflow: definition}
    if circle := _way(name, definition.workflow, known, ()):
        way = " -> ".join((definition.workflow, *circle))
        return f"workflows run each other in a circle: {way}", None
    if 1 + _depth(name, known) > DEEPEST:
        return f"more than {DEEPEST} runs would stand in a row, each started by the one before", None
    return "", None


def _children(definition: Definition | None) -> Iterator[str]:
    """The workflows that a definition runs, each once."""
    places = definition.by_place.values() if definition else ()
    yield from dict.fromkeys(step.run.workflow for step in places if step.run is not None)


def _way(name: str, goal: str, workflows: Workflows, gone: tuple[str, ...]) -> tuple[str, ...]:
    """The way from one workflow down to another; empty when there is none."""
    if name == goal:
        return (*gone, name)
    if name in gone:
        return ()
    ways = (_way(child, goal, workflows, (*gone, name)) for child in _children(workflows.get(name)))
    return next((way for way in ways if way), ())


def _depth(name: str, workflows: Workflows, gone: tuple[str, ...] = ()) -> int:
    """How many runs stand in a row from a workflow down, itself included; circles are somebody else's fault."""
    if name in gone or len(gone) > DEEPEST:
        return 0
    below = (_depth(child, workflows, (*gone, name)) for child in _children(workflows.get(name)))
    return 1 + max(below, default=0)


def _acts_unasked(name: str, workflows: Workflows, catalogue: Catalogue, gone: tuple[str, ...] = ()) -> bool:
    """Whether a workflow, or one that it runs, may come to a destructive step with no approval of its own before it."""
    definition = workflows.get(name)
    if definition is None or name in gone:
        return False
    spots = Layout(definition).spots.values()
    approvals = [spot for spot in spots if spot.step.uses == APPROVE]
    for spot in spots:
        if any(comes_after(spot, approval) for approval in approvals):
            continue
        block = catalogue.get(spot.step.uses or "")
        if block is not None and block.effect is Effect.DESTRUCTIVE:
            return True
        if spot.step.run is not None and _acts_unasked(spot.step.run.workflow, workflows, catalogue, (*gone, name)):
            return True
    return False


def _covered(approval: Spot, layout: Layout, positions: Positions) -> Iterator[Fault]:
    """An approval that promises to show what only a child will know."""
    given = positions.of(approval.step.place, "with")
    written = given.below("covers") if "covers" in given.keys else None
    items = written.value if written is not None and isinstance(written.value, list) else []
    for item in items:
        spot = layout.by_id.get(str(item.value))
        if spot is not None and any(below.kind is Kind.RUN for below in spot.step.walk()):
            message = f"step {item.value!r} runs another workflow, and an approval shows steps of its own run only"
            hint = "let that workflow ask by itself, before its first destructive step"
            yield positions.source.fault(item, message, hint=hint)
