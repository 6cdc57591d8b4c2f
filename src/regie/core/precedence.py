"""Where the steps of a definition stand to one another: which is over when another begins, and which may be missing.

Used by the checker alone. The interpreter needs none of it: it shows what has finished, and a checked definition reads
only what has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from jinja2 import nodes

from regie.core.definition import Definition, Kind, Step
from regie.core.expression import ExpressionFault, compile_expression, path_of


class Stand(Enum):
    """How one step stands to another one that wants to read it."""

    EARLIER = auto()
    SELF = auto()
    AROUND = auto()
    """It holds the other, so it is not over."""
    LATER = auto()
    BESIDE = auto()
    """Another branch of the same `parallel`: perhaps over, perhaps not."""
    IN_FAILED = auto()
    """Below the step whose `on-error` the other is in: nobody knows how far it got."""
    IN_ERROR = auto()
    """In an `on-error` that the other is not in."""
    IN_LOOP = auto()
    """In a loop that the other is not in: there is one for each item."""


@dataclass(frozen=True, slots=True, eq=False)
class Spot:
    """One step in its surroundings.

    Attributes:
        around: The step that holds it, if one does.
        in_error: Whether it is in the `on-error` of that step rather than in its body.
        index: Its position in its list.
    """

    step: Step
    around: Spot | None
    in_error: bool
    index: int

    def chain(self) -> list[Spot]:
        """From the outermost step around it down to itself."""
        return [*(self.around.chain() if self.around else ()), self]


class Layout:
    """Every step of a definition in its surroundings.

    Attributes:
        spots: By place.
        by_id: By id.
    """

    def __init__(self, definition: Definition) -> None:
        self.spots: dict[str, Spot] = {}
        self._descend(definition.steps, None, in_error=False)
        self.by_id = {spot.step.id: spot for spot in self.spots.values() if spot.step.id}

    def _descend(self, steps: tuple[Step, ...], around: Spot | None, *, in_error: bool) -> None:
        for index, step in enumerate(steps):
            spot = Spot(step, around, in_error, index)
            self.spots[step.place] = spot
            self._descend(step.steps, spot, in_error=False)
            self._descend(step.on_error, spot, in_error=True)


def stand(other: Spot, here: Spot) -> Stand:  # noqa: PLR0911  one return for each way to stand
    """How another step stands to this one."""
    chain, mine = other.chain(), here.chain()
    split = _split(chain, mine)
    if split == len(chain):
        return Stand.SELF if split == len(mine) else Stand.AROUND
    if split == len(mine):
        return Stand.LATER
    theirs, ours = chain[split], mine[split]
    if theirs.in_error != ours.in_error:
        return Stand.IN_ERROR if theirs.in_error else Stand.IN_FAILED
    if any(spot.in_error for spot in chain[split + 1 :]):
        return Stand.IN_ERROR
    if not theirs.in_error and theirs.around is not None and theirs.around.step.kind is Kind.PARALLEL:
        return Stand.BESIDE
    if theirs.index > ours.index:
        return Stand.LATER
    return Stand.IN_LOOP if any(spot.step.for_each for spot in chain[split:-1]) else Stand.EARLIER


def comes_after(other: Spot, here: Spot) -> bool:
    """Whether another step can begin only when this one is over or has failed; loops aside."""
    chain, mine = here.chain(), other.chain()
    split = _split(chain, mine)
    if split == len(mine):
        return False
    if split == len(chain):
        return mine[split].in_error
    theirs, ours = chain[split], mine[split]
    if theirs.in_error != ours.in_error:
        return ours.in_error
    is_branch = not ours.in_error and ours.around is not None and ours.around.step.kind is Kind.PARALLEL
    return not is_branch and theirs.index < ours.index


def _split(chain: list[Spot], mine: list[Spot]) -> int:
    """How many steps two chains share from the outside."""
    return next(
        (at for at, (one, two) in enumerate(zip(chain, mine, strict=False)) if one is not two),
        min(len(chain), len(mine)),
    )


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why an earlier step may have no result: it, or a step around it, may have been skipped or have failed."""

    spot: Spot
    is_skip: bool


def doubts(other: Spot, here: Spot, facts: list[nodes.Node]) -> list[Doubt]:
    """Why an earlier step may have no result here, facts considered.

    A skipped step has no fields, and a step inside a skipped one does not exist at all; the same goes for a step that
    failed, or was not reached, where an `on-error` let the run go on. What is known to hold takes a doubt away: the
    skipped step's own condition, `steps.X.outcome == 'done'`, or for a skip also `steps.X.outcome != 'skipped'`.

    Args:
        other: The step that is read.
        here: The step that reads.
        facts: Conditions that hold where it is read.
    """
    chain = other.chain()
    unshared = chain[_split(chain, here.chain()) :]
    found = []
    for at, spot in enumerate(unshared):
        done = {("steps", inner.step.id, "outcome") for inner in unshared[at:] if inner.step.id}
        if any(_says(fact, "eq", done, "done") for fact in facts):
            continue
        is_known_to_run = any(_says(fact, "ne", done, "skipped") for fact in facts) or all(
            part in facts for part in conjuncts(spot.step.condition or "")
        )
        if spot.step.condition is not None and not is_known_to_run:
            found.append(Doubt(spot, is_skip=True))
        if _may_go_on_after_error(spot.step):
            found.append(Doubt(spot, is_skip=False))
    return found


def _says(fact: nodes.Node, operator: str, paths: set[tuple[str, str, str]], word: str) -> bool:
    return any(compares(fact, operator, path, word) for path in paths)


def compares(fact: nodes.Node, operator: str, path: tuple[str, ...], word: str) -> bool:
    """Whether a condition is the comparison (`eq`, `ne`) of that path with that word, either way round."""
    if not isinstance(fact, nodes.Compare) or len(fact.ops) != 1 or fact.ops[0].op != operator:
        return False
    sides = (fact.expr, fact.ops[0].expr)
    return any(
        path_of(one) == path and isinstance(two, nodes.Const) and two.value == word for one, two in (sides, sides[::-1])
    )


def _may_go_on_after_error(step: Step) -> bool:
    """Whether the run goes on behind a step that failed: its `on-error` does not end in `fail` or `end`."""
    ends = any(inner.kind in (Kind.FAIL, Kind.END) and inner.condition is None for inner in step.on_error)
    return bool(step.on_error) and not ends


def conjuncts(condition: str) -> list[nodes.Node]:
    """What must hold, each by itself, for a condition to hold; nothing for one that does not compile."""
    try:
        return list(split_and(compile_expression(condition).tree))
    except ExpressionFault:
        return []


def split_and(node: nodes.Node) -> Iterator[nodes.Node]:
    """The operands of `and`, at any depth, or the node itself."""
    if isinstance(node, nodes.And):
        yield from split_and(node.left)
        yield from split_and(node.right)
    else:
        yield node


def facts_at(spot: Spot, *, with_own: bool) -> list[nodes.Node]:
    """The conditions that hold when a step begins: those of the steps around it, and perhaps its own."""
    chain = spot.chain() if with_own else spot.chain()[:-1]
    return [part for around in chain if around.step.condition is not None for part in conjuncts(around.step.condition)]
