"""The procedure of a change, step by step: what is done outside, what is written down, what is answered."""

import asyncio
from typing import Any

import httpx2
import pytest

from regie.core.capabilities import identity, ticket
from regie.core.errors import (
    AuthFailed,
    Denied,
    InvalidInput,
    NotFound,
    NotVerified,
    OutcomeUnknown,
    Refused,
    RegieError,
    Throttled,
    Unavailable,
    WorldMoved,
)
from regie.core.plan import Change, NoChange, Planned
from regie.gateway_client import ApplyAnswer, GatewayClient

from .conftest import until
from .stage import EVA, JAN, Run, Stage
from .vendor import Answer, answers, busy_after, dies_after, dies_before

pytestmark = pytest.mark.slow


async def disable(stage: Stage, run: Run, place: str = "disable") -> ApplyAnswer[identity.AccountState]:
    return await stage.client.apply(run.at(place), identity.DISABLE_ACCOUNT, JAN)


async def test_a_change_is_intended_made_read_back_and_receipted(stage: Stage) -> None:
    run = await stage.start()

    answer = await disable(stage, run)

    assert answer.state == "received"
    assert answer.output == identity.AccountState(user=JAN.user, enabled=False)
    assert isinstance(answer.planned, Change)
    assert answer.planned.in_words() == "jan@example.com: enabled true -> false"
    assert answer.receipt.request_id == "req-1"
    assert stage.vendor.enabled[JAN.user] is False
    assert await run.leaves() == ["effect:intended", "effect:received"]
    [row] = await run.effects()
    assert (row.state, row.change, row.receipt) == ("received", answer.planned, answer.receipt)


async def test_the_same_step_asked_again_gets_the_same_answer_and_nothing_is_touched(stage: Stage) -> None:
    run = await stage.start()
    first = await disable(stage, run)
    reads = stage.vendor.reads.total()
    stage.vendor.enabled[JAN.user] = True

    again = await disable(stage, await stage.pass_on(run))

    assert again == first
    assert stage.vendor.writes.total() == 1
    assert stage.vendor.reads.total() == reads
    assert await run.leaves() == ["effect:intended", "effect:received"]


async def test_nothing_needed_is_recorded_as_unchanged_and_answered_again(stage: Stage) -> None:
    stage.vendor.enabled[JAN.user] = False
    run = await stage.start()

    answer = await disable(stage, run)
    again = await disable(stage, run)

    assert answer.state == "unchanged"
    assert isinstance(answer.planned, NoChange)
    assert answer.planned.because == "jan@example.com is as wanted"
    assert answer.output == identity.AccountState(user=JAN.user, enabled=False)
    assert again == answer
    assert stage.vendor.writes.total() == 0
    assert await run.leaves() == ["effect:unchanged"]


async def test_the_world_is_looked_at_once_before_a_change_and_once_after(stage: Stage) -> None:
    await disable(stage, await stage.start())

    assert stage.vendor.reads[f"/users/{JAN.user}"] == 2


async def test_what_another_run_changed_after_the_look_is_seen(stage: Stage, neighbour: GatewayClient) -> None:
    """By another gateway, begun and ended between the look of this one and its lock: only the ledger tells."""
    run, other = await stage.start(), await stage.start()

    async def switch_off_and_on(_: httpx2.Request) -> None:
        await neighbour.apply(other.at("disable"), identity.DISABLE_ACCOUNT, JAN)
        await neighbour.apply(other.at("enable"), identity.ENABLE_ACCOUNT, JAN)
        reads.append(stage.vendor.reads.total())

    reads: list[int] = []
    stage.vendor.on_read = switch_off_and_on
    answer = await disable(stage, run)

    assert answer.state == "received"
    assert stage.vendor.enabled[JAN.user] is False
    # The look that was disturbed is in the count already; then once more under the lock, and once after.
    assert stage.vendor.reads.total() - reads[0] == 2


async def test_what_another_run_did_after_the_look_is_not_done_again(stage: Stage, neighbour: GatewayClient) -> None:
    run, other = await stage.start(), await stage.start()

    async def switch_off(_: httpx2.Request) -> None:
        await neighbour.apply(other.at("disable"), identity.DISABLE_ACCOUNT, JAN)
        # What was asked before that is answered as it was before that.
        stage.vendor.stale_reads = 1

    stage.vendor.on_read = switch_off
    answer = await disable(stage, run)

    assert answer.state == "unchanged"
    assert stage.vendor.writes.total() == 1


