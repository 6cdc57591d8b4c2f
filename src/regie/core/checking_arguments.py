"""Checks what a step is given against what its block takes. Called by `checking.py` for each step."""

from __future__ import annotations

import json
from collections.abc import Mapping

from jinja2 import nodes
from pydantic import ValidationError

from regie.core import shape
from regie.core.block import Block
from regie.core.definition import Definition, InputField
from regie.core.errors import Fault
from regie.core.expression import Expression, ExpressionFault, compile_expression, has_expression, parse_text
from regie.core.inference import Inference, Scope
from regie.core.inputs import read_field
from regie.core.located import Node, Source
from regie.core.nearest import did_you_mean
from regie.core.reading_values import every_text
from regie.core.record_faults import known_fields, record_faults
from regie.core.shape import LIST, NUMBER, OBJECT, TEXT, Shape


class ArgumentCheck:
    """The values of one step.

    Args:
        source: The file.
        scope: What the step's expressions can reach.
        facts: Conditions that hold when they are worked out.
        faults: Where faults go.
    """

    def __init__(self, source: Source, scope: Scope, facts: list[nodes.Node], faults: list[Fault]) -> None:
        self.source = source
        self.scope = scope
        self.facts = facts
        self.faults = faults

    def block(self, step: Node, block: Block) -> None:
        """Check `with:` of a step that uses a block: pydantic judges the constants, shapes judge the rest."""
        given = step.below("with") if "with" in step.keys else Node({}, step.line, step.column)
        if not isinstance(given.value, dict):
            return
        wanted = shape.of_record(block.arguments)
        fields = wanted.fields or {}
        constants: dict[str, Node] = {}
        for name, argument in given.value.items():
            if name not in fields:
                hint = did_you_mean(name, known_fields(block.arguments))
                message = f"block {block.name} takes no argument {name!r}"
                self.faults.append(self.source.fault_at_key(given, name, message, hint=hint))
                self.texts(argument)
            elif any(has_expression(str(text.value)) for text in every_text(argument)):
                self.value(argument, fields[name])
            else:
                constants[name] = argument
        for name in sorted(wanted.required - given.value.keys()):
            self.faults.append(self.source.fault(given, f"block {block.name} needs the argument {name!r}"))
        plain = {name: argument.plain() for name, argument in constants.items()}
        try:
            block.arguments.model_validate_json(json.dumps(plain), strict=True)
        except ValidationError as error:
            self.faults.extend(record_faults(error, block.arguments, self.source, given, is_part=True))

    def child(self, step: Node, workflow: str, definition: Definition | None) -> None:
        """Check `with:` of a step that runs a workflow against that workflow's input, as far as it is known."""
        given = step.below("with") if "with" in step.keys else Node({}, step.line, step.column)
        if not isinstance(given.value, dict):
            return
        fields = {field.name: field for field in definition.input} if definition else {}
        for name, argument in given.value.items():
            if definition is not None and name not in fields:
                message = f"the workflow {workflow} has no input {name!r}"
                self.faults.append(self.source.fault_at_key(given, name, message, hint=did_you_mean(name, fields)))
            if name in fields:
                self._input(argument, fields[name])
            else:
                self.texts(argument)
        for name, field in fields.items():
            # What is not given may be read from the ticket that parent and child have in common.
            if field.required and field.default is None and field.source is None and name not in given.value:
                self.faults.append(self.source.fault(given, f"the workflow {workflow} needs the input {name!r}"))

    def _input(self, argument: Node, field: InputField) -> None:
        """One value of a child's input: constants as the child will read them, the rest by its shape."""
        if argument.value is None or any(has_expression(str(text.value)) for text in every_text(argument)):
            self.value(argument, shape.of_input(field))
            return
        try:
            read_field(field, argument.plain())
        except ValueError as error:
            self.faults.append(self.source.fault(argument, f"{field.name} {error}"))

    def texts(self, node: Node) -> None:
        """Check the expressions in a value of which nothing else is known."""
        self.value(node, shape.ANY)

    def value(self, node: Node, wanted: Shape) -> None:
        """Check a value that may hold expressions."""
        match node.value:
            case str() if has_expression(node.value):
                self._text(node, node.value, wanted)
            case list(items):
                if not wanted.may_be(LIST):
                    self._mismatch(node, shape.a_list(), wanted)
                inner = wanted.item if wanted.item and not wanted.may_be(OBJECT) else shape.ANY
                for item in items:
                    self.value(item, inner)
            case dict():
                self._object(node, node.value, wanted)
            case constant:
                self._fits(node, shape.of_value(constant), wanted)

    def expression(self, node: Node, text: str, start: int) -> Shape:
        """Check an expression that begins at a character of a text; the shape of what it gives."""
        try:
            expression = compile_expression(text)
        except ExpressionFault:
            return shape.ANY  # the reader has said so

        def note(offset: int, message: str, hint: str | None) -> None:
            self.faults.append(self.source.fault(node, message, hint=hint, offset=start + offset))

        return Inference(self.scope, note).shape(expression.tree, self.facts)

    def _text(self, node: Node, text: str, wanted: Shape) -> None:
        try:
            parsed = parse_text(text)
        except ExpressionFault:
            return  # the reader has said so
        if isinstance(parsed, Expression):
            self._fits(node, self.expression(node, parsed.text, len("${{")), wanted)
            return
        for part in parsed:
            if isinstance(part.content, Expression):
                got = self.expression(node, part.content.text, part.offset)
                if not got.may_be(TEXT, NUMBER):
                    message = f"{got.in_words()} cannot stand inside a text; only texts and numbers can"
                    self.faults.append(self.source.fault(node, message, offset=part.offset))
        if not wanted.may_be(TEXT):
            self._mismatch(node, shape.A_TEXT, wanted)

    def _object(self, node: Node, fields: dict[str, Node], wanted: Shape) -> None:
        if not wanted.may_be(OBJECT):
            self._mismatch(node, Shape(frozenset({OBJECT})), wanted)
        known = wanted.fields
        for name, inner in fields.items():
            if known is not None and name not in known:
                message = f"{name!r} is not known here"
                self.faults.append(self.source.fault_at_key(node, name, message, hint=did_you_mean(name, known)))
                self.texts(inner)
            else:
                self.value(inner, known[name] if known is not None else wanted.item or shape.ANY)
        for name in sorted(wanted.required - fields.keys()):
            self.faults.append(self.source.fault(node, f"{name!r} is missing"))

    def _fits(self, node: Node, got: Shape, wanted: Shape) -> None:
        """Note it if no value of the one shape can be of the other."""
        if got.kinds.isdisjoint(wanted.kinds):
            self._mismatch(node, got, wanted)
        elif got.kinds == {TEXT} and got.words and wanted.words and got.words.isdisjoint(wanted.words):
            word = min(got.words)
            hint = did_you_mean(word, wanted.words)
            self.faults.append(self.source.fault(node, f"{word!r} is not one of the words that belong here", hint=hint))
        elif got.kinds == {LIST} and got.item and wanted.item and not wanted.may_be(OBJECT):
            self._fits(node, got.item, wanted.item)
        elif got.kinds == {OBJECT} and got.fields is not None and wanted.fields is not None:
            self._fits_fields(node, got.fields, wanted, wanted.fields)

    def _fits_fields(self, node: Node, got: Mapping[str, Shape], wanted: Shape, known: Mapping[str, Shape]) -> None:
        for name in sorted(got.keys() - known.keys()):
            self.faults.append(self.source.fault(node, f"it has a field {name!r} that is not known here"))
        for name in sorted(wanted.required - got.keys()):
            self.faults.append(self.source.fault(node, f"it has no field {name!r}"))
        for name in got.keys() & known.keys():
            self._fits(node, got[name], known[name])

    def _mismatch(self, node: Node, got: Shape, wanted: Shape) -> None:
        message = f"{got.in_words()} is given where {wanted.in_words()} is wanted"
        self.faults.append(self.source.fault(node, message))
