"""Checks the rules of approvals: who is asked, what they see, and that nothing destructive happens without their yes.

Called by `checking.py`. The rules:

* `covers` names later steps; the approver signs the plan of these and of what is in them, their `on-error` aside.
* A covered step uses only what was known when the approver was asked, so that the plan is what happens.
* A destructive step after an approval is under `steps.ID.decision == 'approved'` and is covered by that approval.
  `!= 'refused'` is not enough: silence would pass.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from pydantic import JsonValue

from regie.core.approval import APPROVE
from regie.core.block import Catalogue
from regie.core.capability import Effect
from regie.core.definition import Definition, Step
from regie.core.durations import parse_duration
from regie.core.errors import Fault
from regie.core.expression import (
    Expression,
    ExpressionFault,
    Reference,
    compile_expression,
    has_expression,
    parse_text,
)
from regie.core.located import Node
from regie.core.nearest import did_you_mean
from regie.core.precedence import Layout, Spot, Stand, comes_after, compares, facts_at, stand
from regie.core.reading import Positions
from regie.core.reading_values import every_text

_KNOWN_OF_A_YES = (("decision",), ("outcome",))
"""What a plan may suppose of the answer: it is made for a yes, whoever gives it and with whatever comment."""
_ADDRESS = r"(\0|[^@\s\0]+@[^@\s\0]+)"
_WHO = re.compile(rf"user:{_ADDRESS}|role:(?P<role>[a-z][a-z0-9_-]*)|manager_of {_ADDRESS}")
_WHO_HINT = "write user:ADDRESS, role:NAME or manager_of ADDRESS"


def limit_faults(definition: Definition, positions: Positions, roles: Collection[str] | None) -> Iterator[Fault]:
    """Roles that a run would ask for more changes than its limit, and that nobody holds."""
    written = positions.source.root.below("limit", "ask")
    for node in written.value if isinstance(written.value, list) and definition.limit_ask else ():
        role = str(node.below("who").value).partition("role:")[2]
        if role and roles is not None and role not in roles:
            hint = did_you_mean(role, roles)
            yield positions.source.fault(node.below("who"), f"nobody holds a role {role!r}", hint=hint)


def approval_faults(
    layout: Layout,
    positions: Positions,
    catalogue: Catalogue,
    settings: Mapping[str, JsonValue],
    roles: Collection[str] | None,
) -> Iterator[Fault]:
    """Everything that is wrong with the approvals of a definition and with what depends on them."""
    approvals = [spot for spot in layout.spots.values() if spot.step.uses == APPROVE]
    for spot in approvals:
        check = _Approval(layout, positions, spot)
        yield from check.ladder(settings, roles)
        yield from check.covered_steps()
    for spot in layout.spots.values():
        block = catalogue.get(spot.step.uses or "")
        if block is not None and block.effect is Effect.DESTRUCTIVE:
            before = [approval for approval in approvals if comes_after(spot, approval)]
            if before and not any(around.step.place in positions.broken for around in spot.chain()):
                yield from _destructive(positions, spot, before)


class _Approval:
    """One approval step."""

    def __init__(self, layout: Layout, positions: Positions, spot: Spot) -> None:
        self.layout = layout
        self.positions = positions
        self.source = positions.source
        self.spot = spot
        self.given = positions.of(spot.step.place, "with")

    def ladder(self, settings: Mapping[str, JsonValue], roles: Collection[str] | None) -> Iterator[Fault]:
        """Who is asked, and for how long."""
        rungs = self.given.below("ask").value
        for rung in rungs if isinstance(rungs, list) else []:
            fields = rung.value if isinstance(rung.value, dict) else {}
            if "who" in fields:
                yield from self._who(fields["who"], roles)
            for word in ("within", "remind"):
                if word in fields:
                    yield from self._duration(fields[word], settings)

    def _who(self, node: Node, roles: Collection[str] | None) -> Iterator[Fault]:
        if not isinstance(node.value, str):
            return
        try:
            parsed = parse_text(node.value)
        except ExpressionFault:
            return
        parts = () if isinstance(parsed, Expression) else parsed
        found = _WHO.fullmatch("".join(part.content if isinstance(part.content, str) else "\0" for part in parts))
        if found is None:
            yield self.source.fault(node, f"{node.value!r} does not say whom to ask", hint=_WHO_HINT)
        elif found["role"] and roles is not None and found["role"] not in roles:
            hint = did_you_mean(found["role"], roles)
            yield self.source.fault(node, f"nobody holds a role {found['role']!r}", hint=hint)

    def _duration(self, node: Node, settings: Mapping[str, JsonValue]) -> Iterator[Fault]:
        """A length of time, or a setting that holds one."""
        text = node.value
        if not isinstance(text, str):
            return
        where = ""
        if has_expression(text):
            match _references(text):
                case [Reference(path=("settings", str() as name))] if isinstance(settings.get(name), str):
                    text, where = str(settings[name]), f"the setting {name!r}: "
                case _:
                    return
        try:
            parse_duration(text)
        except ValueError as error:
            yield self.source.fault(node, f"{where}{error}")

    def covered_steps(self) -> Iterator[Fault]:
        """What the approver sees."""
        if "covers" not in self.given.keys:
            return
        written = self.given.below("covers")
        for item in written.value if isinstance(written.value, list) else [written]:
            if not isinstance(item.value, str):
                continue
            name = item.value
            covered = self.layout.by_id.get(name)
            if has_expression(name) or item is written:
                yield self.source.fault(item, "what an approval covers is a list of step ids, written out")
            elif covered is None:
                hint = did_you_mean(name, self.layout.by_id)
                yield self.source.fault(item, f"there is no step {name!r}", hint=hint)
            elif stand(self.spot, covered) is not Stand.EARLIER:
                yield self.source.fault(item, f"step {name!r} does not come after this approval")
            elif covered.around is not None and _loops(covered.around) != _loops(self.spot):
                hint = "cover the `for-each` step itself"
                yield self.source.fault(item, f"step {name!r} is in a loop that this approval is not in", hint=hint)
            else:
                yield from self._uses_only_known(covered.step)

    def _uses_only_known(self, step: Step) -> Iterator[Fault]:
        node = self.positions.of(step.place)
        if step.condition is not None:
            yield from self._known_in(node.below("if"), step.condition, is_condition=True)
        if step.for_each is not None:
            yield from self._known_in(node.below("for-each"), step.for_each.items)
        if "with" in node.keys:
            for text in every_text(node.below("with")):
                yield from self._known_in(text, None)
        for child in step.steps:
            yield from self._uses_only_known(child)

    def _known_in(self, node: Node, bare: str | None, *, is_condition: bool = False) -> Iterator[Fault]:
        """A text of a covered step; `bare` is the part of it that is an expression by itself."""
        text = bare if bare is not None else str(node.value)
        start = max(str(node.value).rfind(text), 0)
        for reference in _references(text, is_bare=bare is not None):
            match reference.path:
                case ("run", "report"):
                    what = "the report goes on growing"
                case ("steps", str() as name, *_) if name in self.layout.by_id:
                    if stand(self.layout.by_id[name], self.spot) is Stand.EARLIER:
                        continue
                    is_own = name == self.spot.step.id and is_condition
                    if is_own and reference.path[2:] in _KNOWN_OF_A_YES:
                        continue
                    what = "nobody knows yet who will answer" if is_own else f"step {name!r} is not over before it"
                case _:
                    continue
            message = f"the approval in line {self.spot.step.line} covers this step, but {what}"
            hint = "a covered step uses only what the approver could see"
            yield self.source.fault(node, message, hint=hint, offset=start + reference.offset)


def _references(text: str, *, is_bare: bool = False) -> list[Reference]:
    """Every path that a text reads; offsets are in the whole text."""
    try:
        if is_bare:
            return list(compile_expression(text).references)
        parsed = parse_text(text)
    except ExpressionFault:
        return []
    if isinstance(parsed, Expression):
        return [Reference(r.path, r.is_guarded, r.offset + len("${{")) for r in parsed.references]
    return [
        Reference(reference.path, reference.is_guarded, reference.offset + part.offset)
        for part in parsed
        if isinstance(part.content, Expression)
        for reference in part.content.references
    ]


def _loops(spot: Spot) -> list[str]:
    """The loops that a spot is in, its own included."""
    return [around.step.place for around in spot.chain() if around.step.for_each]


def _destructive(positions: Positions, spot: Spot, before: list[Spot]) -> Iterator[Fault]:
    """The guard of a destructive step, and whether the approver saw it."""
    facts = facts_at(spot, with_own=True)
    guards = [
        approval
        for approval in before
        if approval.step.id
        and any(compares(fact, "eq", ("steps", approval.step.id, "decision"), "approved") for fact in facts)
    ]
    if not guards:
        yield _unguarded(positions, spot, before)
    elif not any(_covers(approval, spot) for approval in guards):
        name = guards[-1].step.id
        message = f"{spot.step.uses} is destructive, but the approval {name!r} does not cover it: nobody would see it"
        hint = f"add the step, or the step around it, to `covers` of {name!r}; an `on-error` is never covered"
        yield positions.fault(spot.step.place, message=message, hint=hint)


def _unguarded(positions: Positions, spot: Spot, before: list[Spot]) -> Fault:
    for around in spot.chain():
        for fact in facts_at(around, with_own=True):
            for approval in before:
                path = ("steps", approval.step.id or "", "decision")
                if compares(fact, "ne", path, "refused") or compares(fact, "ne", path, "timeout"):
                    return positions.fault(
                        around.step.place,
                        "if",
                        message=f"{spot.step.uses} is destructive, and this lets it happen without a yes",
                        hint=f"silence is no yes: write steps.{approval.step.id}.decision == 'approved'",
                    )
    name = before[-1].step.id
    return positions.fault(
        spot.step.place,
        message=f"{spot.step.uses} is destructive and comes after an approval, but does not ask for its yes",
        hint=f"if: steps.{name}.decision == 'approved'"
        if name
        else "give the approval an id, and ask for its decision",
    )


def _covers(approval: Spot, spot: Spot) -> bool:
    """Whether a step is in the plan that the approver signs: it, or a step that it is in the body of, is named."""
    named = approval.step.arguments.get("covers", [])
    names = named if isinstance(named, list) else []
    for around in reversed(spot.chain()):
        if around.step.id in names:
            return True
        if around.in_error:
            return False
    return False
