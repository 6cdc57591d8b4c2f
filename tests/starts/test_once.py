"""Five deliveries of each kind of trigger, one after the other and all at once, start one run each."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from regie.core.audit import Event

from ..pages.conftest import Browser  # noqa: TID252  tests are no installed package, so there is no absolute name
from ..web.stage import AS_OPERATOR, SAM, ticket_created  # noqa: TID252  same
from .stage import WAYS, Starts

pytestmark = pytest.mark.slow

TIMES = 5
Deliver = Callable[[], Awaitable[object]]


async def by_webhook(starts: Starts) -> Deliver:
    headers = {"X-Hub-Signature": "good"}
    return lambda: starts.http.post("/v1/inbound/acme/jira", json=ticket_created(), headers=headers)


async def by_api(starts: Starts) -> Deliver:
    wanted = {"tenant": "acme", "workflow": "identity.open"}
    headers = {**AS_OPERATOR, "Idempotency-Key": "order-17"}
    return lambda: starts.http.post("/v1/runs", json=wanted, headers=headers)


async def by_form(starts: Starts) -> Deliver:
    browser = Browser(starts.http)
    await browser.sign_in(SAM)
    address = "/forms/acme/identity.asked"
    page = (await browser.open(address)).text
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    return lambda: browser.post(address, **{**hidden, "field.employee": "jan@example.com"})


async def by_schedule(starts: Starts) -> Deliver:
    workers = [starts.starter() for _ in range(TIMES)]
    await starts.look(workers[0])
    await starts.be_away(timedelta())

    async def deliver() -> None:
        # The worst of all: the row says again and again that this time has not been dealt with.
        await starts.be_away(timedelta())
        await starts.look(workers.pop())

    return deliver


async def by_poll(starts: Starts) -> Deliver:
    starts.vendor.groups = ["g1"]
    workers = [starts.starter() for _ in range(TIMES)]

    async def deliver() -> None:
        worker = workers.pop()
        await worker._keep()
        # As if nobody had asked yet, and nobody held it.
        await starts.poll_again()
        await starts.look(worker)

    return deliver


async def by_event(starts: Starts) -> Deliver:
    data = {"office": "Delft", "days": 5, "person": {"email": "jan@example.com"}}
    told = {"tenant": "acme", "domain": "identity", "event": "employee.leave", "data": data}
    headers = {**AS_OPERATOR, "Idempotency-Key": "leaver-17"}
    return lambda: starts.http.post("/v1/events", json=told, headers=headers)


KINDS = {
    "identity.ticketed": by_webhook,
    "identity.open": by_api,
    "identity.asked": by_form,
    "identity.nightly": by_schedule,
    "identity.watch": by_poll,
    "identity.told": by_event,
}


@pytest.mark.parametrize("workflow", KINDS)
@pytest.mark.parametrize("is_at_once", [False, True], ids=["one after the other", "all at once"])
async def test_five_deliveries_start_one_run(starts: Starts, workflow: str, *, is_at_once: bool) -> None:
    await starts.load(WAYS)
    deliver = await KINDS[workflow](starts)
    if is_at_once:
        await asyncio.gather(*(deliver() for _ in range(TIMES)))
    else:
        for _ in range(TIMES):
            await deliver()
    [run] = await starts.runs(workflow)
    leaves = await starts.leaves(run)
    assert leaves[:2] == [Event.TRIGGER_ACCEPTED, Event.RUN_STARTED]
    assert set(leaves[2:]) <= {Event.TRIGGER_REPEATED}
