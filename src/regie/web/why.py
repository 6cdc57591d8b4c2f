"""Why a run did what it did, as an auditor asks: who started it, who agreed to what, what changed, what allowed it.

What is told comes from the leaves of the run. The words of changes and questions are sealed beside them; they are told
only where their digests are those in the leaves, and what does not fit is a fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query

from regie.core import canonical
from regie.core.audit import Event
from regie.core.plan import Change, plan_digest
from regie.core.run import RunState
from regie.store import approvals, audit, effects, finding, releases
from regie.store.approvals import Approval
from regie.store.audit import Leaf
from regie.store.effects import Effect
from regie.store.runs import RunRow
from regie.web.answers import Answer, Moment
from regie.web.means import Asking, Having
from regie.web.permitting import seen_runs
from regie.web.seeing import children_for, run_for, state_of

STEERED = {
    Event.RUN_CANCELLED: "cancelled it",
    Event.RUN_PAUSED: "paused it",
    Event.RUN_RESUMED: "let it go on",
    Event.RUN_WOKEN: "woke it",
    Event.RUN_REPEATED: "had it repeated by another run",
    Event.RUN_SET_ASIDE: "set it aside",
}
DENIED = frozenset({Event.CAPABILITY_DENIED, Event.REQUEST_DENIED})
ENDS = {
    Event.EFFECT_INTENDED: "Intended; what came of it is not known yet.",
    Event.EFFECT_RECEIVED: "Made, and read back.",
    Event.EFFECT_UNCHANGED: "Nothing was needed.",
    Event.EFFECT_REFUSED: "Not made.",
    Event.EFFECT_LOST: "Nobody can tell whether it was made; a person must find out.",
}

router = APIRouter()


class Policed(Answer):
    """What allowed or denied something: ids of policies, and the digest of the set that was asked."""

    policies: list[str] = []
    set_sha256: str = ""


class Told(Policed):
    """Something that somebody did, in words."""

    at: Moment
    by: str
    words: str


class Agreed(Policed):
    """An approval and what became of it.

    Attributes:
        plan_sha256: Digest of the plan that was shown, as the leaf of the decision has it.
        asked: Addresses of everybody asked so far.
        through: The chat that told of the decision; empty when it was made here.
        assertion_sha256: Of what the approver has signed with an authenticator; empty when nothing was.
    """

    id: str
    place: str
    question: str
    plan: list[str]
    plan_sha256: str
    asked: list[str]
    asked_at: Moment
    decision: str
    by: str
    at: Moment | None
    through: str
    assertion_sha256: str


class Changed(Policed):
    """A change, what came of it, and what it rests on.

    Attributes:
        words: What differs, field by field.
        request_id, remote_id: The outside system's own ids of the request and of what was made.
        approval, approved_by: What lists it; empty when the workflow asks nobody for it.
    """

    place: str
    capability: str
    connection: str
    target: str
    words: str
    outcome: str
    intended_at: Moment | None
    settled_at: Moment | None
    request_id: str
    remote_id: str
    approval: str
    approved_by: str
    change_sha256: str


class Why(Answer):
    """Everything that explains a run.

    Attributes:
        entries: How many leaves there are about it.
        faults: What is wrong with them, or with what is kept beside them.
    """

    run: str
    workflow: str
    title: str
    tenant: str
    domain: str
    ticket: str
    corr: str
    status: str
    dry: bool
    requester: str
    definition_sha256: str
    release: str
    started: list[Told]
    steered: list[Told]
    approvals: list[Agreed]
    changes: list[Changed]
    denied: list[Told]
    children: list[str]
    entries: int
    faults: list[str]


class FoundRun(Answer):
    """A run that an id leads to, and what of it the id is."""

    run: str
    workflow: str
    tenant: str
    domain: str
    ticket: str
    corr: str
    status: str
    started_at: Moment
    how: list[str]


class FoundRuns(Answer):
    """The runs that an id leads to, newest first."""

    items: list[FoundRun]


@router.get("/v1/runs/{run}/why")
async def why(means: Having, caller: Asking, run: str) -> Why:
    """Why a run did what it did."""
    async with means.database.reading() as tx:
        row = await run_for(tx, caller, run)
        release = await releases.get(tx, row.release)
        leaves = await audit.read(tx, row.key)
        asked = await approvals.of_run(tx, row.key)
        ledger = {each.attempt_key: each for each in await effects.list_effects(tx, row.key)}
        state = await state_of(tx, row.key)
        faults = await audit.verify(tx, row.key)
        children = [child.key.run for child in await children_for(tx, caller, row)]
    agreed = [_agreed(each, leaves, faults) for each in asked]
    by = {each.id: each.by for each in agreed}
    return Why(
        run=row.key.run,
        workflow=row.workflow,
        title=release.definition(row.workflow).title,
        tenant=row.key.tenant,
        domain=row.key.domain,
        ticket=row.ticket,
        corr=row.corr,
        status=row.status.value,
        dry=row.dry,
        requester=row.requester,
        definition_sha256=row.definition_digest,
        release=row.release,
        started=list(_started(leaves, row, state)),
        steered=[_told(leaf, STEERED[leaf.event]) for leaf in leaves if leaf.event in STEERED],
        approvals=agreed,
        changes=list(_changes(row, leaves, ledger, by, faults)),
        denied=[_told(leaf, _denial(leaf.fields)) for leaf in leaves if leaf.event in DENIED],
        children=children,
        entries=len(leaves),
        faults=faults,
    )


@router.get("/v1/audit/find")
async def find(
    means: Having, caller: Asking, identifier: Annotated[str, Query(alias="id", min_length=1, max_length=300)]
) -> FoundRuns:
    """The runs that an id leads to: one of ours, a ticket, a correlation id, or an outside system's own."""
    async with means.database.reading() as tx:
        found = await finding.runs_with(tx, identifier.strip())
        seen = {row.key for row in await seen_runs(tx, caller, [each.row for each in found])}
    return FoundRuns(
        items=[
            FoundRun(
                run=each.row.key.run,
                workflow=each.row.workflow,
                tenant=each.row.key.tenant,
                domain=each.row.key.domain,
                ticket=each.row.ticket,
                corr=each.row.corr,
                status=each.row.status.value,
                started_at=each.row.started_at,
                how=list(each.how),
            )
            for each in found
            if each.row.key in seen
        ]
    )


