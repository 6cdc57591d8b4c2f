"""Forms made of the input of workflows: the list of those one may use, one form, and the run that it starts."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import JsonValue

from regie.core import canonical
from regie.core.definition import Definition, InputField, InputType
from regie.core.errors import InvalidInput, NotFound
from regie.core.forms import LONGEST_TEXT, read_typed
from regie.core.release import Release
from regie.core.starts import FormStart
from regie.core.tenant import Tenant
from regie.engine.port import Started, StartRequest
from regie.policy.cedar import Decision
from regie.store.database import Transaction
from regie.web.means import Having, current_release
from regie.web.pages.looking import LOOKING
from regie.web.pages.rendering import page
from regie.web.pages.visitor import Visiting, Visitor, read_form
from regie.web.permitting import decision_on_form_start
from regie.web.seeing import state_of

TOKEN_FIELD = "token"  # noqa: S105  the name of a field
PREFIX = "field."
"""Before the name of each input field, so that none is taken for a field of ours."""
MOST_FIELDS = 200
SENT_BEFORE = "This form was sent before, with other answers. Send it again to start another run."

_TOKEN = re.compile(r"[0-9a-f]{32}")
_KINDS = {
    InputType.EMAIL: "email",
    InputType.DATE: "date",
    InputType.INTEGER: "number",
    InputType.NUMBER: "number",
}

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Shown:
    """One field as a page shows it.

    Attributes:
        kind: The `type` of a browser's input, or `select`, `textarea`, `checkbox`.
        text: What is filled in; of a box `on` when it is ticked.
        fault: What is wrong with that; empty when nothing is.
    """

    name: str
    title: str
    help: str
    kind: str
    step: str
    text: str
    choices: tuple[str, ...]
    is_required: bool
    fault: str


@dataclass(frozen=True, slots=True)
class Usable:
    """A form that whoever looks may use, and what says so."""

    tenant: Tenant
    definition: Definition
    decision: Decision

    @property
    def address(self) -> str:
        """Its page."""
        return f"/forms/{self.tenant.tenant}/{self.definition.workflow}"


@router.api_route("/forms", methods=LOOKING)
async def forms(means: Having, visitor: Visiting) -> Response:
    """The forms that whoever looks may use."""
    async with means.database.reading() as tx:
        release = await current_release(tx)
    tenants: dict[str, list[Usable]] = {}
    for slug, tenant in sorted(release.tenants.items()):
        for name in sorted(release.definitions):
            usable = _usable(release, slug, name, visitor)
            if usable is not None:
                tenants.setdefault(tenant.title, []).append(usable)
    return page("forms.html", visitor, tenants=tenants)


@router.api_route("/forms/{tenant}/{workflow}", methods=LOOKING)
async def show(means: Having, visitor: Visiting, tenant: str, workflow: str) -> Response:
    """One form, filled in with what counts when nothing is said."""
    async with means.database.reading() as tx:
        usable = _form(await current_release(tx), tenant, workflow, visitor)
    typed = {field.name: _text(field.default) for field in usable.definition.input}
    return _page(visitor, usable, {name: text for name, text in typed.items() if text})


@router.post("/forms/{tenant}/{workflow}")
async def send(means: Having, visitor: Visiting, request: Request, tenant: str, workflow: str) -> Response:
    """Start a run with what was filled in; the same page sent again comes to the same run."""
    sent = await read_form(request, most=MOST_FIELDS)
    token = sent.get(TOKEN_FIELD, "")
    if not _TOKEN.fullmatch(token):
        raise InvalidInput("The form cannot be used: it does not say which page it was.", hint="Load the page again.")
    typed = {name.removeprefix(PREFIX): text for name, text in sent.items() if name.startswith(PREFIX)}
    async with means.database.transaction() as tx:
        usable = _form(await current_release(tx), tenant, workflow, visitor)
        given, read = read_typed(usable.definition, typed)
        if read.wrong:
            return _page(visitor, usable, typed, read.wrong, status=HTTPStatus.UNPROCESSABLE_ENTITY, token=token)
        started = await means.engine.start_in(tx, _request(visitor, usable, token, given))
        if not started.is_new and not await _is_same(tx, started, given):
            return _page(visitor, usable, typed, status=HTTPStatus.CONFLICT, before=started.key.run)
    return RedirectResponse(f"/runs/{started.key.run}", HTTPStatus.SEE_OTHER)


def _usable(release: Release, tenant: str, workflow: str, visitor: Visitor) -> Usable | None:
    whose, definition = release.tenants.get(tenant), release.definitions.get(workflow)
    if whose is None or definition is None or definition.domain not in whose.domains:
        return None
    if not definition.starts(FormStart):
        return None
    decision = decision_on_form_start(release, visitor.caller, tenant, workflow)
    return Usable(whose, definition, decision) if decision.is_allowed else None


def _form(release: Release, tenant: str, workflow: str, visitor: Visitor) -> Usable:
    """One form. What one may not use does not exist for one: the answers are the same."""
    usable = _usable(release, tenant, workflow, visitor)
    if usable is None:
        raise NotFound("There is no such form.")
    return usable


def _request(visitor: Visitor, usable: Usable, token: str, given: dict[str, JsonValue]) -> StartRequest:
    """The trigger is the page that somebody sent, however often it arrives."""
    actor, tenant, workflow = visitor.caller.actor, usable.tenant.tenant, usable.definition.workflow
    return StartRequest(
        tenant=tenant,
        workflow=workflow,
        trigger_key="form:" + canonical.digest([tenant, workflow, actor.type, actor.id, token]),
        started_by=actor,
        given=given,
        is_bounded=True,
        told=usable.decision.told,
    )


async def _is_same(tx: Transaction, started: Started, given: Mapping[str, JsonValue]) -> bool:
    """Whether the run that came of this page before was given the same."""
    return (await state_of(tx, started.key)).facts.given == given


def _page(
    visitor: Visitor,
    usable: Usable,
    typed: Mapping[str, str],
    wrong: Mapping[str, str] | None = None,
    *,
    status: int = HTTPStatus.OK,
    token: str = "",
    before: str = "",
) -> Response:
    faults = wrong or {}
    return page(
        "form.html",
        visitor,
        status=status,
        usable=usable,
        fields=[_shown(field, typed, faults.get(field.name, "")) for field in usable.definition.input],
        faults=faults,
        token=token or uuid.uuid4().hex,
        before=before,
        fault=SENT_BEFORE if before else "",
        longest=LONGEST_TEXT,
        prefix=PREFIX,
    )


def _shown(field: InputField, typed: Mapping[str, str], fault: str) -> Shown:
    match field.type:
        case InputType.BOOLEAN:
            kind = "checkbox"
        case InputType.CHOICE:
            kind = "select"
        case InputType.LIST:
            kind = "textarea"
        case _:
            kind = _KINDS.get(field.type, "text")
    return Shown(
        name=field.name,
        title=field.title or field.name.replace("_", " ").capitalize(),
        help=" ".join(part for part in (field.help, _hint(field)) if part),
        kind=kind,
        step="1" if field.type is InputType.INTEGER else "any",
        text=typed.get(field.name, ""),
        choices=field.one_of,
        is_required=field.required and field.default is None and field.type is not InputType.BOOLEAN,
        fault=fault,
    )


def _hint(field: InputField) -> str:
    """How a value is written where the browser does not help with it."""
    match field.type:
        case InputType.LIST:
            return "One on each line."
        case InputType.DATETIME:
            return "With its time zone, such as 2026-11-30T17:00:00+01:00."
        case _:
            return ""


def _text(value: JsonValue) -> str:
    """A default as it stands in the form."""
    match value:
        case None | False:
            return ""
        case True:
            return "on"
        case list():
            return "\n".join(map(str, value))
        case _:
            return str(value)
