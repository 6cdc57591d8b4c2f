"""Jira Cloud REST v3: tickets are issues, a queue is a project key. Only the gateway constructs it.

Contract: developer.atlassian.com/cloud/jira/platform/rest/v3 (issues, comments, transitions, JQL search) and
.../platform/webhooks. Jira has no key of its own against doubles, so what we make carries our marker.
"""

# ruff: noqa: ARG002, D102 - arguments and docstrings of observe, plan, apply ... are those of the kit's contract.

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, JsonValue, StringConstraints, ValidationError

from regie.connectors.jira.documents import document, fitting, one_line, plain_text, texts
from regie.core.capabilities import ticket
from regie.core.effect import Repeat
from regie.core.errors import InvalidInput, NotFound, Refused, Terminal, Unavailable
from regie.core.plan import Change, NoChange, Receipt
from regie.kit.connector import Connector, Read, Seen, Settings, Write, provides
from regie.kit.inbound import InboundEvent, announced_as
from regie.kit.paging import offsets
from regie.kit.session import Answer, Session, Wild, segment

_API = "/rest/api/3"

_INDEX_S = 60.0
"""Seconds that a new issue may be missing from JQL search; Atlassian says seconds to minutes."""

_CREATED, _UPDATED, _DELETED = "jira:issue_created", "jira:issue_updated", "jira:issue_deleted"

_Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
"""A text that Jira may give as null, such as an address that somebody hides; it is empty then."""


_Key = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_upper=True, max_length=200, pattern="^[A-Za-z][A-Za-z0-9_]*-[0-9]+$"),
]
"""An issue's key, one way to write it: Jira takes others for the same issue, and a ticket starts one run."""


class _Category(Wild):
    key: str


class _Status(Wild):
    name: str
    category: _Category = Field(alias="statusCategory")

    @property
    def is_done(self) -> bool:
        return self.category.key == "done"


class _Project(Wild):
    key: str


class _Person(Wild):
    id: _Text = Field(default="", alias="accountId")
    display_name: _Text = Field(default="", alias="displayName")
    email: _Text = Field(default="", alias="emailAddress")


class _Fields(Wild):
    """What every issue has; the site's own fields are read by id from the raw answer."""

    summary: _Text
    status: _Status
    project: _Project
    reporter: _Person | None = None


class _Issue(Wild):
    key: str
    fields: _Fields


class _Place(Wild):
    summary: _Text = ""
    status: _Status
    labels: list[str] = []


class _PlacedIssue(Wild):
    key: str
    fields: _Place


class _FoundIssues(Wild):
    issues: list[_PlacedIssue]


class _Priority(Wild):
    name: _Text = ""


class _Content(Wild):
    summary: _Text = ""
    status: _Status
    description: JsonValue = None
    priority: _Priority | None = None


class _Updatable(Wild):
    fields: _Content


class _Made(Wild):
    key: str


class _Comment(Wild):
    id: str
    body: JsonValue = None


class _Transition(Wild):
    id: str
    name: str
    to: _Status


class _Transitions(Wild):
    transitions: list[_Transition]


class _NewIssue(Wild):
    summary: _Text = ""
    project: _Project
    status: _Status | None = None


class _Changed(Wild):
    field: _Text = ""


class _Changelog(Wild):
    items: list[_Changed] = []


class _AnnouncedIssue(Wild):
    key: _Key
    fields: _NewIssue


class _Announcement(Wild):
    event: str = Field(alias="webhookEvent")
    issue: _AnnouncedIssue
    user: JsonValue = None
    changelog: _Changelog | None = None


def _acting(user: JsonValue) -> _Person:
    """Who did what is announced, as far as that can be read: nothing depends on it."""
    try:
        return _Person.model_validate(user)
    except ValidationError:
        return _Person()


