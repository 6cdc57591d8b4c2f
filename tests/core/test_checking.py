"""Checking definitions: blocks, arguments, references, approvals; no mutation slips a dead reference through."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from regie.core.approval import ApprovalArguments, ApprovalOutcome
from regie.core.block import Block, Context, block, interpreted
from regie.core.capabilities import identity
from regie.core.capabilities import ticket as tickets
from regie.core.capability import Record
from regie.core.checking import check, validate
from regie.core.definition import Definition
from regie.core.errors import DefinitionError, Fault
from regie.core.reading import read_definition

OFFBOARD = (Path(__file__).parent / "offboard_employee.yaml").read_text(encoding="utf-8")
SETTINGS: dict[str, JsonValue] = {
    "manager_answers_within": "8h",
    "officer_answers_within": "4h",
    "remind_after": "2h",
    "most": 5,
    "areas": ["soc"],
    "soon": "soon",
}
ROLES = {"security-officer", "team-lead"}


class Odd(Record):
    """A record with every kind of field."""

    count: int
    ok: bool
    name: str
    people: list[tickets.Person]
    note: str | None = None


@block("identity.list_access", needs=(identity.LIST_ACCESS,))
async def list_access(ctx: Context, user: str) -> identity.Access:
    """Look up access.

    Example:
        uses: identity.list_access
    """
    return await ctx.call(identity.LIST_ACCESS, identity.UserQuery(user=user))


@block("identity.disable_account", needs=(identity.DISABLE_ACCOUNT,))
async def disable_account(ctx: Context, user: str) -> identity.AccountState:
    """Switch off.

    Example:
        uses: identity.disable_account
    """
    return await ctx.change(identity.DISABLE_ACCOUNT, identity.UserQuery(user=user))


@block("identity.revoke_sessions", needs=(identity.REVOKE_SESSIONS,))
async def revoke_sessions(ctx: Context, user: str) -> identity.SessionState:
    """End sessions.

    Example:
        uses: identity.revoke_sessions
    """
    return await ctx.change(identity.REVOKE_SESSIONS, identity.UserQuery(user=user))


@block("identity.remove_from_group", needs=(identity.REMOVE_FROM_GROUP,))
async def remove_from_group(ctx: Context, user: str, group: str) -> identity.MembershipState:
    """Take out of a group.

    Example:
        uses: identity.remove_from_group
    """
    return await ctx.change(identity.REMOVE_FROM_GROUP, identity.Membership(user=user, group=group))


@block("ticket.comment", needs=(tickets.COMMENT,))
async def comment(ctx: Context, ticket: str, text: str) -> tickets.CommentState:
    """Comment.

    Example:
        uses: ticket.comment
    """
    return await ctx.change(tickets.COMMENT, tickets.Comment(ticket=ticket, text=text))


@block("ticket.close", needs=(tickets.CLOSE,))
async def close(ctx: Context, ticket: str) -> tickets.TicketState:
    """Close.

    Example:
        uses: ticket.close
    """
    return await ctx.change(tickets.CLOSE, tickets.Closing(ticket=ticket))


@block("test.odd")
async def odd(  # noqa: PLR0917  one argument of every kind
    ctx: Context,
    name: str = "",
    count: int = 0,
    ok: bool = False,  # noqa: FBT001, FBT002  a block's argument is given by name
    areas: list[str] | None = None,
    person: tickets.Person | None = None,
    anything: JsonValue = None,
) -> Odd:
    """Take everything.

    Example:
        uses: test.odd
    """
    return Odd(count=count, ok=ok, name=name, people=[])


APPROVE = interpreted(
    "people.approve",
    arguments=ApprovalArguments,
    gives=ApprovalOutcome,
    doc="Ask people.\n\nExample:\n    uses: people.approve",
)
CATALOGUE: dict[str, Block] = {
    entry.name: entry
    for entry in (list_access, disable_account, revoke_sessions, remove_from_group, comment, close, odd, APPROVE)
}

HEAD = """workflow: identity.do_it
title: Do it
owner: team:x
input:
  who: {type: email}
  why: {type: text, required: false}
  many: {type: integer}
  sure: {type: boolean}
  list: {type: list}
  kind: {type: choice, one-of: [leaver, mover]}
