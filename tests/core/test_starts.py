from __future__ import annotations

import pytest
from pydantic import JsonValue

from regie.core.block import Block, Context, block
from regie.core.capability import Capability, Effect, Record
from regie.core.checking import validate
from regie.core.definition import Definition
from regie.core.errors import DefinitionError, Fault, Terminal
from regie.core.polling import again_in_s, items_field, read_answer
from regie.core.starts import EventStart, FormStart, Missed, PollStart, ScheduleStart, TicketStart


class Thing(Record):
    """Something that can be found."""

    id: str
    size: int
    owner: dict[str, JsonValue] = {}


class Things(Record):
    """What was found."""

    things: list[Thing]
    cursor: str = ""


class Two(Record):
    """Two lists."""

    left: list[Thing]
    right: list[str]


WRITE = Capability("thing.change", Effect.WRITE, Thing, Thing, "Change a thing.")


@block("thing.find")
async def find(ctx: Context, after: str = "", kind: str = "any") -> Things:
    """Find things.

    Example:
        uses: thing.find
    """
    return Things(things=[])


@block("thing.pair")
async def pair(ctx: Context) -> Two:
    """Find two lists of things.

    Example:
        uses: thing.pair
    """
    return Two(left=[], right=[])


@block("thing.change", needs=(WRITE,))
async def change(ctx: Context) -> Things:
    """Change a thing.

    Example:
        uses: thing.change
    """
    return Things(things=[])


@block("thing.look")
async def look(ctx: Context) -> Thing:
    """Look at one thing.

    Example:
        uses: thing.look
    """
    return Thing(id="1", size=1)


BLOCKS: tuple[Block, ...] = (find, pair, change, look)
CATALOGUE = {each.name: each for each in BLOCKS}


def read(start: str, fields: str = "", roles: tuple[str, ...] | None = None) -> Definition:
    head = "workflow: things.sort\ntitle: Sort\nowner: team:test\n"
    text = f"{head}start:\n{start}\n" + (f"input:\n{fields}\n" if fields else "") + "steps: [{ end: done }]\n"
    return validate(text, "sort.yaml", CATALOGUE, {"kind": "big", "most": 5}, roles)


def faults(start: str, fields: str = "", roles: tuple[str, ...] | None = None) -> list[Fault]:
    with pytest.raises(DefinitionError) as caught:
        read(start, fields, roles)
    return list(caught.value.faults)


POLL = "  - poll: { uses: thing.find, every: 5m, key: item.id }"


def test_a_workflow_starts_in_as_many_ways_as_it_says() -> None:
    found = read(
        """  - ticket: { system: jira, project: ITSM, request_type: Sort }
  - schedule: { cron: "30  7 * * 1-5", zone: Europe/Amsterdam }
  - schedule: { cron: "0 9 * * 6", zone: UTC, missed: skip, spread: 10m }
  - poll:
      uses: thing.find
      with: { kind: "${{ settings.kind }}", after: "${{ poll.cursor }}" }
      every: 5m
      key: item.id
  - form: { who: role:hr }"""
    )
    assert found.start == (
        TicketStart(system="jira", project="ITSM", request_type="Sort"),
        ScheduleStart(cron="30 7 * * 1-5", zone="Europe/Amsterdam"),
        ScheduleStart(cron="0 9 * * 6", zone="UTC", missed=Missed.SKIP, spread_s=600.0),
        PollStart(
            uses="thing.find",
            arguments={"kind": "${{ settings.kind }}", "after": "${{ poll.cursor }}"},
            every_s=300.0,
            key="item.id",
        ),
        FormStart(who="role:hr"),
    )
    assert [start.cron for start in found.starts(ScheduleStart)] == ["30 7 * * 1-5", "0 9 * * 6"]


def test_an_event_starts_a_workflow_and_brings_its_input() -> None:
    found = read(
        "  event: { name: contract.sign, where: { kind: big, pages: 2 }, if: event.pages > settings.most }",
        "  who: { type: email, from: event.person.email }",
    )
    wanted = EventStart(
        event="contract.sign", where={"kind": "big", "pages": 2}, condition="event.pages > settings.most"
    )
    assert found.start == (wanted,)
    assert wanted.in_words == "the event contract.sign with certain data"