def _closing(said: _Announcement) -> InboundEvent:
    """A change of an issue: closed when this very change has brought it to a status that counts as done."""
    issue, status = said.issue, ""
    if said.event == _UPDATED:
        has_moved = said.changelog is not None and any(each.field == "status" for each in said.changelog.items)
        now = issue.fields.status
        if not has_moved or now is None or not now.is_done:
            return InboundEvent(kind="ignored", event=said.event, reason="the issue was changed and not closed")
        status = now.name
    by = _acting(said.user)
    return InboundEvent(
        kind="ticket_closed",
        event=said.event,
        ticket=issue.key,
        project=issue.fields.project.key,
        title=issue.fields.summary,
        status=status,
        by=by.email or by.display_name,
        by_id=by.id,
    )


async def _issue(session: Session, key: str, *fields: str) -> Answer:
    """An issue with some fields, or NotFound in words."""
    answer = await session.get(f"{_API}/issue/{segment(key)}", params={"fields": ",".join(fields)}, accept={404})
    if answer.status == 404:
        raise NotFound(f"There is no ticket {key}, or the connection may not see it")
    return answer


def _field_ids(settings: Settings, wanted: Iterable[str]) -> dict[str, str]:
    """The site's ids of fields, by the names that the connection gives them.

    Raises:
        InvalidInput: The connection does not name one of them.
    """
    named = settings["fields"]
    known = named if isinstance(named, dict) else {}
    if unknown := sorted(set(wanted) - set(known)):
        raise InvalidInput(
            f"The connection names no field {', '.join(unknown)}.",
            hint=f"Name its id in the connection's setting fields. Known there: {', '.join(sorted(known)) or 'none'}.",
        )
    return {name: str(known[name]) for name in sorted(wanted)}


