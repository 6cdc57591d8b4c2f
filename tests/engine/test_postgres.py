"""The engine over PostgreSQL: what is written, and what happens when workers, connections and answers are lost."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import ClassVar

import psycopg
import pytest

from regie import crashpoints
from regie.core.audit import Actor, Event
from regie.core.errors import FencedOut, OutcomeUnknown, RegieError, Unavailable
from regie.core.plan import plan_digest
from regie.core.run import RunState
from regie.core.run_events import Paused, Resumed
from regie.core.status import RunStatus, StepStatus
from regie.crashpoints import CrashPoint
from regie.engine.committing import GroupCommit
from regie.engine.live import LiveRun
from regie.engine.postgres import PostgresEngine
from regie.engine.working import WorkerLoop
from regie.store import approvals, audit, claims, inbox, runs, steps, workers
from regie.store.database import Database, Transaction
from regie.store.keys import RunKey
from regie.store.runs import NewRun, RunRow
from regie.store.sealer import Sealer
from regie.store.steps import StepRecord

from .stage import CATALOGUE, EVA, OLE, OPERATOR, RELEASE, PostgresStage, Script, a_request, at_work, until
from .test_conformance import is_asking, is_asking_on_the_last_rung, is_over

pytestmark = pytest.mark.slow


async def row_of(stage: PostgresStage, key: RunKey) -> RunRow:
    async with stage.database.reading() as tx:
        row = await runs.get(tx, key)
    assert row is not None
    return row


async def leaves_of(stage: PostgresStage, key: RunKey) -> list[audit.Leaf]:
    """The run's leaves, once their chain has been found whole."""
    async with stage.database.reading() as tx:
        assert await audit.verify(tx, key) == []
        return await audit.read(tx, key)


async def steps_of(stage: PostgresStage, key: RunKey) -> list[StepRecord]:
    async with stage.database.reading() as tx:
        return await steps.list_steps(tx, key)


async def all_over(stage: PostgresStage, keys: list[RunKey]) -> list[RunState]:
    return list(await asyncio.gather(*(stage.until(key, is_over) for key in keys)))


def cut(dsn: str, *, which: str) -> int:
    """Have the server end connections to this database; gives how many."""
    with psycopg.connect(dsn, autocommit=True, application_name="test") as connection:
        query = f"""select count(pg_terminate_backend(pid)) from pg_stat_activity a
            where datname = current_database() and application_name = 'regie' and {which}"""  # noqa: S608  ours
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


HOLDS_A_LOCK = "exists (select from pg_locks l where l.pid = a.pid and l.locktype = 'advisory' and l.classid = 72384)"


# --- what is written --------------------------------------------------------------------------------------------------


async def test_what_happened_is_in_the_audit_log_and_its_chain_is_whole(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker()):
        key = await postgres.start("rescued")
        await postgres.until(key, is_over)
    leaves = await leaves_of(postgres, key)
    assert [leaf.event for leaf in leaves] == [
        Event.TRIGGER_ACCEPTED,
        Event.RUN_STARTED,
        Event.STEP_FAILED,
        Event.STEP_FINISHED,
        Event.STEP_FAILED,
        Event.STEP_FINISHED,
        Event.RUN_CLOSED,
    ]
    failed, comfort = leaves[2].fields, leaves[3].fields
    assert failed["step"] == {"place": "it", "uses": "thing.act", "attempt": 1, "outcome": "handling"}
    assert failed["failure"] == "Refused"
    assert {"input_sha256", "output_sha256"} <= comfort.keys()
    assert leaves[-1].fields["status"] == "done"
    actor = comfort["actor"]
    assert isinstance(actor, dict)
    assert actor["type"] == "worker"


