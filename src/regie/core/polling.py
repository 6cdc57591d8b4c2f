"""What a poll makes of an answer: the items in it, what tells them apart, and what of each goes into a run. Pure.

Called by the checker and by the worker's poller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import JsonValue

from regie.core import shape
from regie.core.block import Block
from regie.core.definition import Definition
from regie.core.errors import Terminal
from regie.core.inputs import follow
from regie.core.shape import Shape
from regie.core.starts import PollStart

CURSOR = "cursor"
"""The field of what a block gives in which it says where the next poll goes on."""
LONGEST_CURSOR = 10_000
MOST_BACKOFF_S = 3_600.0
"""Seconds between two tries of a poll that fails, at most."""


class Item(NamedTuple):
    """One item of an answer."""

    trigger_key: str
    given: dict[str, JsonValue]


class Found(NamedTuple):
    """An answer, read.

    Attributes:
        keyless: How many items have no key, so that nobody could tell them from others.
        cursor: Where the next poll goes on; none when the block does not say.
    """

    items: list[Item]
    keyless: int
    cursor: str | None


def lists_of(block: Block) -> dict[str, Shape]:
    """The lists in what a block gives, by field."""
    fields = shape.of_record(block.gives).fields or {}
    return {name: field for name, field in fields.items() if field.kinds == {shape.LIST}}


def items_field(start: PollStart, block: Block) -> str:
    """Which field of what the block gives holds the items.

    Raises:
        Terminal: There is no such list, or nobody says which of several.
    """
    lists = lists_of(block)
    if start.items is not None and start.items in lists:
        return start.items
    if start.items is None and len(lists) == 1:
        return next(iter(lists))
    raise Terminal(
        f"{start.uses} does not give the list of items that the poll wants.",
        hint="Has the block changed since the release was loaded? Load the workspace again.",
    )


def read_answer(definition: Definition, start: PollStart, block: Block, answer: Mapping[str, JsonValue]) -> Found:
    """Read what a block gave.

    Raises:
        Terminal: It holds no such list, or its cursor is no text of a sensible length.
    """
    found = answer.get(items_field(start, block))
    if not isinstance(found, list):
        raise Terminal(f"{start.uses} gave no list of items.")
    items: dict[str, Item] = {}
    keyless = 0
    for item in found:
        key = follow({"item": item}, start.key)
        if isinstance(key, bool) or not isinstance(key, str | int) or key == "":
            keyless += 1
            continue
        trigger = trigger_key(definition.workflow, start, str(key))
        items.setdefault(trigger, Item(trigger, given_of(definition, item)))
    cursor = answer.get(CURSOR)
    if cursor is not None and (not isinstance(cursor, str) or len(cursor) > LONGEST_CURSOR):
        raise Terminal(f"The cursor that {start.uses} gave is no text of at most {LONGEST_CURSOR} characters.")
    return Found(list(items.values()), keyless, cursor)


def given_of(definition: Definition, item: JsonValue) -> dict[str, JsonValue]:
    """The input that an item brings: every field that is read from it and that it has."""
    read = {
        field.name: follow({"item": item}, field.source)
        for field in definition.input
        if field.source is not None and field.source.partition(".")[0] == "item"
    }
    return {name: value for name, value in read.items() if value is not None}


def trigger_key(workflow: str, start: PollStart, key: str) -> str:
    """Names the trigger within tenant and domain: each item of a workflow's poll starts one run, whenever it is seen.

    The item's key is not told, for it may be somebody's address and ends up in the audit log.
    """
    return f"poll:{workflow}:{start.uses}:{hashlib.sha256(key.encode()).hexdigest()}"


def again_in_s(start: PollStart, failures: int, asked_s: float | None) -> float:
    """Seconds until a poll that failed is tried again: longer with each failure in a row.

    Args:
        failures: How many there are in a row, from 1.
        asked_s: What the outside system asked for, when it did.
    """
    backoff = start.every_s * 2.0 ** min(failures - 1, 20)
    return max(min(backoff, max(MOST_BACKOFF_S, start.every_s)), asked_s or 0.0)