def _own_fields(settings: Settings, fields: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    return {each: fields[name] for name, each in _field_ids(settings, fields).items()}


def _priority(name: str) -> dict[str, JsonValue]:
    return {"priority": {"name": name}} if name else {}


def _raw_fields(issue: JsonValue) -> dict[str, JsonValue]:
    fields = issue.get("fields") if isinstance(issue, dict) else None
    return fields if isinstance(fields, dict) else {}


def _request_type(value: JsonValue) -> str:
    """The request type's name. A webhook may carry only an inner key of it, which tells people nothing."""
    kind = value.get("requestType") if isinstance(value, dict) else None
    name = kind.get("name") if isinstance(kind, dict) else None
    return name if isinstance(name, str) else ""


def _plain(value: JsonValue) -> JsonValue:
    """A field's value as a workflow uses it: a person is an address, an option its text."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return next((value[name] for name in ("emailAddress", "value") if isinstance(value.get(name), str)), value)
    return value


class Jira(Connector):
    """Tickets are issues, by key; an issue that moves keeps answering to its old key, which stays the ticket's name."""

    @classmethod
    def inbound(cls, settings: Settings, payload: JsonValue) -> InboundEvent:
        """A new issue is a new ticket; one that is done by now, or gone, is closed; the rest is not acted on."""
        told = payload if isinstance(payload, dict) else {}
        event = told.get("webhookEvent")
        if not isinstance(event, str):
            return InboundEvent(kind="ignored", event="", reason="the payload names no event")
        if event not in {_CREATED, _UPDATED, _DELETED}:
            return InboundEvent(kind="ignored", event=event, reason="only new issues start anything")
        said = announced_as(payload, _Announcement)
        if event != _CREATED:
            return _closing(said)
        return InboundEvent(
            kind="ticket_created",
            event=said.event,
            ticket=said.issue.key,
            project=said.issue.fields.project.key,
            request_type=_request_type(_raw_fields(told.get("issue")).get(str(settings["request_type_field"]))),
            title=said.issue.fields.summary,
        )

    @provides(ticket.READ, permissions=["read:jira-work"])
    class ReadTicket(Read[ticket.TicketQuery, ticket.Ticket]):
        """An issue with its request type and the fields that the connection names."""

        async def read(self, want: ticket.TicketQuery) -> ticket.Ticket:
            named = self.settings["fields"]
            ids = {name: str(each) for name, each in named.items()} if isinstance(named, dict) else {}
            kind = str(self.settings["request_type_field"])
            answer = await _issue(
                self.session, want.ticket, "summary", "status", "project", "reporter", kind, *ids.values()
            )
            found, raw = answer.read_as(_Issue), _raw_fields(answer.json)
            by = found.fields.reporter or _Person()
            return ticket.Ticket(
                key=want.ticket,
                queue=found.fields.project.key,
                request_type=_request_type(raw.get(kind)),
                title=found.fields.summary,
                status=found.fields.status.name,
                is_done=found.fields.status.is_done,
                reporter=ticket.Person(id=by.id, display_name=by.display_name, email=by.email),
                fields={name: _plain(raw.get(each)) for name, each in ids.items()},
            )

    @provides(ticket.OPEN, permissions=["read:jira-work", "write:jira-work"])
    class OpenTicket(Write[ticket.NewTicket, ticket.TicketState]):
        """Create an issue that carries our marker as a label, unless one already does."""

        repeat = Repeat.MARKER
        settle_s = _INDEX_S

        async def observe(self, want: ticket.NewTicket, marker: str) -> Seen:
            jql = f"labels = {json.dumps(marker)} ORDER BY created ASC"
            params: dict[str, str | int] = {"jql": jql, "fields": "summary,status,labels", "maxResults": 1}
            answer = await self.session.get(f"{_API}/search/jql", params=params)
            found = answer.read_as(_FoundIssues).issues
            return self._seen(found[0]) if found else {"ticket": "", "status": "", "is_done": False, "title": None}

        def _seen(self, found: _PlacedIssue) -> Seen:
            status = found.fields.status
            return {
                "ticket": found.key,
                "status": status.name,
                "is_done": status.is_done,
                "title": found.fields.summary,
            }

        def plan(self, want: ticket.NewTicket, seen: Seen) -> NoChange | Change:
            if seen["ticket"]:
                return self.no_change(f"ticket:{seen['ticket']}", f"{seen['ticket']} was already opened for this")
            title = one_line(want.title)
            return self.change(
                f"queue:{want.queue}:{want.key}" if want.key else f"queue:{want.queue}",
                f'New ticket "{title}" in {want.queue}',
                ("title", None, title),
                ("kind", None, want.kind),
                ("text", None, fitting(want.text)),
                *((("priority", None, want.priority),) if want.priority else ()),
                *((name, None, value) for name, value in sorted(want.fields.items())),
            )

        async def apply(self, want: ticket.NewTicket, change: Change, marker: str) -> Receipt:
            fields: JsonValue = {
                "project": {"key": want.queue},
                "issuetype": {"name": want.kind},
                "summary": one_line(want.title),
                "description": document(fitting(want.text)),
                "labels": [marker],
                **_priority(want.priority),
                **_own_fields(self.settings, want.fields),
            }
            answer = await self.session.post(f"{_API}/issue", json={"fields": fields})
            return Receipt(request_id=answer.request_id, remote_id=answer.read_as(_Made).key)

        async def confirm(self, want: ticket.NewTicket, receipt: Receipt, marker: str) -> Seen:
            if not receipt.remote_id:
                return await self.observe(want, marker)
            # By key: an issue reads back at once, while search still has to learn of it.
            answer = await _issue(self.session, receipt.remote_id, "summary", "status", "labels")
            return self._seen(answer.read_as(_PlacedIssue))

        def gives(self, want: ticket.NewTicket, seen: Seen) -> ticket.TicketState:
            return _state(seen)

    @provides(ticket.UPDATE, permissions=["read:jira-work", "write:jira-work"])
    class UpdateTicket(Write[ticket.TicketUpdate, ticket.TicketState]):
        """Edit the fields of an issue that are not as wanted, and no others."""

        repeat = Repeat.OBSERVABLE

        async def observe(self, want: ticket.TicketUpdate, marker: str) -> Seen:
            ids = _field_ids(self.settings, want.fields)
            asked = ["summary", "status", "description", "priority", *ids.values()]
            answer = await _issue(self.session, want.ticket, *asked)
            found, raw = answer.read_as(_Updatable).fields, _raw_fields(answer.json)
            return {
                "ticket": want.ticket,
                "status": found.status.name,
                "is_done": found.status.is_done,
                "name": f'{want.ticket} "{found.summary}"',
                "title": found.summary,
                "text": plain_text(found.description),
                "priority": found.priority.name if found.priority else "",
                **{f"fields.{name}": _plain(raw.get(each)) for name, each in ids.items()},
            }

        def plan(self, want: ticket.TicketUpdate, seen: Seen) -> NoChange | Change:
            target = f"ticket:{want.ticket}"
            differing = [(name, seen[name], value) for name, value in self._wanted(want) if seen[name] != value]
            if not differing:
                return self.no_change(target, f"{want.ticket} already says so")
            return self.change(target, str(seen["name"]), *differing)

        def _wanted(self, want: ticket.TicketUpdate) -> Iterator[tuple[str, JsonValue]]:
            """What the ticket should say, field by field, in the form in which it is observed."""
            if want.title:
                yield "title", one_line(want.title)
            if want.text:
                yield "text", plain_text(document(fitting(want.text)))
            if want.priority:
                yield "priority", want.priority
            for name, value in sorted(want.fields.items()):
                yield f"fields.{name}", _plain(value)

        async def apply(self, want: ticket.TicketUpdate, change: Change, marker: str) -> Receipt:
            named = {part.field for part in change.fields}
            fields: dict[str, JsonValue] = {}
            if "title" in named:
                fields["summary"] = one_line(want.title)
            if "text" in named:
                fields["description"] = document(fitting(want.text))
            if "priority" in named:
                fields |= _priority(want.priority)
            fields |= _own_fields(
                self.settings, {name: value for name, value in want.fields.items() if f"fields.{name}" in named}
            )
            answer = await self.session.put(f"{_API}/issue/{segment(want.ticket)}", json={"fields": fields})
            return Receipt(request_id=answer.request_id, remote_id=want.ticket)

        def gives(self, want: ticket.TicketUpdate, seen: Seen) -> ticket.TicketState:
            return _state(seen)

    @provides(ticket.COMMENT, permissions=["read:jira-work", "write:jira-work"])
    class CommentOnTicket(Write[ticket.Comment, ticket.CommentState]):
        """Leave a comment that ends with our marker in small letters, unless one with it is there."""

        repeat = Repeat.MARKER

        async def observe(self, want: ticket.Comment, marker: str) -> Seen:
            path = f"{_API}/issue/{segment(want.ticket)}/comment"
            try:
                # Newest first: ours is mostly on the first page.
                async for entry in offsets(self.session, path, items="comments", params={"orderBy": "-created"}):
                    found = _Comment.model_validate(entry)
                    if any(marker in text for text in texts(found.body)):
                        return {"id": found.id, "comment": "present"}
            except NotFound:
                raise NotFound(f"There is no ticket {want.ticket}, or the connection may not see it") from None
            except ValidationError:
                raise Terminal(f"A comment of {want.ticket} has a shape we do not know") from None
            return {"id": "", "comment": None}

        def plan(self, want: ticket.Comment, seen: Seen) -> NoChange | Change:
            target = f"ticket:{want.ticket}"
            if seen["id"]:
                return self.no_change(target, f"the comment already stands on {want.ticket}")
            return self.change(target, f"Comment on {want.ticket}", ("comment", None, fitting(want.text)))

        async def apply(self, want: ticket.Comment, change: Change, marker: str) -> Receipt:
            body = document(fitting(want.text), small=marker)
            answer = await self.session.post(f"{_API}/issue/{segment(want.ticket)}/comment", json={"body": body})
            return Receipt(request_id=answer.request_id, remote_id=answer.read_as(_Comment).id)

        def gives(self, want: ticket.Comment, seen: Seen) -> ticket.CommentState:
            return ticket.CommentState(ticket=want.ticket, comment=str(seen["id"]))

    @provides(ticket.CLOSE, permissions=["read:jira-work", "write:jira-work"])
    class CloseTicket(Write[ticket.Closing, ticket.TicketState]):
        """Walk the issue to a status that Jira counts as done, over the transitions that the connection names."""

        repeat = Repeat.OBSERVABLE

        async def observe(self, want: ticket.Closing, marker: str) -> Seen:
            found = (await _issue(self.session, want.ticket, "summary", "status")).read_as(_PlacedIssue).fields
            return {
                "ticket": want.ticket,
                "status": found.status.name,
                "is_done": found.status.is_done,
                "title": f'{want.ticket} "{found.summary}"',
            }

        def plan(self, want: ticket.Closing, seen: Seen) -> NoChange | Change:
            target = f"ticket:{want.ticket}"
            if seen["is_done"]:
                return self.no_change(target, f"{want.ticket} is already closed: {seen['status']}")
            return self.change(target, str(seen["title"]), ("is_done", False, True))

        def foreseen(self, change: Change, seen: Seen) -> Seen:
            # Which finished status it will be shows only on the way there.
            return {**super().foreseen(change, seen), "status": ""}

        async def apply(self, want: ticket.Closing, change: Change, marker: str) -> Receipt:
            path = f"{_API}/issue/{segment(want.ticket)}/transitions"
            named = self.settings["closing_transitions"]
            left = [str(name) for name in named] if isinstance(named, list) else []
            is_named = bool(left)
            while True:
                offered = (await self.session.get(path)).read_as(_Transitions).transitions
                chosen = _choose(offered, left, is_named=is_named)
                if chosen is None:
                    return await self._look_again(want, Terminal(_no_way(want.ticket, offered), hint=_NO_WAY_HINT))
                left = [name for name in left if name != chosen.name]
                try:
                    answer = await self.session.post(path, json={"transition": {"id": chosen.id}})
                except Refused as refused:
                    return await self._look_again(want, refused)
                if chosen.to.is_done:
                    return Receipt(request_id=answer.request_id, remote_id=want.ticket)

        async def _look_again(self, want: ticket.Closing, error: Terminal) -> Receipt:
            """Somebody else may have closed it in the meantime, which is what was wanted; else the error stands."""
            if (await self.observe(want, ""))["is_done"]:
                return Receipt(remote_id=want.ticket)
            if isinstance(error, Refused) and error.status == 409:
                raise Unavailable(f"Somebody else was changing {want.ticket} at the same moment")
            raise error

        def gives(self, want: ticket.Closing, seen: Seen) -> ticket.TicketState:
            return _state(seen)


_NO_WAY_HINT = "name the way in the connection's setting closing_transitions"


def _no_way(key: str, offered: list[_Transition]) -> str:
    names = ", ".join(sorted(each.name for each in offered)) or "none"
    return f"No transition that may be taken closes {key}; offered are: {names}"


def _choose(offered: list[_Transition], left: list[str], *, is_named: bool) -> _Transition | None:
    """The transition to take now: a named one, best one that finishes; without names the only one that finishes."""
    finishing = [each for each in offered if each.to.is_done]
    if not is_named:
        return finishing[0] if len(finishing) == 1 else None
    for candidates in (finishing, offered):
        for name in left:
            for each in candidates:
                if each.name == name:
                    return each
    return None


def _state(seen: Seen) -> ticket.TicketState:
    return ticket.TicketState(ticket=str(seen["ticket"]), status=str(seen["status"]), is_done=bool(seen["is_done"]))
