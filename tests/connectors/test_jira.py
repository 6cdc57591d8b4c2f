"""What is particular to Jira: documents, markers, the way to a finished status, announcements."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from regie.connectors.jira.connector import Jira
from regie.connectors.jira.documents import document, plain_text
from regie.core.capabilities import ticket
from regie.core.errors import InvalidInput, NotFound, OutcomeUnknown, Terminal, Unavailable
from regie.core.plan import Change, NoChange, Receipt

from .conftest import Handler, Recorded

MARKER = "regie-0123456789abcdef0123"
SETTINGS: dict[str, JsonValue] = {"request_type_field": "customfield_10010"}
OPEN: JsonValue = {"name": "Open", "statusCategory": {"key": "new"}}


def answers(body: JsonValue) -> Handler:
    return lambda _: httpx2.Response(200, json=body)


def texts(node: Any) -> list[str]:
    own = [node["text"]] if "text" in node else []
    return own + [text for child in node.get("content", []) for text in texts(child)]


def kinds(node: Any) -> set[str]:
    return {node["type"]} | {kind for child in node.get("content", []) for kind in kinds(child)}


def test_plain_text_becomes_paragraphs_and_lists() -> None:
    made: Any = document("Done:\r\n- one\n- two\nand then\nthis\n\n\nEnd - really\n-\n")
    assert [node["type"] for node in made["content"]] == ["paragraph", "bulletList", "paragraph", "paragraph"]
    assert [child["type"] for child in made["content"][2]["content"]] == ["text", "hardBreak", "text"]
    assert texts(made) == ["Done:", "one", "two", "and then", "this", "End - really", "-"]


@given(text=st.text())
def test_every_text_makes_a_valid_document(text: str) -> None:
    made: Any = document(text, small=MARKER)
    assert kinds(made) <= {"doc", "paragraph", "bulletList", "listItem", "text", "hardBreak"}
    assert all(texts(made))
    assert texts(made)[-1] == MARKER
    assert {node["type"] for node in made["content"]} <= {"paragraph", "bulletList"}
    # Nothing a person wrote is lost but white space and the dashes of a list.
    kept = "".join("".join(texts(made)[:-1]).split())
    lines = (line[2:] if line.startswith("- ") and line[2:].strip() else line for line in text.splitlines())
    assert kept == "".join("".join(line.split()) for line in lines)


@given(text=st.text())
def test_what_was_written_reads_back_as_the_same_text(text: str) -> None:
    read = plain_text(document(text))
    assert plain_text(document(read)) == read
    assert document(read) == document(text)


def test_a_document_that_people_wrote_reads_as_far_as_it_is_text() -> None:
    panel: JsonValue = {
        "type": "panel",
        "content": [{"type": "paragraph", "content": [{"type": "text", "text": "inside"}]}],
    }
    emoji: JsonValue = {
        "type": "paragraph",
        "content": [{"type": "emoji", "attrs": {}}, {"type": "text", "text": "Łukasz"}],
    }
    assert (
        plain_text({"type": "doc", "version": 1, "content": [panel, emoji, {"type": "rule"}, 7]}) == "inside\n\nŁukasz"
    )
    assert plain_text(None) == plain_text("x") == plain_text([]) == ""


class Desk:
    """One issue's comments and transitions; a test sets what it finds."""

    def __init__(self) -> None:
        self.comments: list[JsonValue] = []
        self.status = ("Open", "new")
        self.offered: list[tuple[str, str, str]] = []
        self.answers: list[httpx2.Response] = []
        self.sent: list[Any] = []
        self.on_write: Callable[[], None] = lambda: None

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if request.method != "GET":
            self.sent.append(json.loads(request.content))
            self.on_write()
            return self.answers.pop(0) if self.answers else httpx2.Response(204)
        if path.endswith("/comment"):
            start, size = int(request.url.params["startAt"]), int(request.url.params["maxResults"])
            return httpx2.Response(
                200, json={"comments": self.comments[start : start + size], "total": len(self.comments)}
            )
        if path.endswith("/transitions"):
            found = [
                {"id": id_, "name": name, "to": {"name": name, "statusCategory": {"key": category}}}
                for id_, name, category in self.offered
            ]
            return httpx2.Response(200, json={"transitions": found})
        name, category = self.status
        status = {"name": name, "statusCategory": {"key": category}}
        return httpx2.Response(200, json={"key": "ITSM-1", "fields": {"summary": "S", "status": status}})