async def test_five_runs_change_the_world_once(stage: Stage) -> None:
    counts = []
    for number in range(5):
        await disable(stage, await stage.start(ticket=f"ITSM-{number}"))
        counts.append(stage.vendor.writes.total())

    assert counts == [1, 1, 1, 1, 1]


async def test_a_step_makes_one_change_and_no_other(stage: Stage) -> None:
    run = await stage.start()
    await disable(stage, run)

    with pytest.raises(Denied, match="another change"):
        await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, EVA)
    assert stage.vendor.enabled[EVA.user] is True


# --- approvals --------------------------------------------------------------------------------------------------------


async def plan_of(stage: Stage, run: Run) -> Planned:
    answer = await stage.client.plan(run.at("close/0"), identity.DISABLE_ACCOUNT, JAN, covers_for="approval")
    assert answer.foreseen == identity.AccountState(user=JAN.user, enabled=False)
    return answer.planned


async def test_an_approved_change_is_made_and_its_leaf_names_the_approval(stage: Stage) -> None:
    run = await stage.start()
    planned = await plan_of(stage, run)
    assert stage.vendor.writes.total() == 0
    run = await stage.ask(run, [("close/0", planned)])

    answer = await disable(stage, run, "close/0")

    assert answer.state == "received"
    assert answer.planned == planned


@pytest.mark.parametrize("decision", ["refused", None])
async def test_without_a_yes_a_covered_step_changes_nothing(stage: Stage, decision: str | None) -> None:
    run = await stage.start()
    run = await stage.ask(run, [("close/0", await plan_of(stage, run))], decision=decision)

    with pytest.raises(Denied, match="has not been granted"):
        await disable(stage, run, "close/0")

    assert stage.vendor.writes.total() == 0
    assert await run.leaves() == ["capability:denied"]


async def test_before_anybody_was_asked_a_covered_step_changes_nothing(stage: Stage) -> None:
    run = await stage.start()

    with pytest.raises(Denied, match="has not been granted"):
        await disable(stage, run, "close/0")

    assert stage.vendor.writes.total() == 0


async def test_a_moved_world_stops_the_step_and_both_states_are_told(stage: Stage) -> None:
    stage.vendor.enabled[JAN.user] = False
    run = await stage.start()
    planned = await plan_of(stage, run)
    assert isinstance(planned, NoChange)
    run = await stage.ask(run, [("close/0", planned)])
    stage.vendor.enabled[JAN.user] = True

    with pytest.raises(WorldMoved) as caught:
        await disable(stage, run, "close/0")

    assert caught.value.approved == "no change, because jan@example.com is as wanted"
    assert caught.value.found == "jan@example.com: enabled true -> false"
    assert str(caught.value).count("Approved:") == 1
    assert stage.vendor.writes.total() == 0
    assert await run.leaves() == ["effect:refused"]
    assert await run.effects() == []


async def test_a_change_that_nobody_listed_is_not_made(stage: Stage) -> None:
    run = await stage.start()
    run = await stage.ask(run, [])

    with pytest.raises(WorldMoved) as caught:
        await disable(stage, run, "close/0")

    assert caught.value.approved == "nothing for this target"
    assert stage.vendor.writes.total() == 0


async def test_a_covered_step_whose_change_happened_meanwhile_needs_no_yes(stage: Stage) -> None:
    run = await stage.start()
    run = await stage.ask(run, [("close/0", await plan_of(stage, run))])
    stage.vendor.enabled[JAN.user] = False

    assert (await disable(stage, run, "close/0")).state == "unchanged"


async def test_an_approval_in_a_loop_counts_for_its_own_item(stage: Stage) -> None:
    run = await stage.start()
    planned = (await stage.client.plan(run.at("act[0]"), identity.DISABLE_ACCOUNT, JAN, covers_for="ask[0]")).planned
    run = await stage.ask(run, [("act[0]", planned)], place="ask[0]")

    with pytest.raises(Denied, match="has not been granted"):
        await disable(stage, run, "act[1]")
    assert stage.vendor.writes.total() == 0
    assert (await disable(stage, run, "act[0]")).state == "received"


async def test_what_handles_an_error_of_a_covered_step_is_not_covered(stage: Stage) -> None:
    run = await stage.start()

    answer = await stage.client.apply(
        run.at("close/on-error/0"), ticket.COMMENT, ticket.Comment(ticket="ITSM-1", text="Stopped")
    )

    assert answer.state == "received"