def _started(leaves: Sequence[Leaf], row: RunRow, state: RunState) -> Iterator[Told]:
    trigger = next((str(leaf.fields.get("trigger", "")) for leaf in leaves if "trigger" in leaf.fields), "")
    for leaf in leaves:
        if leaf.event is Event.RUN_STARTED:
            yield _told(leaf, _in_words(leaf.fields, trigger, row, state))


def _in_words(fields: Mapping[str, Any], trigger: str, row: RunRow, state: RunState) -> str:
    """What started a run, behind the name of who did."""
    if "parent" in fields:
        return f"started it by step {fields['parent']['place']} of run {fields['parent']['run']}, whose child it is"
    if "rerun" in fields:
        return f"had run {fields['rerun']['run']} repeated from step {fields['rerun']['from_step']}"
    if (cause := state.facts.cause) is not None:
        source = f"published by run {cause.run}" if cause.run else "told by a program"
        return f"told of the event {cause.name} ({cause.event}), {source}, which starts it"
    if fields["actor"]["type"] == "ticket_system":
        return f"told of ticket {row.ticket}, which starts it"
    kind, _, rest = trigger.partition(":")
    return {
        "api": "started it by the API or the command line",
        "form": "started it with its form",
        "schedule": f"started it, as it was time ({rest.partition(':')[2]})",
        "poll": "started it, since a poll found a new item",
    }.get(kind, f"started it ({trigger})")


def _told(leaf: Leaf, words: str) -> Told:
    return Told(at=leaf.at, by=_who(leaf.fields), words=words, **_policed(leaf.fields))


def _who(fields: Mapping[str, Any]) -> str:
    """Who did it: a person by their address, a process or an outside system by what it is and its name."""
    actor = fields["actor"]
    named = {
        "person": actor["id"],
        "program": f"the token {actor['id']}",
        "operator": f"the operator ({actor['id']})",
        "ticket_system": f"the connection {actor['id']}",
        "engine": f"Regie's {actor['id']}",
    }
    who: str = named.get(actor["type"], f"the {actor['type']}")
    told = fields.get("told") or {}
    return f"{who}, for {told['person']}" if told.get("person") and actor["type"] == "ticket_system" else who


