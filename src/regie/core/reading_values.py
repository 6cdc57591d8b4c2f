"""Takes values out of a located tree and notes what is wrong with them. Used by `reading.py` and `reading_steps.py`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from regie.core.durations import parse_duration
from regie.core.errors import Fault
from regie.core.expression import ExpressionFault, compile_expression, has_expression, parse_text
from regie.core.located import Node, Source
from regie.core.nearest import did_you_mean

_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}


class Reader:
    """Reads on after a fault, so that all of them are found: a value that is wrong counts as absent."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.faults: list[Fault] = []

    def note(self, node: Node, message: str, *, hint: str | None = None, offset: int | None = None) -> None:
        """Something is wrong with a value, or with one character of a text."""
        self.faults.append(self.source.fault(node, message, hint=hint, offset=offset))

    def note_key(self, node: Node, key: str, message: str, *, hint: str | None = None) -> None:
        """Something is wrong with a field of an object, its name included."""
        self.faults.append(self.source.fault_at_key(node, key, message, hint=hint))

    def fields(
        self, node: Node, what: str, known: Collection[str], required: Collection[str] = ()
    ) -> Mapping[str, Node]:
        """The fields of an object: those that are known, once those are noted that are not, or that are missing."""
        if not isinstance(node.value, dict):
            self.wrong(node, f"{what} is an object with the fields {', '.join(known)}")
            return {}
        for key in node.value:
            if key not in known:
                self.note_key(node, key, f"{key!r} is not a word of {what}", hint=did_you_mean(key, known))
        for key in required:
            if key not in node.value:
                self.note(node, f"{what} has no {key!r}")
        return {key: value for key, value in node.value.items() if key in known}

    def wrong(self, node: Node, wanted: str, hint: str | None = None) -> None:
        """A value of another type stands where something is wanted."""
        found = "nothing" if node.value is None else _KINDS[type(node.value)]
        self.note(node, f"{wanted}; here is {found}", hint=hint)

    def text(self, node: Node | None, what: str) -> str | None:
        """A text that is taken as it stands."""
        if node is None:
            return None
        if not isinstance(node.value, str) or not node.value.strip():
            is_plain = isinstance(node.value, bool | int | float)
            self.wrong(node, f"{what} is a text", "put it in quotes" if is_plain else None)
            return None
        if has_expression(node.value):
            self.note(
                node, f"{what} is taken as it stands: there is no ${{{{ }}}} in it", offset=node.value.find("${{")
            )
            return None
        return node.value

    def whole_number(self, node: Node | None, what: str) -> int | None:
        """A whole number from 1."""
        if node is None:
            return None
        if not isinstance(node.value, int) or isinstance(node.value, bool) or node.value < 1:
            self.wrong(node, f"{what} is a whole number from 1")
            return None
        return node.value

    def duration(self, node: Node | None, what: str) -> float | None:
        """Seconds."""
        if node is None:
            return None
        if not isinstance(node.value, str):
            self.wrong(node, f"{what} is a length of time such as 90s, 15m, 8h or 2d")
            return None
        try:
            return parse_duration(node.value)
        except ValueError as error:
            self.note(node, str(error))
            return None

    def expression(self, node: Node, text: str, start: int = 0) -> bool:
        """Whether the expression that begins at a character of a text is one; notes what is wrong with it."""
        if has_expression(text):
            self.note(node, "an expression stands here by itself: write it without ${{ }}", offset=start)
            return False
        try:
            compile_expression(text)
        except ExpressionFault as fault:
            self.note(node, fault.message, hint=fault.hint, offset=start + fault.offset)
            return False
        return True

    def texts(self, node: Node) -> None:
        """Note what is wrong with every `${{ }}` in a value, at any depth."""
        for inner in every_text(node):
            try:
                parse_text(str(inner.value))
            except ExpressionFault as fault:
                self.note(inner, fault.message, hint=fault.hint, offset=fault.offset)
        for outer in every_object(node):
            for key in outer.keys:
                if has_expression(key):
                    self.note_key(outer, key, "the name of a field is taken as it stands: there is no ${{ }} in it")


def every_object(node: Node) -> Iterator[Node]:
    """Every object in a value, itself included."""
    if isinstance(node.value, dict):
        yield node
        for inner in node.value.values():
            yield from every_object(inner)
    elif isinstance(node.value, list):
        for inner in node.value:
            yield from every_object(inner)


def every_text(node: Node) -> Iterator[Node]:
    """Every text in a value, itself included."""
    if isinstance(node.value, str):
        yield node
    elif isinstance(node.value, list):
        for inner in node.value:
            yield from every_text(inner)
    elif isinstance(node.value, dict):
        for inner in node.value.values():
            yield from every_text(inner)