@pytest.mark.parametrize(
    ("start", "line", "column", "message"),
    [
        ("  event: { where: {} }", 5, 10, "`event` has no 'name'"),
        ("  event: { name: contract }", 5, 18, "'contract' is not a name of the form noun.verb"),
        ("  event: { name: contract.sign, wehre: {} }", 5, 33, "'wehre' is not a word of `event`"),
        ("  event: { name: contract.sign, where: [1] }", 5, 40, "`where` is an object"),
        ("  event: { name: contract.sign, where: { a: '${{ event.b }}' } }", 5, 40, "there are no expressions"),
        ("  event: { name: contract.sign, if: event.a == }", 5, 0, ""),
        ("  event: { name: contract.sign, if: evnt.a == 1 }", 5, 37, "there is nothing named 'evnt'"),
        ("  event: { name: contract.sign, if: steps.a.b == 1 }", 5, 37, "there are no steps before a run has begun"),
        ("  event: { name: contract.sign, if: settings.most }", 5, 37, "`if` is a number: it must be true or false"),
        ("  - event: { name: a.b }\n  - event: { name: a.b }", 6, 5, "there is such an event already"),
    ],
)
def test_what_is_wrong_with_an_event_is_said_where_it_stands(start: str, line: int, column: int, message: str) -> None:
    [fault] = faults(start)
    assert fault.line == line
    assert message in fault.message
    assert fault.column == column or not column


def test_input_from_an_event_needs_one() -> None:
    [fault] = faults("  form: { who: everyone }", "  who: { type: email, from: event.who }")
    assert (fault.line, fault.message) == (7, "there is an event only where an `event` starts the runs")


def test_an_object_of_starts_says_the_same_as_a_list() -> None:
    as_object = "  schedule: { cron: '0 9 * * 6', zone: UTC }\n  form: { who: everyone }"
    as_list = "  - schedule: { cron: '0 9 * * 6', zone: UTC }\n  - form: { who: everyone }"
    assert read(as_object).start == read(as_list).start


def test_a_release_from_before_there_were_several_kinds_is_read() -> None:
    now = read("  ticket: { system: jira, project: ITSM, request_type: Sort }").model_dump(mode="json")
    del now["start"][0]["kind"]
    assert Definition.model_validate(now).starts(TicketStart)[0].project == "ITSM"


@pytest.mark.parametrize(
    ("start", "fields", "line", "column", "says", "hint"),
    [
        ("  poll: { uses: thing.fnd, every: 5m, key: item.id }", "", 5, 17, "no block 'thing.fnd'", "mean thing.find"),
        ("  poll: { uses: thing.change, every: 5m, key: item.id }", "", 5, 17, "a poll only reads", None),
        ("  poll: { uses: thing.look, every: 5m, key: item.id }", "", 5, 17, "gives no list", None),
        ("  poll: { uses: thing.pair, every: 5m, key: item.id }", "", 5, 17, "several lists", "left, right"),
        (
            "  poll: { uses: thing.pair, every: 5m, items: lft, key: item.id }",
            "",
            5,
            47,
            "no list 'lft'",
            "did you mean left",
        ),
        ("  poll: { uses: thing.pair, every: 5m, items: right, key: item.id }", "", 5, 59, "no 'id' in a text", None),
        ("  poll: { uses: thing.find, every: 5m, key: item.ide }", "", 5, 45, "no 'ide'", "did you mean id"),
        ("  poll: { uses: thing.find, every: 5m, key: item.owner }", "", 5, 45, "told apart by", None),
        (
            "  poll: { uses: thing.find, every: 5m, key: item.id, with: { knd: x } }",
            "",
            5,
            62,
            "no argument 'knd'",
            "did you mean kind",
        ),
        (
            '  poll: { uses: thing.find, every: 5m, key: item.id, with: { kind: "${{ settings.knd }}" } }',
            "",
            5,
            73,
            "no field 'knd'",
            "did you mean kind",
        ),
        (
            '  poll: { uses: thing.find, every: 5m, key: item.id, with: { kind: "${{ input.kind }}" } }',
            "",
            5,
            73,
            "nothing named 'input'",
            "poll",
        ),
        (
            '  poll: { uses: thing.find, every: 5m, key: item.id, with: { kind: "${{ steps.a.b }}" } }',
            "",
            5,
            73,
            "no steps",
            None,
        ),
        (f"{POLL}\n{POLL}", "", 6, 5, "such a poll already", None),
        (
            "  - form: { who: everyone }\n  - form: { who: role:hr }",
            "",
            6,
            5,
            "such a form already",
            None,
        ),
        ("  form: { who: role:hrr }", "", 5, 16, "nobody holds a role 'hrr'", "did you mean hr"),
        ("  form: { who: everyone }", "  a: { type: text, from: item.id }", 7, 26, "only where a `poll`", None),
        (POLL, "  a: { type: text, from: item.idd }", 7, 26, "no 'idd'", "did you mean id"),
        (
            "  schedule: { cron: '0 9 * * 6', zone: UTC }",
            "  a: { type: text }",
            7,
            3,
            "nobody fills in a",
            "a default",
        ),
    ],
)
def test_what_is_wrong_with_a_start(  # noqa: PLR0917  a row of the table above
    start: str, fields: str, line: int, column: int, says: str, hint: str | None
) -> None:
    found = faults(start, fields, ("hr",))
    assert [(fault.line, fault.column) for fault in found] == [(line, column)], [str(fault) for fault in found]
    assert says in found[0].message
    assert hint is None or hint in (found[0].hint or "")