def _policed(fields: Mapping[str, Any]) -> dict[str, Any]:
    policy = fields.get("policy") or {}
    return {"policies": policy.get("determining", []), "set_sha256": policy.get("set_sha256", "")}


def _denial(fields: Mapping[str, Any]) -> str:
    what = fields.get("capability") or fields.get("action", "")
    where = f" at step {fields['place']}" if "place" in fields else ""
    return f"asked for {what}{where} and was denied: {fields.get('reason', '')}"


def _agreed(approval: Approval, leaves: Sequence[Leaf], faults: list[str]) -> Agreed:
    decided = next((leaf for leaf in leaves if _decides(leaf, approval.id)), None)
    fields: Mapping[str, Any] = decided.fields if decided is not None else {}
    said = fields.get("approval") or {}
    digest = plan_digest(list(approval.plan))
    if digest != approval.plan_sha256 or said.get("plan_sha256", digest) != digest:
        faults.append(f"the plan kept for approval {approval.id} is not the one that was shown")
    if (said.get("decision") in {"approved", "refused"}) != (approval.status in {"approved", "refused"}):
        faults.append(f"approval {approval.id} is {approval.status}, and its leaf does not say so")
    return Agreed(
        id=approval.id,
        place=approval.place,
        question=approval.question,
        plan=[step.planned.in_words() for step in approval.plan if isinstance(step.planned, Change)],
        plan_sha256=str(said.get("plan_sha256", approval.plan_sha256)),
        asked=approval.approvers,
        asked_at=approval.asked_at,
        decision=approval.status,
        by=str(said.get("approver", "")),
        at=decided.at if decided is not None else None,
        through=str((fields.get("told") or {}).get("connection", "")),
        assertion_sha256=str(fields.get("assertion_sha256", "")),
        **_policed(fields),
    )


def _decides(leaf: Leaf, approval: str) -> bool:
    about = leaf.fields.get("approval")
    ends = {Event.APPROVAL_GRANTED, Event.APPROVAL_REFUSED, Event.APPROVAL_EXPIRED, Event.APPROVAL_WITHDRAWN}
    return leaf.event in ends and isinstance(about, dict) and about.get("id") == approval


def _changes(
    row: RunRow, leaves: Sequence[Leaf], ledger: Mapping[str, Effect], by: Mapping[str, str], faults: list[str]
) -> Iterator[Changed]:
    """Each change of the run by what its leaves say, in the order in which they were first intended."""
    told: dict[str, dict[Event, Leaf]] = {}
    for leaf in leaves:
        if leaf.event in ENDS:
            told.setdefault(str(leaf.fields["attempt_key"]), {})[leaf.event] = leaf
    for key, found in told.items():
        last = list(found.values())[-1]
        intended = found.get(Event.EFFECT_INTENDED)
        fields: dict[str, Any] = {**(intended.fields if intended else {}), **last.fields}
        kept = ledger.get(key)
        if kept is not None and canonical.digest(["target", row.key.tenant, kept.target]) != fields["target_sha256"]:
            faults.append(f"the ledger names another target for step {fields['place']} than the log")
            kept = None
        change = kept.change if kept is not None else None
        if change is not None and "change_sha256" in fields and change.digest != fields["change_sha256"]:
            faults.append(f"the ledger holds another change for step {fields['place']} than the log")
            change = None
        approval = str((fields.get("approval") or {}).get("id", ""))
        yield Changed(
            place=str(fields["place"]),
            capability=str(fields["capability"]),
            connection=str(fields["connection"]),
            target=kept.target if kept is not None else "",
            words=change.in_words() if change is not None else "",
            outcome=ENDS[last.event] + (f" {fields['reason']}" if last.event is Event.EFFECT_REFUSED else ""),
            intended_at=intended.at if intended else None,
            settled_at=last.at if last is not intended else None,
            request_id=str(fields.get("request_id", "")),
            remote_id=str(fields.get("remote_id", "")),
            approval=approval,
            approved_by=by.get(approval, ""),
            change_sha256=str(fields.get("change_sha256", "")),
            **_policed(fields),
        )