steps:
"""
FIRST = HEAD.count("\n") + 1
"""The line in which the steps of a small workflow begin."""


def accept(text: str) -> Definition:
    return validate(text, "w.yaml", CATALOGUE, SETTINGS, ROLES)


def faults(text: str) -> list[Fault]:
    with pytest.raises(DefinitionError) as caught:
        accept(text)
    return caught.value.faults


def only(steps: str) -> Fault:
    (fault,) = faults(HEAD + steps)
    return fault


def use(expression: str, *, argument: str = "anything") -> str:
    """A step that reads something."""
    return f'  - uses: test.odd\n    with: {{ {argument}: "${{{{ {expression} }}}}" }}\n'


ACCESS = '  - id: access\n    uses: identity.list_access\n    with: { user: "${{ input.who }}" }\n'


def test_the_offboarding_workflow_is_clean_and_quick() -> None:
    accept(OFFBOARD)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        definition = accept(OFFBOARD)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.1
    assert definition.workflow == "identity.offboard_employee"


def test_check_says_the_same_as_validate() -> None:
    definition, positions = read_definition(OFFBOARD, "w.yaml")
    assert check(definition, positions, CATALOGUE, SETTINGS, None) == []
    assert check(definition, positions, CATALOGUE, {}, None) != []


def test_ten_planted_faults_of_both_kinds_are_all_named() -> None:
    planted = [
        ("title: Offboard an", "titel: Offboard an", 2, 1),
        ("type: date", "type: dat", 10, 21),
        ("uses: identity.revoke_sessions", "uses: identity.revoke_sesions", 30, 19),
        ("${{ steps.access.display_name }}", "${{ steps.acess.display_name }}", 18, 30),
        ("role:security-officer", "rol:security-officer", 22, 18),
        ("settings.officer_answers_within", "settings.oficer_answers_within", 22, 55),
        ("at-most: 3", "at-most: lots", 33, 22),
        ("${{ group.id }}", "${{ group.idd }}", 35, 64),
        ("${{ error.message }}", "${{ error.mesage }}", 38, 66),
        ("- fail: Offboarding", "- fial: Offboarding", 39, 9),
        ("uses: ticket.close\n    with: { ticket", "uses: ticket.close\n    with: { tickt", 45, 13),
        ("!= 'approved'", "!= 'aproved'", 46, 9),
    ]
    text = OFFBOARD
    for old, new, _, _ in planted:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    found = {(fault.line, fault.column) for fault in faults(text)}
    assert found >= {(line, column) for _, _, line, column in planted}
    # Beyond them only what follows at once: a title and an argument are missing now.
    assert found - {(line, column) for _, _, line, column in planted} == {(1, 1), (45, 11)}


@pytest.mark.parametrize(
    ("steps", "line", "column", "says", "hint"),
    [
        ("  - uses: test.od\n", 0, 11, "no block 'test.od'", "test.odd"),
        ("  - uses: test.odd\n    with: {nam: x}\n", 1, 12, "takes no argument 'nam'", "name"),
        ("  - uses: identity.list_access\n", 0, 5, "needs the argument 'user'", None),
        ("  - uses: identity.list_access\n    with: {}\n", 1, 11, "needs the argument 'user'", None),
        ("  - uses: test.odd\n    with: {count: many}\n", 1, 19, "whole number", None),
        ("  - uses: test.odd\n    with: {count: 1.5}\n", 1, 19, "whole number", None),
        ("  - uses: test.odd\n    with: {name: 5}\n", 1, 18, "a text belongs", "quotes"),
        ("  - uses: test.odd\n    with: {ok: 'true'}\n", 1, 16, "true or false", None),
        ("  - uses: test.odd\n    with: {areas: [a, 5]}\n", 1, 23, "a text belongs", "quotes"),
        ("  - uses: test.odd\n    with: {person: {id: a, nam: b}}\n", 1, 20, "'display_name' is missing", None),
        (use("input.who", argument="count"), 1, 20, "a text is given where a number", None),
        (use("input.sure", argument="name"), 1, 19, "a boolean is given where a text", None),
        (use("input.list", argument="name"), 1, 19, "a list is given where a text", None),
        (use("[1]", argument="areas"), 1, 20, "a number is given where a text", None),
        (use("{'id': 'a'}", argument="person"), 1, 21, "no field 'display_name'", None),
        ("  - uses: test.odd\n    with: {name: 'x ${{ input.sure }}'}\n", 1, 25, "inside a text", None),
        ("  - uses: test.odd\n    with: {count: 'x ${{ input.who }}'}\n", 1, 19, "a text is given", None),
        (
            "  - uses: test.odd\n    with: {person: {id: '${{ input.who }}'}}\n",
            1,
            20,
            "'display_name' is missing",
            None,
        ),
        ("  - fail: '${{ input.list }}'\n", 0, 11, "a list is given", None),
    ],
)
def test_blocks_and_arguments(steps: str, line: int, column: int, says: str, hint: str | None) -> None:
    found = faults(HEAD + steps)[0]
    assert (found.line, found.column) == (FIRST + line, column)
    assert says in found.message
    assert hint is None or hint in (found.hint or "")


@pytest.mark.parametrize(
    "steps",
    [
        use("input.many", argument="count"),
        use("input.why", argument="name"),
        use("settings.areas", argument="areas"),
        use("[input.who, 'x']", argument="areas"),
        use("{'id': 'a', 'display_name': input.who}", argument="person"),
        use("settings.most + input.many * 2 - 1", argument="count"),
        use("'a' if input.sure else input.who", argument="name"),
        use("run.ticket ~ run.id ~ run.workflow ~ run.tenant ~ run.domain ~ run.requester ~ run.report"),
        use("'dry' if run.dry else 'wet'"),
        use("run.given | first | default('') | trim"),
        use("input.list | first | default('x')", argument="name"),
        use("input.kind == 'leaver' and input.many > 3 or not input.sure"),
        use("input.who in input.list"),
        use("input"),
        ACCESS + use("steps.access.groups[0].name ~ steps.access.outcome", argument="name"),
        ACCESS + use("steps['access']['groups'] | length", argument="count"),
        ACCESS + use("steps.access"),
    ],
)
def test_what_is_right(steps: str) -> None:
    accept(HEAD + steps)


@pytest.mark.parametrize(
    ("expression", "offset", "says", "hint"),
    [
        ("inptu.who", 0, "nothing named 'inptu'", "input"),
        ("input.hwo", 0, "no field 'hwo'", "who"),
        ("settings.mots", 0, "no field 'mots'", "most"),
        ("run.tikcet", 0, "no field 'tikcet'", "ticket"),
        ("steps.acces.groups", 0, "no step 'acces'", "access"),
        ("steps.access.gruops", 0, "gives no field 'gruops'", "groups"),
        ("steps.access.groups[0].nme", 0, "no field 'nme'", "name"),
        ("steps.access.groups.name", 0, "no field 'name' in a list", None),
        ("steps.access.user.name", 0, "no field 'name' in a text", None),
        ("steps.access.user[0]", 0, "where a list belongs", None),
        ("steps.acces.groups | default([])", 0, "no step 'acces'", None),
        ("steps.acces.groups is defined", 0, "no step 'acces'", None),
        ("steps.access.gruops | default([])", 0, "gives no field", None),
        ("steps | length", 0, "alone", None),
        ("steps[input.who].user", 0, "written out", None),
        ("[steps.access.nope]", 1, "no field 'nope'", None),
        ("error.message", 0, "only in an `on-error`", None),
        ("who", 0, "nothing named", None),
        ("secrets.jira", 0, "nothing named 'secrets'", None),
        ("self", 0, "'self'", None),
        ("input.many == '3'", 0, "never equals", None),
        ("input.sure == 'true'", 0, "never equals", None),
        ("1 == true", 0, "never equals", None),
        ("input.kind == 'lever'", 0, "never 'lever'", "leaver"),
        ("input.kind in ['lever']", 14, "never 'lever'", "leaver"),
        ("input.many < 'a'", 0, "no order", None),
        ("input.many in input.list", 14, "never equals", None),
        ("input.many in input.who", 14, "never in", None),
        ("input.who and input.sure", 0, "where a boolean belongs", None),
        ("not input.who", 4, "where a boolean belongs", None),
        ("1 if input.who else 2", 5, "where a boolean belongs", None),
        ("input.who + 1", 0, "cannot work", None),
        ("'x' * 3", 0, "cannot work", None),
        ("-input.who", 1, "where a number belongs", None),
        ("input.who ~ input.sure", 12, "where a text or a number", None),
        ("input.many | length", 0, "belongs", None),
        ("input.many | upper", 0, "belongs", None),
        ("input.who | join", 0, "where a list belongs", None),
        ("steps.access.groups | join", 0, "its items", None),
        ("steps.access.groups | sort", 0, "its items", None),
    ],
)
def test_references_and_types(expression: str, offset: int, says: str, hint: str | None) -> None:
    found = only(ACCESS + use(expression).replace('"', "'" if "'" not in expression else '"'))
    assert (found.line, found.column) == (FIRST + 4, 28 + offset)
    assert says in found.message
    assert hint is None or hint in (found.hint or "")


def test_if_must_be_a_boolean() -> None:
    for condition in ("input.who", "input.many", "input.list", "('')", "input.who | upper"):
        assert "must be true or false" in only(f"  - if: {condition}\n    end: x\n").message
    for condition in ("input.sure", "true", "input.who == 'x'", "not input.sure", "input.who is none"):
        accept(HEAD + f"  - if: {condition}\n    end: x\n")


ONE_HERE = "      - id: one\n        uses: test.odd\n"
ONE_IN_DO = "  - do:\n" + ONE_HERE
ON_ERROR = "  - uses: test.odd\n    on-error:\n"
PARALLEL = """  - parallel:
      - id: one
        uses: test.odd
      - id: two
        uses: test.odd
        with: { anything: "${{ steps.%s }}" }
