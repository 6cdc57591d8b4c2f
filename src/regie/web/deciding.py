"""Somebody pressed a button about an approval in a chat. `inbound.py` calls it, once that is genuine.

Who pressed it is told by the chat, and its workspace vouches for their address; that a workspace may do so is a choice
of the tenant's connection, which the gateway has looked up. From there on everything is as on the pages: the address
needs an account, the person must have been asked, never asked for the run, and have seen the plan as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from regie.core.audit import Actor, Event, Fact
from regie.core.block import Catalogue
from regie.core.errors import Denied
from regie.store import accounts, approvals, audit
from regie.store.database import Transaction
from regie.web.identify import Doorkeeper
from regie.web.permitting import decision_on_deciding


class Pressed(BaseModel):
    """A decision as a chat tells it; `by` is the address of whoever pressed the button."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    approval: str
    decision: Literal["approved", "refused"]
    plan_sha256: str
    by: str
    by_id: str = ""


async def decide_for(
    tx: Transaction,
    place: tuple[str, str],
    domains: Sequence[str],
    delivery: str,
    pressed: Pressed,
    *,
    doorkeeper: Doorkeeper,
    catalogue: Catalogue,
) -> str:
    """Take a decision; give the reason why it does not count, or nothing when it does. What does not count is noted.

    The same delivery again finds the approval decided, and changes nothing.

    Args:
        place: The tenant, and its connection that the delivery came in by.
        domains: Those that may use the connection.
        doorkeeper: Knows what roles somebody has by their groups.
        catalogue: Says what the changes of a plan do to the world.
    """
    tenant, connection = place
    found = await approvals.find(tx, pressed.approval)
    if found is None or found.key.tenant != tenant or found.key.domain not in domains:
        await _note(tx, place, domains, delivery, "no_such_approval")
        return "there is no such approval"
    account = await accounts.get(tx, pressed.by)
    told: dict[str, JsonValue] = {"connection": connection, "delivery": delivery, "person": pressed.by_id}
    reason = "" if account and account.is_active else "no_account"
    if found.plan_sha256 != pressed.plan_sha256:
        reason = "another_plan"
    if account and not reason:
        try:
            caller = await doorkeeper.caller_of(tx, account)
            permitted = await decision_on_deciding(tx, caller, found, pressed.decision, catalogue)
            if found.status == "open" and not permitted.is_allowed:
                raise permitted.denied("No policy allows this decision.")
            # A plan never changes while its approval is open, and this closes it under the run's lock.
            about: dict[str, JsonValue] = {"told": told, **permitted.told}
            await approvals.decide(
                tx, found.key, found.id, person=account.address, decision=pressed.decision, told=about
            )
        except Denied:
            now = await approvals.find(tx, pressed.approval)
            reason = "may_not_decide" if now is not None and now.status == "open" else "decided_before"
    if reason:
        await _note(tx, place, [found.key.domain], delivery, reason)
    return reason.replace("_", " ")


async def _note(tx: Transaction, place: tuple[str, str], domains: Sequence[str], delivery: str, reason: str) -> None:
    """Leave a trace in the logs of the domains that it could have been about."""
    tenant, connection = place
    detail: dict[str, JsonValue] = {"connection": connection, "delivery": delivery, "reason": reason}
    fact = Fact(event=Event.TRIGGER_REFUSED, actor=Actor(type="web", id=connection), detail=detail)
    for domain in domains:
        await audit.append_outside(tx, tenant, domain, [fact])
