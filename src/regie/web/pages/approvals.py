"""Pages about approvals: what waits for whoever looks, and one approval, its plan before its buttons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from regie.core.block import Catalogue
from regie.core.definition import Definition
from regie.core.errors import InvalidInput, NotFound
from regie.core.places import LIMIT, written_place
from regie.core.plan import Change, FieldChange, PlannedStep
from regie.core.reach import Act
from regie.store import approvals, authenticators, releases, runs
from regie.store.approvals import Approval
from regie.store.database import Transaction
from regie.store.keys import Cursor
from regie.store.runs import RunRow
from regie.web import approvals as api
from regie.web import step_up
from regie.web.caller import Caller
from regie.web.means import Having, Nothing
from regie.web.pages.looking import LOOKING
from regie.web.pages.outline import Line, outline
from regie.web.pages.rendering import page
from regie.web.pages.run_view import doing
from regie.web.pages.visitor import Visiting, Visitor, form_of
from regie.web.pages.wording import value
from regie.web.paging import page_of
from regie.web.permitting import decision_on_deciding, decision_on_viewing_inputs, seen_approvals, seen_runs, sight_of
from regie.web.problems import Conflict
from regie.web.seeing import approval_for, is_asked, state_of
from regie.web.step_up import NotConfirmed

PAGE = 50
FEW = 8
"""How many of anything a plan shows before the rest is folded."""

router = APIRouter()

Standing = Literal["asked", "requester", "onlooker", "over"]
"""What whoever looks can do: answer; not answer their own request; only look; nothing any more."""


class Said(BaseModel):
    """The form under a plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: Literal["approved", "refused"]
    comment: str = Field(default="", max_length=2000)
    plan_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    signed: str = Field(default="", max_length=50_000)


@dataclass(frozen=True, slots=True)
class Way:
    """What stands between whoever looks and a yes.

    Attributes:
        is_signed: It has to be signed with their authenticator.
        why_not: They cannot say yes as things stand; empty when they can.
    """

    is_signed: bool = False
    why_not: str = ""


OPEN = Way()


@dataclass(frozen=True, slots=True)
class Doing:
    """One planned change to a target: what is done, and its fields."""

    words: str
    fields: tuple[FieldChange, ...]


@dataclass(frozen=True, slots=True)
class Alike:
    """Things to which a plan does the same."""

    titles: list[str]
    changes: list[Doing]


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A planned step that needs no change, and why."""

    words: str
    because: str


@dataclass(frozen=True, slots=True)
class Given:
    """A run's input, as far as whoever looks may see it here.

    Attributes:
        lines: Its fields, by their titles.
        has_more: There is more on the page of its values, which says who has looked.
    """

    lines: list[Line]
    has_more: bool


@router.api_route("/approvals", methods=LOOKING)
async def inbox(means: Having, visitor: Visiting, before: str | None = None) -> Response:
    """What waits for whoever looks; for operators what waits for others too; then what was decided."""
    me = visitor.caller.address
    async with means.database.reading() as tx:
        mine = await approvals.list_approvals(tx, approver=me, limit=PAGE)
        sight = await sight_of(tx, visitor.caller)
        others = await approvals.list_approvals(tx, sight=sight, limit=PAGE) if visitor.may_look else []
        others = await seen_approvals(tx, visitor.caller, others)
        found = await approvals.list_approvals(
            tx, sight=sight, status=None, limit=PAGE + 1, before=Cursor.from_query(before)
        )
        every, following = page_of(found, PAGE)
        seen = await seen_approvals(tx, visitor.caller, every)
        mine = await seen_approvals(tx, visitor.caller, mine)
    known = {approval.id for approval in mine}
    return page(
        "approvals.html",
        visitor,
        mine=mine,
        others=[approval for approval in others if approval.id not in known],
        decided=[approval for approval in seen if approval.status != "open"],
        following=following,
    )


@router.api_route("/approvals/{approval}", methods=LOOKING)
async def show(means: Having, visitor: Visiting, approval: str) -> Response:
    """What is asked and what would change. Looking never decides."""
    async with means.database.reading() as tx:
        found = await approval_for(tx, visitor.caller, approval)
        return await _page(tx, visitor, found, means.catalogue)


@router.post("/approvals/{approval}/decision")
async def decide(
    means: Having, visitor: Visiting, approval: str, said: Annotated[Said, Depends(form_of(Said))]
) -> Response:
    """Say yes or no to the plan one has seen."""
    try:
        await api.decide(means, visitor.caller, approval, _decision(said))
    except (Conflict, NotConfirmed) as error:
        fault = " ".join(filter(None, (error.message, error.hint if isinstance(error, NotConfirmed) else "")))
        async with means.database.reading() as tx:
            found = await approval_for(tx, visitor.caller, approval)
            return await _page(tx, visitor, found, means.catalogue, fault=fault, typed=said.comment)
    return RedirectResponse(f"/approvals/{approval}", HTTPStatus.SEE_OTHER)


@router.post("/approvals/{approval}/challenge")
async def ask(
    means: Having, visitor: Visiting, approval: str, _: Annotated[Nothing, Depends(form_of(Nothing))]
) -> Response:
    """What the browser needs to have the plan signed with the visitor's authenticator."""
    async with means.database.transaction() as tx:
        found = await approval_for(tx, visitor.caller, approval)
        asked = await step_up.ask_to_confirm(tx, means.ways_in.origin, visitor.caller, found)
    return JSONResponse(asked)


