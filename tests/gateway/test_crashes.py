"""A gateway that dies at any crash point: the next attempt ends with the change made once and one receipt."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from regie.core.capabilities import identity, ticket
from regie.core.errors import InvalidInput, OutcomeUnknown, Unavailable
from regie.crashpoints import CrashPoint, arm, crashpoint
from regie.gateway.identify import worker_of
from regie.gateway.vault import VaultFile
from regie.gateway_client import ApplyAnswer, GatewayClient
from regie.store.database import Database, Transaction
from regie.store.sealer import Sealer

from .conftest import alive, build, client_of, pauser
from .stage import JAN, Run, Stage

pytestmark = pytest.mark.slow


class Killed(BaseException):
    """Ends everything, as SIGKILL would; nothing in the gateway may catch it."""


def kill() -> None:
    raise Killed


POINTS = [
    CrashPoint.BEFORE_INTENT,
    CrashPoint.AFTER_INTENT,
    CrashPoint.AFTER_EFFECT,
    CrashPoint.BEFORE_RECEIPT,
    CrashPoint.AFTER_RECEIPT,
]


async def ask_for(client: GatewayClient, run: Run, place: str) -> ApplyAnswer[Any]:
    match place:
        case "disable":
            return await client.apply(run.at(place), identity.DISABLE_ACCOUNT, JAN)
        case "say":
            return await client.apply(run.at(place), ticket.COMMENT, ticket.Comment(ticket="ITSM-1", text="Hello"))
        case "remind":
            new = ticket.NewTicket(queue="Q", title="Remember", text="")
            return await client.apply(run.at(place), ticket.OPEN, new)
        case _:
            return await client.apply(run.at("revoke"), identity.REVOKE_SESSIONS, JAN)


@pytest.mark.parametrize("place", ["disable", "say"])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("is_passed_on", [False, True])
async def test_what_shows_is_done_once(
    stage: Stage, neighbour: GatewayClient, point: CrashPoint, place: str, *, is_passed_on: bool
) -> None:
    run = await stage.start()
    arm(point, end=kill)
    with pytest.raises(Killed):
        await ask_for(stage.client, run, place)
    if is_passed_on:
        run = await stage.pass_on(run)

    answer = await ask_for(neighbour, run, place)

    assert answer.state == "received"
    assert stage.vendor.writes.total() == 1
    assert await run.state() == "received"
    leaves = await run.leaves()
    assert leaves[-1] == "effect:received"
    assert leaves.count("effect:received") == 1
    assert leaves.count("effect:intended") == (2 if point is CrashPoint.AFTER_INTENT else 1)


@pytest.mark.parametrize("point", POINTS)
async def test_what_shows_nowhere_and_hurts_nobody_is_done_at_least_once(
    stage: Stage, neighbour: GatewayClient, point: CrashPoint
) -> None:
    run = await stage.start()
    arm(point, end=kill)
    with pytest.raises(Killed):
        await ask_for(stage.client, run, "remind")

    answer = await ask_for(neighbour, await stage.pass_on(run), "remind")

    assert answer.state == "received"
    may_repeat = point in {CrashPoint.AFTER_EFFECT, CrashPoint.BEFORE_RECEIPT}
    assert stage.vendor.writes.total() == (2 if may_repeat else 1)


@pytest.mark.parametrize("point", POINTS)
async def test_what_shows_nowhere_and_must_happen_once_is_never_done_twice(
    stage: Stage, neighbour: GatewayClient, point: CrashPoint
) -> None:
    run = await stage.start()
    arm(point, end=kill)
    with pytest.raises(Killed):
        await ask_for(stage.client, run, "revoke")
    run = await stage.pass_on(run)

    if point in {CrashPoint.BEFORE_INTENT, CrashPoint.AFTER_RECEIPT}:
        assert (await ask_for(neighbour, run, "revoke")).state == "received"
        assert stage.vendor.writes.total() == 1
    else:
        with pytest.raises(OutcomeUnknown):
            await ask_for(neighbour, run, "revoke")
        assert stage.vendor.writes.total() <= 1
        assert await run.leaves() == ["effect:intended", "effect:lost"]


async def test_a_pending_change_outlives_a_crash_after_its_effect(stage: Stage, neighbour: GatewayClient) -> None:
    run = await stage.start()
    want = identity.Membership(user=JAN.user, group="g1")
    arm(CrashPoint.AFTER_EFFECT, end=kill)
    with pytest.raises(Killed):
        await stage.client.apply(run.at("join"), identity.ADD_TO_GROUP, want)
    stage.vendor.members.add(JAN.user)

    answer = await neighbour.apply((await stage.pass_on(run)).at("join"), identity.ADD_TO_GROUP, want)

    assert answer.state == "received"
    assert stage.vendor.writes.total() == 1


async def test_a_point_ends_the_process_at_the_pass_it_names() -> None:
    arm("after-effect:3", end=kill)
    for _ in range(2):
        crashpoint(CrashPoint.AFTER_EFFECT)
        crashpoint(CrashPoint.BEFORE_INTENT)
    with pytest.raises(Killed):
        crashpoint(CrashPoint.AFTER_EFFECT)


@pytest.mark.parametrize("spec", ["after-lunch", "after-effect:0", "after-effect:x", "after-effect:-1", ":2x"])
def test_a_point_that_does_not_exist_is_refused(spec: str) -> None:
    with pytest.raises(InvalidInput):
        arm(spec)


def test_disarmed_nothing_happens() -> None:
    arm("after-effect", end=kill)
    arm("")
    for point in CrashPoint:
        crashpoint(point)


class Forgetful(Database):
    """Commits, and now and then does not say so."""

    silent = 0
    """How many of the next transactions that write get no answer."""

    @asynccontextmanager
    async def transaction(self, tenant: str = "") -> AsyncIterator[Transaction]:
        async with super().transaction(tenant) as tx:
            yield tx
        if self.silent:
            self.silent -= 1
            raise OutcomeUnknown("the connection was lost while committing")


@pytest.fixture
async def forgetful(url_of: Callable[[str], str], sealer: Sealer) -> AsyncIterator[Forgetful]:
    async with Forgetful(url_of("gateway"), sealer) as opened:
        yield opened


@pytest.mark.parametrize("place", ["disable", "revoke"])
async def test_a_receipt_whose_commit_got_no_answer_is_written_once(
    stage: Stage, forgetful: Forgetful, vault: VaultFile, tokens: dict[str, str], place: str
) -> None:
    run = await stage.start()
    stage.vendor.after_write = lambda: setattr(forgetful, "silent", 2)
    gateway = build(forgetful, vault, tokens, stage.vendor, pauser([]))

    async with alive(gateway), client_of(gateway, tokens[worker_of("identity")]) as client:
        answer = await ask_for(client, run, place)

    assert answer.state == "received"
    assert await run.leaves() == ["effect:intended", "effect:received"]


async def test_an_intent_whose_commit_got_no_answer_is_not_acted_upon(
    stage: Stage, forgetful: Forgetful, vault: VaultFile, tokens: dict[str, str]
) -> None:
    run = await stage.start()
    gateway = build(forgetful, vault, tokens, stage.vendor, pauser([]))
    async with alive(gateway), client_of(gateway, tokens[worker_of("identity")]) as client:
        forgetful.silent = 1
        with pytest.raises(Unavailable):
            await ask_for(client, run, "disable")
        assert stage.vendor.writes.total() == 0

        answer = await ask_for(client, run, "disable")

    assert answer.state == "received"
    assert stage.vendor.writes.total() == 1
