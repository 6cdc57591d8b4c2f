"""Collects the evidence after a storm: every run with all that was recorded about it, and the world's own ledger."""

from __future__ import annotations

from regie.core.run import RunState
from regie.store import approvals, audit, effects, runs
from regie.store.database import Transaction
from regie.store.runs import RunRow
from torture.customers import Customers
from torture.evidence import ApprovalSeen, EffectSeen, Evidence, LeafSeen, PersonSeen, RunSeen, Write
from torture.place import Place


async def gather(place: Place, customers: Customers) -> Evidence:
    """Read everything. Nothing disturbs the installation any more."""
    about = {request.ticket or request.answered: request.person for request in customers.requests}
    seen = []
    for row in await customers.runs():
        async with place.database.reading() as tx:
            seen.append(await _run(tx, row, about.get(row.ticket or row.key.run, "")))
    _, entries = await place.story.sandbox.ledger()
    people = (await place.sandbox.get("/sandbox/world")).raise_for_status().json()["people"]
    groups = (await place.sandbox.get("/sandbox/world")).raise_for_status().json()["groups"]
    ids = {group["display_name"]: group["id"] for group in groups}
    return Evidence(
        requests=tuple(customers.requests),
        runs=tuple(seen),
        writes=tuple(Write.of(entry) for entry in entries),
        people={
            person["upn"]: PersonSeen(
                is_enabled=person["account_enabled"],
                has_live_session=person["has_live_session"],
                groups=frozenset(ids[name] for name in person["groups"]),
            )
            for person in people
        },
    )


async def _run(tx: Transaction, row: RunRow, person: str) -> RunSeen:
    state = RunState.model_validate_json(await runs.state_of(tx, row.key))
    return RunSeen(
        id=row.key.run,
        tenant=row.key.tenant,
        ticket=row.ticket,
        person=person,
        status=row.status,
        failure=state.failure.kind if state.failure else "",
        leaves=tuple(LeafSeen.of(leaf.fields) for leaf in await audit.read(tx, row.key)),
        chain_faults=tuple(await audit.verify(tx, row.key)),
        effects=tuple(
            EffectSeen(each.attempt_key, each.capability, each.target, each.state)
            for each in await effects.list_effects(tx, row.key)
        ),
        approvals=tuple(
            ApprovalSeen(
                each.id,
                each.status,
                each.requester,
                each.decided_by or "",
                each.decided_at,
                frozenset(each.changes),
            )
            for each in await approvals.of_run(tx, row.key)
        ),
    )