def _decision(said: Said) -> api.Decision:
    try:
        signed = step_up.Signed.model_validate_json(said.signed) if said.signed else None
    except ValidationError:
        raise InvalidInput("What the authenticator gave cannot be read.", hint=step_up.AGAIN) from None
    return api.Decision(decision=said.decision, comment=said.comment, plan_sha256=said.plan_sha256, signed=signed)


async def _way(tx: Transaction, caller: Caller, approval: Approval, catalogue: Catalogue) -> Way:
    plain = await decision_on_deciding(tx, caller, approval, "approved", catalogue)
    if plain.is_allowed:
        return OPEN
    if await authenticators.of(tx, caller.address):
        signed = await decision_on_deciding(tx, caller, approval, "approved", catalogue, is_confirmed=True)
        if signed.is_allowed:
            return Way(is_signed=True)
    denied = plain.denied("No policy allows you to approve this.")
    return Way(why_not=" ".join(filter(None, (denied.message, denied.hint))))


async def _page(
    tx: Transaction, visitor: Visitor, approval: Approval, catalogue: Catalogue, *, fault: str = "", typed: str = ""
) -> Response:
    row = await runs.get(tx, approval.key)
    if row is None:
        raise NotFound("The run of this approval is gone.")
    release = await releases.get(tx, row.release)
    definition = release.definition(row.workflow)
    tenant = release.tenants.get(row.key.tenant)
    alike, unchanged = grouped(approval.plan, catalogue)
    standing = _standing(visitor.caller, approval)
    return page(
        "approval.html",
        visitor,
        status=HTTPStatus.CONFLICT if fault else HTTPStatus.OK,
        approval=approval,
        row=row,
        title=definition.title,
        tenant_title=tenant.title if tenant else row.key.tenant,
        given=await _given(tx, visitor.caller, row, definition),
        is_limit=written_place(approval.place) == LIMIT,
        few=FEW,
        alike=alike,
        unchanged=unchanged,
        kinds=Counter(change.words for each in alike for _ in each.titles for change in each.changes),
        standing=standing,
        way=await _way(tx, visitor.caller, approval, catalogue) if standing == "asked" else OPEN,
        fault=fault,
        typed=typed,
    )


async def _given(tx: Transaction, caller: Caller, row: RunRow, definition: Definition) -> Given:
    """The input of a run: its values where looking at them leaves no leaf, otherwise what it consists of."""
    found = (await state_of(tx, row.key)).input
    if not found or not await seen_runs(tx, caller, [row]):
        return Given([], has_more=False)
    data, right = await decision_on_viewing_inputs(tx, caller, row)
    may_view = right is None or right.is_allowed
    titles = {field.name: field.title for field in definition.input if field.title}
    if may_view and not data.is_looking_recorded:
        lines = [Line(name, value(each)) for name, each in found.items()]
    else:
        lines = outline(dict(found), is_plain=not data.is_masked and caller.may(Act.VALUES, *row.key[:2], row.workflow))
    return Given(
        [line._replace(name=titles.get(line.name, line.name)) for line in lines],
        has_more=may_view and data.is_looking_recorded,
    )


def _standing(caller: Caller, approval: Approval) -> Standing:
    if approval.status != "open":
        return "over"
    if caller.is_person(approval.requester):
        return "requester"
    return "asked" if is_asked(caller, approval) else "onlooker"


def grouped(plan: Sequence[PlannedStep], catalogue: Catalogue) -> tuple[list[Alike], list[Unchanged]]:
    """A plan by what it changes, in the order of the plan, and apart from it what needs no change."""
    targets: dict[str, list[Doing]] = {}
    unchanged = []
    for step in plan:
        words = doing(step.planned.capability, step.uses, catalogue)
        if isinstance(step.planned, Change):
            targets.setdefault(step.planned.title, []).append(Doing(words, step.planned.fields))
        else:
            unchanged.append(Unchanged(words, step.planned.because))
    alike: dict[str, Alike] = {}
    for title, changes in targets.items():
        # As text: to Python true and 1 are equal, to whoever says yes they are not.
        alike.setdefault(repr(changes), Alike([], changes)).titles.append(title)
    return list(alike.values()), unchanged