async def close(recorded: Callable[[str], Recorded], desk: Handler, *names: str) -> Receipt:
    write = recorded("jira").write("ticket.close", desk, closing_transitions=list(names))
    want = ticket.Closing(ticket="ITSM-1")
    change = write.plan(want, await write.observe(want, MARKER))
    assert isinstance(change, Change)
    answer = await write.apply(want, change, MARKER)
    assert isinstance(answer, Receipt)
    return answer


async def test_a_long_comment_is_cut_and_still_marked(recorded: Callable[[str], Recorded]) -> None:
    desk = Desk()
    desk.answers = [httpx2.Response(201, json={"id": "7"})]
    write = recorded("jira").write("ticket.comment", desk)
    want = ticket.Comment(ticket="ITSM-1", text="😀" * 40_000)
    change = write.plan(want, await write.observe(want, MARKER))
    assert isinstance(change, Change)
    await write.apply(want, change, MARKER)
    written = texts(desk.sent[0]["body"])
    # Jira's limit of a comment, in the units it counts.
    assert len("".join(written).encode("utf-16-le")) // 2 <= 32_767
    assert written[-1] == MARKER
    assert written[-2].endswith("longer than Jira takes)")
    assert change.fields[0].after == written[0]


async def test_our_comment_is_found_on_a_later_page(recorded: Callable[[str], Recorded]) -> None:
    desk = Desk()
    ours: JsonValue = {"id": "5", "body": document("Done.", small=MARKER)}
    desk.comments = [*({"id": str(number), "body": document("Hello.")} for number in range(100, 350)), ours]
    write = recorded("jira").write("ticket.comment", desk)
    want = ticket.Comment(ticket="ITSM-1", text="Done.")
    seen = await write.observe(want, MARKER)
    assert isinstance(write.plan(want, seen), NoChange)
    assert write.gives(want, seen) == ticket.CommentState(ticket="ITSM-1", comment="5")
    assert isinstance(write.plan(want, await write.observe(want, "regie-another")), Change)


async def test_a_comment_that_nobody_understands_is_not_passed_over(recorded: Callable[[str], Recorded]) -> None:
    desk = Desk()
    desk.comments = [{"body": "no id"}]
    write = recorded("jira").write("ticket.comment", desk)
    with pytest.raises(Terminal, match="shape"):
        await write.observe(ticket.Comment(ticket="ITSM-1", text="Done."), MARKER)


async def test_a_comment_on_no_ticket(recorded: Callable[[str], Recorded]) -> None:
    write = recorded("jira").write("ticket.comment", lambda _: httpx2.Response(404))
    with pytest.raises(NotFound, match="There is no ticket ITSM-1"):
        await write.observe(ticket.Comment(ticket="ITSM-1", text="Done."), MARKER)


@pytest.mark.parametrize("capability", ["ticket.open", "ticket.comment"])
async def test_a_made_thing_without_a_name_is_unknown(recorded: Callable[[str], Recorded], capability: str) -> None:
    write = recorded("jira").write(capability, lambda _: httpx2.Response(201, json={"self": "https://example.com"}))
    want = write.capability.wants.model_validate(
        {"queue": "ITSM", "title": "T", "text": "t"}
        if capability == "ticket.open"
        else {"ticket": "ITSM-1", "text": "t"}
    )
    change = Change(capability=capability, target="t", title="t", fields=())
    with pytest.raises(OutcomeUnknown):
        await write.apply(want, change, MARKER)


