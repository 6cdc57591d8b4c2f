from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx2
import pytest

from regie.core.audit import Event
from regie.core.block import Context, block
from regie.core.capabilities import identity
from regie.core.capability import Record
from regie.core.checking import validate
from regie.core.errors import Denied, FencedOut, Terminal
from regie.gateway_client import PollRef
from regie.store import polls, releases
from regie.store.polls import Claimed
from regie.worker import polls as polling
from regie.worker.polls import HOLD_S, PollContext
from regie.worker.starting import Starter

from ..web.stage import OPERATOR  # noqa: TID252  tests are no installed package, so there is no absolute name
from .stage import POLLED, Starts, release

pytestmark = pytest.mark.slow

WORKFLOW = "identity.watch"
JAN = identity.UserQuery(user="jan@example.com")


async def claim(starts: Starts) -> Claimed:
    async with starts.database.transaction() as tx:
        digest = (await releases.current(tx)).digest
        [claimed] = await polls.claim(tx, ["identity"], release=digest, hold_s=HOLD_S, most=1)
    return claimed


def ref(claimed: Claimed, **other: str | int) -> PollRef:
    claim = claimed.claim
    return PollRef.model_validate({**claim.key._asdict(), "fence": claim.fence, **other})


async def test_each_new_item_starts_a_run_with_what_the_item_says(starts: Starts) -> None:
    await starts.load({WORKFLOW: POLLED})
    starter = starts.starter()
    starts.vendor.groups = ["g1", "g2"]
    await starts.look(starter)
    assert await starts.given(WORKFLOW) == [{"group": "Group g1"}, {"group": "Group g2"}]
    for run in await starts.runs(WORKFLOW):
        assert (run.started_by.type, run.started_by.id) == ("engine", "poll")
        assert await starts.leaves(run) == [Event.TRIGGER_ACCEPTED, Event.RUN_STARTED]
    starts.vendor.groups = ["g2", "g3"]
    # Not yet due: nothing is asked.
    asked = starts.vendor.reads.total()
    await starts.look(starter)
    assert starts.vendor.reads.total() == asked
    await starts.poll_again()
    await starts.look(starter)
    assert await starts.given(WORKFLOW) == [{"group": f"Group g{number}"} for number in (1, 2, 3)]
    # What was known leaves no trace each time.
    for run in await starts.runs(WORKFLOW):
        assert Event.TRIGGER_REPEATED not in await starts.leaves(run)


async def test_a_flood_of_items_is_taken_in_portions(starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "MOST_AT_ONCE", 4)
    await starts.load({WORKFLOW: POLLED})
    starter = starts.starter()
    starts.vendor.groups = [f"g{number}" for number in range(10)]
    for so_many in (4, 8, 10, 10):
        await starts.look(starter)
        assert len(await starts.runs(WORKFLOW)) == so_many
        [row] = await starts.polls()
        wait = row.next_at - await starts.now()
        assert (wait < timedelta(seconds=11)) == (so_many < 10)
        await starts.poll_again()


@pytest.mark.row("poll-no-answer")
async def test_a_failing_poll_backs_off_says_why_and_recovers(starts: Starts) -> None:
    await starts.load({WORKFLOW: POLLED})
    starter = starts.starter()
    starts.vendor.groups = ["g1"]
    waits = []
    for _ in range(3):
        starts.vendor.read_faults = [lambda _: httpx2.Response(503)] * 9
        await starts.poll_again()
        await starts.look(starter)
        [row] = await starts.polls()
        waits.append(round((row.next_at - await starts.now()).total_seconds(), -1))
    assert waits == [300, 600, 1200]
    assert row.failures == 3
    assert row.failure is not None
    assert row.failure.kind == "Unavailable"
    assert row.failing_since is not None
    assert row.polled_at is None
    starts.vendor.read_faults = []
    await starts.poll_again()
    await starts.look(starter)
    [row] = await starts.polls()
    assert (row.failures, row.failure, row.failing_since) == (0, None, None)
    assert len(await starts.runs(WORKFLOW)) == 1
    told = [leaf.event for leaf in await starts.outside(Event.POLL_FAILED, Event.POLL_RECOVERED)]
    assert told == [Event.POLL_FAILED, Event.POLL_RECOVERED]


@pytest.mark.row("poll-no-key")
async def test_items_without_a_key_are_a_failure_and_do_not_stop_the_others(starts: Starts) -> None:
    await starts.load({WORKFLOW: POLLED.replace("item.id", "item.name")})
    starter = starts.starter()
    starts.vendor.groups = ["g1", "g2"]
    await starts.look(starter)
    assert len(await starts.runs(WORKFLOW)) == 2
    [row] = await starts.polls()
    assert row.failures == 0
    # The directory's rule for this name gives an empty id.
    await starts.load({WORKFLOW: POLLED})
    starts.vendor.groups = ["", "g3"]
    await starts.poll_again()
    await starts.look(starter)
    [row] = await starts.polls()
    assert row.failure is not None
    assert "1 of the items" in row.failure.message
    assert {"group": "Group g3"} in await starts.given(WORKFLOW)


