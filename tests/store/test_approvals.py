"""Asking and deciding: once, by somebody asked, never by the requester, and the run is told."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from regie.core.audit import Event
from regie.core.errors import Denied, InvalidInput
from regie.core.plan import Change, FieldChange, NoChange, PlannedStep, change_digests, plan_digest
from regie.core.run_commands import CloseApproval, OpenApproval, Remind
from regie.core.run_events import EVENT, Decided
from regie.core.status import RunStatus
from regie.store import approvals, audit, commits, inbox
from regie.store.approvals import DecidedMeanwhile, approval_id
from regie.store.claims import Claimed
from regie.store.commits import StepCommit
from regie.store.database import Database
from regie.store.keys import Cursor, RunKey

pytestmark = pytest.mark.slow

Start = Callable[..., Awaitable[RunKey]]
Claim = Callable[..., Awaitable[Claimed]]

BOSS, OFFICER, REQUESTER = "An.DeVries@example.com", "security@example.com", "jan.janssen@example.com"
PLAN = [
    PlannedStep(
        place="close/0",
        uses="identity.disable_account",
        planned=Change(
            capability="identity.disable_account",
            target="user:1",
            title="Jan Janssen",
            fields=(FieldChange(field="enabled", before=True, after=False),),
        ),
    ),
    PlannedStep(
        place="close/1",
        uses="identity.revoke_sessions",
        planned=NoChange(capability="identity.revoke_sessions", target="user:1", because="none open"),
    ),
]


def ask(place: str = "approval", *, rung: int = 1, approvers: tuple[str, ...] = (BOSS,)) -> OpenApproval:
    return OpenApproval(
        place=place,
        rung=rung,
        rungs=2,
        question="Offboard Jan Janssen?",
        plan=tuple(PLAN),
        approvers=approvers,
        requester=REQUESTER,
        expires_after_s=3600,
    )


@pytest.fixture
async def asked(database: Database, start: Start) -> RunKey:
    """A run with an open approval."""
    key = await start()
    async with database.transaction() as tx:
        await approvals.open_or_extend(tx, key, ask())
    return key


async def test_an_approval_shows_what_was_asked(database: Database, asked: RunKey) -> None:
    approval = approval_id(asked, "approval")
    async with database.reading() as tx:
        found = await approvals.get(tx, "acme", "identity", approval)
        assert found == await approvals.find(tx, approval)
        assert await approvals.get(tx, "umbrella", "identity", approval) is None
    assert found is not None
    assert (found.key, found.question, found.plan) == (asked, "Offboard Jan Janssen?", PLAN)
    assert (found.changes, found.plan_sha256) == (change_digests(PLAN), plan_digest(PLAN))
    assert (found.status, found.approvers, found.requester, found.comment) == ("open", [BOSS], REQUESTER, "")
    assert 3599 < (found.expires_at - found.asked_at).total_seconds() < 3601


async def test_a_beginning_names_one_approval_or_all_that_share_it(
    database: Database, start: Start, asked: RunKey
) -> None:
    alike = {"first": "0123abcd-0000-4000-8000-000000000000", "second": "0123abcd-1000-4000-8000-000000000000"}
    async with database.transaction() as tx:
        found = await approvals.find(tx, approval_id(asked, "approval")[:8])
        assert found is not None
        assert found.key == asked
        await approvals.open_or_extend(tx, await start(), ask())
        await tx.change(
            """update regie.approval
               set id = case when run = %(run)s then %(first)s::uuid else %(second)s::uuid end""",
            {"run": asked.run, **alike},
        )
        with pytest.raises(InvalidInput, match="Several ids begin with 0123abcd") as caught:
            await approvals.find(tx, "0123abcd")
    assert caught.value.hint == f"Name one: {alike['first']}, {alike['second']}"


@pytest.mark.parametrize("decision", ["approved", "refused"])
async def test_a_decision_is_kept_told_and_audited(database: Database, asked: RunKey, decision: str) -> None:
    approval = approval_id(asked, "approval")
    async with database.transaction() as tx:
        await approvals.decide(
            tx,
            asked,
            approval,
            person=BOSS.lower(),
            decision="approved" if decision == "approved" else "refused",
            comment="fine by me",
        )
    async with database.reading() as tx:
        found = await approvals.find(tx, approval)
        (event,) = await inbox.unconsumed(tx, asked)
        leaf = (await audit.read(tx, asked))[-1]
        granted = await approvals.granted(tx, asked)
    assert found is not None
    assert (found.status, found.decided_by, found.comment) == (decision, BOSS.lower(), "fine by me")
    assert event.key == f"decision:{approval}"
    told = EVENT.validate_json(event.payload_json)
    assert isinstance(told, Decided)
    assert (told.place, told.decision, told.by, told.comment) == ("approval", decision, BOSS.lower(), "fine by me")
    assert leaf.event is (Event.APPROVAL_GRANTED if decision == "approved" else Event.APPROVAL_REFUSED)
    assert leaf.fields["approval"] == {
        "id": approval,
        "approver": BOSS.lower(),
        "decision": decision,
        "plan_sha256": plan_digest(PLAN),
        "place": "approval",
        "requester": "jan.janssen@example.com",
    }
    assert "fine by me" not in json.dumps(leaf.fields)
    if decision == "approved":
        assert [(each.place, each.changes, each.approver) for each in granted] == [
            ("approval", frozenset(change_digests(PLAN)), BOSS.lower())
        ]
    else:
        assert granted == []


async def test_a_second_decision_is_told_who_was_first(database: Database, asked: RunKey) -> None:
    approval = approval_id(asked, "approval")
    async with database.transaction() as tx:
        await approvals.open_or_extend(tx, asked, ask(rung=2, approvers=(BOSS, OFFICER)))
        await approvals.decide(tx, asked, approval, person=OFFICER, decision="refused")
    with pytest.raises(Denied, match=r"security@example\.com has already decided this: refused, 20\d\d-"):
        async with database.transaction() as tx:
            await approvals.decide(tx, asked, approval, person=BOSS, decision="approved")
    async with database.reading() as tx:
        assert len(await inbox.unconsumed(tx, asked)) == 1
        assert await audit.verify(tx, asked) == []


@pytest.mark.parametrize("person", [REQUESTER, REQUESTER.upper(), OFFICER, ""])
async def test_nobody_else_decides(database: Database, asked: RunKey, person: str) -> None:
    with pytest.raises(Denied):
        async with database.transaction() as tx:
            await approvals.decide(tx, asked, approval_id(asked, "approval"), person=person, decision="approved")
    async with database.reading() as tx:
        assert await inbox.unconsumed(tx, asked) == []
        assert [each.status for each in await approvals.of_run(tx, asked)] == ["open"]


async def test_an_approval_of_another_run_or_tenant_is_not_there(
    database: Database, asked: RunKey, start: Start
) -> None:
    approval = approval_id(asked, "approval")
    for other in (await start(), asked._replace(tenant="umbrella")):
        with pytest.raises(InvalidInput):
            async with database.transaction() as tx:
                await approvals.decide(tx, other, approval, person=BOSS, decision="approved")


async def test_the_tables_themselves_refuse_the_requester(database: Database, asked: RunKey) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="four_eyes"):
        async with database.transaction() as tx:
            await tx.change(
                """update regie.approval set status = 'approved', decided_by = %(person)s,
                   decided_at = clock_timestamp() where run = %(run)s""",
                {"person": REQUESTER.upper(), "run": asked.run},
            )


async def test_time_out_reminder_and_next_rung_are_refused_once_decided(
    database: Database, start: Start, claim: Claim
) -> None:
    key = await start()
    held = await claim()
    async with database.transaction() as tx:
        done = await commits.commit(
            tx, held.claim, StepCommit(state_json="{}", status=RunStatus.WAITING, approvals=[ask()])
        )
    async with database.transaction() as tx:
        await approvals.decide(tx, key, approval_id(key, "approval"), person=BOSS, decision="refused")
    for late in (
        CloseApproval(place="approval", decision="timeout"),
        Remind(place="approval", rung=1),
        ask(rung=2, approvers=(BOSS, OFFICER)),
    ):
        with pytest.raises(DecidedMeanwhile) as caught:
            async with database.transaction() as tx:
                await commits.commit(
                    tx,
                    done.claim,
                    StepCommit(state_json="{}", status=RunStatus.WAITING, approvals=[ask("second"), late]),
                )
        assert caught.value.place == "approval"
    async with database.reading() as tx:
        assert [each.place for each in await approvals.of_run(tx, key)] == ["approval"]
        assert not await commits.was_committed(tx, done.claim)


async def test_a_late_command_caught_inside_still_rolls_back(database: Database, asked: RunKey) -> None:
    async with database.transaction() as tx:
        await approvals.decide(tx, asked, approval_id(asked, "approval"), person=BOSS, decision="refused")

    async def swallow() -> None:
        async with database.transaction() as tx:
            await approvals.open_or_extend(tx, asked, ask("second"))
            with pytest.raises(DecidedMeanwhile):
                await approvals.close(tx, asked, CloseApproval(place="approval", decision="timeout"))

    with pytest.raises(DecidedMeanwhile):
        await swallow()
    async with database.reading() as tx:
        assert len(await approvals.of_run(tx, asked)) == 1


async def test_ladder_reminder_and_silence(database: Database, asked: RunKey) -> None:
    async with database.transaction() as tx:
        await approvals.carry_out(tx, asked, [Remind(place="approval", rung=1)])
        await approvals.carry_out(tx, asked, [ask(rung=2, approvers=(BOSS, OFFICER))])
        (approval,) = await approvals.of_run(tx, asked)
        assert (approval.rung, approval.approvers, approval.reminded_at is not None) == (2, [BOSS, OFFICER], True)
        for _ in range(2):
            await approvals.carry_out(tx, asked, [CloseApproval(place="approval", decision="timeout")])
    with pytest.raises(Denied, match="Nobody decided in time"):
        async with database.transaction() as tx:
            await approvals.decide(tx, asked, approval.id, person=BOSS, decision="approved")


async def test_the_end_of_a_run_closes_what_is_open(database: Database, start: Start, claim: Claim) -> None:
    key = await start()
    held = await claim()
    async with database.transaction() as tx:
        done = await commits.commit(
            tx, held.claim, StepCommit(state_json="{}", status=RunStatus.WAITING, approvals=[ask()])
        )
        await commits.commit(tx, done.claim, StepCommit(state_json="{}", status=RunStatus.FAILED))
        assert [each.status for each in await approvals.of_run(tx, key)] == ["timeout"]


async def test_lists_show_a_person_what_waits_for_them(database: Database, start: Start) -> None:
    keys = [await start() for _ in range(5)]
    foreign = await start(tenant="umbrella")
    async with database.transaction() as tx:
        for key in (*keys, foreign):
            await approvals.open_or_extend(tx, key, ask())
        await approvals.decide(tx, keys[0], approval_id(keys[0], "approval"), person=BOSS, decision="refused")
    found: list[RunKey] = []
    before: Cursor | None = None
    async with database.reading() as tx:
        while page := await approvals.list_approvals(tx, tenant="acme", approver=BOSS.upper(), limit=3, before=before):
            found += [each.key for each in page]
            before = page[-1].cursor
        assert await approvals.list_approvals(tx, approver=OFFICER) == []
        refused = await approvals.list_approvals(tx, domain="identity", status="refused")
        assert len(await approvals.list_approvals(tx, status=None)) == 6
    assert found == keys[:0:-1]
    assert [each.key for each in refused] == [keys[0]]