async def test_a_title_is_one_short_line(recorded: Callable[[str], Recorded]) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"issues": []})

    write = recorded("jira").write("ticket.open", handler)
    want = ticket.NewTicket(queue="ITSM", title="A\n\tlong  " + "title " * 100, text="")
    change = write.plan(want, await write.observe(want, MARKER))
    assert isinstance(change, Change)
    title = change.fields[0].after
    assert isinstance(title, str)
    assert title.startswith("A long title")
    assert len(title) <= 255
    foreseen = write.gives(want, write.foreseen(change, await write.observe(want, MARKER)))
    assert foreseen == ticket.TicketState(ticket="", status="", is_done=False)


async def test_the_only_way_out_is_taken(recorded: Callable[[str], Recorded]) -> None:
    desk = Desk()
    desk.offered = [("11", "Start progress", "indeterminate"), ("21", "Resolve", "done")]
    await close(recorded, desk)
    assert desk.sent == [{"transition": {"id": "21"}}]


async def test_two_ways_out_need_a_name(recorded: Callable[[str], Recorded]) -> None:
    desk = Desk()
    desk.offered = [("31", "Cancel request", "done"), ("21", "Resolve", "done")]
    with pytest.raises(Terminal, match="closing_transitions"):
        await close(recorded, desk)
    assert desk.sent == []
    await close(recorded, desk, "Resolve")
    assert desk.sent == [{"transition": {"id": "21"}}]


async def test_a_named_way_is_the_only_way(recorded: Callable[[str], Recorded]) -> None:
    desk = Desk()
    desk.offered = [("31", "Cancel request", "done")]
    with pytest.raises(Terminal, match="Cancel request"):
        await close(recorded, desk, "Resolve")
    assert desk.sent == []


async def test_a_way_in_a_circle_ends(recorded: Callable[[str], Recorded]) -> None:
    desk = Desk()
    desk.offered = [("11", "Start progress", "indeterminate"), ("12", "Stop progress", "new")]
    with pytest.raises(Terminal):
        await close(recorded, desk, "Start progress", "Stop progress")
    assert len(desk.sent) == 2


@pytest.mark.parametrize(("status", "error"), [(409, Unavailable), (400, Terminal)])
async def test_somebody_else_moves_the_ticket(
    recorded: Callable[[str], Recorded], status: int, error: type[Exception]
) -> None:
    desk = Desk()
    desk.offered = [("21", "Resolve", "done")]
    desk.answers = [httpx2.Response(status), httpx2.Response(status)]
    with pytest.raises(error):
        await close(recorded, desk)

    def closed_by_somebody() -> None:
        desk.status = ("Done", "done")

    desk.on_write = closed_by_somebody
    assert await close(recorded, desk) == Receipt(remote_id="ITSM-1")


async def test_what_a_field_holds_is_plain(recorded: Callable[[str], Recorded]) -> None:
    fields: dict[str, JsonValue] = {
        "summary": "S",
        "status": {"name": "Open", "statusCategory": {"key": "new"}},
        "project": {"key": "NEW"},
        "reporter": None,
        "customfield_1": [{"value": "laptop", "id": "1"}, {"value": "phone", "id": "2"}],
        "customfield_2": {"accountId": "7", "displayName": "Jan Janssen"},
        "customfield_3": 7.5,
    }
    mapped: JsonValue = {
        "devices": "customfield_1",
        "person": "customfield_2",
        "days": "customfield_3",
        "gone": "customfield_4",
    }

    def handler(request: httpx2.Request) -> httpx2.Response:
        # The issue moved to another project and has another key now.
        return httpx2.Response(200, json={"key": "NEW-1", "fields": fields})

    read = recorded("jira").read("ticket.read", handler, fields=mapped)
    found = await read.read(ticket.TicketQuery(ticket="ITSM-1"))
    assert (found.key, found.queue, found.request_type) == ("ITSM-1", "NEW", "")
    assert found.reporter == ticket.Person(id="", display_name="")
    assert found.fields == {
        "devices": ["laptop", "phone"],
        "person": {"accountId": "7", "displayName": "Jan Janssen"},
        "days": 7.5,
        "gone": None,
    }


def announced(**issue: JsonValue) -> JsonValue:
    return {"timestamp": 1, "webhookEvent": "jira:issue_created", "issue": {"key": "ITSM-12", **issue}}