async def test_who_holds_a_poll_no_more_can_neither_ask_nor_write(starts: Starts) -> None:
    await starts.load({WORKFLOW: POLLED})
    await starts.starter()._keep()
    early = await claim(starts)
    await starts.gateway.poll(ref(early), identity.LIST_ACCESS, JAN)
    await starts.poll_again()
    late = await claim(starts)
    assert late.claim.fence > early.claim.fence
    with pytest.raises(FencedOut):
        await starts.gateway.poll(ref(early), identity.LIST_ACCESS, JAN)
    with pytest.raises(FencedOut):
        async with starts.database.transaction() as tx:
            await polls.answered(tx, early.claim, cursor="x", again_s=1)
    await starts.gateway.poll(ref(late), identity.LIST_ACCESS, JAN)


async def test_the_gateway_answers_a_poll_only_what_its_block_needs(starts: Starts) -> None:
    await starts.load({WORKFLOW: POLLED})
    await starts.starter()._keep()
    claimed = await claim(starts)
    with pytest.raises(Denied):
        await starts.gateway.poll(ref(claimed), identity.FIND_MANAGER, JAN)
    with pytest.raises(Denied):
        await starts.gateway.poll(ref(claimed), identity.DISABLE_ACCOUNT, JAN)
    with pytest.raises(Denied):
        await starts.gateway.poll(ref(claimed, domain="support"), identity.LIST_ACCESS, JAN)
    for other in ({"tenant": "globex"}, {"workflow": "identity.other"}, {"start": "0" * 64}, {"fence": 99}):
        with pytest.raises(FencedOut):
            await starts.gateway.poll(ref(claimed, **other), identity.LIST_ACCESS, JAN)
    denied = await starts.outside(Event.CAPABILITY_DENIED)
    assert [leaf.fields["capability"] for leaf in denied] == ["identity.find_manager", "identity.disable_account"]
    assert starts.vendor.writes.total() == 0


async def test_a_poll_changes_nothing(starts: Starts) -> None:
    context = PollContext(starts.gateway, PollRef(tenant="a", domain="b", workflow="c", start="d", fence=1))
    with pytest.raises(Terminal):
        await context.change(identity.DISABLE_ACCOUNT, JAN)


async def test_workers_that_ask_at_the_same_time_ask_once(starts: Starts) -> None:
    await starts.load({WORKFLOW: POLLED})
    starts.vendor.groups = ["g1"]
    workers = [starts.starter() for _ in range(5)]
    await asyncio.gather(*(starts.look(worker) for worker in workers))
    assert starts.vendor.reads.total() == 1
    assert len(await starts.runs(WORKFLOW)) == 1


async def test_the_cursor_stays_where_it_was_when_only_the_rhythm_changes(starts: Starts) -> None:
    await starts.load({WORKFLOW: POLLED})
    await starts.starter()._keep()
    claimed = await claim(starts)
    async with starts.database.transaction() as tx:
        await polls.answered(tx, claimed.claim, cursor="page 7", again_s=0)
    await starts.load({WORKFLOW: POLLED.replace("5m", "1h")})
    await starts.starter()._keep()
    assert (await claim(starts)).cursor == "page 7"
    await starts.load({WORKFLOW: POLLED.replace("settings.watched", "settings.watched | lower")})
    await starts.starter()._keep()
    assert (await claim(starts)).cursor == ""


# --- cursors ----------------------------------------------------------------------------------------------------------


class Line(Record):
    """One line of a book."""

    number: int


class Page(Record):
    """Some lines, and where the next ones are."""

    lines: list[Line]
    cursor: str


BOOK: list[int] = []
ASKED: list[str] = []


@block("book.read")
async def read_book(ctx: Context, after: str) -> Page:
    """Read three lines of a book.

    Example:
        uses: book.read
        with: { after: "7" }
    """
    ASKED.append(after)
    lines = [number for number in BOOK if number > int(after or 0)][:3]
    return Page(lines=[Line(number=number) for number in lines], cursor=str(lines[-1]) if lines else after)


READS = """workflow: identity.read
title: Read
owner: team:test
start:
  poll: { uses: book.read, with: { after: "${{ poll.cursor }}" }, every: 5m, key: item.number }
input:
  line: { type: integer, from: item.number }
steps: [ { end: done } ]
"""


async def test_the_cursor_moves_when_all_items_of_an_answer_have_their_run(
    starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "MOST_AT_ONCE", 2)
    catalogue = {"book.read": read_book}
    definition = validate(READS, "read.yaml", catalogue, {})
    loaded = release({}).model_copy(update={"definitions": {definition.workflow: definition}})
    async with starts.database.transaction() as tx:
        await releases.put(tx, loaded, by=OPERATOR)
    starter = Starter(starts.database, catalogue, lambda _: starts.gateway, ["identity"])
    BOOK[:], ASKED[:] = range(1, 6), []
    for so_many in (2, 3, 5, 5):
        await starts.poll_again()
        await starts.look(starter)
        assert len(await starts.runs("identity.read")) == so_many
    assert ASKED == ["", "", "3", "5"]
    BOOK.append(6)
    await starts.poll_again()
    # Another worker knows what the first one has left behind.
    await starts.look(Starter(starts.database, catalogue, lambda _: starts.gateway, ["identity"]))
    assert await starts.given("identity.read") == [{"line": number} for number in range(1, 7)]