async def test_each_attempt_has_a_row_with_its_times_and_digests(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker()):
        flaky, five = await postgres.start("flaky"), await postgres.start("five")
        await all_over(postgres, [flaky, five])
    tries = await steps_of(postgres, flaky)
    assert [(row.attempt, row.status) for row in tries] == [
        (1, StepStatus.WAITING),
        (2, StepStatus.WAITING),
        (3, StepStatus.DONE),
    ]
    assert [row.failure.kind if row.failure else None for row in tries] == ["Unavailable", "Unavailable", None]
    for row in (*tries, *(row for row in await steps_of(postgres, five) if row.attempt)):
        assert row.queued_at is not None
        assert row.started_at is not None
        assert row.ended_at is not None
        assert row.queued_at <= row.started_at <= row.ended_at
        assert len(row.input_sha256) == 64
    assert tries[0].ended_at is not None
    assert tries[1].queued_at is not None
    assert tries[0].ended_at <= tries[1].queued_at
    assert tries[-1].output_json == '{"value":null}'


async def test_an_approval_leaves_its_whole_story(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker()):
        key = await postgres.start("reminded")
        await postgres.until(key, is_asking)
        async with postgres.database.reading() as tx:
            approval = (await approvals.of_run(tx, key))[0]
        assert approval.question == "May it be?"
        assert [step.place for step in approval.plan] == ["done"]
        await postgres.until(key, is_over)
    told = [leaf for leaf in await leaves_of(postgres, key) if leaf.event.noun == "approval"]
    assert [leaf.event for leaf in told] == [
        Event.APPROVAL_REQUESTED,
        Event.APPROVAL_REMINDED,
        Event.APPROVAL_REMINDED,
        Event.APPROVAL_ESCALATED,
        Event.APPROVAL_EXPIRED,
    ]
    asked = told[0].fields["approval"]
    assert isinstance(asked, dict)
    assert asked["id"] == approval.id == approvals.approval_id(key, "approval")
    assert asked["plan_sha256"] == plan_digest(approval.plan) == approval.plan_sha256


async def test_a_run_that_waits_for_people_is_held_by_nobody(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker(slots=1)):
        keys = [await postgres.start("approve") for _ in range(3)]
        for key in keys:
            await postgres.until(key, is_asking)
        for key in keys:
            await until(partial(is_free, postgres, key))
            await postgres.decide(key, EVA, "approved")
        assert {state.status for state in await all_over(postgres, keys)} == {RunStatus.DONE}


async def is_free(stage: PostgresStage, key: RunKey) -> bool:
    return (await row_of(stage, key)).owner is None


async def as_truth(value: bool) -> bool:  # noqa: FBT001  it is what it says
    return value


async def test_work_that_takes_too_long_counts_as_timed_out_and_is_tried_again(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker()):
        key = await postgres.start("slow")
        state = await postgres.until(key, is_over)
    assert state.failure is not None
    assert state.failure.kind == "TimedOut"
    assert state.steps["it"].tries == 2


# --- several workers --------------------------------------------------------------------------------------------------


async def test_two_workers_share_the_runs_and_each_piece_of_work_is_done_once(
    postgres: PostgresStage, database_url: str, sealer: Sealer
) -> None:
    one, other = Script(), Script()
    async with Database(database_url, sealer) as elsewhere:
        second = PostgresStage(elsewhere)
        async with at_work(postgres.worker(one, slots=4, name="one"), second.worker(other, slots=4, name="other")):
            keys = [await postgres.start("five") for _ in range(50)]
            states = await all_over(postgres, keys)
    assert {state.status for state in states} == {RunStatus.DONE}
    assert set((one.calls + other.calls).values()) == {1}
    assert (one.calls + other.calls).total() == 250
    assert one.calls
    assert other.calls
    for key in keys[::10]:
        await leaves_of(postgres, key)


async def test_when_a_worker_dies_another_continues_within_two_seconds(
    postgres: PostgresStage, database_url: str
) -> None:
    # A machine that does other things as well may do them during one takeover.
    took_s: list[float] = []
    while not took_s or (took_s[-1] >= 2.0 and len(took_s) < 3):
        took_s.append(await takeover_s(postgres, database_url))
    assert took_s[-1] < 2.0, took_s


