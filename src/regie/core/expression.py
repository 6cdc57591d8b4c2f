"""Expressions of the workflow language: what stands in `${{ }}`, after `if:` and after `in` of `for-each:`.

The reader and the checker compile them, the interpreter evaluates them. Only the definition is ever parsed: a text
that comes out of the data stays text, whatever it looks like.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateRuntimeError, nodes
from pydantic import JsonValue

from regie.core import dialect, operations
from regie.core.dialect import ExpressionFault as ExpressionFault  # noqa: PLC0414  part of this module's contract
from regie.core.errors import EvaluationError

MAX_VALUE_DEPTH = 64
"""Levels in the deepest value that an expression may give."""
_OPENING = "${{"


@dataclass(frozen=True, slots=True)
class Reference:
    """A path that an expression reads, such as `("steps", "access", "groups")`, as far as it is written out.

    Attributes:
        path: Names and positions; it ends before an index that is itself calculated.
        is_guarded: Whether `default`, `is defined` or `is undefined` stands directly on it, so that the last part may
            be missing. The parts before must exist all the same.
        offset: Where it starts in the expression, in characters.
    """

    path: tuple[str | int, ...]
    is_guarded: bool
    offset: int


@dataclass(frozen=True, slots=True)
class Expression:
    """One compiled expression. Get it from `compile_expression`, which keeps the last few thousand.

    Attributes:
        tree: Jinja's syntax tree, checked; each node's `lineno` is its character offset plus 1.
        references: Every path it reads.
    """

    text: str
    tree: nodes.Expr
    references: tuple[Reference, ...]
    _template: Template

    def evaluate(self, scope: Mapping[str, JsonValue]) -> JsonValue:
        """Work out the value over JSON data. The result shares nothing with the scope.

        Raises:
            EvaluationError: Something it reads is missing, or an operation does not fit the data.
        """
        context = self._template.new_context(dict(scope), shared=True)
        try:
            for _ in self._template.root_render_func(context):
                pass
            return _Copy().of(context.vars["result"])
        except (TemplateRuntimeError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise EvaluationError(f"`{self.text.strip()}` cannot be worked out: {error}") from error


class _Copy:
    """Copies a result as plain JSON while it counts what it copies."""

    def __init__(self) -> None:
        self.size = 0

    def of(self, value: Any, depth: int = 0) -> JsonValue:
        self.size += len(value) + 2 if isinstance(value, str) else 8
        if self.size > operations.MAX_SIZE:
            raise ValueError(f"the result is larger than {operations.MAX_SIZE} characters")
        if depth > MAX_VALUE_DEPTH:
            raise ValueError(f"the result has more than {MAX_VALUE_DEPTH} levels")
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            return value
        if isinstance(value, list):
            return [self.of(item, depth + 1) for item in value]
        if isinstance(value, dict):
            return {self._key(key): self.of(item, depth + 1) for key, item in value.items()}
        raise TypeError(f"the result holds {operations.in_words(value)}, which is not JSON")

    def _key(self, key: Any) -> str:
        if not isinstance(key, str):
            raise TypeError(f"an object's field is named by a text, not by {operations.in_words(key)}")
        self.size += len(key)
        return key


@lru_cache(maxsize=8192)
def compile_expression(text: str) -> Expression:
    """Compile an expression, without `${{ }}`.

    Raises:
        ExpressionFault: It is not one of the workflow language; says what and at which character.
    """
    tree = dialect.parse(text)
    return Expression(text, tree, tuple(_references(tree, is_guarded=False)), dialect.template(text))


def _references(node: nodes.Node, *, is_guarded: bool) -> Iterator[Reference]:
    """Every path below a node, longest first."""
    path = path_of(node)
    if path is not None:
        yield Reference(path, is_guarded, start_of(node))
        return
    for child in node.iter_child_nodes():
        yield from _references(child, is_guarded=dialect.is_probe(node) and child is getattr(node, "node", None))


def path_of(node: nodes.Node) -> tuple[str | int, ...] | None:
    """The path that a node reads, when all of it is written out."""
    match node:
        case nodes.Name(name=name):
            return (name,)
        case (
            nodes.Getattr(node=inner, attr=last)
            | nodes.Getitem(node=inner, arg=nodes.Const(value=str() | int() as last))
        ):
            before = path_of(inner)
            return None if before is None else (*before, last)
        case _:
            return None


def start_of(node: nodes.Node) -> int:
    """The offset of a node's first character: a path starts where its first name does."""
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        node = node.node
    return max((node.lineno or 1) - 1, 0)


