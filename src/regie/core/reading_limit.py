"""Reads `limit`: how many changes one run may make, and whom it asks for more. For `reading.py`."""

from __future__ import annotations

import re

from regie.core.approval import Rung
from regie.core.durations import parse_duration
from regie.core.located import Node
from regie.core.reading_values import Reader

_LIMIT = ("changes", "ask")
_RUNG = ("who", "within", "remind")
_WHO = re.compile(r"user:[^@\s]+@[^@\s]+|role:[a-z][a-z0-9_-]*")


def read_limit(reader: Reader, node: Node | None) -> tuple[int | None, tuple[Rung, ...]]:
    """The number, and the ladder of whom to ask; no ladder where the file leaves that to the domain's owner."""
    if node is None or not isinstance(node.value, dict):
        return reader.whole_number(node, "`limit`"), ()
    fields = reader.fields(node, "`limit`", _LIMIT, ("changes",))
    changes = reader.whole_number(fields.get("changes"), "`changes`")
    ask = fields.get("ask")
    if ask is None:
        return changes, ()
    if not isinstance(ask.value, list) or not ask.value:
        reader.wrong(ask, "`ask` is a list of at least one rung")
        return changes, ()
    rungs = [_rung(reader, each) for each in ask.value]
    return changes, tuple(rung for rung in rungs if rung is not None)


def _rung(reader: Reader, node: Node) -> Rung | None:
    before = len(reader.faults)
    fields = reader.fields(node, "a rung", _RUNG, ("who", "within"))
    who = reader.text(fields.get("who"), "`who`") or ""
    if who and not _WHO.fullmatch(who):
        reader.note(fields["who"], f"{who!r} does not say whom to ask", hint="write user:ADDRESS or role:NAME")
    times = {}
    for word in ("within", "remind"):
        if word in fields and reader.duration(fields[word], f"`{word}`") is not None:
            times[word] = str(fields[word].value)
    if "within" in times and "remind" in times and parse_duration(times["remind"]) >= parse_duration(times["within"]):
        reader.note(fields["remind"], "nobody would be reminded before the time is over", hint="`remind` is less")
    return Rung(who=who, **times) if len(reader.faults) == before else None
