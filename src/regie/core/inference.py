"""Works out the shape of an expression without running it, and notes what cannot be right. Called by `checking.py`."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Protocol

from jinja2 import nodes

from regie.core import dialect, shape
from regie.core.expression import start_of
from regie.core.nearest import did_you_mean
from regie.core.precedence import split_and
from regie.core.shape import BOOLEAN, LIST, NULL, NUMBER, OBJECT, TEXT, Shape

Note = Callable[[int, str, str | None], None]
"""Takes a fault: its offset in the expression, what is wrong, and a hint."""
Facts = list[nodes.Node]
"""Conditions that hold where an expression is worked out."""


class Scope(Protocol):
    """What an expression can reach at one place of a definition."""

    def root(self, name: str, offset: int, note: Note) -> Shape:
        """A name that an expression starts from, other than `steps`."""
        ...

    def step(self, step_id: str, field: str | None, reading: Reading) -> Shape:
        """A field of a step's result, or the whole of it."""
        ...


class Reading:
    """How one path is read: where, with what known, and whether it may be missing.

    Attributes:
        is_probed: `default`, `is defined` or `is undefined` stands directly on it.
    """

    def __init__(self, offset: int, facts: Facts, note: Note, *, is_probed: bool) -> None:
        self.offset = offset
        self.facts = facts
        self.note = note
        self.is_probed = is_probed


_SIDES = {
    nodes.Add: (NUMBER, TEXT, LIST),
    nodes.Sub: (NUMBER,),
    nodes.Mul: (NUMBER,),
    nodes.Div: (NUMBER,),
    nodes.FloorDiv: (NUMBER,),
    nodes.Mod: (NUMBER,),
}
_ORDERED = ("lt", "lteq", "gt", "gteq")
_ITEMS = {"unique": (TEXT, NUMBER, BOOLEAN, NULL), "sort": (TEXT, NUMBER), "pluck": (OBJECT,)}
"""Filters that make a list of a list, and what its items may be."""