async def takeover_s(postgres: PostgresStage, database_url: str) -> float:
    """Seconds from a worker's death until its run is over in the hands of another, each step of it done once."""
    doomed, other = Script(), Script()
    dying = asyncio.create_task(postgres.worker(doomed).run(asyncio.Event()))
    key = await postgres.start("hold")
    assert await doomed.held.get() == key.run
    async with at_work(postgres.worker(other)):
        await until(lambda: is_registered(postgres, 2))
        other.let_go(key.run)
        first = await oldest_worker(postgres)
        which = HOLDS_A_LOCK.replace("= 72384", f"= 72384 and l.objid = {first}::oid")
        assert cut(database_url, which=which) == 1
        with pytest.raises(Unavailable):
            await dying
        began_s = asyncio.get_running_loop().time()
        state = await postgres.until(key, is_over)
        took_s = asyncio.get_running_loop().time() - began_s
    assert state.status is RunStatus.DONE
    assert doomed.places(key) == ["before", "it"]
    assert other.places(key) == ["it", "after"]
    await leaves_of(postgres, key)
    return took_s


async def is_registered(stage: PostgresStage, count: int) -> bool:
    async with stage.database.reading() as tx:
        return len(await workers.list_workers(tx)) == count


async def oldest_worker(stage: PostgresStage) -> int:
    async with stage.database.reading() as tx:
        row = await tx.row("select number from regie.worker order by number limit 1")
    assert row is not None
    return int(row["number"])


async def test_a_worker_that_was_taken_for_dead_writes_nothing_more(postgres: PostgresStage) -> None:
    late, other = Script(), Script()
    loop = postgres.worker(late)
    dying = asyncio.create_task(loop.run(asyncio.Event()))
    key = await postgres.start("hold")
    await late.held.get()
    async with at_work(postgres.worker(other)):
        async with postgres.database.transaction() as tx:
            await tx.change("delete from regie.worker where id = %(id)s", {"id": loop.actor.id})
        await other.held.get()
        before = await row_of(postgres, key), await steps_of(postgres, key), await leaves_of(postgres, key)
        late.let_go(key.run)
        await until(lambda: as_truth(not loop.hands))
        assert before == (await row_of(postgres, key), await steps_of(postgres, key), await leaves_of(postgres, key))
        other.let_go(key.run)
        assert (await postgres.until(key, is_over)).status is RunStatus.DONE
    assert late.places(key) == ["before", "it"]
    with pytest.raises(FencedOut):
        await dying


async def test_a_worker_that_is_told_to_stop_finishes_its_work_and_leaves_the_rest_to_others(
    postgres: PostgresStage,
) -> None:
    loop = postgres.worker()
    async with at_work(loop) as stop:
        key = await postgres.start("hold")
        await postgres.script.held.get()
        stop.set()
        await until(lambda: as_truth(all(live.is_leaving for live in loop.live.values())))
        postgres.script.let_go(key.run)
    state = await postgres.engine.state(key)
    assert state.steps["it"].status is StepStatus.DONE
    assert state.steps["after"].status is StepStatus.RUNNING
    row = await row_of(postgres, key)
    assert row.owner is None
    assert postgres.script.places(key) == ["before", "it"]
    async with at_work(postgres.worker()):
        await postgres.until(key, is_over)
    assert postgres.script.places(key) == ["before", "it", "after"]


async def test_a_pause_while_work_is_out_lets_nothing_follow_it(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker()):
        key = await postgres.start("hold")
        assert await postgres.script.held.get() == key.run
        await postgres.pause(key)
        postgres.script.let_go(key.run)
        state = await postgres.until(key, lambda state: state.status is RunStatus.PAUSED)
        state = await postgres.until(key, lambda state: state.steps["it"].status is StepStatus.DONE)
        assert "after" not in state.steps
        assert postgres.script.places(key) == ["before", "it"]
    # Another worker finds it paused, and keeps it so.
    async with at_work(postgres.worker()):
        await postgres.a_moment()
        assert (await postgres.engine.state(key)).status is RunStatus.PAUSED
        await postgres.resume(key)
        assert (await postgres.until(key, is_over)).status is RunStatus.DONE
    assert postgres.script.places(key) == ["before", "it", "after"]
    await leaves_of(postgres, key)


