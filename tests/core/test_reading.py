"""Reading workflow files: what a definition holds, and that every fault of form is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from regie.core.definition import ChildRun, Definition, ForEach, InputField, InputType, Kind, RetryRule
from regie.core.errors import DefinitionError, Fault
from regie.core.reading import read_definition
from regie.core.starts import TicketStart

OFFBOARD = (Path(__file__).parent / "offboard_employee.yaml").read_text(encoding="utf-8")
HEAD = "workflow: identity.do_it\ntitle: Do it\nowner: team:x\n"


def read(text: str) -> Definition:
    definition, _ = read_definition(text, "w.yaml")
    return definition


def faults(text: str) -> list[Fault]:
    with pytest.raises(DefinitionError) as caught:
        read_definition(text, "w.yaml")
    return caught.value.faults


def steps_faults(steps: str) -> list[Fault]:
    """The faults of a file whose steps begin in line 5."""
    return faults(f"{HEAD}steps:\n{steps}")


def test_the_offboarding_workflow_as_read() -> None:
    definition, positions = read_definition(OFFBOARD, "offboard.yaml")
    assert (definition.workflow, definition.domain, definition.owner) == (
        "identity.offboard_employee",
        "identity",
        "team:implementation",
    )
    assert definition.sla_finish_s == 4 * 3600
    assert definition.start == (TicketStart(system="jira", project="ITSM", request_type="Offboarding"),)
    assert definition.input == (
        InputField(name="employee", type=InputType.EMAIL, source="ticket.fields.employee"),
        InputField(name="last_day", type=InputType.DATE, source="ticket.fields.last_day"),
    )
    assert definition.source == OFFBOARD
    assert {place: (step.kind, step.uses) for place, step in definition.by_place.items()} == {
        "access": (Kind.USES, "identity.list_access"),
        "approval": (Kind.USES, "people.approve"),
        "close": (Kind.DO, None),
        "close/0": (Kind.USES, "identity.disable_account"),
        "close/1": (Kind.PARALLEL, None),
        "close/1/0": (Kind.USES, "identity.revoke_sessions"),
        "close/1/1": (Kind.USES, "identity.remove_from_group"),
        "close/on-error/0": (Kind.USES, "ticket.comment"),
        "close/on-error/1": (Kind.FAIL, None),
        "3": (Kind.USES, "ticket.comment"),
        "4": (Kind.USES, "ticket.close"),
        "5": (Kind.USES, "ticket.comment"),
    }
    close = definition.by_id["close"]
    assert close.condition == "steps.approval.decision == 'approved'"
    removal = definition.by_place["close/1/1"]
    assert removal.for_each == ForEach(variable="group", items="steps.access.groups", at_most=3)
    assert removal.arguments == {"user": "${{ input.employee }}", "group": "${{ group.id }}"}
    assert definition.by_place["close/on-error/1"].message == "Offboarding stopped"
    assert (removal.line, removal.column) == (32, 13)
    assert positions.of("close/1/1", "with", "group").column == 59


def test_every_word_of_a_step_is_read() -> None:
    definition = read(
        HEAD
        + """limit: 20
about: All of it.
tests: [{given: {x: 1}, expect: done}]
steps:
  - id: one
    if: true
    uses: a.b
    with: {x: [1, {y: "${{ input.x }}"}]}
    timeout: 90s
    retry: {attempts: 3, first: 2s, most: 1m}
    undo: a.c
  - wait: 2h
  - run: identity.other_thing
    with: {x: 1}
  - do:
      - id: inner
        end: All done
  - end:
  - if: false
    fail: "No: ${{ run.id }}"
  - for-each: x in input.list | sort
    at-most: 2
    parallel:
      - uses: a.b
    on-error:
      - end: Well
    undo: {uses: a.c, with: {x: 1}}