# --- no, later, perhaps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"), [(400, Refused), (401, AuthFailed), (403, AuthFailed), (404, NotFound), (409, Refused)]
)
async def test_a_refusal_is_final_for_this_try(stage: Stage, status: int, kind: type[RegieError]) -> None:
    # A refused token is renewed once, so 401 has to come twice.
    stage.vendor.faults = [answers(status)] * 2
    run = await stage.start()

    with pytest.raises(kind) as caught:
        await disable(stage, run)

    assert type(caught.value) is kind
    if isinstance(caught.value, Refused):
        assert (caught.value.status, caught.value.code) == (status, "No")
    assert await run.state() == "failed"
    assert await run.leaves() == ["effect:intended", "effect:refused"]


async def test_after_a_refusal_the_step_may_be_tried_again(stage: Stage) -> None:
    stage.vendor.faults = [answers(400)]
    run = await stage.start()
    with pytest.raises(Refused):
        await disable(stage, run)

    answer = await disable(stage, run)

    assert answer.state == "received"
    assert await run.leaves() == ["effect:intended", "effect:refused", "effect:intended", "effect:received"]


async def test_a_throttled_vendor_is_left_alone_for_as_long_as_it_asked(stage: Stage) -> None:
    stage.vendor.faults = [answers(429, **{"retry-after": "40"})]
    run, other = await stage.start(), await stage.start()
    with pytest.raises(Throttled) as first:
        await disable(stage, run)
    assert first.value.after_s == 40
    assert await run.state() == "failed"
    reads = stage.vendor.reads.total()

    with pytest.raises(Throttled) as second:
        await disable(stage, other)

    assert second.value.after_s is not None
    assert 30 < second.value.after_s <= 40
    assert stage.vendor.reads.total() == reads
    assert (await stage.client.call(other.at("look"), identity.LIST_ACCESS, JAN)).enabled


@pytest.mark.parametrize("fault", [dies_after, busy_after])
@pytest.mark.parametrize("place", ["disable", "enable", "say"])
async def test_a_lost_answer_of_a_deed_that_was_done_and_shows_never_doubles_it(
    stage: Stage, place: str, fault: Answer
) -> None:
    stage.vendor.faults = [fault]
    stage.vendor.enabled[EVA.user] = False
    run = await stage.start()

    answer = await ask_for(stage, run, place)

    assert answer.state == "received"
    assert stage.vendor.writes.total() == 1
    assert await run.leaves() == ["effect:intended", "effect:received"]


async def ask_for(stage: Stage, run: Run, place: str) -> ApplyAnswer[Any]:
    match place:
        case "disable":
            return await stage.client.apply(run.at(place), identity.DISABLE_ACCOUNT, JAN)
        case "enable":
            return await stage.client.apply(run.at(place), identity.ENABLE_ACCOUNT, EVA)
        case "say":
            said = ticket.Comment(ticket="ITSM-1", text="Hello")
            return await stage.client.apply(run.at(place), ticket.COMMENT, said)
        case "remind":
            return await stage.client.apply(
                run.at(place), ticket.OPEN, ticket.NewTicket(queue="Q", title="Remember", text="")
            )
        case "revoke":
            return await stage.client.apply(run.at(place), identity.REVOKE_SESSIONS, JAN)
        case _:
            raise AssertionError(place)


@pytest.mark.parametrize("place", ["disable", "enable", "say", "remind"])
@pytest.mark.parametrize("is_passed_on", [False, True])
async def test_a_lost_answer_of_a_deed_that_was_not_done_is_tried_again(
    stage: Stage, place: str, *, is_passed_on: bool
) -> None:
    stage.vendor.faults = [dies_before]
    stage.vendor.enabled[EVA.user] = False
    run = await stage.start()
    with pytest.raises(Unavailable):
        await ask_for(stage, run, place)
    assert await run.state() == "unknown"
    if is_passed_on:
        run = await stage.pass_on(run)

    answer = await ask_for(stage, run, place)

    assert answer.state == "received"
    assert stage.vendor.writes.total() == 1
    assert await run.state() == "received"
    assert await run.leaves() == ["effect:intended", "effect:intended", "effect:received"]


