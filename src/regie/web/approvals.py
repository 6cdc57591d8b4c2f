"""Approvals: what waits for whom, exactly what would change, and the decision. Looking never decides."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from regie.core.approval import closed
from regie.core.assertion import Assertion
from regie.core.errors import Denied, NotFound
from regie.store import approvals, assertions
from regie.store.approvals import Approval
from regie.store.database import Transaction
from regie.store.keys import Cursor
from regie.web import step_up
from regie.web.answers import ApprovalLine, Page
from regie.web.caller import Caller
from regie.web.means import Asking, BodyOf, Having, Means
from regie.web.paging import page_of
from regie.web.permitting import not_confirmed, noting, require_decide, seen_approvals, sight_of
from regie.web.problems import Conflict
from regie.web.seeing import approval_for, is_id
from regie.web.step_up import NotConfirmed, Signed

LARGEST_PAGE = 200

router = APIRouter(prefix="/v1/approvals")


class Decision(BaseModel):
    """A yes or no. `plan_sha256` is that of the plan its author has seen, as `GET` showed it.

    `signed` is what an authenticator has signed for a yes, as the pages ask for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: Literal["approved", "refused"]
    signed: Signed | None = None
    comment: str = Field(default="", max_length=2000)
    plan_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


@router.get("")
async def list_approvals(
    means: Having,
    caller: Asking,
    status: Literal["open", "all"] = "open",
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 50,
    before: str | None = None,
) -> Page[ApprovalLine]:
    """Approvals, newest first: those a person was asked for, and those within the caller's reach."""
    async with means.database.reading() as tx:
        found = await approvals.list_approvals(
            tx,
            sight=await sight_of(tx, caller),
            status="open" if status == "open" else None,
            limit=limit + 1,
            before=Cursor.from_query(before),
        )
        shown, following = page_of(found, limit)
        seen = await seen_approvals(tx, caller, shown)
    return Page(items=[ApprovalLine.of(approval) for approval in seen], next=following)


@router.get("/{approval}")
async def show_approval(means: Having, caller: Asking, approval: str) -> ApprovalLine:
    """What is asked, and what would change."""
    async with means.database.reading() as tx:
        return ApprovalLine.of(await approval_for(tx, caller, approval))


@router.post("/{approval}/decision")
async def decide(
    means: Having, caller: Asking, approval: str, said: Annotated[Decision, Depends(BodyOf(Decision))]
) -> ApprovalLine:
    """Say yes or no to the plan one has seen. Once, and only as a person who was asked."""
    signed = said.signed if said.decision == "approved" and caller.address else None
    nonce = await _answered(means, caller, approval, signed) if signed else None
    async with noting(means.database), means.database.transaction() as tx:
        shown = await approval_for(tx, caller, approval)
        if caller.address:
            _require_open(shown)
            _require_seen(shown, said)
        assertion = await _confirmed(tx, means, caller, shown, signed=signed, nonce=nonce) if signed else None
        permitted = await require_decide(
            tx, caller, shown, said.decision, means.catalogue, is_confirmed=assertion is not None
        )
        about = permitted.told if caller.mfa_age_s is None else {**permitted.told, "mfa_age_s": int(caller.mfa_age_s)}
        if assertion is not None:
            about["assertion_sha256"] = assertion.sha256
            await assertions.keep(tx, shown.key, assertion)
        try:
            await approvals.decide(
                tx,
                shown.key,
                shown.id,
                person=caller.address,
                decision=said.decision,
                comment=said.comment,
                told=about,
            )
        except Denied:
            # Somebody may have been faster: then that is the reason, and who it was.
            _require_open(await approval_for(tx, caller, approval))
            raise
        decided = await approval_for(tx, caller, approval)
        # Read under the lock that the decision took: now the plan is certainly the one that is decided.
        _require_seen(decided, said)
    return ApprovalLine.of(decided)


@router.get("/{approval}/assertion")
async def show_assertion(means: Having, caller: Asking, approval: str) -> Assertion:
    """What was signed with an authenticator when it was approved: the leaf of the decision has its SHA-256."""
    async with means.database.reading() as tx:
        shown = await approval_for(tx, caller, approval)
        found = await assertions.assertion_of(tx, shown.key, shown.id)
    if found is None:
        raise NotFound("Nobody has confirmed this with an authenticator.")
    return found


async def _answered(means: Means, caller: Caller, approval: str, signed: Signed) -> str | None:
    """The nonce of the question that was answered. Used up before anything else happens: it does not count again."""
    if not is_id(approval):
        return None
    async with means.database.transaction() as tx:
        return await step_up.was_asked(tx, signed, address=caller.address, approval=approval)


async def _confirmed(
    tx: Transaction, means: Means, caller: Caller, approval: Approval, *, signed: Signed, nonce: str | None
) -> Assertion:
    try:
        return await step_up.confirmed(tx, means.ways_in.origin, caller, approval, signed=signed, nonce=nonce)
    except NotConfirmed as error:
        raise not_confirmed(caller, error, error.reason, approval.key) from None


def _require_open(approval: Approval) -> None:
    if approval.status == "open" or approval.decided_at is None:
        return
    raise Conflict(closed(approval.status, by=approval.decided_by, at=approval.decided_at))


def _require_seen(approval: Approval, said: Decision) -> None:
    if approval.plan_sha256 != said.plan_sha256:
        raise Conflict("The plan is another one than you saw.", hint="Look at it again, then decide.")
