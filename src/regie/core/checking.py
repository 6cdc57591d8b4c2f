"""Checks a definition against the catalogue: blocks, arguments, and every reference in every expression.

A reference to a step is right when that step is over for certain before it is read: not the step itself, a later one,
another branch of the same `parallel`, or one in a loop or an `on-error` that the reader is not in. Where the step may
have no result all the same (it, or a step around it, has an `if`; or an `on-error` lets the run go on behind a
failure), the reader must know better: the same condition holds where it reads, or it is under
`steps.X.outcome == 'done'`, or it writes `steps.X.field | default(...)`. `default` answers only for the step's own
field: not for what is deeper, and not for a step inside another one that was skipped as a whole.

Types are judged only where they are certain: a value that may be right is left to the run. Called by whoever loads
workflows, and by `regie validate`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from jinja2 import nodes
from pydantic import JsonValue

from regie.core import shape
from regie.core.block import Catalogue
from regie.core.capabilities.ticket import Ticket
from regie.core.capability import Effect
from regie.core.checking_approvals import approval_faults, limit_faults
from regie.core.checking_arguments import ArgumentCheck
from regie.core.checking_children import Workflows, child_faults
from regie.core.checking_starts import start_faults
from regie.core.definition import Definition, Kind, Step
from regie.core.errors import DefinitionError, Fault
from regie.core.expression import path_of
from regie.core.inference import Note, Reading
from regie.core.located import Node
from regie.core.nearest import did_you_mean
from regie.core.precedence import Layout, Spot, Stand, doubts, facts_at, stand
from regie.core.reading import Draft, Positions, read_draft
from regie.core.shape import Shape

_RUN = shape.an_object(
    dict.fromkeys(("id", "workflow", "tenant", "domain", "ticket", "requester", "report"), shape.A_TEXT)
    | {"dry": shape.A_BOOLEAN, "given": shape.a_list(shape.A_TEXT)}
)
_ERROR = shape.an_object(dict.fromkeys(("kind", "message", "step"), shape.A_TEXT))
_OUTCOME = shape.one_of(frozenset({"done", "failed", "skipped"}))
_CHILD_OUTCOME = shape.one_of(frozenset({"done", "refused", "failed", "cancelled", "skipped"}))
_CHILD = {"run": shape.A_TEXT, "outcome": _CHILD_OUTCOME, "report": shape.A_TEXT}
_DETACHED = {"run": shape.A_TEXT}
_EVENT = {"timed_out": shape.A_BOOLEAN, "event": Shape(frozenset({shape.OBJECT}))}
_STANDS = {
    Stand.SELF: "step {id!r} cannot read its own result",
    Stand.AROUND: "step {id!r} is not over while the steps in it run",
    Stand.LATER: "step {id!r} comes later",
    Stand.BESIDE: "step {id!r} runs at the same time",
    Stand.IN_FAILED: "nobody knows whether step {id!r} ran before the failure",
    Stand.IN_ERROR: "step {id!r} runs only in an `on-error`",
    Stand.IN_LOOP: "step {id!r} is in a loop: there is one for each item",
}
_STAND_HINTS = {Stand.IN_LOOP: "give the `for-each` step an id and read its items"}


def validate(
    text: str,
    file: str,
    catalogue: Catalogue,
    settings: Mapping[str, JsonValue],
    roles: Collection[str] | None = None,
    *,
    workflows: Workflows | None = None,
) -> Definition:
    """Read a workflow file and check it.

    Args:
        text: The whole file.
        file: Its name, for messages.
        catalogue: The blocks there are.
        settings: The domain's settings with the tenant's values.
        roles: The roles that somebody holds; none to leave that open.
        workflows: The workflows that can be run as children; none to leave that open.

    Raises:
        DefinitionError: With every fault in the file, of form and of meaning.
    """
    return validate_draft(read_draft(text, file), catalogue, settings, roles, workflows=workflows)


def validate_draft(
    draft: Draft,
    catalogue: Catalogue,
    settings: Mapping[str, JsonValue],
    roles: Collection[str] | None = None,
    *,
    workflows: Workflows | None = None,
) -> Definition:
    """Check a workflow file that has been read. See `validate`.

    Raises:
        DefinitionError: With every fault in the file, of form and of meaning.
    """
    faults = draft.faults + check(draft.definition, draft.positions, catalogue, settings, roles, workflows=workflows)
    if faults:
        raise DefinitionError(faults)
    return draft.definition


def check(
    definition: Definition,
    positions: Positions,
    catalogue: Catalogue,
    settings: Mapping[str, JsonValue],
    roles: Collection[str] | None,
    *,
    workflows: Workflows | None = None,
) -> list[Fault]:
    """Everything that is wrong with a definition's meaning, in the order of the file.

    Args:
        definition: As read, perhaps with faults of form that `positions` knows about.
        positions: Where its parts stand.
        catalogue: The blocks there are.
        settings: The domain's settings with the tenant's values.
        roles: The roles that somebody holds; none to leave that open.
        workflows: The workflows that can be run as children; none to leave that open.
    """
    checker = _Checker(definition, positions, catalogue, settings, workflows)
    checker.run()
    faults = [
        *checker.faults,
        *approval_faults(checker.layout, positions, catalogue, settings, roles),
        *limit_faults(definition, positions, roles),
        *child_faults(definition, checker.layout, positions, catalogue, workflows),
        *start_faults(definition, positions, catalogue, settings, roles),
    ]
    return sorted(set(faults), key=lambda fault: (fault.line, fault.column, fault.message))


@dataclass(frozen=True, slots=True)
class _Here:
    """One step with what its expressions can reach; the scope of `inference.py`."""

    checker: _Checker
    spot: Spot
    variables: Mapping[str, Shape]
    is_in_error: bool

    def root(self, name: str, offset: int, note: Note) -> Shape:
        known = {**self.checker.roots, **self.variables}
        if self.is_in_error:
            known["error"] = _ERROR
        if name in known:
            return known[name]
        if any(around.step.place in self.checker.positions.broken for around in self.spot.chain()):
            return shape.ANY
        if name == "error":
            note(offset, "`error` is known only in an `on-error`", None)
        else:
            note(offset, f"there is nothing named {name!r} here", did_you_mean(name, {*known, "steps"}))
        return shape.ANY

    def step(self, step_id: str, field: str | None, reading: Reading) -> Shape:
        layout = self.checker.layout
        other = layout.by_id.get(step_id)
        if other is None:
            reading.note(reading.offset, f"there is no step {step_id!r}", did_you_mean(step_id, layout.by_id))
            return shape.ANY
        how = stand(other, self.spot)
        if how is not Stand.EARLIER:
            message = _STANDS[how].format(id=step_id)
            reading.note(reading.offset, message, _STAND_HINTS.get(how, "read only what is over for certain"))
            return shape.ANY
        result = self.checker.result_of(other.step)
        if field is not None and result.fields is not None and field not in result.fields:
            message = f"step {step_id!r} gives no field {field!r}"
            reading.note(reading.offset, message, did_you_mean(field, result.fields))
            return shape.ANY
        self._doubt(other, field, reading)
        if field is None:
            return result
        return shape.ANY if result.fields is None else result.fields[field]

    def _doubt(self, other: Spot, field: str | None, reading: Reading) -> None:
        """Note it if the result may be missing and nothing answers for that."""
        path = ("steps", other.step.id, field)
        is_own_settled = (
            field in (None, "outcome")
            or reading.is_probed
            or any(
                isinstance(fact, nodes.Test) and fact.name == "defined" and path_of(fact.node) == path
                for fact in reading.facts
            )
        )
        for doubt in doubts(other, self.spot, reading.facts):
            if doubt.spot is other and is_own_settled:
                continue
            if field is None and reading.is_probed:
                continue
            what = f"step {other.step.id!r}"
            where = "" if doubt.spot is other else f" the step around it in line {doubt.spot.step.line}"
            why = "may have been skipped" if doubt.is_skip else "may have failed while the run went on"
            message = f"{what} may have no result:{where or ' it'} {why}"
            hint = "ask for the same `if` here" if doubt.is_skip else f"ask for steps.{other.step.id}.outcome == 'done'"
            if doubt.spot is other:
                hint += f", or write steps.{other.step.id}.{field} | default(...)"
            reading.note(reading.offset, message, hint)
            return


class _Checker:
    """Walks the steps in written order and collects faults."""

    def __init__(
        self,
        definition: Definition,
        positions: Positions,
        catalogue: Catalogue,
        settings: Mapping[str, JsonValue],
        workflows: Workflows | None,
    ) -> None:
        self.definition = definition
        self.workflows = workflows or {}
        self.positions = positions
        self.catalogue = catalogue
        self.layout = Layout(definition)
        self.faults: list[Fault] = []
        written = positions.source.root.below("input")
        fields = dict.fromkeys(written.keys, shape.ANY) if isinstance(written.value, dict) else {}
        fields.update({field.name: shape.of_input(field) for field in definition.input})
        self.roots: dict[str, Shape] = {
            "input": shape.an_object(fields) if fields else shape.an_object({}),
            "settings": shape.an_object({name: shape.of_setting(value) for name, value in settings.items()}),
            "run": _RUN,
        }

    def run(self) -> None:
        """Check the whole file."""
        root = self.positions.source.root
        for field in self.definition.input:
            if field.source is not None and field.source.partition(".")[0] == "ticket":
                self._input_source(root.below("input", field.name, "from"), field.source)
        self._sequence(self.definition.steps, {}, is_in_error=False)

    def result_of(self, step: Step) -> Shape:
        """The shape of `steps.X`."""
        if step.run is not None and step.place not in self.positions.broken:
            return _result_of_child(step)
        block = self.catalogue.get(step.uses or "")
        gives = shape.of_record(block.gives) if block else Shape(frozenset({shape.OBJECT}))
        if step.place in self.positions.broken or (step.kind is Kind.USES and gives.fields is None):
            return Shape(frozenset({shape.OBJECT}))
        if step.for_each is not None:
            output = gives if step.kind is Kind.USES else shape.of_value(None)
            item = shape.an_object({"outcome": _OUTCOME, "output": output})
            return shape.an_object({"outcome": _OUTCOME, "items": shape.a_list(item)})
        fields = gives.fields if step.kind is Kind.USES else _EVENT if step.awaits_event else None
        return shape.an_object({**(fields or {}), "outcome": _OUTCOME})

    def _input_source(self, node: Node, path: str) -> None:
        reached = shape.of_record(Ticket)
        for name in path.split(".")[1:]:
            if reached.fields is None:
                return
            if name not in reached.fields:
                message = f"a ticket has no field {name!r}"
                self.faults.append(self.positions.source.fault(node, message, hint=did_you_mean(name, reached.fields)))
                return
            reached = reached.fields[name]

    def _sequence(self, steps: tuple[Step, ...], variables: Mapping[str, Shape], *, is_in_error: bool) -> None:
        """Steps one after another: what stands behind an unconditional `fail` or `end` is never reached."""
        ended: Step | None = None
        for step in steps:
            if ended is not None:
                message = f"this step is never reached: the {ended.kind} in line {ended.line} comes first"
                self.faults.append(self.positions.fault(step.place, message=message))
                ended = None
            if step.kind in (Kind.FAIL, Kind.END) and step.condition is None and not self._is_broken(step):
                ended = step
            self._step(step, variables, is_in_error=is_in_error)

    def _is_broken(self, step: Step) -> bool:
        return step.place in self.positions.broken

    def _step(self, step: Step, variables: Mapping[str, Shape], *, is_in_error: bool) -> None:
        spot = self.layout.spots[step.place]
        here = _Here(self, spot, variables, is_in_error)
        node = self.positions.of(step.place)
        self._condition(step, here)
        inner = self._for_each(step, here)
        body = _Here(self, spot, inner, is_in_error)
        arguments = ArgumentCheck(self.positions.source, body, facts_at(spot, with_own=True), self.faults)
        self._kind(step, node, arguments)
        self._undo(step, node, arguments)
        if step.kind is Kind.PARALLEL:
            for branch in step.steps:
                self._step(branch, inner, is_in_error=is_in_error)
        else:
            self._sequence(step.steps, inner, is_in_error=is_in_error)
        self._sequence(step.on_error, variables, is_in_error=True)

    def _kind(self, step: Step, node: Node, arguments: ArgumentCheck) -> None:
        """What the step does, and with what."""
        block = self.catalogue.get(step.uses or "")
        if step.kind is Kind.USES and block is not None:
            arguments.block(node, block)
            return
        if step.uses is not None:
            message, hint = f"there is no block {step.uses!r}", did_you_mean(step.uses, self.catalogue)
            self.faults.append(self.positions.fault(step.place, "uses", message=message, hint=hint))
        if "with" in node.keys and step.run is None:
            arguments.texts(node.below("with"))
        word = step.kind.value
        if step.kind is Kind.WAIT:
            wait = node.below(word)
            for key in ("until", "within") if isinstance(wait.value, dict) else ("",):
                if not key or key in wait.keys:
                    arguments.value(wait.below(key), shape.A_TEXT)
            if "where" in wait.keys:
                arguments.texts(wait.below("where"))
        elif step.run is not None:
            written = node.below(word)
            given = written if "with" in written.keys else node
            arguments.child(given, step.run.workflow, self.workflows.get(step.run.workflow))
        elif step.message is not None:
            arguments.value(node.below(word), shape.A_TEXT)

    def _undo(self, step: Step, node: Node, arguments: ArgumentCheck) -> None:
        """What takes the step back: a block that writes, on a step that writes."""
        if "undo" not in node.keys:
            return
        source = self.positions.source
        written = node.below("undo")
        is_whole = isinstance(written.value, dict)
        name = written.below("uses") if is_whole else written
        block = self.catalogue.get(str(name.value))
        mine = self.catalogue.get(step.uses or "")
        if step.kind is not Kind.USES:
            message = f"`undo` does not go with `{step.kind}`"
            self.faults.append(source.fault_at_key(node, "undo", message, hint="write it on the steps that change"))
        elif mine is not None and mine.effect is Effect.READ:
            message = f"{step.uses} only reads: there is nothing to undo"
            self.faults.append(source.fault_at_key(node, "undo", message))
        if block is not None:
            if block.effect is Effect.READ:
                self.faults.append(source.fault(name, f"{block.name} only reads: it undoes nothing"))
            arguments.block(written if is_whole else node, block)
            return
        if isinstance(name.value, str):
            message, hint = f"there is no block {name.value!r}", did_you_mean(name.value, self.catalogue)
            self.faults.append(source.fault(name, message, hint=hint))
        if is_whole and "with" in written.keys:
            arguments.texts(written.below("with"))

    def _condition(self, step: Step, here: _Here) -> None:
        if step.condition is None:
            return
        node = self.positions.of(step.place, "if")
        facts = facts_at(here.spot, with_own=False)
        check = ArgumentCheck(self.positions.source, here, facts, self.faults)
        got = check.expression(node, step.condition, 0)
        if not got.may_be(shape.BOOLEAN):
            message = f"`if` is {got.in_words()}: it must be true or false"
            self.faults.append(self.positions.source.fault(node, message, hint="compare it with something"))

    def _for_each(self, step: Step, here: _Here) -> Mapping[str, Shape]:
        if step.for_each is None:
            return here.variables
        node = self.positions.of(step.place, "for-each")
        facts = facts_at(here.spot, with_own=True)
        start = str(node.value).rindex(step.for_each.items)
        got = ArgumentCheck(self.positions.source, here, facts, self.faults).expression(
            node, step.for_each.items, start
        )
        if not got.may_be(shape.LIST):
            message = f"`for-each` goes through a list, and this is {got.in_words()}"
            self.faults.append(self.positions.source.fault(node, message))
        item = got.item if got.kinds == {shape.LIST} and got.item is not None else shape.ANY
        return {**here.variables, step.for_each.variable: item}


def _result_of_child(step: Step) -> Shape:
    """The shape of `steps.X` of a step that runs a workflow."""
    is_detached = step.run is not None and step.run.detach
    outcome = _OUTCOME if is_detached else _CHILD_OUTCOME
    output = shape.an_object(_DETACHED if is_detached else _CHILD)
    if step.for_each is not None:
        item = shape.an_object({"outcome": outcome, "output": output})
        return shape.an_object({"outcome": _OUTCOME, "items": shape.a_list(item)})
    return shape.an_object({**(output.fields or {}), "outcome": outcome})