@pytest.mark.parametrize("place", ["disable", "enable", "say"])
async def test_a_deed_that_shows_late_is_found_by_the_next_attempt(
    stage: Stage, place: str, patience: list[float]
) -> None:
    stage.vendor.faults = [dies_before]
    stage.vendor.enabled[EVA.user] = False
    run = await stage.start()
    with pytest.raises(Unavailable):
        await ask_for(stage, run, place)
    # The lost request arrives after all.
    stage.vendor.enabled |= {JAN.user: False, EVA.user: True}
    [row] = await run.effects()
    stage.vendor.comments.append({"ticket": "ITSM-1", "marker": f"regie-{row.effect_key[:20]}"})

    answer = await ask_for(stage, await stage.pass_on(run), place)

    assert answer.state == "received"
    assert stage.vendor.writes.total() == 0
    assert await run.leaves() == ["effect:intended", "effect:received"]
    assert sum(patience) == (3.0 if place == "say" else 0.0)


@pytest.mark.parametrize(("fault", "after_s"), [(dies_after, None), (busy_after, 7)])
async def test_a_marker_is_searched_for_patiently_before_it_is_planted_again(
    stage: Stage, patience: list[float], fault: Answer, after_s: float | None
) -> None:
    stage.vendor.faults = [fault]
    stage.vendor.hidden_reads = 100
    run = await stage.start()
    with pytest.raises(Unavailable) as caught:
        await ask_for(stage, run, "say")
    assert caught.value.after_s == after_s
    assert sum(patience) == 3.0
    stage.vendor.hidden_reads = 2

    answer = await ask_for(stage, await stage.pass_on(run), "say")

    assert answer.state == "received"
    assert stage.vendor.writes.total() == 1
    assert sum(patience) > 3.0


@pytest.mark.parametrize("fault", [dies_before, dies_after, busy_after])
async def test_what_must_happen_once_and_shows_nowhere_is_left_to_a_person(stage: Stage, fault: type) -> None:
    stage.vendor.faults = [fault]
    run = await stage.start()
    with pytest.raises(OutcomeUnknown):
        await ask_for(stage, run, "revoke")
    done = stage.vendor.writes.total()

    for _ in range(2):
        run = await stage.pass_on(run)
        with pytest.raises(OutcomeUnknown):
            await ask_for(stage, run, "revoke")

    assert stage.vendor.writes.total() == done
    assert await run.state() == "unknown"
    assert await run.leaves() == ["effect:intended", "effect:lost"]


async def test_what_must_happen_once_is_not_done_again_for_the_same_ticket(stage: Stage) -> None:
    assert (await ask_for(stage, await stage.start(ticket="ITSM-1"), "revoke")).state == "received"
    second = await stage.start(ticket="ITSM-1")

    answer = await ask_for(stage, second, "revoke")

    assert answer.state == "unchanged"
    assert answer.output == identity.SessionState(user=JAN.user, sessions="revoked")
    assert stage.vendor.writes.total() == 1
    assert (await ask_for(stage, await stage.start(ticket="ITSM-2"), "revoke")).state == "received"


async def test_what_another_run_of_the_ticket_may_have_done_once_is_left_to_a_person(stage: Stage) -> None:
    stage.vendor.faults = [dies_before]
    with pytest.raises(OutcomeUnknown):
        await ask_for(stage, await stage.start(ticket="ITSM-1"), "revoke")

    with pytest.raises(OutcomeUnknown, match="same request"):
        await ask_for(stage, await stage.start(ticket="ITSM-1"), "revoke")

    assert stage.vendor.writes.total() == 0


async def test_the_same_comment_for_the_same_ticket_is_left_once(stage: Stage) -> None:
    for _ in range(2):
        await ask_for(stage, await stage.start(ticket="ITSM-1"), "say")

    assert len(stage.vendor.comments) == 1


async def test_every_item_of_a_loop_gets_its_comment(stage: Stage) -> None:
    run = await stage.start(ticket="ITSM-1")
    for index, text in enumerate(["one", "two", "three"]):
        said = ticket.Comment(ticket="ITSM-1", text=text)
        await stage.client.apply(run.at(f"each[{index}]"), ticket.COMMENT, said)

    assert [each["text"] for each in stage.vendor.comments] == ["one", "two", "three"]


# --- later ------------------------------------------------------------------------------------------------------------


