"""Is this change what people said yes to, and what the policies allow? `effects.py` asks right before each change."""

from __future__ import annotations

import re
from typing import NamedTuple

from regie.core.errors import Denied, WorldMoved
from regie.core.places import written_place
from regie.core.plan import Change, PlannedStep
from regie.gateway.connections import Serving
from regie.gateway.grants import Granted
from regie.policy import steps
from regie.policy.cedar import Decision
from regie.store import approvals
from regie.store.approvals import Approval
from regie.store.database import Database


class Approved(NamedTuple):
    """The approval that lists a change, and who has said yes to it; both empty when no approval covers the step."""

    id: str = ""
    by: frozenset[str] = frozenset()


_INDICES = re.compile(r"\[([0-9.]+)\]$")


async def approval_of(database: Database, granted: Granted, change: Change) -> Approved:
    """The approval that lists the change.

    Raises:
        Denied: An approval that covers the step has not been granted.
        WorldMoved: It has, for something else than this change.
    """
    if not granted.approvals:
        return Approved()
    async with database.reading(granted.key.tenant) as tx:
        yes = {each.approval: each for each in await approvals.granted(tx, granted.key)}
        asked = await approvals.of_run(tx, granted.key)
    place = granted.grant.place
    listed, by = "", set[str]()
    for needed in granted.approvals:
        given = [each for each in asked if each.id in yes and _covers(each.place, needed, place)]
        if not given:
            raise Denied(f"Step {place} changes something only after approval {needed}, which has not been granted.")
        found = [each.id for each in given if change.digest in yes[each.id].changes]
        if not found:
            raise WorldMoved(
                f"The world moved since approval {needed}: {change.title} is not as it was then.",
                approved=_approved_in_words(given, place, change),
                found=change.in_words(),
                hint="Start the run again, so that what is needed now is approved.",
            )
        listed = found[0]
        by.add(yes[listed].approver)
    return Approved(listed, frozenset(by))


def decide_on(granted: Granted, serving: Serving, change: Change, approved: Approved) -> Decision:
    """What the policies say about this very change."""
    return granted.policies.decide(
        steps.change(
            granted.step,
            change.target,
            capability=change.capability,
            effect=serving.provided.capability.effect.value,
            connection=serving.connection,
            connector=granted.release.tenant(serving.tenant).connections[serving.connection].connector,
            requester=granted.requester,
            approved_by=approved.by,
        )
    )


def _covers(approval: str, needed: str, place: str) -> bool:
    """Whether an approval of the run is the written one needed, for the same items of the loops around both."""
    return written_place(approval) == needed and _indices(place)[: len(_indices(approval))] == _indices(approval)


def _indices(place: str) -> list[str]:
    found = _INDICES.search(place)
    return found[1].split(".") if found else []


def _approved_in_words(given: list[Approval], place: str, change: Change) -> str:
    """What the approved plan says about this step, or about the same target under another step."""
    plan: list[PlannedStep] = [step for each in given for step in each.plan]
    about = [step for step in plan if step.place == place] or [
        step for step in plan if (step.planned.target, step.planned.capability) == (change.target, change.capability)
    ]
    if not about:
        return "nothing for this target"
    planned = about[0].planned
    return planned.in_words() if isinstance(planned, Change) else f"no change, because {planned.because}"