async def test_runs_that_are_paused_at_any_moment_do_everything_once(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker(slots=4), postgres.worker(slots=4, name="other")):
        keys = [await postgres.start("many" if number == 0 else "five") for number in range(12)]
        for number, key in enumerate(keys):
            async with postgres.database.transaction() as tx:
                before = RunState.model_validate_json(await runs.state_of(tx, key, lock=True))
                if not before.status.is_final:
                    await runs.pause(tx, key, OPERATOR, Paused(by="cli"))
            if number % 3:
                await asyncio.sleep(0.01)
        for key in keys:
            async with postgres.database.transaction() as tx:
                before = RunState.model_validate_json(await runs.state_of(tx, key, lock=True))
                if not before.status.is_final:
                    await runs.resume(tx, key, OPERATOR, Resumed(by="cli"))
        for key in keys:
            assert (await postgres.until(key, is_over)).status is RunStatus.DONE
            await leaves_of(postgres, key)
    assert set(postgres.script.calls.values()) == {1}


async def was_taken_again(stage: PostgresStage, key: RunKey) -> bool:
    return (await row_of(stage, key)).fence > 1


async def test_a_run_that_this_version_cannot_read_does_not_take_the_worker_down(postgres: PostgresStage) -> None:
    key = RunKey("acme", "things", str(uuid.uuid4()))
    new = NewRun(
        key=key,
        workflow="things.five",
        release=RELEASE.digest,
        definition_digest=RELEASE.definition("things.five").digest,
        trigger_key="unreadable",
        started_by=OPERATOR,
        state_json='{"from": "another version"}',
    )
    async with postgres.database.transaction() as tx:
        await runs.start(tx, new)
    async with at_work(postgres.worker(slots=2)):
        fine = await postgres.start("five")
        assert (await postgres.until(fine, is_over)).status is RunStatus.DONE
        await until(lambda: was_taken_again(postgres, key))
    row = await row_of(postgres, key)
    assert (row.status, row.owner) == (RunStatus.RUNNING, None)


async def test_what_no_database_takes_fails_its_step_instead_of_being_tried_for_ever(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker(slots=2)):
        key = await postgres.start("unkept", word="eva\x00@example.com")
        state = await postgres.until(key, is_over)
    assert state.status is RunStatus.FAILED
    assert state.failure is not None
    assert "cannot be stored" in state.failure.message


# --- steps that reach nothing outside, and commits of many runs -------------------------------------------------------


async def test_steps_that_reach_nothing_outside_are_committed_together_each_with_its_row(
    postgres: PostgresStage,
) -> None:
    async with at_work(postgres.worker()):
        key = await postgres.start("unthinkable", word="fine")
        assert (await postgres.until(key, is_over)).status is RunStatus.DONE
    assert (await row_of(postgres, key)).seq == 1
    assert [(step.place, step.status) for step in await steps_of(postgres, key)] == [
        ("one", StepStatus.DONE),
        ("bad", StepStatus.DONE),
        ("2", StepStatus.DONE),
    ]
    await leaves_of(postgres, key)


async def test_of_several_steps_in_a_row_only_the_one_that_cannot_be_stored_fails(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker()):
        keys = [await postgres.start("unthinkable", word=word) for word in ("fine", "no number", "good")]
        states = [await postgres.until(key, is_over) for key in keys]
    assert [state.status for state in states] == [RunStatus.DONE, RunStatus.FAILED, RunStatus.DONE]
    assert states[1].failure is not None
    assert "cannot be stored" in states[1].failure.message
    assert [(step.place, step.status) for step in await steps_of(postgres, keys[1])] == [
        ("one", StepStatus.DONE),
        ("bad", StepStatus.FAILED),
    ]