"""


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ("  - id: me\n    uses: test.odd\n    with: {anything: '${{ steps.me.name }}'}\n", "its own result"),
        ("  - id: me\n    if: steps.me.outcome == 'done'\n    end: x\n", "its own result"),
        (use("steps.access.user") + ACCESS, "comes later"),
        (
            "  - id: all\n    do:\n      - uses: test.odd\n        with: {anything: '${{ steps.all.outcome }}'}\n",
            "is not over",
        ),
        ("  - do:\n      - id: one\n        uses: test.odd\n    if: steps.one.ok\n", "comes later"),
        (PARALLEL % "one.name", "at the same time"),
        (PARALLEL % "one.outcome", "at the same time"),
        (
            "  - uses: test.odd\n    on-error:\n      - id: one\n        uses: test.odd\n" + use("steps.one.name"),
            "only in an `on-error`",
        ),
        (
            "  - do:\n      - id: one\n        uses: test.odd\n    on-error:\n      - fail: '${{ steps.one.name }}'\n",
            "before the failure",
        ),
        (
            "  - for-each: x in input.list\n    do:\n      - id: one\n        uses: test.odd\n" + use("steps.one.name"),
            "one for each item",
        ),
    ],
)
def test_only_what_is_over_can_be_read(steps: str, says: str) -> None:
    assert says in only(steps).message


@pytest.mark.parametrize(
    "steps",
    [
        "  - parallel:\n      - id: one\n        uses: test.odd\n" + use("steps.one.name"),
        ONE_IN_DO + "      - uses: test.odd\n        with: {name: '${{ steps.one.name }}'}\n",
        ONE_IN_DO + use("steps.one.name"),
        "  - id: all\n    do:\n      - uses: test.odd\n" + use("steps.all.outcome"),
        ON_ERROR + ONE_HERE + "      - fail: '${{ steps.one.name }} ${{ error.kind }} ${{ error.step }}'\n",
        ACCESS + ON_ERROR + "      - fail: '${{ steps.access.user }}'\n",
        "  - for-each: x in input.list\n    do:\n" + ONE_HERE + "      - fail: '${{ steps.one.name }}${{ x }}'\n",
    ],
)
def test_what_is_over_can_be_read(steps: str) -> None:
    accept(HEAD + steps)


LOOP = (
    ACCESS
    + """  - id: each
    for-each: group in steps.access.groups
    uses: test.odd
    with: { name: "${{ group.name }}" }
