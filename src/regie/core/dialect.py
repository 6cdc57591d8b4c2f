"""What the workflow language keeps of Jinja: a few operators, filters and tests over plain JSON data, nothing else.

Jinja's own sandbox is not enough: methods shadow data, formatting and repetition eat memory, undefined values hide in
containers. So three walls stand here. The tree is checked against a list of what is allowed; every operator and
filter that could grow its input or touch something other than JSON is replaced by one that refuses; every path must
lead somewhere unless it is the direct operand of `default`, `is defined` or `is undefined`. What is left of Python:
`1 == true` holds, and `in` looks for a part of a text. Used by `expression.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn, Protocol

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, Undefined, nodes
from jinja2.lexer import TokenStream
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from regie.core import operations
from regie.core.errors import RegieError

MAX_LENGTH = 2_000
"""Characters in one expression."""
MAX_DEPTH = 40
"""Levels in one expression's tree. Jinja's parser and Python's compiler run out of stack between 90 and 200."""

FILTERS = {
    "length": (0, 0),
    "join": (0, 1),
    "first": (0, 0),
    "last": (0, 0),
    "pluck": (1, 1),
    "unique": (0, 0),
    "sort": (0, 0),
    "default": (1, 1),
    "lower": (0, 0),
    "upper": (0, 0),
    "trim": (0, 0),
}
"""Each filter with the fewest and the most arguments it takes; the tests likewise."""
TESTS = dict.fromkeys(("defined", "undefined", "none", "string", "number", "boolean"), (0, 0))
_PROBES = ("defined", "undefined")

_SNAKE_CASE = re.compile(r"[a-z][a-z0-9_]*")
RESERVED_NAMES = frozenset(
    ("self", "super", "caller", "loop", "varargs", "kwargs", "namespace", "true", "false", "none")
).union(("and", "or", "not", "in", "is", "if", "else"))
"""Words of the dialect and of Jinja that no data can be reached by."""
_CONCAT, _REQUIRED, _BOOLEAN = "_concat", "_required", "_boolean"