async def test_a_step_that_takes_long_does_not_keep_what_was_done_before_it(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker()):
        key = await postgres.start("musing")
        await postgres.until(key, lambda state: state.steps.get("it") is not None)
        await postgres.cancel(key)
        postgres.script.let_go(key.run)
        assert (await postgres.until(key, is_over)).status is RunStatus.CANCELLED
    assert "after" not in postgres.script.places(key)


async def test_who_cancels_between_a_step_in_passing_and_its_commit_goes_first(
    postgres: PostgresStage, decider: Decider
) -> None:
    key = await postgres.start("unthinkable")
    decider.arm(CrashPoint.BEFORE_COMMIT, key, EVA, cancels=True)
    async with at_work(postgres.worker()):
        assert (await postgres.until(key, is_over)).status is RunStatus.CANCELLED
    assert await steps_of(postgres, key) == []


async def test_one_commit_that_cannot_be_written_does_not_hold_up_the_others(postgres: PostgresStage) -> None:
    """Many at once go into one transaction, of which one spoils the rest unless they are written singly."""
    keys = [
        await (postgres.start("unkept", word="\x00") if number % 7 == 0 else postgres.start("thoughts"))
        for number in range(70)
    ]
    async with at_work(postgres.worker(slots=70)):
        for number, key in enumerate(keys):
            wanted = RunStatus.FAILED if number % 7 == 0 else RunStatus.DONE
            assert (await postgres.until(key, is_over)).status is wanted
    for key in keys[::5]:
        await leaves_of(postgres, key)


# --- decisions that meet something else -------------------------------------------------------------------------------


class Decider:
    """Decides from a thread of its own, while the worker stands still at a crash point until that is committed."""

    def __init__(self, database_url: str, sealer: Sealer) -> None:
        self.database_url = database_url
        self.sealer = sealer
        self.refused: list[RegieError] = []

    def arm(self, point: str, key: RunKey, by: str, *, cancels: bool = False) -> None:
        def stand_still() -> None:
            thread = threading.Thread(target=lambda: asyncio.run(self._decide(key, by, cancels=cancels)))
            thread.start()
            thread.join()

        crashpoints.arm(point, end=stand_still)

    async def _decide(self, key: RunKey, by: str, *, cancels: bool) -> None:
        try:
            async with Database(self.database_url, self.sealer) as elsewhere:
                stage = PostgresStage(elsewhere)
                await (stage.cancel(key) if cancels else stage.decide(key, by, "approved"))
        except RegieError as error:
            self.refused.append(error)


@pytest.fixture
def decider(database_url: str, sealer: Sealer) -> Iterator[Decider]:
    decider = Decider(database_url, sealer)
    yield decider
    crashpoints.arm("")
    assert decider.refused == []


@pytest.mark.parametrize(("rung", "by"), [(1, EVA), (2, OLE)])
async def test_a_decision_made_while_the_rungs_timer_is_being_taken_in_goes_first(
    postgres: PostgresStage, decider: Decider, rung: int, by: str
) -> None:
    async with at_work(postgres.worker()):
        key = await postgres.start("silent")
        # At once: the first timer is a second away.
        decider.arm(f"{CrashPoint.IN_TIMER}:{rung}", key, by)
        state = await postgres.until(key, is_over)
    assert state.status is RunStatus.DONE
    assert state.steps["approval"].output == {"decision": "approved", "by": by, "comment": "", "rung": rung}
    events = [leaf.event for leaf in await leaves_of(postgres, key)]
    assert Event.APPROVAL_GRANTED in events
    assert (Event.APPROVAL_ESCALATED in events) == (rung == 2)
    assert Event.APPROVAL_EXPIRED not in events
    async with postgres.database.reading() as tx:
        assert await inbox.unconsumed(tx, key) == []


async def test_a_decision_that_comes_between_two_commits_wakes_the_run_again(
    postgres: PostgresStage, decider: Decider
) -> None:
    async with at_work(postgres.worker()):
        key = await postgres.start("three")
        await postgres.until(key, is_asking)
        for _ in range(2):
            await postgres.script.held.get()
        decider.arm(CrashPoint.BEFORE_COMMIT, key, EVA)
        postgres.script.let_go(key.run)
        assert (await postgres.until(key, is_over)).status is RunStatus.DONE


