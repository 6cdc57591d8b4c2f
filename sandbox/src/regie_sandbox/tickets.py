"""Tickets of the imaginary service desk: records and workflow. The world keeps them, Jira shows them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict


class Comment(BaseModel):
    """One comment; `body` is an Atlassian document, `properties` its entity properties."""

    model_config = ConfigDict(frozen=True)

    id: str
    author: str
    body: dict[str, Any]
    created: datetime
    public: bool = True
    properties: dict[str, Any] = {}


class Ticket(BaseModel):
    """One issue. People are account ids; `indexed_at` is when search starts to know it."""

    model_config = ConfigDict(frozen=True)

    id: str
    key: str
    project: str
    issue_type: str
    summary: str
    reporter: str
    creator: str
    created: datetime
    updated: datetime
    indexed_at: datetime
    description: dict[str, Any] | None = None
    assignee: str | None = None
    labels: tuple[str, ...] = ()
    priority: str = "Medium"
    status: str = "Open"
    resolved: datetime | None = None
    request_type: str | None = None
    employee: str | None = None
    last_day: str | None = None
    comments: tuple[Comment, ...] = ()
    properties: dict[str, Any] = {}


class Delivery(BaseModel):
    """A webhook on its way: the exact body, so that every retry carries the same bytes and the same signature."""

    model_config = ConfigDict(frozen=True)

    identifier: str
    ticket_key: str
    body: str
    attempts: int = 0
    last_status: int | None = None
    state: str = "waiting"


@dataclass(frozen=True)
class Status:
    """One status of the workflow; `category` is Jira's key for new, indeterminate or done."""

    id: str
    name: str
    category: str


@dataclass(frozen=True)
class Transition:
    """One arrow of the workflow."""

    id: str
    name: str
    sources: frozenset[str]
    target: str


STATUSES = {
    each.name: each
    for each in (
        Status("10000", "Open", "new"),
        Status("10001", "In Progress", "indeterminate"),
        Status("10002", "Done", "done"),
        Status("10003", "Canceled", "done"),
    )
}

TRANSITIONS = (
    Transition("11", "Start progress", frozenset({"Open"}), "In Progress"),
    Transition("21", "Resolve", frozenset({"In Progress"}), "Done"),
    Transition("31", "Cancel request", frozenset({"Open", "In Progress"}), "Canceled"),
    Transition("41", "Reopen", frozenset({"Done", "Canceled"}), "Open"),
)


def transitions_from(status: str) -> list[Transition]:
    """The arrows that leave a status."""
    return [each for each in TRANSITIONS if status in each.sources]