"""
    )
    one = definition.by_id["one"]
    assert (one.condition, one.timeout_s, one.undo) == ("true", 90, "a.c")
    assert one.retry == RetryRule(attempts=3, first_s=2, most_s=60)
    assert one.arguments == {"x": [1, {"y": "${{ input.x }}"}]}
    assert definition.limit == 20
    assert definition.tests == [{"given": {"x": 1}, "expect": "done"}]
    assert definition.by_place["1"].wait == "2h"
    assert definition.by_place["2"].run == ChildRun(workflow="identity.other_thing")
    assert definition.by_place["inner"].message == "All done"
    assert definition.by_place["4"].message is None
    assert definition.by_place["5"].message == "No: ${{ run.id }}"
    loop = definition.by_place["6"]
    assert loop.for_each == ForEach(variable="x", items="input.list | sort", at_most=2)
    assert [step.place for step in loop.walk()] == ["6", "6/0", "6/on-error/0"]
    assert loop.undo == {"uses": "a.c", "with": {"x": 1}}


def test_input_fields() -> None:
    definition = read(
        HEAD
        + """input:
  a: {type: text, title: A, required: false}
  b: {type: choice, one-of: [x, y], default: x}
  c: {type: integer, default: 3}
  d: {type: list, default: [p, q]}
  e: {type: datetime, default: "2026-11-30T17:00:00+01:00"}
  f: {type: boolean, default: false}
  g: {type: number, default: 1.5}
  h: {type: date, default: 2026-11-30}
steps:
  - end:
"""
    )
    assert [(field.name, field.required, field.default) for field in definition.input] == [
        ("a", False, None),
        ("b", True, "x"),
        ("c", True, 3),
        ("d", True, ["p", "q"]),
        ("e", True, "2026-11-30T17:00:00+01:00"),
        ("f", True, False),
        ("g", True, 1.5),
        ("h", True, "2026-11-30"),
    ]
    assert definition.input[1].one_of == ("x", "y")


def test_twelve_faults_of_form_are_all_named() -> None:
    planted = {
        "title: Offboard": "titel: Offboard",
        "finish: 4h": "finish: 4 h",
        "project: ITSM": "project: 5",
        "type: date": "type: dat",
        "id: access": "id: Access",
        "at-most: 3": "at-most: many",
        "group in steps": "group of steps",
        "error.message": "error.message-x",
        "- fail: Off": "- fial: Off",
        "!= 'approved'": "!== 'approved'",
        "uses: ticket.close": "uses: ticket.close\n    do: []",
    }
    text = OFFBOARD
    for old, new in planted.items():
        assert old in text
        text = text.replace(old, new, 1)
    assert [(fault.line, fault.column) for fault in faults(text)] == [
        (1, 1),
        (2, 1),
        (5, 16),
        (7, 36),
        (10, 21),
        (12, 9),
        (32, 23),
        (33, 22),
        (38, 79),
        (39, 9),
        (45, 5),
        (47, 35),
    ]


@pytest.mark.parametrize(
    ("steps", "line", "column", "says", "hint"),
    [
        ("  - uses: a.b\n    do:\n      - end:\n", 6, 5, "already has `uses`", None),
        ("  - id: x\n", 5, 5, "does not say what it does", "uses, do"),
        ("  - usse: a.b\n", 5, 5, "'usse' is not a word", "did you mean uses?"),
        ("  - uses: a.b\n    wiht: {}\n", 6, 5, "'wiht'", "did you mean with?"),
        ("  - uses: a.b\n    at-most: 3\n", 6, 5, "needs a `for-each`", None),
        ("  - end:\n    retry: {attempts: 2}\n", 6, 5, "`retry` does not go with `end`", None),
        ("  - do: []\n", 5, 9, "list of steps", None),
        ("  - do: a.b\n", 5, 9, "list of steps", None),
        ("  - uses: 5\n", 5, 11, "is a text", "quotes"),
        ("  - uses: jira\n", 5, 11, "noun.verb", None),
        ("  - uses: ${{ input.x }}\n", 5, 11, "as it stands", None),
        ("  - uses: a.b\n    with: [1]\n", 6, 11, "`with` is an object", None),
        ("  - uses: a.b\n    with: {x: '${{ a'}\n", 6, 16, "not closed", "quotes"),
        ('  - uses: a.b\n    with:\n      x: ${{ "a # b" }}\n', 7, 10, "not closed", "quotes"),
        ("  - uses: a.b\n    with: {'${{ a }}': 1}\n", 6, 12, "name of a field", None),
        ('  - uses: a.b\n    with: {x: ["${{ a.b-c }}"]}\n', 6, 24, "snake_case", "b_c"),
        ("  - uses: a.b\n    if: ${{ input.x }}\n", 6, 9, "without ${{ }}", None),
        ("  - uses: a.b\n    if: 5\n", 6, 9, "true or false", None),
        ("  - uses: a.b\n    if: input.x =! 5\n", 6, 18, "unexpected", None),
        ("  - uses: a.b\n    if: >-\n      input.x\n      ** 5\n", 7, 7, r"**", None),
        ("  - uses: a.b\n    id: start\n", 6, 9, "word of the language", None),
        ("  - uses: a.b\n    id: steps\n", 6, 9, "word of the language", None),
        ("  - uses: a.b\n    id: on-call\n", 6, 9, "snake_case", None),
        ("  - uses: a.b\n    id: x\n  - uses: a.b\n    id: x\n", 8, 9, "twice, first in line 6", None),
        ("  - uses: a.b\n    for-each: steps in input.x\n", 6, 15, "word of the language", None),
        ("  - uses: a.b\n    for-each: loop in input.x\n", 6, 15, "word of the language", None),
        ("  - uses: a.b\n    for-each: X in input.x\n", 6, 15, "snake_case", None),
        ("  - uses: a.b\n    for-each: x in ${{ input.x }}\n", 6, 20, "without ${{ }}", None),
        ("  - uses: a.b\n    for-each: input.x\n", 6, 15, "name in expression", None),
        ("  - uses: a.b\n    for-each: x in [1]\n    at-most: 0\n", 7, 14, "from 1", None),
        ("  - uses: a.b\n    timeout: 5\n", 6, 14, "length of time", None),
        ("  - uses: a.b\n    timeout: 5 min\n", 6, 14, "length of time", None),
        ("  - uses: a.b\n    retry: 3\n", 6, 12, "`retry` is an object", None),
        ("  - uses: a.b\n    retry: {attempts: 1.5}\n", 6, 23, "whole number", None),
        ("  - wait: soon\n", 5, 11, "length of time", None),
        ("  - fail:\n", 5, 10, "a text that says why", None),
        ("  - run: other\n", 5, 10, "noun.verb", None),
        ("  - 5\n", 5, 5, "a step is an object", None),
    ],
)
def test_faults_of_a_step(steps: str, line: int, column: int, says: str, hint: str | None) -> None:
    found = steps_faults(steps)
    assert [(fault.line, fault.column) for fault in found] == [(line, column)]
    assert says in found[0].message
    assert hint is None or hint in (found[0].hint or "")


def test_a_loop_in_a_loop_needs_another_name() -> None:
    steps = "  - for-each: x in input.a\n    do:\n      - for-each: x in input.b\n        uses: a.b\n"
    (fault,) = steps_faults(steps)
    assert (fault.line, fault.column) == (7, 19)


@pytest.mark.parametrize(
    ("lines", "line", "column", "says"),
    [
        ("start: {webhook: {path: /x}}", 5, 9, "does not start runs by `webhook` yet"),
        ("start: {schedule: daily}", 5, 19, "is an object with the fields cron, zone"),
        ("start: {schedule: {cron: '30 7 * * 1-5'}}", 5, 19, "has no 'zone'"),
        ("start: {schedule: {cron: '30 25 * * *', zone: UTC}}", 5, 30, "'25' is no hour"),
        ("start: {schedule: {cron: '@daily', zone: UTC}}", 5, 27, "short names"),
        ("start: {schedule: {cron: '0 0 30 2 *', zone: UTC}}", 5, 31, "no such day"),
        ("start: {schedule: {cron: '0 7 * *', zone: UTC}}", 5, 27, "here are 4"),
        ("start: {schedule: {cron: '0 7 * * *', zone: Amsterdam}}", 5, 45, "not a time zone"),
        ("start: {schedule: {cron: '0 7 * * *', zone: UTC, missed: once}}", 5, 58, "no way to treat missed runs"),
        ("start: {schedule: {cron: '0 7 * * *', zone: UTC, spraed: 5m}}", 5, 50, "'spraed' is not a word"),
        ("start: {poll: {uses: a.b, every: 5m}}", 5, 15, "has no 'key'"),
        ("start: {poll: {uses: ab, every: 5m, key: item.id}}", 5, 22, "of the form noun.verb"),
        ("start: {poll: {uses: a.b, every: 1s, key: item.id}}", 5, 34, "at most every 10 s"),
        ("start: {poll: {uses: a.b, every: 5m, key: id}}", 5, 43, "not a path"),
        ("start: {poll: {uses: a.b, every: 5m, key: item.id, with: [x]}}", 5, 58, "`with` is an object"),
        ("start: {form: {who: hr}}", 5, 21, "who may use the form"),
        ("start: [{form: {who: everyone}, api: {}}]", 5, 9, "of one kind"),
        ("start: [{api: {}}]", 5, 10, "does not start runs by `api` yet"),
        ("start: {tiket: {}}", 5, 9, "'tiket' is not a word"),
        ("start: {ticket: {system: jira}}", 5, 17, "has no 'project'"),
        ("start: [ticket]", 5, 9, "is an object"),
        ("sla: {finish: soon}", 5, 15, "length of time"),
        ("sla: {finsh: 4h}", 5, 6, "has no 'finish'"),
        ("limit: 0", 5, 8, "from 1"),
        ("limit: '5'", 5, 8, "from 1"),
        ("input: [a]", 5, 8, "is an object"),
        ("input: {A: {type: text}}", 5, 9, "snake_case"),
        ("input: {a: {type: txt}}", 5, 19, "no input type 'txt'"),
        ("input: {a: {}}", 5, 12, "has no 'type'"),
        ("input: {a: {type: choice}}", 5, 12, "no `one-of`"),
        ("input: {a: {type: text, one-of: [x]}}", 5, 25, "does not go with"),
        ("input: {a: {type: choice, one-of: [x], default: y}}", 5, 49, "not of the type choice"),
        ("input: {a: {type: boolean, default: 'yes'}}", 5, 37, "not of the type boolean"),
        ("input: {a: {type: date, default: 2026-13-01}}", 5, 34, "not of the type date"),
        ("input: {a: {type: datetime, default: 2026-11-30T17:00}}", 5, 38, "not of the type datetime"),
        ("input: {a: {type: email, default: nobody}}", 5, 35, "not of the type email"),
        ("input: {a: {type: text, from: fields.x}}", 5, 31, "not a path"),
        ("input: {a: {type: text, required: 1}}", 5, 35, "true or false"),
        ("abuot: x", 5, 1, "'abuot' is not a word"),
        ("about: ${{ x }}", 5, 8, "as it stands"),
    ],
)
def test_faults_of_a_file(lines: str, line: int, column: int, says: str) -> None:
    found = faults(f"{HEAD}steps: [{{end: x}}]\n{lines}\n")
    assert (line, column) in [(fault.line, fault.column) for fault in found]
    assert says in found[0].message


def test_what_a_file_needs() -> None:
    assert [fault.message for fault in faults("about: x")] == [
        f"a workflow file has no '{word}'" for word in ("workflow", "title", "owner", "steps")
    ]
    for text in ("", "- a", "x"):
        assert "a workflow file is an object" in faults(text)[0].message
    assert "domain.verb_object" in faults(HEAD.replace("identity.do_it", "Offboard") + "steps: [{end: x}]")[0].message


def test_positions_of_quoted_folded_and_plain_expressions() -> None:
    steps = """  - uses: a.b
    with:
      a: ${{ x.y-z }}
      b: "Hello ${{ x.y-z }}"
      c: >
        Hello there,
        ${{ x.y-z }}
      d: |
        Hello

        ${{ x.y }} ${{ x.y-z }}
"""
    assert [(fault.line, fault.column) for fault in steps_faults(steps)] == [(7, 17), (8, 24), (11, 16), (15, 27)]