class ExpressionFault(RegieError):
    """An expression is not one of the workflow language; its author must change it.

    Args:
        offset: Where in the text it goes wrong, in characters from 0.
    """

    def __init__(self, message: str, *, offset: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.offset = offset


class _Dialect(ImmutableSandboxedEnvironment):
    """Jinja without attributes, calls and globals."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%"})
    intercepted_unops = frozenset({"+", "-"})

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, optimized=False, autoescape=False, cache_size=0)
        self.globals.clear()
        self.filters = {
            "length": operations.length,
            "join": operations.join,
            "first": operations.end_of("first", 0),
            "last": operations.end_of("last", -1),
            "pluck": operations.pluck,
            "unique": operations.unique,
            "sort": operations.sort,
            "default": operations.default,
            "lower": operations.lower,
            "upper": operations.upper,
            "trim": operations.trim,
            _CONCAT: operations.concat,
            _REQUIRED: operations.required,
            _BOOLEAN: operations.boolean,
        }
        self.tests = {
            "defined": lambda value: not isinstance(value, Undefined),
            "undefined": lambda value: isinstance(value, Undefined),
            "none": lambda value: value is None,
            "string": lambda value: isinstance(value, str),
            "number": operations.is_number,
            "boolean": lambda value: isinstance(value, bool),
        }

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A field of an object. Python attributes do not exist here, so `steps.a.items` is the field."""
        operations.required(obj)
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return self.undefined(f"there is no {attribute!r} in {operations.in_words(obj)}")

    def getitem(self, obj: Any, argument: Any) -> Any:
        """A field of an object by its name, or an item of a list by its position."""
        operations.required(obj)
        if isinstance(obj, dict) and isinstance(argument, str) and argument in obj:
            return obj[argument]
        if isinstance(obj, list) and isinstance(argument, int) and not isinstance(argument, bool):
            try:
                return obj[argument]
            except IndexError:
                pass
        return self.undefined(f"there is no {argument!r} in {operations.in_words(obj)}")

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ARG002  Jinja's signature
        """Arithmetic on bounded numbers; `+` also joins two texts or two lists."""
        if operator == "+" and (
            (isinstance(left, str) and isinstance(right, str)) or (isinstance(left, list) and isinstance(right, list))
        ):
            operations.refuse_size(len(left) + len(right))
            return left + right  # type: ignore[operator]  # both are texts or both are lists
        if not (operations.is_number(left) and operations.is_number(right)):
            raise TypeError(f"{operator} cannot work on {operations.in_words(left)} and {operations.in_words(right)}")
        return operations.bounded(self.binop_table[operator](operations.bounded(left), operations.bounded(right)))

    def call_unop(self, context: Context, operator: str, arg: Any) -> Any:  # noqa: ARG002  Jinja's signature
        """A sign before a number."""
        if not operations.is_number(arg):
            raise TypeError(f"{operator} cannot stand before {operations.in_words(arg)}")
        return self.unop_table[operator](arg)

    def _tokenize(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> TokenStream:
        """Jinja's tokens, with character offsets (from 1) where Jinja counts lines: an expression is one line to us."""
        tokens = tuple(_tokens(source, state or "variable"))
        _refuse_hyphenated_names(tokens)
        located = ((offset + 1, kind, value) for offset, kind, value in tokens)
        return TokenStream(self.lexer.wrap(located, name, filename), name, filename)


_ENVIRONMENT = _Dialect()


def _tokens(source: str, state: str = "variable") -> Iterator[tuple[int, str, str]]:
    """Offset, kind and text of each token.

    Raises:
        ExpressionFault: A character that begins no token, or a bracket that closes nothing.
    """
    offset = 0
    try:
        for _, kind, value in _ENVIRONMENT.lexer.tokeniter(source, None, state=state):
            yield offset, kind, value
            offset += len(value)
    except TemplateSyntaxError as fault:
        message = re.sub(r" at [0-9]+$", "", str(fault.message)).replace("unexpected char ", "unexpected character ")
        raise ExpressionFault(message, offset=offset) from fault


def _refuse_hyphenated_names(tokens: tuple[tuple[int, str, str], ...]) -> None:
    """`config.jira-project` is a subtraction to Jinja, and can even succeed."""
    for (_, left, name), (at, _, sign), (_, right, rest) in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if left == "name" and sign == "-" and right in ("name", "integer"):
            raise ExpressionFault(
                f"`{name}-{rest}` would be a subtraction: names are written in snake_case",
                offset=at,
                hint=f"write {name}_{rest} if it is a name, or {name} - {rest} with spaces to subtract",
            )


def end_of_expression(text: str, start: int) -> int | None:
    """Where the expression that starts there ends: the offset of its `}}`, or none if it is not closed.

    Quotes and brackets count, so `${{ "}}" }}` ends at the second pair.

    Raises:
        ExpressionFault: Something in it is no token of the language. The offset is in the whole text.
    """
    part = text[start : start + MAX_LENGTH + 10]
    end: tuple[int, str] | None = None
    try:
        end = next(((at, value) for at, kind, value in _tokens(part) if kind == "variable_end"), None)
    except ExpressionFault as fault:
        if "}}" not in part:
            return None
        raise ExpressionFault(fault.message, offset=start + fault.offset, hint=fault.hint) from fault
    if end is None:
        if len(part) > MAX_LENGTH:
            raise ExpressionFault(f"an expression has at most {MAX_LENGTH} characters", offset=start)
        return None
    at, closing = end
    if closing != "}}":
        raise ExpressionFault("`-}}` is not part of the language", offset=start + at, hint="write `}}`")
    return start + at


def parse(text: str) -> nodes.Expr:
    """The checked tree of an expression. Each node's `lineno` is its character offset plus 1.

    Raises:
        ExpressionFault: It is malformed, too long, too deep, or uses something that is not in the language.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionFault(f"an expression has at most {MAX_LENGTH} characters, this one has {len(text)}")
    if not text.strip():
        raise ExpressionFault("there is no expression here")
    try:
        parser = Parser(_ENVIRONMENT, text, state="variable")
        tree = parser.parse_expression()
        rest = parser.stream.current
        if not parser.stream.eos:
            raise ExpressionFault(f"{rest.value!r} does not belong here", offset=rest.lineno - 1)
    except TemplateSyntaxError as fault:
        message = str(fault.message).replace("end of template", "end of the expression")
        raise ExpressionFault(message, offset=max(fault.lineno - 1, 0)) from fault
    except RecursionError as fault:
        raise ExpressionFault("the expression is nested too deeply") from fault
    except ValueError as fault:
        raise ExpressionFault(f"a number cannot be read: {fault}") from fault
    _check(tree, depth=1, offset=0)
    return tree


class Refuse(Protocol):
    """Raises ExpressionFault where the node at hand stands."""

    def __call__(self, message: str, hint: str | None = None) -> NoReturn:
        """Say what is wrong and what to do."""
        ...


_ALLOWED: tuple[type[nodes.Node], ...] = (
    nodes.List, nodes.Dict, nodes.Pair, nodes.Getitem, nodes.Concat, nodes.Compare, nodes.Operand,
    nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.And, nodes.Or, nodes.Not,
    nodes.Neg, nodes.Pos,
)  # fmt: skip
_REFUSALS: dict[type[nodes.Node], tuple[str, str]] = {
    nodes.Call: ("an expression cannot call anything", "use a filter, or a block"),
    nodes.Pow: ("`**` is not part of the language", "use a block for calculations"),
    nodes.Slice: ("slices are not part of the language", "use `first`, `last` or one position"),
    nodes.Tuple: ("round brackets do not make a list", "write [a, b]"),
}


def _check(node: nodes.Node, *, depth: int, offset: int) -> None:
    """Refuse every node that is not on the list, at any depth."""
    offset = (node.lineno or offset + 1) - 1

    def refuse(message: str, hint: str | None = None) -> NoReturn:
        raise ExpressionFault(message, offset=offset, hint=hint)

    if depth > MAX_DEPTH:
        refuse("the expression is nested too deeply", f"{MAX_DEPTH} levels at most; use a block")
    if isinstance(node, nodes.Filter | nodes.Test):
        _check_filter_or_test(node, refuse)
    elif isinstance(node, nodes.Const):
        _check_constant(node.value, refuse)
    elif isinstance(node, nodes.Name | nodes.Getattr):
        _check_name(node, refuse)
    elif isinstance(node, nodes.CondExpr):
        if node.expr2 is None:
            refuse("`else` is missing", "write: a if condition else b")
    elif not isinstance(node, _ALLOWED):
        refuse(*_REFUSALS.get(type(node), (f"{type(node).__name__} is not part of the language", None)))
    for child in node.iter_child_nodes():
        _check(child, depth=depth + 1, offset=offset)


def _check_name(node: nodes.Name | nodes.Getattr, refuse: Refuse) -> None:
    if isinstance(node, nodes.Name) and (not _SNAKE_CASE.fullmatch(node.name) or node.name in RESERVED_NAMES):
        refuse(f"there is no {node.name!r} in the language", "names are written in snake_case")
    if isinstance(node, nodes.Getattr) and node.attr.startswith("__"):
        refuse(f"there is no {node.attr!r} in the language", "only fields of data can be reached")


def _check_constant(value: object, refuse: Refuse) -> None:
    if (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, int) and abs(value) > operations.MAX_INTEGER
    ):
        refuse("the number is too large", None)


def _check_filter_or_test(node: nodes.Filter | nodes.Test, refuse: Refuse) -> None:
    word = "filter" if isinstance(node, nodes.Filter) else "test"
    known = FILTERS if isinstance(node, nodes.Filter) else TESTS
    if node.name not in known:
        refuse(f"there is no {word} {node.name!r}", f"the {word}s are " + ", ".join(known))
    if node.kwargs or node.dyn_args or node.dyn_kwargs:
        refuse(f"the {word} {node.name!r} takes only plain arguments", None)
    fewest, most = known[node.name]
    if not fewest <= len(node.args) <= most:
        wanted = {(0, 0): "no argument", (1, 1): "one argument"}.get((fewest, most), "one argument or none")
        refuse(f"the {word} {node.name!r} takes {wanted}", None)
    if node.name == "pluck" and not (isinstance(node.args[0], nodes.Const) and isinstance(node.args[0].value, str)):
        refuse("the filter 'pluck' takes the name of a field, written out", "write: groups | pluck('name')")


def is_path(node: nodes.Node) -> bool:
    """Whether a node reads data, so that it may find nothing: a name, a field, an item, `first` or `last`."""
    return isinstance(node, nodes.Name | nodes.Getattr | nodes.Getitem) or (
        isinstance(node, nodes.Filter) and node.name in ("first", "last")
    )


def is_probe(node: nodes.Node) -> bool:
    """Whether a node says what to do when its operand is missing."""
    return (isinstance(node, nodes.Filter) and node.name == "default") or (
        isinstance(node, nodes.Test) and node.name in _PROBES
    )


def _harden(node: nodes.Node) -> nodes.Node:
    """Rewrite a checked tree: required paths are required, `~` is bounded, only booleans are true or false."""
    for field, value in list(node.iter_fields()):
        if isinstance(value, nodes.Expr):
            setattr(node, field, _harden_child(value, node, field))
        elif isinstance(value, list):
            setattr(node, field, [_harden_child(v, node, field) if isinstance(v, nodes.Node) else v for v in value])
    return _filtered(nodes.List(node.nodes), _CONCAT) if isinstance(node, nodes.Concat) else node


def _harden_child(child: nodes.Node, parent: nodes.Node, field: str) -> nodes.Node:
    hardened = _harden(child)
    may_miss = field == "node" and (is_probe(parent) or isinstance(parent, nodes.Getattr | nodes.Getitem))
    if is_path(hardened) and not may_miss:
        hardened = _filtered(hardened, _REQUIRED)
    if isinstance(parent, nodes.And | nodes.Or | nodes.Not) or (isinstance(parent, nodes.CondExpr) and field == "test"):
        hardened = _filtered(hardened, _BOOLEAN)
    return hardened


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def template(text: str) -> Template:
    """A template that leaves the value of a checked expression in its variable `result`.

    Raises:
        ExpressionFault: As `parse`.
    """
    assign = nodes.Assign(nodes.Name("result", "store", lineno=1), parse(text), lineno=1)
    assign.node = _harden_child(assign.node, assign, "value")
    root = nodes.Template([assign], lineno=1)
    root.set_environment(_ENVIRONMENT)
    return _ENVIRONMENT.from_string(root)