async def test_decisions_that_come_while_other_work_of_the_run_ends_are_never_lost(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker(slots=40)):
        keys = [await postgres.start("both") for _ in range(30)]
        for key in keys:
            await postgres.until(key, is_asking)

        async def both_at_once(key: RunKey) -> None:
            postgres.script.let_go(key.run)
            await postgres.decide(key, EVA, "approved")

        await asyncio.gather(*(both_at_once(key) for key in keys))
        states = await all_over(postgres, keys)
    assert {state.status for state in states} == {RunStatus.DONE}


async def test_a_decision_is_seen_while_other_work_of_the_run_is_out(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker()):
        key = await postgres.start("both")
        await postgres.until(key, is_asking)
        await postgres.script.held.get()
        await postgres.decide(key, EVA, "approved")
        state = await postgres.until(key, lambda state: state.steps["approval"].status is StepStatus.DONE)
        assert state.steps["it"].status is StepStatus.RUNNING
        postgres.script.let_go(key.run)
        await postgres.until(key, is_over)


@pytest.mark.parametrize("begun", [["before", "it"], ["before"]])
async def test_who_cancels_while_a_result_is_written_stops_what_would_follow(
    postgres: PostgresStage, decider: Decider, begun: list[str]
) -> None:
    async with at_work(postgres.worker()):
        key = await postgres.start("hold")
        if len(begun) == 1:
            # The first commit is that of the beginning, which hands out `before`.
            decider.arm(f"{CrashPoint.BEFORE_COMMIT}:2", key, OLE, cancels=True)
        else:
            await postgres.script.held.get()
            decider.arm(CrashPoint.BEFORE_COMMIT, key, OLE, cancels=True)
            postgres.script.let_go(key.run)
        state = await postgres.until(key, is_over)
    assert state.status is RunStatus.CANCELLED
    assert postgres.script.places(key) == begun
    assert {place: step.status for place, step in state.steps.items()} == dict.fromkeys(begun, StepStatus.DONE)
    events = [leaf.event for leaf in await leaves_of(postgres, key)]
    assert events.count(Event.RUN_CANCELLED) == 1
    assert events[-1] is Event.RUN_CLOSED


async def test_a_cancelled_run_awaits_what_is_out_and_asks_nobody_any_more(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker()):
        key = await postgres.start("both")
        await postgres.until(key, is_asking)
        await postgres.script.held.get()
        await postgres.cancel(key)
        await postgres.cancel(key)
        state = await postgres.until(key, lambda state: state.cancelled is not None)
        asked = await postgres.asked(key)
        assert asked is not None
        assert asked.status == "cancelled"
        assert state.steps["it"].status is StepStatus.RUNNING
        with pytest.raises(RegieError, match="cancelled"):
            await postgres.decide(key, EVA, "approved")
        postgres.script.let_go(key.run)
        state = await postgres.until(key, is_over)
    assert (state.status, state.steps["it"].status) == (RunStatus.CANCELLED, StepStatus.DONE)
    events = [leaf.event for leaf in await leaves_of(postgres, key)]
    assert events.count(Event.RUN_CANCELLED) == 1
    assert Event.APPROVAL_WITHDRAWN in events
    assert Event.APPROVAL_EXPIRED not in events


async def test_whoever_wins_between_decision_and_timer_row_log_and_run_tell_the_same(postgres: PostgresStage) -> None:
    async with at_work(postgres.worker()):
        keys = [await postgres.start("silent") for _ in range(12)]

        async def decide_late(key: RunKey, number: int) -> None:
            # A busy machine may show the last rung when it is over, and then silence has won.
            await postgres.until(key, lambda state: is_asking_on_the_last_rung(state) or is_over(state))
            await asyncio.sleep(0.9 + number * 0.015)  # around the second at which silence becomes a no
            with contextlib.suppress(RegieError):
                await postgres.decide(key, OLE, "approved")

        await asyncio.gather(*(decide_late(key, number) for number, key in enumerate(keys)))
        states = await all_over(postgres, keys)
    for key, state in zip(keys, states, strict=True):
        output = state.steps["approval"].output
        assert isinstance(output, dict)
        asked = await postgres.asked(key)
        assert asked is not None
        assert asked.status == output["decision"]
        ends = {Event.APPROVAL_GRANTED, Event.APPROVAL_EXPIRED} & {
            leaf.event for leaf in await leaves_of(postgres, key)
        }
        assert ends == {Event.APPROVAL_GRANTED if asked.status == "approved" else Event.APPROVAL_EXPIRED}


