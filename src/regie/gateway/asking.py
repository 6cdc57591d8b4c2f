"""Messages with buttons: which approval they are about, and what exactly a press says yes to.

A step names an approval of its own run by the id of its step. What goes out names it for good, with the digest of the
plan that people saw: a press about another plan decides nothing.
"""

from __future__ import annotations

from pydantic import JsonValue

from regie.core.approval import APPROVE
from regie.core.capabilities import message
from regie.core.definition import Definition
from regie.core.errors import InvalidInput, Unavailable
from regie.core.places import written_place
from regie.gateway.grants import Granted
from regie.gateway_client import Question
from regie.store import approvals
from regie.store.database import Database

_NOT_ASKED_YET_S = 2.0
"""Seconds until a message looks again for an approval whose plan is still being made."""


async def with_approval(database: Database, granted: Granted, question: Question) -> dict[str, JsonValue]:
    """What is wanted, with the approval named for good. Everything but a message that names one stays as it is.

    Raises:
        InvalidInput: The workflow has no such approval.
        Unavailable: Nobody has been asked yet.
    """
    want = question.want
    named = want.get("approval")
    if question.capability != message.SEND.name or not named:
        return want
    place = _place(granted.release.definition(granted.grant.workflow), str(named))
    if granted.grant.dry:
        return {**want, "approval": ""}
    async with database.reading(granted.key.tenant) as tx:
        asked = [each for each in await approvals.of_run(tx, granted.key) if written_place(each.place) == place]
    if not asked:
        raise Unavailable(f"Nobody has been asked for {named} yet.", after_s=_NOT_ASKED_YET_S)
    # Also when it is decided by now: a repeat of the step must mean the same message.
    return {**want, "approval": f"{asked[-1].id}:{asked[-1].plan_sha256}"}


def _place(definition: Definition, named: str) -> str:
    for step in (each for top in definition.steps for each in top.walk()):
        if step.id == named and step.uses == APPROVE:
            return step.place
    raise InvalidInput(f"The workflow has no approval {named!r} that a message could ask for.")
