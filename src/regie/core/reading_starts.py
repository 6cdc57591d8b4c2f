"""Reads what stands under `start:`: an object of starts, or a list where a kind is there twice. For `reading.py`.

A start that has a fault of form is left out of the definition; `checking_starts.py` looks at the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from regie.core.capability import NAME
from regie.core.expression import has_expression
from regie.core.located import Node
from regie.core.moments import read_zone
from regie.core.nearest import did_you_mean
from regie.core.reading_values import Reader, every_text
from regie.core.schedule import CronFault, check_cron
from regie.core.starts import EventStart, FormStart, Kind, Missed, PollStart, ScheduleStart, Start, TicketStart

NOT_YET = ("webhook", "mail", "chat", "api")
"""Words of the language that this version does not start runs by."""
SOONEST_S = 10.0
"""Seconds between two polls, at least: outside systems are not asked all the time."""

_TICKET = ("system", "project", "request_type")
_SCHEDULE = ("cron", "zone", "missed", "spread")
_POLL = ("uses", "with", "every", "items", "key")
_FORM = ("who",)
_EVENT = ("name", "where", "if")
_KEY = re.compile(r"item(\.[A-Za-z_][A-Za-z0-9_]*)*")
_WHO = re.compile(r"everyone|role:[a-z][a-z0-9_-]*")


def read_starts(reader: Reader, node: Node | None) -> tuple[Start, ...]:
    """Every start that can be read."""
    if node is None:
        return ()
    entries = node.value if isinstance(node.value, list) else [node]
    found: list[Start] = []
    for entry in entries:
        if isinstance(node.value, list) and isinstance(entry.value, dict) and len(entry.value) != 1:
            reader.note(entry, "each start of a list is of one kind", hint="begin each with a dash")
        words = (*[kind.value for kind in Kind], *NOT_YET)
        for word, written in reader.fields(entry, "`start`", words).items():
            start = _start(reader, entry, word, written)
            if start is not None:
                found.append(start)
    return tuple(found)


def _start(reader: Reader, entry: Node, word: str, written: Node) -> Start | None:
    if word in NOT_YET:
        hint = "programs start any workflow by the API" if word == "api" else "it can by " + ", ".join(Kind)
        reader.note_key(entry, word, f"this version does not start runs by `{word}` yet", hint=hint)
        return None
    before = len(reader.faults)
    start = _READERS[Kind(word)](reader, written)
    return start if len(reader.faults) == before else None


def _ticket(reader: Reader, node: Node) -> Start:
    fields = reader.fields(node, "`ticket`", _TICKET, _TICKET)
    values = {key: reader.text(fields.get(key), f"`{key}`") or "" for key in _TICKET}
    return TicketStart.model_validate(values)


def _schedule(reader: Reader, node: Node) -> Start:
    fields = reader.fields(node, "`schedule`", _SCHEDULE, ("cron", "zone"))
    cron = reader.text(fields.get("cron"), "`cron`") or ""
    if cron:
        try:
            check_cron(cron)
        except CronFault as fault:
            reader.note(fields["cron"], fault.message, hint=fault.hint, offset=fault.offset)
    zone = reader.text(fields.get("zone"), "`zone`") or ""
    if zone:
        try:
            read_zone(zone)
        except ValueError as error:
            reader.note(fields["zone"], str(error))
    missed = reader.text(fields.get("missed"), "`missed`") or Missed.RUN_ONCE.value
    if missed not in list(Missed):
        reader.note(fields["missed"], f"{missed!r} is no way to treat missed runs", hint=did_you_mean(missed, Missed))
        missed = Missed.RUN_ONCE.value
    spread_s = reader.duration(fields.get("spread"), "`spread`") or 0.0
    return ScheduleStart(cron=" ".join(cron.split()), zone=zone, missed=Missed(missed), spread_s=spread_s)


def _poll(reader: Reader, node: Node) -> Start:
    fields = reader.fields(node, "`poll`", _POLL, ("uses", "every", "key"))
    uses = reader.text(fields.get("uses"), "`uses`") or ""
    if uses and not NAME.match(uses):
        reader.note(fields["uses"], f"{uses!r} is not a name of the form noun.verb")
    arguments = fields.get("with")
    if arguments is not None and not isinstance(arguments.value, dict):
        reader.wrong(arguments, "`with` is an object: one field for each argument")
    elif arguments is not None:
        reader.texts(arguments)
    every_s = reader.duration(fields.get("every"), "`every`") or SOONEST_S
    if every_s < SOONEST_S:
        reader.note(fields["every"], f"a poll asks at most every {SOONEST_S:g} s")
    key = reader.text(fields.get("key"), "`key`") or ""
    if key and not _KEY.fullmatch(key):
        reader.note(fields["key"], f"{key!r} is not a path such as item.id")
    plain = arguments.plain() if arguments is not None else {}
    return PollStart(
        uses=uses,
        arguments=plain if isinstance(plain, dict) else {},
        every_s=every_s,
        items=reader.text(fields.get("items"), "`items`"),
        key=key,
    )


def _form(reader: Reader, node: Node) -> Start:
    fields = reader.fields(node, "`form`", _FORM, _FORM)
    who = reader.text(fields.get("who"), "`who`") or ""
    if who and not _WHO.fullmatch(who):
        reader.note(fields["who"], f"{who!r} does not say who may use the form", hint="write everyone or role:NAME")
    return FormStart(who=who)


def _event(reader: Reader, node: Node) -> Start:
    fields = reader.fields(node, "`event`", _EVENT, ("name",))
    name = reader.text(fields.get("name"), "`name`") or ""
    if name and not NAME.match(name):
        reader.note(fields["name"], f"{name!r} is not a name of the form noun.verb", hint="such as contract.sign")
    where = fields.get("where")
    if where is not None and not isinstance(where.value, dict):
        reader.wrong(where, "`where` is an object: fields of the event, and what each must be equal to")
    elif where is not None and any(has_expression(str(text.value)) for text in every_text(where)):
        reader.note(where, "there are no expressions in `where` of a start", hint="compare with `if` instead")
    condition = fields.get("if")
    is_text = condition is not None and isinstance(condition.value, str)
    if condition is not None and not is_text:
        reader.wrong(condition, "`if` is an expression that gives true or false")
    is_read = condition is not None and is_text and reader.expression(condition, str(condition.value))
    plain = where.plain() if where is not None else {}
    return EventStart(
        event=name,
        where=plain if isinstance(plain, dict) else {},
        condition=str(condition.value) if condition is not None and is_read else None,
    )


_READERS: dict[Kind, Callable[[Reader, Node], Start]] = {
    Kind.TICKET: _ticket,
    Kind.SCHEDULE: _schedule,
    Kind.POLL: _poll,
    Kind.FORM: _form,
    Kind.EVENT: _event,
}