# --- connections and answers that are lost ----------------------------------------------------------------------------


async def supervised(make: Callable[[], WorkerLoop], stop: asyncio.Event) -> int:
    """Start a worker again as often as it dies; gives how often it died."""
    deaths = 0
    while True:
        try:
            await make().run(stop)
        except (Unavailable, FencedOut, OutcomeUnknown):
            deaths += 1
        else:
            return deaths


@pytest.mark.parametrize(("which", "dies"), [(f"not {HOLDS_A_LOCK}", False), ("true", True)])
async def test_runs_finish_although_connections_are_cut_again_and_again(
    postgres: PostgresStage, database_url: str, sealer: Sealer, *, which: str, dies: bool
) -> None:
    stop = asyncio.Event()
    async with Database(database_url, sealer, max_connections=4) as its_own:
        worker = asyncio.create_task(
            supervised(PostgresStage(its_own, postgres.script).worker, stop), name="supervised worker"
        )
        keys = [await postgres.start("many") for _ in range(2)] + [await postgres.start("five") for _ in range(20)]
        cuts = 0
        for _ in range(5):
            with contextlib.suppress(psycopg.Error):
                cuts += await asyncio.to_thread(cut, database_url, which=which)
            await asyncio.sleep(0.1)  # the pace of the cuts; nothing waits for it
        states = [await finished(postgres, key) for key in keys]
        stop.set()
        deaths = await worker
    assert cuts
    assert {state.status for state in states} == {RunStatus.DONE}
    assert (deaths > 0) >= dies
    for key in keys:
        await leaves_of(postgres, key)


async def finished(stage: PostgresStage, key: RunKey) -> RunState:
    """The same as `until`, for a reader whose own connections are cut as well."""
    while True:
        with contextlib.suppress(Unavailable):
            return await stage.until(key, is_over)


class Unhurried(Transaction):
    """A transaction that commits nothing before its end."""

    @contextlib.asynccontextmanager
    async def together(self, *, is_last: bool = False) -> AsyncIterator[None]:
        async with super().together():
            yield


class Forgetful(Database):
    """A database whose answers to commits are lost, every time: never done, done a little later, done at once."""

    lost = 0
    late: ClassVar[set[asyncio.Task[None]]] = set()

    def transaction(self, tenant: str = "") -> AbstractAsyncContextManager[Transaction]:
        return self._lossy()

    @contextlib.asynccontextmanager
    async def _lossy(self) -> AsyncIterator[Transaction]:
        self.lost += 1
        number = self.lost % 3
        async with contextlib.AsyncExitStack() as stack:
            tx = await stack.enter_async_context(super().transaction())
            yield Unhurried(tx.connection, tx.sealer, tx.releases)
            if number == 2:
                self.late.add(asyncio.create_task(self._commit_later(stack.pop_all())))
            if number:
                raise OutcomeUnknown("The connection was lost while committing.")
        raise OutcomeUnknown("The connection was lost while committing.")

    async def _commit_later(self, stack: contextlib.AsyncExitStack) -> None:
        """The server is still at it when somebody already asks; there is nothing to wait for but time."""
        await asyncio.sleep(0.05)
        await stack.aclose()