class Inference:
    """One expression being read.

    Args:
        scope: What can be reached.
        note: Takes the faults.
    """

    def __init__(self, scope: Scope, note: Note) -> None:
        self.scope = scope
        self.note = note

    def shape(self, node: nodes.Node, facts: Facts, *, is_probed: bool = False) -> Shape:  # noqa: C901, PLR0911, PLR0912  one case a form
        """The shape of what a node gives."""
        match node:
            case nodes.Const(value=value):
                return shape.of_value(value)
            case nodes.Name(name="steps"):
                self.note(start_of(node), "`steps` alone is no value", "write steps.ID.FIELD")
                return shape.ANY
            case nodes.Name(name=name):
                return self.scope.root(name, start_of(node), self.note)
            case nodes.Getattr() | nodes.Getitem():
                return self._path(node, facts, is_probed=is_probed)
            case nodes.And(left=left, right=right):
                self._boolean(left, facts)
                self._boolean(right, [*facts, *split_and(left)])
                return shape.A_BOOLEAN
            case nodes.Or(left=left, right=right):
                self._boolean(left, facts)
                self._boolean(right, facts)
                return shape.A_BOOLEAN
            case nodes.Not(node=inner):
                self._boolean(inner, facts)
                return shape.A_BOOLEAN
            case nodes.Test(node=inner):
                self.shape(inner, facts, is_probed=dialect.is_probe(node))
                return shape.A_BOOLEAN
            case nodes.CondExpr(test=test, expr1=one, expr2=nodes.Expr() as two):
                self._boolean(test, facts)
                return shape.either(self.shape(one, [*facts, *split_and(test)]), self.shape(two, facts))
            case nodes.Compare():
                return self._compare(node, facts)
            case nodes.Filter(node=nodes.Expr() as inner):
                return self._filter(node, inner, facts)
            case nodes.BinExpr() | nodes.UnaryExpr() | nodes.Concat():
                return self._calculation(node, facts)
            case nodes.List(items=items):
                inside = [self.shape(item, facts) for item in items]
                return shape.a_list(reduce(shape.either, inside) if inside else None)
            case nodes.Dict(items=pairs):
                return self._object(pairs, facts)
            case _:
                return shape.ANY

    def wants(self, node: nodes.Node, got: Shape, *kinds: str) -> None:
        """Note it if a value can be none of the kinds that belong there."""
        if not got.may_be(*kinds):
            self.note(start_of(node), f"{got.in_words()} stands where {' or '.join(kinds)} belongs", None)

    def _boolean(self, node: nodes.Node, facts: Facts) -> None:
        self.wants(node, self.shape(node, facts), BOOLEAN)

    def _object(self, pairs: list[nodes.Pair], facts: Facts) -> Shape:
        fields: dict[str, Shape] = {}
        is_known = True
        for pair in pairs:
            self.wants(pair.key, self.shape(pair.key, facts), TEXT)
            inner = self.shape(pair.value, facts)
            if isinstance(pair.key, nodes.Const):
                fields[str(pair.key.value)] = inner
            else:
                is_known = False
        return shape.an_object(fields) if is_known else Shape(frozenset({OBJECT}))

    def _path(self, node: nodes.Getattr | nodes.Getitem, facts: Facts, *, is_probed: bool) -> Shape:
        """A field or an item; the first two parts behind `steps` are the step and its field."""
        key = _key(node)
        inner = node.node
        reading = Reading(start_of(node), facts, self.note, is_probed=is_probed)
        if isinstance(inner, nodes.Name) and inner.name == "steps":
            if not isinstance(key, str):
                self.note(start_of(node), "the step's id must be written out", "write steps.ID.FIELD")
                return shape.ANY
            return self.scope.step(key, None, reading)
        if isinstance(inner, nodes.Getattr | nodes.Getitem) and isinstance(key, str):
            step_id = _key(inner)
            if isinstance(inner.node, nodes.Name) and inner.node.name == "steps" and isinstance(step_id, str):
                return self.scope.step(step_id, key, reading)
        if isinstance(node, nodes.Getitem) and key is None:
            self.wants(node.arg, self.shape(node.arg, facts), TEXT, NUMBER)
        return self._inside(node, self.shape(inner, facts), key)

    def _inside(self, node: nodes.Node, outer: Shape, key: str | int | None) -> Shape:
        if key is None:
            self.wants(node, outer, OBJECT, LIST)
            return outer.item if outer.kinds <= {LIST} and outer.item else shape.ANY
        if isinstance(key, int):
            self.wants(node, outer, LIST)
            return outer.item or shape.ANY
        if not outer.may_be(OBJECT):
            self.note(start_of(node), f"there is no field {key!r} in {outer.in_words()}", None)
            return shape.ANY
        if outer.fields is None:
            return outer.item or shape.ANY
        if key not in outer.fields:
            self.note(start_of(node), f"there is no field {key!r} here", did_you_mean(key, outer.fields))
            return shape.ANY
        return outer.fields[key]

    def _compare(self, node: nodes.Compare, facts: Facts) -> Shape:
        left, mine = node.expr, self.shape(node.expr, facts)
        for operand in node.ops:
            theirs = self.shape(operand.expr, facts)
            if operand.op in ("in", "notin"):
                self._membership(operand.expr, mine, theirs)
            elif operand.op in _ORDERED:
                if not any(mine.may_be(kind) and theirs.may_be(kind) for kind in (NUMBER, TEXT)):
                    message = f"{mine.in_words()} and {theirs.in_words()} have no order"
                    self.note(start_of(left), message, "compare two numbers or two texts")
            else:
                self._equality(left, mine, theirs)
            left, mine = operand.expr, theirs
        return shape.A_BOOLEAN

    def _equality(self, node: nodes.Node, mine: Shape, theirs: Shape) -> None:
        if mine.kinds.isdisjoint(theirs.kinds):
            self.note(start_of(node), f"{mine.in_words()} never equals {theirs.in_words()}", None)
            return
        if mine.kinds != {TEXT} or theirs.kinds != {TEXT} or not mine.words or not theirs.words:
            return
        if mine.words.isdisjoint(theirs.words):
            asked, known = sorted((mine.words, theirs.words), key=len)
            self.note(start_of(node), f"it is never {min(asked)!r}", did_you_mean(min(asked), known))

    def _membership(self, node: nodes.Node, mine: Shape, theirs: Shape) -> None:
        self.wants(node, theirs, LIST, OBJECT, TEXT)
        if theirs.kinds <= {TEXT, OBJECT} and not mine.may_be(TEXT):
            self.note(start_of(node), f"{mine.in_words()} is never in {theirs.in_words()}", None)
        elif theirs.kinds == {LIST} and theirs.item is not None:
            self._equality(node, mine, theirs.item)

    def _calculation(self, node: nodes.BinExpr | nodes.UnaryExpr | nodes.Concat, facts: Facts) -> Shape:
        if isinstance(node, nodes.Concat):
            for part in node.nodes:
                self.wants(part, self.shape(part, facts), TEXT, NUMBER)
            return shape.A_TEXT
        if isinstance(node, nodes.UnaryExpr):
            self.wants(node.node, self.shape(node.node, facts), NUMBER)
            return shape.A_NUMBER
        left, right = self.shape(node.left, facts), self.shape(node.right, facts)
        kinds = _SIDES.get(type(node), (NUMBER,))
        possible = frozenset(kind for kind in kinds if left.may_be(kind) and right.may_be(kind))
        if not possible:
            self.note(
                start_of(node), f"`{node.operator}` cannot work on {left.in_words()} and {right.in_words()}", None
            )
            return shape.ANY
        return Shape(possible)

    def _filter(self, node: nodes.Filter, inner: nodes.Expr, facts: Facts) -> Shape:
        got = self.shape(inner, facts, is_probed=node.name == "default")
        arguments = [self.shape(argument, facts) for argument in node.args]
        item = got.item or shape.ANY
        match node.name:
            case "default":
                return shape.either(got, arguments[0])
            case "length":
                self.wants(inner, got, TEXT, LIST, OBJECT)
                return shape.A_NUMBER
            case "lower" | "upper" | "trim":
                self.wants(inner, got, TEXT)
                return shape.A_TEXT
            case "join":
                self.wants(inner, got, LIST)
                self._items(inner, got, TEXT, NUMBER)
                for argument, given in zip(node.args, arguments, strict=True):
                    self.wants(argument, given, TEXT)
                return shape.A_TEXT
            case "first" | "last":
                self.wants(inner, got, LIST)
                return item
            case _:
                self.wants(inner, got, LIST)
                self._items(inner, got, *_ITEMS[node.name])
                is_plucked = node.name == "pluck" and item.may_be(OBJECT)
                return shape.a_list(self._inside(node.args[0], item, _key(node)) if is_plucked else got.item)

    def _items(self, node: nodes.Node, got: Shape, *kinds: str) -> None:
        if got.kinds == {LIST} and got.item is not None and not got.item.may_be(*kinds):
            self.note(start_of(node), f"its items are each {got.item.in_words()}, not {' or '.join(kinds)}", None)


def _key(node: nodes.Node) -> str | int | None:
    """The name or position that a node reads from its inner one, if it is written out."""
    match node:
        case nodes.Getattr(attr=name):
            return name
        case nodes.Filter(name="pluck", args=[nodes.Const(value=str() as name)]):
            return name
        case nodes.Getitem(arg=nodes.Const(value=bool() | None)):
            return None
        case nodes.Getitem(arg=nodes.Const(value=str() | int() as key)):
            return key
        case nodes.Getitem(arg=nodes.Neg(node=nodes.Const(value=int() as back))):
            return -back
        case _:
            return None