"""
)


def test_a_loop_gives_a_list_of_outcomes_and_outputs() -> None:
    accept(HEAD + LOOP + use("steps.each.items[0].output.name ~ steps.each.items[0].outcome ~ steps.each.outcome"))
    assert "gives no field 'name'" in only(LOOP + use("steps.each.name")).message
    assert "no field 'nme'" in only(LOOP + use("steps.each.items[0].output.nme")).message
    assert "it is never 'don'" in only(LOOP + use("steps.each.items[0].outcome == 'don'")).message
    over_items = (
        "  - for-each: item in steps.each.items\n    uses: test.odd\n    with: {name: '${{ item.output.no }}'}\n"
    )
    assert "no field 'no'" in only(LOOP + over_items).message


def test_loop_variables_are_typed_and_local() -> None:
    assert "no field 'nme'" in only(LOOP.replace("group.name", "group.nme")).message
    assert "nothing named 'group'" in only(LOOP + use("group.name")).message
    assert "a list" in only("  - for-each: x in input.who\n    uses: test.odd\n").message
    on_error = LOOP + "    on-error:\n      - fail: '${{ group.name }}'\n"
    assert "nothing named 'group'" in only(on_error).message
    own_if = LOOP + "    if: group.assigned\n"
    assert "nothing named 'group'" in only(own_if).message
    own_list = LOOP.replace("in steps.access.groups", "in group.x")
    assert "nothing named 'group'" in faults(HEAD + own_list)[0].message


MAYBE = "  - id: maybe\n    if: input.sure and input.many > 3\n    uses: test.odd\n"


@pytest.mark.parametrize(
    "steps",
    [
        MAYBE + use("steps.maybe.name | default('x')"),
        MAYBE + use("steps.maybe.outcome"),
        MAYBE + use("steps.maybe"),
        MAYBE + use("steps.maybe.name is defined and steps.maybe.name == 'x'"),
        MAYBE + use("steps.maybe.outcome == 'done' and steps.maybe.name == 'x'"),
        MAYBE + use("steps.maybe.name if steps.maybe.outcome == 'done' else 'x'"),
        MAYBE + use("steps.maybe.name if steps.maybe.outcome != 'skipped' else 'x'"),
        MAYBE + use("steps.maybe.name") + "    if: steps.maybe.outcome == 'done'\n",
        MAYBE + use("steps.maybe.name") + "    if: input.sure and input.many > 3 and input.who == 'x'\n",
        MAYBE + "  - if: input.many > 3\n    do:\n      - if: input.sure\n        fail: '${{ steps.maybe.name }}'\n",
        MAYBE + "  - if: steps.maybe.outcome == 'done'\n    for-each: x in steps.maybe.people\n    uses: test.odd\n",
        "  - if: input.sure\n    do:\n      - id: one\n        uses: test.odd\n      - fail: '${{ steps.one.name }}'\n",
        "  - id: one\n    uses: test.odd\n    on-error:\n      - fail: no\n" + use("steps.one.name"),
        "  - id: one\n    uses: test.odd\n    on-error:\n      - uses: test.odd\n"
        + use("steps.one.name | default('x')"),
    ],
)
def test_what_may_be_missing_is_guarded(steps: str) -> None:
    accept(HEAD + steps)


@pytest.mark.parametrize(
    "steps",
    [
        MAYBE + use("steps.maybe.name"),
        MAYBE + use("steps.maybe.people[0].id | default('x')"),
        MAYBE + use("steps.maybe.name") + "    if: input.sure\n",
        MAYBE + use("steps.maybe.name") + "    if: input.sure or input.many > 3\n",
        MAYBE + use("steps.maybe.name if steps.maybe.outcome == 'failed' else 'x'"),
        MAYBE + use("'x' if steps.maybe.outcome == 'done' else steps.maybe.name"),
        MAYBE + use("steps.maybe.name == 'x' and steps.maybe.outcome == 'done'"),
        MAYBE + "  - for-each: x in steps.maybe.people\n    uses: test.odd\n",
        "  - if: input.sure\n    do:\n      - id: one\n        uses: test.odd\n" + use("steps.one.name | default('x')"),
        "  - if: input.sure\n    do:\n      - id: one\n        uses: test.odd\n" + use("steps.one.outcome"),
        "  - id: one\n    uses: test.odd\n    on-error:\n      - uses: test.odd\n" + use("steps.one.name"),
        "  - id: one\n    uses: test.odd\n    on-error:\n      - if: input.sure\n        fail: x\n"
        + use("steps.one.name"),
    ],
)
def test_what_may_be_missing_is_a_fault(steps: str) -> None:
    assert "may have no result" in only(steps).message


CLOSING = "  - id: it\n    uses: ticket.close\n    with: { ticket: T-1 }\n    undo: "


@pytest.mark.parametrize("undo", ["ticket.close", "{uses: ticket.comment, with: {ticket: T-1, text: Sorry}}"])
def test_taking_back_that_is_right(undo: str) -> None:
    accept(HEAD + CLOSING + undo + "\n")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (CLOSING + "ticket.nope\n", "there is no block 'ticket.nope'"),
        (CLOSING + "ticket.comment\n", "block ticket.comment needs the argument 'text'"),
        (CLOSING + "identity.disable_account\n", "block identity.disable_account takes no argument 'ticket'"),
        (CLOSING + "{uses: ticket.nope, with: {x: '${{ input.nope }}'}}\n", "there is no block 'ticket.nope'"),
        (CLOSING + "{uses: ticket.close, with: {x: '${{ input.nope }}', ticket: T-1}}\n", "no argument 'x'"),
        (CLOSING + "{uses: ticket.close, with: {ticket: '${{ steps.it.status }}'}}\n", "cannot read its own result"),
        (CLOSING + "test.odd\n", "test.odd only reads: it undoes nothing"),
        ("  - uses: test.odd\n    undo: ticket.close\n", "test.odd only reads: there is nothing to undo"),
        ("  - do:\n      - uses: test.odd\n    undo: test.odd\n", "`undo` does not go with `do`"),
    ],
)
def test_taking_back_that_is_wrong(steps: str, message: str) -> None:
    assert any(message in fault.message for fault in faults(HEAD + steps))


@pytest.mark.parametrize(
    "wait", ["2h", "${{ settings.manager_answers_within }}", "{until: '2026-11-30'}", "{until: '${{ input.day }}'}"]
)
def test_waiting_that_is_right(wait: str) -> None:
    head = HEAD.replace("input:\n", "input:\n  day: { type: date }\n")
    accept(head + f"  - id: pause\n    wait: {wait}\n" + use("steps.pause.outcome"))


def test_waiting_for_an_event_that_is_right() -> None:
    wait = "{event: contract.sign, where: {who: '${{ settings.soon }}', pages: 2}, within: 8h}"
    accept(
        HEAD
        + f"  - id: it\n    wait: {wait}\n  - if: not steps.it.timed_out\n    fail: '${{{{ steps.it.event.why }}}}'\n"
    )
    assert (
        "never equals" in only(f"  - id: it\n    wait: {wait}\n  - if: steps.it.timed_out == 'yes'\n    end:\n").message
    )


@pytest.mark.parametrize(
    ("wait", "message"),
    [
        ("'${{ settings.nope }}'", "nope"),
        ("'${{ input.sure }}'", "a boolean is given where a text is wanted"),
        ("{until: '${{ input.sure }}'}", "a boolean is given where a text is wanted"),
        ("{until: tomorrow}", "is not a moment"),
        ("{until: '2026-11-31'}", "is not in the calendar"),
        ("{until: '2026-11-30T10:00:00'}", "is not a moment"),
        ("{}", "`wait` has no 'until' and no 'event'"),
        ("{event: {}, within: 1h}", "`event` is a text"),
        ("{event: signed, within: 1h}", "not a name of the form noun.verb"),
        ("{event: contract.sign}", "has no 'within'"),
        ("{event: contract.sign, within: soon}", "is not a length of time"),
        ("{event: contract.sign, within: '${{ input.sure }}'}", "a boolean is given where a text is wanted"),
        ("{event: contract.sign, within: 1h, until: '2026-11-30'}", "`until` does not go with `event`"),
        ("{event: contract.sign, within: 1h, where: [who]}", "`where` is an object"),
        ("{event: contract.sign, within: 1h, where: {'a b': 1}}", "'a b' is no name of a field"),
        ("{event: contract.sign, within: 1h, where: {who: '${{ input.nope }}'}}", "no field 'nope'"),
        ("{until: '2026-11-30', within: 1h}", "`within` goes with `event` only"),
        ("{untill: '2026-11-30'}", "'untill' is not a word of `wait`"),
        ("[]", "length of time"),
    ],
)
def test_waiting_that_is_wrong(wait: str, message: str) -> None:
    assert any(message in fault.message for fault in faults(HEAD + f"  - wait: {wait}\n"))


@pytest.mark.parametrize("last", ["fail: x", "end: x"])
def test_what_is_never_reached(last: str) -> None:
    assert "never reached" in only(f"  - {last}\n  - uses: test.odd\n  - uses: test.odd\n").message
    assert "never reached" in only(f"  - do:\n      - {last}\n      - uses: test.odd\n").message
    accept(HEAD + f"  - if: input.sure\n    {last}\n  - uses: test.odd\n")
    accept(HEAD + f"  - parallel:\n      - {last}\n      - uses: test.odd\n")


def test_where_input_comes_from() -> None:
    assert (
        "no field 'feilds'" in faults(OFFBOARD.replace("ticket.fields.employee", "ticket.feilds.employee"))[0].message
    )
    accept(OFFBOARD.replace("ticket.fields.employee", "ticket.reporter.email"))


# --- approvals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "says"),
    [
        ("covers: [close]", "covers: [clsoe]", 19, 16, "no step 'clsoe'"),
        ("covers: [close]", "covers: [access, close]", 19, 16, "does not come after"),
        ("covers: [close]", "covers: [approval, close]", 19, 16, "does not come after"),
        ("covers: [close]", 'covers: ["${{ input.employee }}", close]', 19, 16, "written out"),
        ("covers: [close]", "covers: \"${{ ['close'] }}\"", 19, 15, "written out"),
        ("covers: [close]", "covers: []", 27, 9, "does not cover"),
        ('within: "${{ settings.officer_answers_within }}"', "within: soon", 22, 51, "length of time"),
        (
            'within: "${{ settings.officer_answers_within }}"',
            'within: "${{ settings.soon }}"',
            22,
            51,
            "setting 'soon'",
        ),
        (
            'within: "${{ settings.officer_answers_within }}"',
            'within: "${{ settings.most }}"',
            22,
            51,
            "a number is given",
        ),
        ('within: "${{ settings.officer_answers_within }}"', "wihtin: 4h", 22, 43, "not known here"),
        ('who: "role:security-officer"', "who: role:officer", 22, 18, "role 'officer'"),
        ('who: "role:security-officer"', "who: security-officer", 22, 18, "whom to ask"),
        ('who: "role:security-officer"', 'who: "user:jan"', 22, 18, "whom to ask"),
        ('who: "role:security-officer"', 'who: "${{ input.employee }}"', 22, 18, "whom to ask"),
        ('who: "role:security-officer"', 'who: "manager_of"', 22, 18, "whom to ask"),
        ("otherwise: deny", "otherwise: approve", 23, 18, "'deny'"),
        ("== 'approved'\n    do:", "!= 'refused'\n    do:", 25, 9, "without a yes"),
        ("== 'approved'\n    do:", "!= 'timeout'\n    do:", 25, 9, "without a yes"),
        ("== 'approved'\n    do:", "!= 'approved'\n    do:", 27, 9, "does not ask for its yes"),
        ("    if: steps.approval.decision == 'approved'\n    do:", "    do:", 26, 9, "does not ask for its yes"),
        ("== 'approved'\n    do:", "== 'approved' or true\n    do:", 27, 9, "does not ask for its yes"),
        ('{ user: "${{ input.employee }}", group', '{ user: "${{ run.report }}", group', 35, 32, "goes on growing"),
    ],
)
def test_rules_of_approvals(old: str, new: str, line: int, column: int, says: str) -> None:
    assert old in OFFBOARD
    found = faults(OFFBOARD.replace(old, new))
    assert (line, column) in [(fault.line, fault.column) for fault in found if says in fault.message]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("== 'approved'\n    do:", "== 'approved' and steps.access.enabled\n    do:"),
        ("steps.approval.decision == 'approved'\n    do:", "true and 'approved' == steps.approval.decision\n    do:"),
        ('who: "role:security-officer"', "who: user:jan@example.com"),
        ('who: "role:security-officer"', 'who: "user:${{ input.employee }}"'),
        ('who: "role:security-officer"', "who: manager_of jan@example.com"),
        ('within: "${{ settings.officer_answers_within }}"', "within: 1h30m"),
    ],
)
def test_what_approvals_allow(old: str, new: str) -> None:
    assert old in OFFBOARD
    accept(OFFBOARD.replace(old, new))


def test_a_role_is_not_judged_while_nobody_says_who_holds_which() -> None:
    validate(OFFBOARD.replace("role:security-officer", "role:whoever"), "w.yaml", CATALOGUE, SETTINGS)


ASK = """  - id: yes_please
    uses: people.approve
    with: { question: May we?, covers: [%s], ask: [{ who: "role:team-lead", within: 4h }] }