@pytest.mark.parametrize("workflow", ["five", "approve", "flaky"])
async def test_a_commit_whose_answer_is_lost_is_neither_lost_nor_made_twice(
    postgres: PostgresStage, database_url: str, sealer: Sealer, workflow: str
) -> None:
    key = await postgres.start(workflow)
    forgetful = Forgetful(database_url, sealer)
    await forgetful._pool.open(wait=True)  # `open` itself commits something
    try:
        async with workers.registered(postgres.database, name="it", domains=["things"]) as worker:
            async with postgres.database.transaction() as tx:
                claimed = (await claims.take(tx, worker.id, ["things"], 1)).runs
            actor = Actor(type="worker", id=worker.id)
            await LiveRun(GroupCommit(forgetful), claimed[0], RELEASE, CATALOGUE, postgres.script, actor).live()
    finally:
        await asyncio.gather(*forgetful.late)
        forgetful.late.clear()
        await forgetful.close()
    assert forgetful.lost > 3
    row = await row_of(postgres, key)
    assert row.owner is None
    assert row.fence == 1
    leaves = await leaves_of(postgres, key)
    ended = [leaf for leaf in leaves if leaf.event.noun == "step"]
    assert len({str(leaf.fields["step"]) for leaf in ended}) == len(ended), "no leaf is there twice"
    state = await postgres.engine.state(key)
    match workflow:
        case "approve":
            assert is_asking(state)
        case "flaky":
            assert state.steps["it"].status is StepStatus.WAITING
        case _:
            assert state.status is RunStatus.DONE
    assert set(postgres.script.calls.values()) == {1}


class Absentminded(Database):
    """A database whose answers to commits are lost for a while; everything is done."""

    lost = 0
    is_losing = True

    def transaction(self, tenant: str = "") -> AbstractAsyncContextManager[Transaction]:
        return self._lossy()

    @contextlib.asynccontextmanager
    async def _lossy(self) -> AsyncIterator[Transaction]:
        async with super().transaction() as tx:
            yield tx
        if self.is_losing:
            self.lost += 1
            raise OutcomeUnknown("The connection was lost while committing.")


async def test_a_worker_lives_on_when_only_the_answer_to_looking_for_work_is_lost(
    postgres: PostgresStage, database_url: str, sealer: Sealer
) -> None:
    lossy = Absentminded(database_url, sealer)
    lossy.is_losing = False
    async with lossy, at_work(PostgresStage(lossy, postgres.script).worker()):
        lossy.is_losing = True
        await until(lambda: as_truth(lossy.lost >= 2))
        lossy.is_losing = False
        key = await postgres.start("five")
        await postgres.until(key, is_over)


async def test_what_a_worker_took_without_knowing_is_not_left_lying(
    postgres: PostgresStage, database_url: str, sealer: Sealer
) -> None:
    lossy = Absentminded(database_url, sealer)
    lossy.is_losing = False
    async with lossy, at_work(PostgresStage(lossy, postgres.script).worker()):
        lossy.is_losing = True
        key = await postgres.start("five")
        await until(lambda: _has_owner(postgres, key))
        # It is owned a moment before the answer to that is lost.
        lost = lossy.lost
        await until(lambda: as_truth(lossy.lost > lost + 2))
        lossy.is_losing = False
        await postgres.until(key, is_over)
    assert (await row_of(postgres, key)).fence > 1


async def _has_owner(stage: PostgresStage, key: RunKey) -> bool:
    return (await row_of(stage, key)).owner is not None


async def test_a_start_whose_answer_is_lost_is_moved_all_the_same(
    postgres: PostgresStage, database_url: str, sealer: Sealer
) -> None:
    lossy = Absentminded(database_url, sealer)
    lossy.is_losing = False
    request = a_request("five", dry=False, given={})
    worker = postgres.worker()
    async with lossy, at_work(worker):
        await until(lambda: as_truth(worker.room_for("things") is not None))
        engine = PostgresEngine(lossy, worker)
        lossy.is_losing = True
        with pytest.raises(OutcomeUnknown):
            await engine.start(request)
        assert not worker.hands
        lossy.is_losing = False
        again = await engine.start(request)
        assert not again.is_new
        await postgres.until(again.key, is_over)
