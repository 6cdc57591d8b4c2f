"""What each place of a workflow may ask for, from its definition alone: capabilities, and the approvals over it. Pure.

The gateway grants no step more than this, and the permissions that a workflow needs at vendors are derived from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from regie.core.approval import APPROVE
from regie.core.capabilities import identity, ticket
from regie.core.definition import Definition, Step
from regie.core.places import ANSWER, START, written_place

AROUND: Mapping[str, frozenset[str]] = {START: frozenset({ticket.READ.name}), ANSWER: frozenset({ticket.COMMENT.name})}
"""The places around the written steps: a run reads its ticket before the first one, and answers it after the last."""

_LOOP = re.compile(r"\[(?P<indices>[0-9]+(?:\.[0-9]+)*)\]$")


class Needs(NamedTuple):
    """What a place may ask for.

    Attributes:
        approvals: Places of the approvals that cover it.
        is_approval: It is itself one: it reads for its ladder, and plans what it covers.
    """

    capabilities: frozenset[str]
    approvals: tuple[str, ...] = ()
    is_approval: bool = False


def needs_at(definition: Definition, blocks: Mapping[str, tuple[str, ...]], place: str) -> Needs:
    """What a place of a run may ask for; nothing when the definition has no such place.

    Args:
        blocks: The capabilities that each block needs.
    """
    if place in AROUND:
        return Needs(AROUND[place])
    step = definition.by_place.get(written_place(place))
    if step is None or step.uses is None or _depth(place) != _loops(definition, step):
        return Needs(frozenset())
    if step.uses != APPROVE:
        return Needs(frozenset(blocks.get(step.uses, ())), approvals_over(definition, step))
    covered = {name for below in _covered(definition, step) for name in blocks.get(below.uses or "", ())}
    return Needs(frozenset(covered | {identity.FIND_MANAGER.name}), (), is_approval=True)


def approvals_over(definition: Definition, step: Step) -> tuple[str, ...]:
    """Places of the approvals that cover a written step, by its own id or by that of a step around it."""
    return tuple(
        other.place
        for other in definition.by_place.values()
        if other.uses == APPROVE and any(below.place == step.place for below in _covered(definition, other))
    )


def _covered(definition: Definition, approval: Step) -> Iterator[Step]:
    """Every step an approval covers. What handles an error is not covered: nobody can plan it beforehand."""
    names = approval.arguments.get("covers", [])
    for name in names if isinstance(names, list) else []:
        step = definition.by_id.get(str(name))
        if step is not None:
            yield from _below(step)


def _below(step: Step) -> Iterator[Step]:
    yield step
    for child in step.steps:
        yield from _below(child)


def _depth(place: str) -> int:
    """In how many loops a place of a run stands."""
    found = _LOOP.search(place)
    return len(found["indices"].split(".")) if found else 0


def _loops(definition: Definition, step: Step) -> int:
    """In how many loops a step does its work: a place with other indices is made up."""
    return len(definition.loops[step.place]) + (1 if step.for_each else 0)
