"""Pages of records: what domains keep about things, what is due when, for operators and whoever has a role for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from regie.core.errors import InvalidInput, NotFound
from regie.core.reach import Act
from regie.core.release import Release
from regie.core.tenant import RecordKind
from regie.store import records
from regie.store.records import Shown
from regie.web.caller import Caller
from regie.web.means import Having, current_release
from regie.web.pages.looking import LOOKING
from regie.web.pages.record_views import HIGH, edges_of, timeline, view_of
from regie.web.pages.rendering import page
from regie.web.pages.visitor import Visiting

PAGE = 50

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Seen:
    """A kind of records, and of which tenants whoever looks may see them."""

    domain: str
    name: str
    kind: RecordKind
    tenants: list[str]

    @property
    def address(self) -> str:
        """Of its page."""
        return f"/records/{self.domain}/{self.name}"


class Filter(BaseModel):
    """Which records a page shows. Empty fields of the form mean any."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str | None = Field(default=None, max_length=100)
    state: str | None = Field(default=None, max_length=100)
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    after: str | None = Field(default=None, max_length=200)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_any(cls, given: object) -> object:
        # A plus in an address that somebody has typed reads as a blank.
        return (given.strip().replace(" ", "+") or None) if isinstance(given, str) else given

    @property
    def is_any(self) -> bool:
        """Whether nothing is filtered."""
        return not (self.tenant or self.state or self.since or self.until)

    @property
    def place(self) -> tuple[datetime | None, str, str] | None:
        """Where the list goes on."""
        if self.after is None:
            return None
        due, _, rest = self.after.partition("~")
        tenant, _, key = rest.partition("~")
        try:
            return datetime.fromisoformat(due) if due else None, tenant, key
        except ValueError:
            raise InvalidInput("That is no place in this list.", hint="Start again at the first page.") from None

    def address(self, seen: Seen, **other: object) -> str:
        """The address of the page with something else chosen, at its beginning unless that is what is chosen."""
        chosen = {**self.model_dump(mode="json", exclude={"after"}), **other}
        query = urlencode({name: value for name, value in chosen.items() if value not in {None, ""}})
        return f"{seen.address}?{query}" if query else seen.address


@router.api_route("/records", methods=LOOKING)
async def list_kinds(means: Having, visitor: Visiting) -> Response:
    """The kinds of records that whoever looks may see, with how many there are in each state."""
    async with means.database.reading() as tx:
        seen = _kinds(await current_release(tx), visitor.caller)
        counts = [await records.count(tx, each.domain, each.name, each.tenants) for each in seen]
    kinds = [(each, _states(each.kind, count)) for each, count in zip(seen, counts, strict=True)]
    return page("records.html", visitor, kinds=kinds)


@router.api_route("/records/{domain}/{kind}", methods=LOOKING)
async def show(
    means: Having, visitor: Visiting, domain: str, kind: str, wanted: Annotated[Filter, Query()]
) -> Response:
    """The records of a kind: what is due when, and each of them, what is due first at the top."""
    async with means.database.reading() as tx:
        seen = _kind(await current_release(tx), visitor.caller, domain, kind)
        tenants = [each for each in seen.tenants if wanted.tenant in {None, each}]
        now = await tx.clock()
        edges = edges_of(now)
        counts = await records.count(tx, domain, kind, tenants)
        due = await records.due_by_part(tx, domain, kind, tenants, edges)
        rows = await records.show(
            tx,
            domain,
            kind,
            tenants,
            state=wanted.state or "",
            since=wanted.since,
            until=wanted.until,
            after=wanted.place,
            most=PAGE + 1,
        )
    if wanted.state:
        due = {place: number for place, number in due.items() if place[1] == wanted.state}
    return page(
        "records_of_kind.html",
        visitor,
        seen=seen,
        wanted=wanted,
        states=_states(seen.kind, counts),
        line=timeline(seen.kind, edges, due),
        high=HIGH,
        views=[view_of(seen.kind, row, now) for row in rows[:PAGE]],
        following=wanted.address(seen, after=_place(rows[PAGE - 1])) if len(rows) > PAGE else None,
        now=now,
    )


def _kinds(release: Release, caller: Caller) -> list[Seen]:
    found = [
        Seen(domain, name, kind, _tenants(release, caller, domain, kind))
        for domain, its in sorted(release.domains.items())
        for name, kind in its.records.items()
    ]
    return [each for each in found if each.tenants]


def _kind(release: Release, caller: Caller, domain: str, kind: str) -> Seen:
    for each in _kinds(release, caller):
        if (each.domain, each.name) == (domain, kind):
            return each
    raise NotFound("There are no such records.")


def _tenants(release: Release, caller: Caller, domain: str, kind: RecordKind) -> list[str]:
    """Of which tenants somebody may see the records of a kind."""
    return [
        slug
        for slug, tenant in sorted(release.tenants.items())
        if domain in tenant.domains
        and (caller.may(Act.LOOK, slug, domain) or any(caller.holds(role, tenant) for role in kind.seen_by))
    ]


def _states(kind: RecordKind, counts: Mapping[str, int]) -> list[tuple[str, str, str, int]]:
    """State, title, tone and number of each state, the most pressing first."""
    declared = [each.state for each in kind.states]
    names = [*declared, *sorted(set(counts) - set(declared))]
    return [(name, kind.state(name).title, kind.state(name).tone, counts.get(name, 0)) for name in names]


def _place(row: Shown) -> str:
    due = row.record.due_at.isoformat() if row.record.due_at else ""
    return f"{due}~{row.tenant}~{row.id}"
