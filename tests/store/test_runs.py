"""Starting, claiming, committing, parking: who holds a run may write to it, and nobody else."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from regie.core.audit import Event
from regie.core.errors import Failure, FencedOut, InvalidInput
from regie.core.status import RunStatus, StepStatus
from regie.core.tenant import Domain, Quota
from regie.store import audit, choosing, claims, commits, inbox, quotas, run_lists, runs, steps, surroundings, timers
from regie.store.claims import Claimed
from regie.store.commits import StepCommit
from regie.store.database import Database, Transaction
from regie.store.keys import READY, Cursor, RunKey
from regie.store.runs import NewRun
from regie.store.steps import StepRow
from regie.store.workers import Worker
from tests.leaves import read_outside

pytestmark = pytest.mark.slow

Start = Callable[..., Awaitable[RunKey]]
Claim = Callable[..., Awaitable[Claimed]]
MakeNew = Callable[..., NewRun]


async def _due_in(tx: Transaction, domains: list[str]) -> float | None:
    return (await choosing.choose(tx, str(uuid.uuid4()), domains, 0)).due_s


async def events_of(database: Database, key: RunKey) -> list[Event]:
    async with database.reading() as tx:
        assert await audit.verify(tx, key) == []
        return [leaf.event for leaf in await audit.read(tx, key)]


async def everything_of(database: Database, key: RunKey) -> list[object]:
    """All rows of a run, for before and after."""
    async with database.reading() as tx:
        return [
            await tx.rows("select * from regie.run where id = %(run)s", key._asdict()),
            await tx.rows("select * from regie.step where run = %(run)s order by n", key._asdict()),
            await tx.rows("select * from regie.timer where run = %(run)s order by timer", key._asdict()),
            await tx.rows("select * from regie.inbox where run = %(run)s order by n", key._asdict()),
            await tx.rows("select * from audit.intake where run_id = %(run)s order by run_seq", key._asdict()),
        ]


async def test_a_start_is_ready_audited_and_hinted(database: Database, make_new: MakeNew) -> None:
    new = make_new(ticket="ITSM-7", corr="c-1", state_json='{"name": "é"}')
    async with database.listen(READY) as listener:
        async with database.transaction() as tx:
            started = await runs.start(tx, new)
        assert await listener.wait(5) == {"identity"}
    assert started == runs.Started(new.key, is_new=True)
    async with database.reading() as tx:
        row = await runs.get(tx, new.key)
        assert await runs.state_of(tx, new.key) == '{"name": "é"}'
        assert await runs.find(tx, new.key.run) == new.key
        leaves = await audit.read(tx, new.key)
    assert row is not None
    assert (row.status, row.ticket, row.seq, row.owner, row.audit_n) == (RunStatus.RUNNING, "ITSM-7", 0, None, 2)
    assert [leaf.event for leaf in leaves] == [Event.TRIGGER_ACCEPTED, Event.RUN_STARTED]
    assert {(leaf.fields["corr"], leaf.fields["ticket"], leaf.fields["run"]) for leaf in leaves} == {
        ("c-1", "ITSM-7", new.key.run)
    }


async def test_a_beginning_names_one_run_or_all_that_share_it(database: Database, make_new: MakeNew) -> None:
    keys = [RunKey("acme", "identity", f"0123abcd-{number}000-4000-8000-000000000000") for number in range(2)]
    async with database.transaction() as tx:
        for key in keys:
            await runs.start(tx, replace(make_new(), key=key))
    async with database.reading() as tx:
        assert await runs.find(tx, "0123abcd-1") == keys[1]
        assert await runs.find(tx, "0123abc") is None
        with pytest.raises(InvalidInput, match="Several ids begin with 0123abcd") as caught:
            await runs.find(tx, "0123abcd")
    assert caught.value.hint == f"Name one: {keys[0].run}, {keys[1].run}"


async def test_a_worker_gets_what_is_started_when_that_takes_nothing_from_anybody(
    database: Database, make_new: MakeNew, worker: Worker
) -> None:
    async with database.transaction() as tx:
        first = await runs.start(tx, replace(make_new(), worker=worker.id))
        row = await runs.get(tx, first.key)
    assert first.held_at is not None
    assert row is not None
    assert (row.owner, row.fence) == (worker.id, 1)
    assert (await events_of(database, first.key)) == [Event.TRIGGER_ACCEPTED, Event.RUN_STARTED]
    async with database.transaction() as tx:
        assert (await claims.take(tx, worker.id, ["identity"], 10)).runs == []


@pytest.mark.parametrize("why", ["a quota", "a tenant's quota", "another is ready", "a worker that is gone"])
async def test_else_it_is_ready_for_any_worker(
    database: Database, make_new: MakeNew, start: Start, worker: Worker, why: str
) -> None:
    wanted = worker.id
    match why:
        case "a quota" | "a tenant's quota":
            quota = Quota(runs=5) if why == "a quota" else Quota(per_tenant=5)
            domain = Domain(domain="identity", title="Identity", owner="team:x", classification="internal", quota=quota)
            async with database.transaction() as tx:
                await quotas.keep(tx, {"identity": domain})
        case "another is ready":
            await start()
        case _:
            wanted = str(uuid.uuid4())
    async with database.transaction() as tx:
        started = await runs.start(tx, replace(make_new(), worker=wanted))
        row = await runs.get(tx, started.key)
    assert started.held_at is None
    assert row is not None
    assert (row.owner, row.fence) == (None, 0)
    async with database.transaction() as tx:
        taken = (await claims.take(tx, worker.id, ["identity"], 10)).runs
    assert started.key in [each.claim.key for each in taken]


async def test_a_repeated_trigger_gives_the_run_it_started(database: Database, make_new: MakeNew) -> None:
    first, second = make_new(trigger="hook:1"), make_new(trigger="hook:1")
    other_tenant = make_new(tenant="umbrella", trigger="hook:1")
    async with database.transaction() as tx:
        await runs.start(tx, first)
    async with database.transaction() as tx:
        assert await runs.start(tx, second) == runs.Started(first.key, is_new=False)
        assert await runs.start(tx, other_tenant) == runs.Started(other_tenant.key, is_new=True)
    assert await events_of(database, first.key) == [
        Event.TRIGGER_ACCEPTED,
        Event.RUN_STARTED,
        Event.TRIGGER_REPEATED,
    ]


async def test_simultaneous_identical_starts_make_one_run(database: Database, make_new: MakeNew) -> None:
    at_once = asyncio.Barrier(4)

    async def start(new: NewRun) -> runs.Started:
        async with database.transaction() as tx:
            await at_once.wait()
            return await runs.start(tx, new)

    for race in range(25):
        started = await asyncio.gather(*(start(make_new(trigger=f"hook:{race}")) for _ in range(4)))
        assert len({each.key for each in started}) == 1
        assert sorted(each.is_new for each in started) == [False, False, False, True]
        assert (await events_of(database, started[0].key)).count(Event.TRIGGER_REPEATED) == 3


async def test_claims_go_by_priority_then_age_and_only_in_the_domain(
    database: Database, start: Start, worker: Worker
) -> None:
    late, urgent = await start(), await start(prio=1)
    later = await start()
    await start(domain="hr")
    async with database.transaction() as tx:
        claimed = (await claims.take(tx, worker.id, ["identity"], 10)).runs
    assert [each.claim.key for each in claimed] == [urgent, late, later]
    assert [each.claim[1:] for each in claimed] == [(1, 0)] * 3
    assert {each.state_json for each in claimed} == {'{"at": 0}'}
    async with database.transaction() as tx:
        assert (await claims.take(tx, worker.id, ["identity"], 10)).runs == []


async def test_simultaneous_claims_share_without_overlap(database: Database, start: Start, worker: Worker) -> None:
    keys = {await start() for _ in range(60)}

    async def claim_some() -> list[Claimed]:
        async with database.transaction() as tx:
            return (await claims.take(tx, worker.id, ["identity"], 3)).runs

    claimed = [each.claim.key for batch in await asyncio.gather(*(claim_some() for _ in range(20))) for each in batch]
    assert len(claimed) == len(set(claimed))
    # Skipping locked rows may leave some to a next round, never to nobody.
    while batch := await claim_some():
        claimed += [each.claim.key for each in batch]
    assert sorted(claimed) == sorted(keys)


async def test_nobody_unregistered_claims(database: Database, start: Start) -> None:
    await start()
    async with database.transaction() as tx:
        assert (await claims.take(tx, str(uuid.uuid4()), ["identity"], 10)).runs == []


async def test_a_commit_writes_everything(database: Database, start: Start, claim: Claim) -> None:
    key = await start()
    async with database.transaction() as tx:
        await inbox.deliver(tx, key, "a", '{"n": 1}')
        await inbox.deliver(tx, key, "b", '{"n": 2}')
    held = await claim()
    assert [(event.n, event.key, event.payload_json) for event in held.inbox] == [
        (1, "a", '{"n": 1}'),
        (2, "b", '{"n": 2}'),
    ]
    assert held.inbox_n == 2
    failure = Failure(kind="Throttled", message="slow down", may_retry=True, after_s=3.0)
    rows = [
        StepRow(
            place="read",
            attempt=1,
            uses="ticket.read",
            status=StepStatus.DONE,
            input_sha256="ab",
            output_json='{"ok": true}',
            queued_ago_s=3.0,
            started_ago_s=2.0,
            ended_ago_s=1.0,
        ),
        StepRow(place="close", attempt=1, uses="ticket.close", status=StepStatus.WAITING, failure=failure),
    ]
    async with database.transaction() as tx:
        before = await tx.clock()
        done = await commits.commit(
            tx,
            held.claim,
            StepCommit(
                state_json='{"at": 1}',
                status=RunStatus.WAITING,
                requester="an.devries@example.com",
                steps=rows,
                timers_set={"retry:close": 3600.0},
                consumed=["a"],
            ),
        )
        after = await tx.clock()
    assert (done.claim, done.inbox_n) == (held.claim._replace(seq=1), 2)
    async with database.reading() as tx:
        row = await runs.get(tx, key)
        records = await steps.list_steps(tx, key)
        assert [event.key for event in await inbox.unconsumed(tx, key)] == ["b"]
        assert 3590 < (await _due_in(tx, ["identity"]) or 0) <= 3600
        assert await runs.state_of(tx, key) == '{"at": 1}'
    assert row is not None
    assert (row.status, row.requester, row.seq) == (RunStatus.WAITING, "an.devries@example.com", 1)
    read, close = records
    assert (read.place, read.output_json, read.failure) == ("read", '{"ok": true}', None)
    for at, ago_s in ((done.at, 0), (read.ended_at, 1), (read.started_at, 2), (read.queued_at, 3)):
        assert at is not None
        assert before <= at + timedelta(seconds=ago_s) <= after
    assert (close.status, close.failure, close.ended_at) == (StepStatus.WAITING, failure, None)


async def test_a_later_commit_keeps_the_times_it_does_not_know(database: Database, start: Start, claim: Claim) -> None:
    key = await start()
    held = await claim()
    began = StepRow(
        place="read", attempt=1, uses="ticket.read", status=StepStatus.RUNNING, input_sha256="ab", started_ago_s=5
    )
    ended = StepRow(place="read", attempt=1, uses="ticket.read", status=StepStatus.DONE, ended_ago_s=0)
    async with database.transaction() as tx:
        times = [await tx.clock()]
        first = await commits.commit(
            tx, held.claim, StepCommit(state_json="{}", status=RunStatus.RUNNING, steps=[began])
        )
        times.append(await tx.clock())
        await commits.commit(tx, first.claim, StepCommit(state_json="{}", status=RunStatus.RUNNING, steps=[ended]))
        times.append(await tx.clock())
        (record,) = await steps.list_steps(tx, key)
    assert record.started_at is not None
    assert record.ended_at is not None
    assert (record.status, record.input_sha256, record.seq) == (StepStatus.DONE, "ab", 2)
    assert times[0] <= record.started_at + timedelta(seconds=5) <= times[1] <= record.ended_at <= times[2]


@pytest.mark.parametrize(
    "wrong",
    [lambda c: c._replace(fence=c.fence + 1), lambda c: c._replace(fence=c.fence - 1), lambda c: c._replace(seq=5)],
)
async def test_a_commit_without_the_run_writes_nothing(
    database: Database, start: Start, claim: Claim, wrong: Callable[[claims.Claim], claims.Claim]
) -> None:
    key = await start()
    held = await claim()
    before = await everything_of(database, key)
    step = StepRow(place="read", attempt=1, uses="ticket.read", status=StepStatus.DONE)
    async with database.transaction() as tx:
        with pytest.raises(FencedOut):
            await commits.commit(
                tx,
                wrong(held.claim),
                StepCommit(state_json="{}", status=RunStatus.DONE, steps=[step], timers_set={"t": 1}),
            )
        with pytest.raises(FencedOut):
            await claims.park(tx, wrong(held.claim), 0)
    assert await everything_of(database, key) == before


async def test_simultaneous_commits_under_one_claim_let_one_through(
    database: Database, start: Start, claim: Claim
) -> None:
    key = await start()
    held = await claim()

    at_once = asyncio.Barrier(6)

    async def commit(name: str) -> bool:
        async with database.transaction() as tx:
            await at_once.wait()
            try:
                await commits.commit(
                    tx,
                    held.claim,
                    StepCommit(
                        state_json="{}",
                        status=RunStatus.RUNNING,
                        steps=[StepRow(place=name, attempt=1, uses="x.y", status=StepStatus.DONE)],
                    ),
                )
            except FencedOut:
                return False
            return True

    assert sorted(await asyncio.gather(*(commit(f"s{n}") for n in range(6)))) == [False] * 5 + [True]
    async with database.reading() as tx:
        assert len(await steps.list_steps(tx, key)) == 1


async def test_the_end_of_a_run_frees_and_closes_everything(database: Database, start: Start, claim: Claim) -> None:
    key = await start()
    held = await claim()
    async with database.transaction() as tx:
        first = await commits.commit(
            tx, held.claim, StepCommit(state_json="{}", status=RunStatus.WAITING, timers_set={"a": 0, "b": 9})
        )
        await commits.commit(
            tx, first.claim, StepCommit(state_json="{}", status=RunStatus.REFUSED, timers_set={"c": 0})
        )
    async with database.transaction() as tx:
        assert await inbox.deliver(tx, key, "late", "{}")
        row = await runs.get(tx, key)
        assert await _due_in(tx, ["identity"]) is None
        leaves = await audit.read(tx, key)
        with pytest.raises(FencedOut):
            await surroundings.asked(tx, key, held.claim.fence, [])
        assert await commits.was_committed(tx, first.claim)
    assert row is not None
    assert (row.status, row.owner, row.ended_at is not None) == (RunStatus.REFUSED, None, True)
    assert leaves[-1].event is Event.RUN_CLOSED
    assert (leaves[-1].fields["count"], leaves[-1].fields["status"]) == (3, "refused")
    assert await events_of(database, key)
    with pytest.raises(AssertionError):
        await claim()


async def test_a_trigger_repeated_after_the_end_leaves_the_closed_chain_alone(
    database: Database, make_new: MakeNew, claim: Claim
) -> None:
    async with database.transaction() as tx:
        key = (await runs.start(tx, make_new(trigger="hook:1"))).key
    held = await claim()
    async with database.transaction() as tx:
        await commits.commit(tx, held.claim, StepCommit(state_json="{}", status=RunStatus.DONE))
        assert await runs.start(tx, make_new(trigger="hook:1")) == runs.Started(key, is_new=False)
        outside = (await read_outside(tx, "acme", "identity"))[0]
    assert (outside.event, outside.fields["closed_run"]) == (Event.TRIGGER_REPEATED, key.run)
    assert (await events_of(database, key))[-1] is Event.RUN_CLOSED


@pytest.mark.parametrize("together", [False, True])
async def test_parking_sleeps_unless_events_came(
    *, database: Database, start: Start, claim: Claim, together: bool
) -> None:
    key = await start()
    held = await claim()
    state = StepCommit(state_json="{}", status=RunStatus.WAITING, park_seen=0 if together else None)

    async def park(held: Claimed) -> None:
        async with database.transaction() as tx:
            done = await commits.commit(tx, held.claim, state)
            if not together:
                assert await claims.park(tx, done.claim, 0) is (done.inbox_n == 0)

    await park(held)
    with pytest.raises(AssertionError):
        await claim()
    async with database.transaction() as tx:
        assert await inbox.deliver(tx, key, "a", "{}")
        assert not await inbox.deliver(tx, key, "a", "{}")
    held = await claim()
    assert [event.key for event in held.inbox] == ["a"]
    # Parked as if the event had not been seen: ready again at once.
    await park(held)
    assert (await claim()).claim.fence == 3


async def test_an_event_for_an_owned_run_is_seen_when_it_parks(database: Database, start: Start, claim: Claim) -> None:
    key = await start()
    held = await claim()
    async with database.transaction() as tx:
        await inbox.deliver(tx, key, "a", "{}")
    with pytest.raises(AssertionError):
        await claim()
    async with database.transaction() as tx:
        assert not await claims.park(tx, held.claim, held.inbox_n)
    assert [event.key for event in (await claim()).inbox] == ["a"]


async def test_an_event_for_no_run_is_refused(database: Database) -> None:
    with pytest.raises(InvalidInput):
        async with database.transaction() as tx:
            await inbox.deliver(tx, RunKey("acme", "identity", str(uuid.uuid4())), "a", "{}")


async def test_held_asks_for_the_fence(database: Database, start: Start, claim: Claim) -> None:
    key = await start(ticket="ITSM-7", dry=True)
    held = await claim()
    async with database.transaction() as tx:
        run = (await surroundings.asked(tx, key, held.claim.fence, [])).held
        assert (run.workflow, run.ticket, run.dry) == ("identity.offboard_employee", "ITSM-7", True)
        assert run.started_by.id == "jan.janssen@example.com"
        for other in (key._replace(tenant="umbrella"), key._replace(domain="hr")):
            with pytest.raises(FencedOut):
                await surroundings.asked(tx, other, held.claim.fence, [])
        with pytest.raises(FencedOut):
            await surroundings.asked(tx, key, held.claim.fence + 1, [])
        await claims.park(tx, held.claim, 0)
        with pytest.raises(FencedOut):
            await surroundings.asked(tx, key, held.claim.fence, [])


async def test_a_timer_may_be_set_for_a_moment(database: Database, start: Start, claim: Claim) -> None:
    await start()
    held = await claim()
    past, future = datetime(2026, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    async with database.transaction() as tx:
        waits: dict[str, float | datetime] = {"past": past, "future": future, "soon": 3600.0}
        await commits.commit(tx, held.claim, StepCommit(state_json="{}", status=RunStatus.WAITING, timers_set=waits))
    async with database.transaction() as tx:
        assert await _due_in(tx, ["identity"]) == 0
        assert await timers.fire_due(tx, ["identity"]) == 1
        assert 3590 < (await _due_in(tx, ["identity"]) or 0) <= 3600
    async with database.reading() as tx:
        (row,) = await tx.rows("select due_at from regie.timer where timer = 'future'")
    assert row["due_at"] == future


async def test_due_timers_become_events_once_per_setting(database: Database, start: Start, claim: Claim) -> None:
    await start()
    held = await claim()
    async with database.transaction() as tx:
        done = await commits.commit(
            tx,
            held.claim,
            StepCommit(state_json="{}", status=RunStatus.WAITING, timers_set={"a": 0, "b": 0, "c": 3600, "gone": 0}),
        )
        done = await commits.commit(
            tx,
            done.claim,
            StepCommit(state_json="{}", status=RunStatus.WAITING, timers_cleared=["gone"], park_seen=0),
        )

    async def fire(at_once: asyncio.Barrier) -> int:
        async with database.transaction() as tx:
            await at_once.wait()
            return await timers.fire_due(tx, ["identity"])

    five = asyncio.Barrier(5)
    assert sum(await asyncio.gather(*(fire(five) for _ in range(5)))) == 2
    held = await claim()
    assert sorted(event.payload_json for event in held.inbox) == [
        '{"kind": "timer_fired", "timer": "a"}',
        '{"kind": "timer_fired", "timer": "b"}',
    ]
    assert [event.n for event in held.inbox] == [1, 2]
    assert held.inbox_n == 2
    # The same timer set again is another event.
    async with database.transaction() as tx:
        await commits.commit(
            tx,
            held.claim,
            StepCommit(
                state_json="{}",
                status=RunStatus.WAITING,
                timers_set={"a": 0},
                consumed=[event.key for event in held.inbox],
                park_seen=2,
            ),
        )
    assert await fire(asyncio.Barrier(1)) == 1
    assert [event.n for event in (await claim()).inbox] == [3]
    async with database.reading() as tx:
        assert await _due_in(tx, ["hr"]) is None
        assert 3500 < (await _due_in(tx, ["hr", "identity"]) or 0) <= 3600


async def test_lists_page_through_everything_once(database: Database, start: Start) -> None:
    mine = {await start() for _ in range(7)}
    others = {await start(tenant="umbrella", workflow="identity.other") for _ in range(3)}

    async def walk(**which: str) -> list[RunKey]:
        found: list[RunKey] = []
        before: Cursor | None = None
        while True:
            async with database.reading() as tx:
                page = await run_lists.list_runs(tx, limit=2, before=before, **which)  # type: ignore[arg-type]  # texts
            if not page:
                return found
            found += [row.key for row in page]
            before = Cursor.from_query(str(page[-1].cursor))

    everything = await walk()
    assert sorted(everything) == sorted(mine | others)
    assert sorted(await walk(tenant="acme")) == sorted(mine)
    assert sorted(await walk(workflow="identity.other")) == sorted(others)
    assert await walk(tenant="nobody") == []
    async with database.reading() as tx:
        assert await run_lists.count_by_status(tx, tenant="acme") == {RunStatus.RUNNING: 7}
        newest = (await run_lists.list_runs(tx, limit=1))[0]
    assert newest.key == everything[0]


@pytest.mark.parametrize("text", [None, ""])
def test_an_address_without_a_cursor_means_the_first_page(text: str | None) -> None:
    assert Cursor.from_query(text) is None


@pytest.mark.parametrize("text", ["x", "2026-01-01~x", f"2026-01-01T00:00:00~{uuid.UUID(int=1)}"])
def test_a_made_up_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Cursor.from_query(text)


async def test_a_run_whose_state_was_altered_is_set_aside_and_the_others_are_claimed(
    database: Database, make_new: MakeNew, worker: Worker
) -> None:
    async with database.transaction() as tx:
        altered = (await runs.start(tx, make_new())).key
        whole = (await runs.start(tx, make_new())).key
        await tx.change(
            "update regie.run set state = set_byte(state, 20, get_byte(state, 20) # 1) where id = %(run)s",
            altered._asdict(),
        )
    async with database.transaction() as tx:
        claimed = (await claims.take(tx, worker.id, ["identity"], 10)).runs
    assert [each.claim.key for each in claimed] == [whole]
    async with database.reading() as tx:
        row = await runs.get(tx, altered)
    assert row is not None
    assert row.owner is None
    assert (await events_of(database, altered))[-1] is Event.RUN_SET_ASIDE
    async with database.transaction() as tx:
        assert (await claims.take(tx, worker.id, ["identity"], 10)).runs == []