async def test_a_reporter_who_hides_their_address_is_read_without_one(recorded: Callable[[str], Recorded]) -> None:
    hidden: JsonValue = {"accountId": "712020:ab", "displayName": "Pia Person", "emailAddress": None}
    fields: dict[str, JsonValue] = {"summary": "S", "status": OPEN, "project": {"key": "ITSM"}, "reporter": hidden}
    read = recorded("jira").read("ticket.read", answers({"key": "ITSM-1", "fields": fields}))
    found = await read.read(ticket.TicketQuery(ticket="ITSM-1"))
    assert found.reporter == ticket.Person(id="712020:ab", display_name="Pia Person", email="")


async def test_a_ticket_without_text_and_priority_is_updated(recorded: Callable[[str], Recorded]) -> None:
    fields: dict[str, JsonValue] = {"summary": None, "status": OPEN, "description": None, "priority": None}
    write = recorded("jira").write("ticket.update", answers({"key": "ITSM-1", "fields": fields}))
    want = ticket.TicketUpdate(ticket="ITSM-1", title="T", priority="High")
    change = write.plan(want, await write.observe(want, "m"))
    assert isinstance(change, Change)
    assert [(each.before, each.after) for each in change.fields] == [("", "T"), ("", "High")]


def test_a_new_issue_is_a_new_ticket() -> None:
    fields: JsonValue = {
        "summary": "Offboarding: Jan Janssen",
        "project": {"key": "ITSM"},
        "customfield_10010": {"requestType": {"id": "27", "name": "Offboarding"}},
    }
    event = Jira.inbound(SETTINGS, announced(fields=fields))
    assert event.model_dump() == {
        "kind": "ticket_created",
        "event": "jira:issue_created",
        "ticket": "ITSM-12",
        "project": "ITSM",
        "request_type": "Offboarding",
        "title": "Offboarding: Jan Janssen",
        "reason": "",
        "status": "",
        "by": "",
        "by_id": "",
        "approval": "",
        "decision": "",
        "plan_sha256": "",
        "challenge": "",
    }


PIA: JsonValue = {"accountId": "712020:ab", "displayName": "Pia Person", "emailAddress": "pia@example.com"}
DECLINED: JsonValue = {"name": "Declined", "statusCategory": {"key": "done"}}


def moved(field: str = "status", status: JsonValue = DECLINED, user: JsonValue = PIA) -> JsonValue:
    fields: JsonValue = {"summary": "S", "project": {"key": "ITSM"}, "status": status}
    return {
        "webhookEvent": "jira:issue_updated",
        "issue": {"key": "ITSM-12", "fields": fields},
        "changelog": {"id": "1", "items": [{"field": field, "toString": "Declined"}]},
        "user": user,
    }


def test_an_issue_that_was_brought_to_a_finished_status_is_a_closed_ticket() -> None:
    event = Jira.inbound(SETTINGS, moved())
    assert (event.kind, event.ticket, event.project) == ("ticket_closed", "ITSM-12", "ITSM")
    assert (event.status, event.by, event.by_id) == ("Declined", "pia@example.com", "712020:ab")
    hidden = Jira.inbound(SETTINGS, moved(user={"accountId": "712020:ab", "displayName": "Pia Person"}))
    assert hidden.by == "Pia Person"
    assert Jira.inbound(SETTINGS, moved(user=None)).by == ""


@pytest.mark.parametrize(
    "user",
    [
        {"accountId": "712020:ab", "displayName": "Pia Person", "emailAddress": None},
        {"accountId": None, "displayName": None},
        {"accountId": 7, "displayName": []},
        "somebody",
        7,
    ],
)
def test_who_acted_decides_nothing_about_a_delivery(user: JsonValue) -> None:
    fields: JsonValue = {"summary": None, "project": {"key": "ITSM"}}
    made: JsonValue = {
        "webhookEvent": "jira:issue_created",
        "issue": {"key": "ITSM-12", "fields": fields},
        "user": user,
    }
    assert Jira.inbound(SETTINGS, made).kind == "ticket_created"
    assert Jira.inbound(SETTINGS, moved(user=user)).kind == "ticket_closed"