async def test_a_change_that_takes_effect_later_is_asked_about_until_it_shows(stage: Stage) -> None:
    run = await stage.start()
    want = identity.Membership(user=JAN.user, group="g1")

    first = await stage.client.apply(run.at("join"), identity.ADD_TO_GROUP, want)
    assert (first.state, first.output, first.handle, first.again_after_s) == ("pending", None, {"job": 7}, 5.0)
    assert await run.state() == "pending"
    run = await stage.pass_on(run)
    second = await stage.client.apply(run.at("join"), identity.ADD_TO_GROUP, want, first.handle)
    assert second.state == "pending"
    run = await stage.pass_on(run)
    third = await stage.client.apply(run.at("join"), identity.ADD_TO_GROUP, want, second.handle)

    assert third.state == "received"
    assert third.output == identity.MembershipState(user=JAN.user, group="g1", member=True)
    assert third.receipt.request_id == "job-7"
    assert stage.vendor.writes.total() == 1
    assert await run.leaves() == ["effect:intended", "effect:received"]


@pytest.mark.parametrize("is_one_process", [True, False])
async def test_what_another_run_has_asked_for_and_does_not_show_yet_is_waited_for(
    stage: Stage, neighbour: GatewayClient, *, is_one_process: bool
) -> None:
    first, second = await stage.start(), await stage.start()
    want = identity.Membership(user=JAN.user, group="g1")
    stage.vendor.polls_until_joined = 6
    client = stage.client if is_one_process else neighbour

    asked = await stage.client.apply(first.at("join"), identity.ADD_TO_GROUP, want)
    waiting = await client.apply(second.at("join"), identity.ADD_TO_GROUP, want)
    assert (asked.state, waiting.state) == ("pending", "pending")
    assert (waiting.again_after_s or 0) > 0
    while (asked := await stage.client.apply(first.at("join"), identity.ADD_TO_GROUP, want)).state == "pending":
        pass
    found = await client.apply(second.at("join"), identity.ADD_TO_GROUP, want)

    assert (asked.state, found.state) == ("received", "unchanged")
    assert stage.vendor.writes.total() == 1
    assert await second.leaves() == ["effect:unchanged"]


async def test_what_a_run_that_is_over_left_pending_keeps_nobody_waiting(stage: Stage) -> None:
    first = await stage.start()
    want = identity.Membership(user=JAN.user, group="g1")
    stage.vendor.polls_until_joined = 99
    await stage.client.apply(first.at("join"), identity.ADD_TO_GROUP, want)
    await stage.finish(first)
    second = await stage.start()

    await stage.client.apply(second.at("join"), identity.ADD_TO_GROUP, want)

    assert stage.vendor.writes.total() == 2
    assert await second.leaves() == ["effect:intended"]


async def test_a_vendor_that_does_not_say_how_it_stands_is_asked_again(stage: Stage) -> None:
    run = await stage.start()
    want = identity.Membership(user=JAN.user, group="g1")
    first = await stage.client.apply(run.at("join"), identity.ADD_TO_GROUP, want)
    stage.vendor.read_faults = [lambda request: (_ for _ in ()).throw(ConnectionError("down"))]

    with pytest.raises(Unavailable):
        await stage.client.apply(run.at("join"), identity.ADD_TO_GROUP, want, first.handle)

    assert await run.state() == "pending"


# --- reading back -----------------------------------------------------------------------------------------------------


async def test_a_change_that_shows_a_little_late_is_verified(stage: Stage) -> None:
    run = await stage.start()
    stage.vendor.stale_reads = 4  # two before the change, two after

    assert (await disable(stage, run)).state == "received"
    assert stage.vendor.writes.total() == 1


async def test_a_change_that_does_not_show_is_not_called_done(stage: Stage) -> None:
    run = await stage.start()
    stage.vendor.stale_reads = 100

    with pytest.raises(NotVerified):
        await disable(stage, run)

    assert await run.state() == "unknown"
    assert await run.leaves() == ["effect:intended", "effect:lost"]


async def test_reading_back_outlives_a_vendor_that_is_away_for_a_moment(stage: Stage) -> None:
    run = await stage.start()
    stage.vendor.after_write = lambda: stage.vendor.read_faults.append(lambda request: httpx2.Response(503))

    assert (await disable(stage, run)).state == "received"
    assert stage.vendor.read_faults == []


