"""The limit of changes that one run may make, and what a run that repeats another stands for."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from regie.core.capabilities import identity, ticket
from regie.core.errors import Denied, LimitReached
from regie.core.limit import asking_place
from regie.core.plan import Change
from regie.core.run_commands import OpenApproval
from regie.store import approvals, releases, runs
from regie.store.keys import RunKey

from .stage import DEFINITION, EVA, JAN, OPERATOR, Run, Stage, connection, release_of

pytestmark = pytest.mark.slow


async def limited(stage: Stage, limit: int) -> Run:
    definition = DEFINITION.model_copy(update={"limit": limit})
    async with stage.database.transaction() as tx:
        await releases.put(tx, release_of({"directory": connection()}, definition), by=OPERATOR)
    return await stage.start(ticket="ITSM-1")


def comment(text: str) -> ticket.Comment:
    return ticket.Comment(ticket="ITSM-2", text=text)


async def test_a_run_makes_as_many_changes_as_it_may_and_no_more(stage: Stage) -> None:
    run = await limited(stage, 1)
    await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)
    with pytest.raises(LimitReached, match="may make 1 changes") as caught:
        await stage.client.apply(run.at("each[0]"), ticket.COMMENT, comment("Hello"))
    assert caught.value.hint
    assert stage.vendor.writes.total() == 1
    assert (await run.leaves())[-1] == "effect:refused"
    again = await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)
    assert again.state == "received", "what it has done is not asked for again"


async def allow_more(stage: Stage, run: Run, number: int) -> None:
    """What a run's own asking for more comes to when somebody says yes."""
    place = asking_place(number)
    opened = OpenApproval(
        place=place,
        rung=1,
        rungs=1,
        question="More?",
        plan=(),
        approvers=(EVA.user,),
        requester="",
        expires_after_s=60,
    )
    async with stage.database.transaction() as tx:
        await approvals.open_or_extend(tx, run.key, opened)
        approval = approvals.approval_id(run.key, place)
        await approvals.decide(tx, run.key, approval, person=EVA.user, decision="approved")


async def test_each_yes_lets_a_run_make_as_many_changes_again(stage: Stage) -> None:
    run = await limited(stage, 1)
    for number in range(3):
        await stage.client.apply(run.at(f"each[{number}]"), ticket.COMMENT, comment(f"Number {number}"))
        next_one = run.at(f"each[{number + 1}]")
        with pytest.raises(LimitReached, match=f"may make {number + 1} changes"):
            await stage.client.apply(next_one, ticket.COMMENT, comment(f"Number {number + 1}"))
        await allow_more(stage, run, number + 1)
    assert stage.vendor.writes.total() == 3


async def test_what_a_run_with_a_limit_wants_to_do_can_be_planned_for_whoever_is_asked(stage: Stage) -> None:
    run = await limited(stage, 1)
    planned = await stage.client.plan(run.at("disable"), identity.DISABLE_ACCOUNT, JAN, covers_for=asking_place(1))
    assert isinstance(planned.planned, Change)
    assert stage.vendor.writes.total() == 0
    with pytest.raises(Denied):
        await stage.client.plan(run.at("disable"), identity.DISABLE_ACCOUNT, JAN, covers_for="other")


async def test_what_needs_no_change_does_not_count(stage: Stage) -> None:
    stage.vendor.enabled[JAN.user] = False
    run = await limited(stage, 1)
    await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)
    answer = await stage.client.apply(run.at("each[0]"), ticket.COMMENT, comment("Hello"))
    assert answer.state == "received"


async def test_many_at_once_do_not_get_round_it(stage: Stage) -> None:
    run = await limited(stage, 3)
    answers = await asyncio.gather(
        *(
            stage.client.apply(run.at(f"each[{number}]"), ticket.COMMENT, comment(f"Number {number}"))
            for number in range(8)
        ),
        return_exceptions=True,
    )
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert {type(error) for error in refused} == {LimitReached}
    assert (len(answers) - len(refused), stage.vendor.writes.total()) == (3, 3)


async def test_the_ticket_is_told_and_changes_are_taken_back_beyond_it(stage: Stage) -> None:
    run = await limited(stage, 1)
    await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)
    own = ticket.Comment(ticket="ITSM-1", text="Stopped.")
    assert (await stage.client.apply(run.at("answer"), ticket.COMMENT, own)).state == "received"
    assert (await stage.client.apply(run.at("say"), ticket.COMMENT, own)).state == "received"
    await stage.client.apply(run.at("disable/undo"), identity.ENABLE_ACCOUNT, JAN)
    assert stage.vendor.enabled[JAN.user] is True


async def rerun_of(stage: Stage, first: RunKey) -> Run:
    async with stage.database.transaction() as tx:
        release = await releases.current(tx)
        [definition] = release.definitions.values()
        key = RunKey(first.tenant, first.domain, str(uuid.uuid4()))
        new = runs.NewRun(
            key=key,
            workflow=definition.workflow,
            release=release.digest,
            definition_digest=definition.digest,
            trigger_key=key.run,
            started_by=OPERATOR,
            state_json="{}",
            repeats=runs.Repeated(
                run=first.run, first_run=first.run, from_step="disable", kept=0, kept_sha256="0" * 64
            ),
        )
        await runs.start(tx, new)
    return await stage.claim(key)


async def test_what_a_run_left_pending_is_asked_about_and_not_asked_for_again(stage: Stage) -> None:
    first = await stage.start()
    want = identity.Membership(user=JAN.user, group="g1")
    stage.vendor.polls_until_joined = 3
    assert (await stage.client.apply(first.at("join"), identity.ADD_TO_GROUP, want)).state == "pending"
    await stage.finish(first)
    again = await rerun_of(stage, first.key)
    while (asked := await stage.client.apply(again.at("join"), identity.ADD_TO_GROUP, want)).state == "pending":
        pass
    assert (asked.state, stage.vendor.writes.total()) == ("received", 1)
    assert await again.leaves() == ["effect:intended", "effect:received"]


async def test_what_must_not_be_repeated_is_not_done_again_by_a_run_that_repeats(stage: Stage) -> None:
    first = await stage.start()
    await stage.client.apply(first.at("revoke"), identity.REVOKE_SESSIONS, EVA)
    await stage.client.apply(first.at("say"), ticket.COMMENT, comment("Hello"))
    writes = stage.vendor.writes.total()
    again = await rerun_of(stage, first.key)
    revoked = await stage.client.apply(again.at("revoke"), identity.REVOKE_SESSIONS, EVA)
    said = await stage.client.apply(again.at("say"), ticket.COMMENT, comment("Hello"))
    assert (revoked.state, said.state) == ("unchanged", "unchanged")
    assert stage.vendor.writes.total() == writes