@pytest.mark.parametrize(
    "payload",
    [
        moved(field="assignee"),
        moved(status={"name": "In progress", "statusCategory": {"key": "indeterminate"}}),
        moved(status=None),
    ],
)
def test_another_change_of_an_issue_closes_nothing(payload: JsonValue) -> None:
    event = Jira.inbound(SETTINGS, payload)
    assert (event.kind, event.reason) == ("ignored", "the issue was changed and not closed")


def test_a_deleted_issue_is_a_closed_ticket_without_a_status() -> None:
    payload: JsonValue = {
        "webhookEvent": "jira:issue_deleted",
        "issue": {"key": "ITSM-12", "fields": {"project": {"key": "ITSM"}}},
    }
    event = Jira.inbound(SETTINGS, payload)
    assert (event.kind, event.ticket, event.status) == ("ticket_closed", "ITSM-12", "")


@pytest.mark.parametrize("request_type", [None, "itsm/9d1e6a0c", {"requestType": None}, {"requestType": {"name": 7}}])
def test_a_request_type_that_is_not_told_is_empty(request_type: JsonValue) -> None:
    fields: JsonValue = {"summary": "S", "project": {"key": "ITSM"}, "customfield_10010": request_type}
    event = Jira.inbound(SETTINGS, announced(fields=fields))
    assert (event.kind, event.request_type) == ("ticket_created", "")


@pytest.mark.parametrize(
    "payload",
    [
        {"webhookEvent": "jira:issue_updated", "issue": {"key": "ITSM-12", "fields": {"project": {"key": "ITSM"}}}},
        {"webhookEvent": "comment_created", "comment": {}, "issue": {"key": 7}},
        {"webhookEvent": 7},
        {},
        [],
        "text",
        None,
    ],
)
def test_everything_else_is_ignored_with_a_reason(payload: JsonValue) -> None:
    event = Jira.inbound(SETTINGS, payload)
    assert event.kind == "ignored"
    assert event.reason


@pytest.mark.parametrize("event", ["jira:issue_created", "jira:issue_updated", "jira:issue_deleted"])
@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({}, "issue"),
        ({"issue": {"key": 7, "fields": {"project": {"key": "ITSM"}}}}, "issue.key"),
        ({"issue": {"key": "ITSM-12", "fields": {"project": {"name": "canary"}}}}, "issue.fields.project.key"),
    ],
)
def test_an_event_that_counts_and_cannot_be_read_is_not_passed_over(
    event: str, more: dict[str, JsonValue], place: str
) -> None:
    with pytest.raises(InvalidInput, match=f"look at {place}") as caught:
        Jira.inbound(SETTINGS, {"webhookEvent": event, **more})
    assert "canary" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


@pytest.mark.parametrize("key", ["itsm-12", " ITSM-12\n", "Itsm-12"])
def test_a_ticket_has_one_key_however_it_is_written(key: str) -> None:
    fields: JsonValue = {"summary": "S", "project": {"key": "ITSM"}}
    assert Jira.inbound(SETTINGS, announced(key=key, fields=fields)).ticket == "ITSM-12"


@pytest.mark.parametrize(
    "key",
    ["", "ITSM", "-12", "../../x", "IT/SM-12", "IT\nSM-12", "ITSM-\u0661", "\u017fM-1", "A" * 5_000, "A" * 200 + "-1"],
)
def test_what_is_no_key_of_an_issue_is_not_passed_over(key: str) -> None:
    fields: JsonValue = {"summary": "S", "project": {"key": "ITSM"}}
    with pytest.raises(InvalidInput, match=r"look at issue\.key"):
        Jira.inbound(SETTINGS, announced(key=key, fields=fields))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
)


@given(fields=st.dictionaries(st.sampled_from(["summary", "project", "customfield_10010"]), json_values))
def test_any_announcement_is_survived(fields: dict[str, JsonValue]) -> None:
    with suppress(InvalidInput):
        assert Jira.inbound(SETTINGS, announced(fields=fields)).kind == "ticket_created"