async def test_a_change_that_cannot_be_read_back_yet_is_found_by_the_next_attempt(stage: Stage) -> None:
    run = await stage.start()
    away = [lambda request: httpx2.Response(503)] * 4
    stage.vendor.after_write = lambda: stage.vendor.read_faults.extend(away)
    with pytest.raises(Unavailable):
        await disable(stage, run)
    assert await run.state() == "intended"

    answer = await disable(stage, await stage.pass_on(run))

    assert answer.state == "received"
    assert stage.vendor.writes.total() == 1
    assert await run.leaves() == ["effect:intended", "effect:received"]


# --- one at a time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_one_process", [True, False])
async def test_two_runs_about_the_same_person_do_not_act_at_the_same_time(
    stage: Stage, neighbour: GatewayClient, *, is_one_process: bool
) -> None:
    first, second = await stage.start(), await stage.start()
    stage.vendor.door.clear()
    path = f"/users/{JAN.user}"

    one = asyncio.create_task(disable(stage, first))
    await until(lambda: stage.vendor.at_once == 1)
    reads = stage.vendor.reads[path]
    client = stage.client if is_one_process else neighbour
    two = asyncio.create_task(client.apply(second.at("disable"), identity.DISABLE_ACCOUNT, JAN))
    await until(lambda: stage.vendor.reads[path] > reads)
    with pytest.raises(TimeoutError):
        await until(lambda: stage.vendor.at_once == 2, within_s=0.3)
    stage.vendor.door.set()

    assert [(await one).state, (await two).state] == ["received", "unchanged"]
    assert stage.vendor.writes.total() == 1


async def test_runs_about_different_people_act_side_by_side(stage: Stage) -> None:
    first, second = await stage.start(), await stage.start()
    stage.vendor.door.clear()

    one = asyncio.create_task(disable(stage, first))
    two = asyncio.create_task(stage.client.apply(second.at("disable"), identity.DISABLE_ACCOUNT, EVA))
    await until(lambda: stage.vendor.at_once == 2)
    stage.vendor.door.set()

    assert [(await one).state, (await two).state] == ["received", "received"]


async def test_one_step_asked_twice_at_once_acts_once(stage: Stage) -> None:
    run = await stage.start()
    stage.vendor.door.clear()

    asked = asyncio.gather(disable(stage, run), disable(stage, run))
    await until(lambda: stage.vendor.at_once == 1)
    stage.vendor.door.set()
    one, two = await asked

    assert one == two
    assert stage.vendor.writes.total() == 1
    assert await run.leaves() == ["effect:intended", "effect:received"]


# --- dry runs, plans, reads -------------------------------------------------------------------------------------------


async def test_a_dry_run_sees_the_change_and_cannot_make_it(stage: Stage) -> None:
    run = await stage.start(dry=True)

    answer = await stage.client.plan(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)
    with pytest.raises(Denied):
        await disable(stage, run)

    assert isinstance(answer.planned, Change)
    assert answer.foreseen.enabled is False
    assert stage.vendor.writes.total() == 0
    assert await run.leaves() == ["capability:denied"]
    assert await run.effects() == []


async def test_a_plan_with_nothing_to_do_foresees_the_world_as_it_is(stage: Stage) -> None:
    stage.vendor.enabled[JAN.user] = False
    run = await stage.start(dry=True)

    answer = await stage.client.plan(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)

    assert isinstance(answer.planned, NoChange)
    assert answer.foreseen.enabled is False


async def test_a_read_reads(stage: Stage) -> None:
    run = await stage.start()

    access = await stage.client.call(run.at("look"), identity.LIST_ACCESS, JAN)

    assert access.display_name == "Jan"
    with pytest.raises(NotFound):
        await stage.client.call(run.at("look"), identity.LIST_ACCESS, identity.UserQuery(user="nobody@example.com"))


async def test_a_write_is_not_called_and_a_read_not_applied(stage: Stage) -> None:
    run = await stage.start()

    with pytest.raises(Denied):
        await stage.client.call(run.at("disable"), identity.DISABLE_ACCOUNT, JAN)
    with pytest.raises(Denied):
        await stage.client.apply(run.at("look"), identity.LIST_ACCESS, JAN)

    assert stage.vendor.writes.total() == 0


async def test_a_want_of_another_shape_is_refused_without_repeating_it(stage: Stage) -> None:
    run = await stage.start()

    with pytest.raises(InvalidInput, match="look at ticket, user") as caught:
        await stage.client.apply(run.at("disable"), identity.DISABLE_ACCOUNT, ticket.TicketQuery(ticket="secret-text"))

    assert "secret-text" not in str(caught.value)
