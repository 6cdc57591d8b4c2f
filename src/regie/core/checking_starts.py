"""Checks how a workflow starts against the catalogue, the settings and its own input. Called by `checking.py`.

The rules:

* A poll's block only reads; what it gives holds the list that is meant, and its items have what `key` names.
* The arguments of a poll know `settings` and `poll.cursor`, the latter only when the block gives a cursor.
* The `if` of an event knows `event` and `settings`, and gives true or false.
* `from: event.…` in the input needs an event.
* `from: item.…` in the input needs a poll, and reads what its items have.
* A workflow that is started by a schedule alone has no input field that nobody fills.
* Of schedules, polls, events and forms each is there once: a second one just like it, or a second form, says nothing
  more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from pydantic import JsonValue

from regie.core import shape
from regie.core.block import Block, Catalogue
from regie.core.capability import Effect
from regie.core.checking_arguments import ArgumentCheck
from regie.core.definition import Definition, InputField
from regie.core.errors import Fault
from regie.core.inference import Note, Reading
from regie.core.located import Node
from regie.core.nearest import did_you_mean
from regie.core.polling import CURSOR, lists_of
from regie.core.reading import Positions
from regie.core.shape import NUMBER, TEXT, Shape
from regie.core.starts import EventStart, FormStart, Kind, PollStart, ScheduleStart, Start


def start_faults(
    definition: Definition,
    positions: Positions,
    catalogue: Catalogue,
    settings: Mapping[str, JsonValue],
    roles: Collection[str] | None,
) -> Iterator[Fault]:
    """Everything that is wrong with the starts of a definition, and with the input they bring."""
    check = _Starts(definition, positions, catalogue, settings)
    yield from check.polls()
    yield from check.events()
    yield from check.forms(roles)
    yield from check.schedules()
    yield from check.twice()
    yield from check.sources()


class _BeforeRun:
    """What an expression of a start can reach: there are no steps and no input yet."""

    def __init__(self, settings: Mapping[str, JsonValue], **roots: Shape) -> None:
        self._roots = {
            "settings": shape.an_object({name: shape.of_setting(value) for name, value in settings.items()}),
            **roots,
        }

    def root(self, name: str, offset: int, note: Note) -> Shape:
        """`settings`, and what the kind of start brings."""
        if name not in self._roots:
            message = f"there is nothing named {name!r} before a run has begun"
            note(offset, message, did_you_mean(name, self._roots))
            return shape.ANY
        return self._roots[name]

    def step(self, _step_id: str, _field: str | None, reading: Reading) -> Shape:
        """No step is over before a run has begun."""
        reading.note(reading.offset, "there are no steps before a run has begun", None)
        return shape.ANY


class _PollScope(_BeforeRun):
    """What the arguments of a poll can reach."""

    def __init__(self, settings: Mapping[str, JsonValue], *, has_cursor: bool) -> None:
        self._has_cursor = has_cursor
        super().__init__(settings, poll=shape.an_object({CURSOR: shape.A_TEXT} if has_cursor else {}))

    def root(self, name: str, offset: int, note: Note) -> Shape:
        """`settings` or `poll`."""
        if name == "poll" and not self._has_cursor:
            note(offset, "the block of this poll gives no cursor", "leave `poll` out: known items start nothing again")
            return shape.ANY
        return super().root(name, offset, note)


class _Starts:
    """The starts of one definition, with where each stands in its file."""

    def __init__(
        self, definition: Definition, positions: Positions, catalogue: Catalogue, settings: Mapping[str, JsonValue]
    ) -> None:
        self.definition = definition
        self.source = positions.source
        self.catalogue = catalogue
        self.settings = settings
        written = positions.source.root.below("start")
        entries = written.value if isinstance(written.value, list) else [written]
        self.written = [
            (entry, word, node)
            for entry in entries
            if isinstance(entry.value, dict)
            for word, node in entry.value.items()
            if word in list(Kind)
        ]
        self.is_whole = len(self.written) == len(definition.start)
        self.items: list[Shape] = []

    def placed(self) -> Iterator[tuple[Node, Start]]:
        """Each start with its object in the file; none when some could not be read."""
        if self.is_whole:
            for (_, _, node), start in zip(self.written, self.definition.start, strict=True):
                yield node, start

    def polls(self) -> Iterator[Fault]:
        """Block, arguments, list and key of each poll."""
        for node, start in self.placed():
            if isinstance(start, PollStart):
                yield from self._poll(node, start)

    def _poll(self, node: Node, start: PollStart) -> Iterator[Fault]:
        block = self.catalogue.get(start.uses)
        if block is None or block.function is None:
            hint = did_you_mean(start.uses, [name for name, each in self.catalogue.items() if each.function])
            message = f"there is no block {start.uses!r} that could be asked"
            yield self.source.fault(node.below("uses"), message, hint=hint)
            self.items.append(shape.ANY)
            return
        if block.effect is not Effect.READ:
            message = f"{start.uses} changes the outside world: a poll only reads"
            yield self.source.fault(node.below("uses"), message)
        has_cursor = CURSOR in (shape.of_record(block.gives).fields or {})
        faults: list[Fault] = []
        scope = _PollScope(self.settings, has_cursor=has_cursor)
        ArgumentCheck(self.source, scope, [], faults).block(node, block)
        yield from faults
        yield from self._list(node, start, block)

    def _list(self, node: Node, start: PollStart, block: Block) -> Iterator[Fault]:
        lists = lists_of(block)
        if start.items is not None and start.items not in lists:
            message = f"block {start.uses} gives no list {start.items!r}"
            yield self.source.fault(node.below("items"), message, hint=did_you_mean(start.items, lists))
        elif not lists:
            yield self.source.fault(node.below("uses"), f"block {start.uses} gives no list of items")
        elif start.items is None and len(lists) > 1:
            message = f"block {start.uses} gives several lists"
            yield self.source.fault(node.below("uses"), message, hint=f"add items: one of {', '.join(sorted(lists))}")
        else:
            found = lists[start.items] if start.items is not None else next(iter(lists.values()))
            item = found.item or shape.ANY
            self.items.append(item)
            reached, message, hint = _reach(item, start.key)
            if message:
                yield self.source.fault(node.below("key"), message, hint=hint)
            elif not reached.may_be(TEXT, NUMBER):
                message = f"{start.key} is {reached.in_words()}: items are told apart by a text or a number"
                yield self.source.fault(node.below("key"), message)
            return
        self.items.append(shape.ANY)

    def events(self) -> Iterator[Fault]:
        """The `if` of each event."""
        for node, start in self.placed():
            if not isinstance(start, EventStart) or start.condition is None:
                continue
            faults: list[Fault] = []
            written = node.below("if")
            scope = _BeforeRun(self.settings, event=Shape(frozenset({shape.OBJECT})))
            check = ArgumentCheck(self.source, scope, [], faults)
            got = check.expression(written, start.condition, 0)
            yield from faults
            if not got.may_be(shape.BOOLEAN):
                message = f"`if` is {got.in_words()}: it must be true or false"
                yield self.source.fault(written, message, hint="compare it with something")

    def forms(self, roles: Collection[str] | None) -> Iterator[Fault]:
        """Who may use each form."""
        for node, start in self.placed():
            if (
                isinstance(start, FormStart)
                and start.role is not None
                and roles is not None
                and start.role not in roles
            ):
                message = f"nobody holds a role {start.role!r}"
                yield self.source.fault(node.below("who"), message, hint=did_you_mean(start.role, roles))

    def schedules(self) -> Iterator[Fault]:
        """A schedule brings no input: without other starts a required field would fail every run."""
        kinds = {word for _, word, _ in self.written}
        if kinds != {Kind.SCHEDULE.value}:
            return
        fields = self.source.root.below("input")
        for field in self.definition.input:
            if field.required and field.default is None:
                message = f"nobody fills in {field.name}: a schedule brings no input"
                hint = "give it a default, or read a setting in the steps"
                yield self.source.fault_at_key(fields, field.name, message, hint=hint)

    def twice(self) -> Iterator[Fault]:
        """The same start once more."""
        seen: set[str] = set()
        for (entry, word, _), start in zip(self.written, self.definition.start, strict=False):
            match start:
                case ScheduleStart() | PollStart() | EventStart():
                    identity = f"{start.kind} {start.identity}"
                case FormStart():
                    identity = start.kind.value
                case _:
                    continue
            article = "an" if start.kind is Kind.EVENT else "a"
            if self.is_whole and identity in seen:
                yield self.source.fault_at_key(entry, word, f"there is such {article} {start.kind} already")
            seen.add(identity)

    def sources(self) -> Iterator[Fault]:
        """Input that is read from the items of a poll, or from an event."""
        for field in self.definition.input:
            is_event = field.source is not None and field.source.partition(".")[0] == "event"
            if is_event and not any(word == Kind.EVENT.value for _, word, _ in self.written):
                node = self.source.root.below("input", field.name, "from")
                yield self.source.fault(node, "there is an event only where an `event` starts the runs")
            if field.source is not None and field.source.partition(".")[0] == "item":
                yield from self._source(field)

    def _source(self, field: InputField) -> Iterator[Fault]:
        node = self.source.root.below("input", field.name, "from")
        if not any(word == Kind.POLL.value for _, word, _ in self.written):
            yield self.source.fault(node, "there are items only where a `poll` starts the runs")
            return
        for item in self.items:
            _, message, hint = _reach(item, field.source or "")
            if message:
                yield self.source.fault(node, message, hint=hint)
                return


def _reach(item: Shape, path: str) -> tuple[Shape, str, str | None]:
    """What stands at a path such as `item.user.id`, or why nothing can."""
    reached = item
    for name in path.split(".")[1:]:
        if not reached.may_be(shape.OBJECT):
            return reached, f"there is no {name!r} in {reached.in_words()}", None
        if reached.fields is None:
            reached = shape.ANY
        elif name not in reached.fields:
            return reached, f"an item has no {name!r}", did_you_mean(name, reached.fields)
        else:
            reached = reached.fields[name]
    return reached, "", None