def test_a_poll_without_a_cursor_has_none_to_read() -> None:
    blocks = {**CATALOGUE}
    del blocks["thing.find"]
    start = "  poll: { uses: thing.pair, items: left, every: 5m, key: item.id, with: { x: '${{ poll.cursor }}' } }"
    assert any("gives no cursor" in fault.message for fault in faults(start))


FIELDS = "  name: { type: text, from: item.id }\n  owner: { type: text, from: item.owner.name, required: false }"


def test_each_item_brings_its_input_and_its_trigger_once() -> None:
    definition = read(POLL, FIELDS)
    [start] = definition.starts(PollStart)
    answer: dict[str, JsonValue] = {
        "things": [
            {"id": "a", "owner": {"name": "ana@example.com"}},
            {"id": "b"},
            {"id": "a"},
            {"id": None},
            {"id": True},
            {"size": 1},
            {"id": 7},
            "text",
        ],
        "cursor": "next",
    }
    found = read_answer(definition, start, find, answer)
    assert [item.given for item in found.items] == [
        {"name": "a", "owner": "ana@example.com"},
        {"name": "b"},
        {"name": 7},
    ]
    assert (found.keyless, found.cursor) == (4, "next")
    assert len({item.trigger_key for item in found.items}) == 3
    assert not any("ana" in item.trigger_key for item in found.items)


@pytest.mark.parametrize("cursor", [7, "x" * 10_001])
def test_a_cursor_that_cannot_be_kept_is_refused(cursor: JsonValue) -> None:
    definition = read(POLL)
    [start] = definition.starts(PollStart)
    with pytest.raises(Terminal):
        read_answer(definition, start, find, {"things": [], "cursor": cursor})


def test_a_block_that_has_changed_since_is_noticed() -> None:
    [start] = read(POLL).starts(PollStart)
    assert items_field(start, find) == "things"
    with pytest.raises(Terminal):
        items_field(start, look)
    with pytest.raises(Terminal):
        read_answer(read(POLL), start, find, {"things": None})


def test_a_failing_poll_is_tried_less_and_less_often_up_to_a_bound() -> None:
    [start] = read(POLL).starts(PollStart)
    assert [again_in_s(start, failures, None) for failures in (1, 2, 3, 4, 5, 99)] == [300, 600, 1200, 2400, 3600, 3600]
    assert again_in_s(start, 1, 5000.0) == 5000
    daily = start.model_copy(update={"every_s": 86_400.0})
    assert again_in_s(daily, 3, None) == 86_400