def has_expression(text: str) -> bool:
    """Whether a text of the definition holds a `${{`, so that it is not taken literally."""
    return _OPENING in text


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a text: literal text or an expression, and where it begins in the whole."""

    content: str | Expression
    offset: int


@lru_cache(maxsize=8192)
def parse_text(text: str) -> Expression | tuple[Part, ...]:
    """Take a text of the definition apart: one expression that is the whole text, or its parts from left to right.

    Raises:
        ExpressionFault: A `${{` is not closed, or an expression is wrong; the offset is in the whole text.
    """
    parts: list[Part] = []
    at = 0
    while (opening := text.find(_OPENING, at)) >= 0:
        start = opening + len(_OPENING)
        end = dialect.end_of_expression(text, start)
        if end is None:
            raise ExpressionFault(
                "`${{` is not closed by `}}`",
                offset=opening,
                hint="put the whole text in quotes: outside of quotes ` #` starts a comment",
            )
        try:
            expression = compile_expression(text[start:end])
        except ExpressionFault as fault:
            raise ExpressionFault(fault.message, offset=start + fault.offset, hint=fault.hint) from fault
        if opening > at:
            parts.append(Part(text[at:opening], at))
        parts.append(Part(expression, start))
        at = end + 2
    if len(parts) == 1 and at == len(text) and isinstance(parts[0].content, Expression):
        return parts[0].content
    if at < len(text):
        parts.append(Part(text[at:], at))
    return tuple(parts)


def render(value: JsonValue, scope: Mapping[str, JsonValue]) -> JsonValue:
    """Fill in a value as written under `with:`, at any depth. Names of fields are literal.

    A text that is exactly one `${{ }}` becomes whatever the expression gives; inside a longer text only texts and
    numbers may stand.

    Raises:
        EvaluationError: An expression does not fit the data.
        ExpressionFault: An expression is wrong; a checked definition holds none.
    """
    if isinstance(value, str):
        return _render_text(value, scope) if has_expression(value) else value
    if isinstance(value, list):
        return [render(item, scope) for item in value]
    if isinstance(value, dict):
        return {key: render(item, scope) for key, item in value.items()}
    return value


def _render_text(text: str, scope: Mapping[str, JsonValue]) -> JsonValue:
    parsed = parse_text(text)
    if isinstance(parsed, Expression):
        return parsed.evaluate(scope)
    written = []
    for part in parsed:
        if isinstance(part.content, str):
            written.append(part.content)
            continue
        try:
            written.append(operations.text_of(part.content.evaluate(scope)))
        except TypeError as error:
            raise EvaluationError(f"`{part.content.text.strip()}`: {error}") from error
    return "".join(written)


def evaluate_condition(text: str, scope: Mapping[str, JsonValue]) -> bool:
    """Whether an `if:` holds. Only a boolean counts: no text, number or list is true or false.

    Raises:
        EvaluationError: It gives something else, or does not fit the data.
    """
    value = compile_expression(text).evaluate(scope)
    if not isinstance(value, bool):
        raise EvaluationError(
            f"`{text}` gives {operations.in_words(value)} where a boolean belongs", hint="compare it with something"
        )
    return value


def evaluate_items(text: str, scope: Mapping[str, JsonValue]) -> list[JsonValue]:
    """The items that a `for-each:` goes through.

    Raises:
        EvaluationError: It gives something other than a list, or does not fit the data.
    """
    value = compile_expression(text).evaluate(scope)
    if not isinstance(value, list):
        raise EvaluationError(f"`{text}` gives {operations.in_words(value)} where a list belongs")
    return value