"""
GUARD = "    if: steps.yes_please.decision == 'approved'\n"
OFF = '    uses: identity.disable_account\n    with: { user: "${{ input.who }}" }\n'


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        # The guard may stand on the step or on one around it; covering likewise.
        (ASK % "off" + "  - id: off\n" + GUARD + OFF, None),
        (ASK % "off" + "  - id: off\n" + OFF, "does not ask for its yes"),
        (ASK % "off" + "  - id: other\n" + GUARD + OFF + "  - id: off\n    uses: test.odd\n", "does not cover it"),
        # Before the approval, or in a branch beside it, there is nothing to wait for.
        ("  - id: off\n" + OFF + ASK % "", None),
        # What comes after in an `on-error` was in no plan.
        (
            ASK % "off" + "  - id: off\n" + GUARD + "    uses: test.odd\n    on-error:\n"
            '      - uses: identity.disable_account\n        with: { user: "${{ input.who }}" }\n      - fail: x\n',
            "does not cover it",
        ),
        (
            ASK % "" + "    on-error:\n"
            '      - uses: identity.disable_account\n        with: { user: "${{ input.who }}" }\n      - fail: x\n',
            "does not ask for its yes",
        ),
        # A covered step uses only what the approver could see; the decision itself only in `if`.
        (
            ACCESS + ASK % "off" + "  - id: off\n" + GUARD + OFF.replace("input.who", "steps.access.user"),
            None,
        ),
        (
            ASK % "off" + "  - id: off\n" + GUARD.rstrip("\n") + " and steps.yes_please.rung == 2\n" + OFF,
            "nobody knows yet who will answer",
        ),
        (
            ASK % "off" + ACCESS + "  - id: off\n" + GUARD + OFF.replace("input.who", "steps.access.user"),
            "step 'access' is not over before it",
        ),
        (
            ASK % "off" + "  - id: off\n" + GUARD + OFF.replace("input.who", "steps.yes_please.by"),
            "step 'yes_please' is not over before it",
        ),
        # A covered step in a loop is covered as a whole.
        (
            ASK % "off" + "  - for-each: x in input.list\n    do:\n      - id: off\n        uses: test.odd\n",
            "is in a loop",
        ),
        # The last approval is not the only one that counts, but one must.
        (
            ASK % "off" + (ASK % "").replace("yes_please", "second") + "  - id: off\n" + GUARD + OFF,
            None,
        ),
        (ASK.replace("id: yes_please\n    ", "") % "off" + "  - id: off\n" + OFF, "does not ask for its yes"),
    ],
)
def test_destructive_steps_after_an_approval(steps: str, says: str | None) -> None:
    if says is None:
        accept(HEAD + steps)
    else:
        assert says in only(steps).message


# --- mutations --------------------------------------------------------------------------------------------------------

PIECES = re.findall(r"\w+|\s+|[^\w\s]", OFFBOARD)
WORDS = sorted({piece for piece in PIECES if piece.isidentifier()})
RETYPED = ["5", "true", "null", "[]", "{}", "''", "1.5", "steps", "input", "group", "error", "|", "==", "x"]
PLACES = st.integers(0, len(PIECES) - 1)
LINES = OFFBOARD.splitlines(keepends=True)


PATHS = sorted(set(re.findall(r"\b(?:steps|input|settings|run|group|error)(?:\.\w+)+", OFFBOARD)))
IDS = ["access", "approval", "close", "end_it"]


@st.composite
def _with_other_paths(draw: st.DrawFn) -> str:
    """Some paths are replaced by others that are right elsewhere, some steps get an id or another place."""
    pieces = re.split(r"(\b(?:steps|input|settings|run|group|error)(?:\.\w+)+|\b(?:access|approval|close)\b)", OFFBOARD)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, (len(pieces) - 3) // 2)) * 2 + 1
        pieces[at] = draw(st.sampled_from(PATHS + IDS) | st.sampled_from(IDS).map(lambda name: f"steps.{name}.outcome"))
    return "".join(pieces)


@st.composite
def mutants(draw: st.DrawFn) -> str:
    """The offboarding workflow with a few tokens dropped, doubled, misspelt, retyped or swapped, or lines moved."""
    kind = draw(st.sampled_from(["tokens", "lines", "expressions"]))
    if kind == "expressions":
        return draw(_with_other_paths())
    if kind == "lines":
        lines = list(LINES)
        for _ in range(draw(st.integers(1, 2))):
            at, to = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
            lines[at], lines[to] = draw(
                st.sampled_from([(lines[to], lines[at]), (lines[at], lines[at]), ("", lines[to])])
            )
        text = "".join(lines)
        if draw(st.booleans()):
            return text
        pieces = re.findall(r"\w+|\s+|[^\w\s]", text)
    else:
        pieces = list(PIECES)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(pieces) - 1))
        piece = pieces[at]
        pieces[at] = draw(
            st.sampled_from(["", piece * 2, piece[1:], piece[:-1], piece[::-1], piece + "s"])
            | st.sampled_from(WORDS)
            | st.sampled_from(RETYPED)
        )
    return "".join(pieces)


SAMPLES: dict[str, dict[str, JsonValue]] = {
    "identity.list_access": {
        "id": "1",
        "user": "a@example.com",
        "display_name": "A",
        "enabled": True,
        "groups": [{"id": "g", "name": "G", "assigned": True}],
        "rule_groups": [{"id": "h", "name": "H", "assigned": False}],
    },
    "identity.disable_account": {"user": "a@example.com", "enabled": False},
    "identity.revoke_sessions": {"user": "a@example.com", "sessions": "revoked"},
    "identity.remove_from_group": {"user": "a@example.com", "group": "g", "member": False},
    "ticket.comment": {"ticket": "T-1", "comment": "1"},
    "ticket.close": {"ticket": "T-1", "status": "Done", "is_done": True},
    "people.approve": {"decision": "approved", "by": "b@example.com", "comment": "", "rung": 1},
}
PATH = re.compile(r"[A-Za-z_]\w*(?:\s*\.\s*\w+|\s*\[\s*(?:'\w+'|\d+)\s*\])*")
SYNTAX = {"and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None"}


def dead_references(text: str) -> Iterator[str]:
    """Paths that lead nowhere, found without the code under test: walk in order, look each path up in sample data."""
    document = yaml.safe_load(text)
    known: dict[str, JsonValue] = {
        "input": dict.fromkeys(document.get("input") or {}, "x"),
        "settings": dict(SETTINGS),
        "run": dict.fromkeys(["id", "workflow", "tenant", "domain", "ticket", "requester", "report"], "x"),
        "steps": {},
    }
    yield from _walk(document["steps"], known)


def _walk(steps: list[dict[str, object]], known: dict[str, JsonValue]) -> Iterator[str]:
    """Dead paths of a sequence; what each step gives is known behind it."""
    for step in steps:
        yield from _one(step, known)
        _learn(step, known)


def _one(step: Mapping[str, object], known: dict[str, JsonValue]) -> Iterator[str]:
    inside = dict(known, steps=dict(known["steps"]))  # type: ignore[arg-type]  # it is an object
    if "if" in step:
        yield from _dead(str(step["if"]), known)
    if "for-each" in step:
        variable, _, items = str(step["for-each"]).partition(" in ")
        yield from _dead(items, known)
        found = _look_up(items.strip(), known)
        inside[variable.strip()] = found[0] if isinstance(found, list) and found else ""
    for key in ("with", "fail", "end"):
        for written in _texts(step.get(key)):
            for expression in re.findall(r"\$\{\{(.*?)\}\}", written, re.DOTALL):
                yield from _dead(expression, inside)
    children = step.get("do")
    if isinstance(children, list):
        yield from _walk(children, dict(inside, steps=dict(inside["steps"])))  # type: ignore[arg-type]  # an object
    branches = step.get("parallel")
    for branch in branches if isinstance(branches, list) else []:
        yield from _one(branch, inside)
    handlers = step.get("on-error")
    if isinstance(handlers, list):
        error = dict.fromkeys(["kind", "message", "step"], "x")
        yield from _walk(handlers, dict(known, error=error, steps=dict(known["steps"])))  # type: ignore[arg-type]  # objects


def _learn(step: Mapping[str, object], known: dict[str, JsonValue]) -> None:
    steps = known["steps"]
    assert isinstance(steps, dict)
    gives: dict[str, JsonValue] = dict(SAMPLES.get(str(step.get("uses")), {}))
    if "for-each" in step:
        gives = {"items": [{"outcome": "done", "output": gives}]}
    if "id" in step:
        steps[str(step["id"])] = {**gives, "outcome": "done"}
    for key in ("do", "parallel"):
        children = step.get(key)
        for child in children if isinstance(children, list) and "for-each" not in step else []:
            _learn(child, known)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _dead(expression: str, known: Mapping[str, JsonValue]) -> Iterator[str]:
    bare = re.sub(r"(?<!\[)'[^']*'|\"[^\"]*\"", "''", expression)
    bare = re.sub(r"\|\s*\w+|\bis\s+(not\s+)?\w+", " ", bare)
    for path in PATH.findall(bare):
        if path not in SYNTAX and _look_up(path, known) is None:
            yield path


def _look_up(path: str, known: Mapping[str, JsonValue]) -> JsonValue:
    value: JsonValue = dict(known)
    for part in re.findall(r"\w+", path):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit():
            value = value[0]
        else:
            return None
    return value


def test_the_simple_resolver_knows_dead_references() -> None:
    assert list(dead_references(OFFBOARD)) == []
    for old, new in (
        ("steps.access.groups", "steps.access.gruops"),
        ("group.id", "groups.id"),
        ("run.report", "run.reprot"),
        ("covers: [close]", 'covers: ["${{ steps.close.outcome }}"]'),
        ("error.message", "errors.message"),
    ):
        assert list(dead_references(OFFBOARD.replace(old, new)))


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutants())
def test_no_mutant_crashes_or_slips_through(text: str) -> None:
    try:
        accept(text)
    except DefinitionError as error:
        places = [(fault.line, fault.column) for fault in error.faults]
    else:
        places = [(1, 1)]
        assert list(dead_references(text)) == []
    assert min(places) >= (1, 1)


@pytest.mark.slow
def test_every_token_dropped_once() -> None:
    accepted = 0
    for at in range(len(PIECES)):
        text = "".join([*PIECES[:at], *PIECES[at + 1 :]])
        if PIECES[at].isspace():
            continue
        try:
            accept(text)
        except DefinitionError:
            continue
        accepted += 1
        assert list(dead_references(text)) == []
    assert accepted
