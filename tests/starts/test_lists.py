"""What starts by itself is listed: by the API, on a page, on the command line, by the doctor."""

from __future__ import annotations

from datetime import timedelta

import httpx2
import pytest

from ..pages.conftest import Browser  # noqa: TID252  same
from ..web.stage import AS_OPERATOR, OLGA, RIK  # noqa: TID252  same
from .stage import POLLED, SCHEDULED, Starts

pytestmark = pytest.mark.slow

WAYS = {"identity.nightly": SCHEDULED, "identity.watch": POLLED}


async def test_the_api_lists_schedules_and_polls_the_next_first(starts: Starts) -> None:
    await starts.load(WAYS, tenants=("acme", "globex"))
    before = (await starts.http.get("/v1/schedules", headers=AS_OPERATOR)).json()["items"]
    assert [(line["kind"], line["tenant"]) for line in before] == [
        ("poll", "acme"),
        ("poll", "globex"),
        ("schedule", "acme"),
        ("schedule", "globex"),
    ]
    starter = starts.starter()
    await starts.look(starter)
    await starts.be_away(timedelta())
    await starts.look(starter)
    after = (await starts.http.get("/v1/schedules", headers=AS_OPERATOR)).json()["items"]
    nightly = {line["tenant"]: line for line in after if line["kind"] == "schedule"}
    runs = {run.key.tenant: run.key.run for run in await starts.runs("identity.nightly")}
    assert {tenant: line["last_run"] for tenant, line in nightly.items()} == runs
    assert nightly["acme"]["next_at"] == before[2]["next_at"]
    assert nightly["acme"]["starts_by"] == "the schedule 30 3 * * * in Europe/Amsterdam"


async def test_only_operators_see_them(starts: Starts) -> None:
    await starts.load(WAYS)
    assert (await starts.http.get("/v1/schedules")).status_code == 401
    browser = Browser(starts.http)
    await browser.sign_in(RIK)
    assert (await browser.open("/schedules")).status_code == 403
    assert "/schedules" not in (await browser.open("/")).text


async def test_a_page_shows_what_is_next_and_what_fails(starts: Starts) -> None:
    await starts.load(WAYS)
    starts.vendor.read_faults = [lambda _: httpx2.Response(503)] * 9
    await starts.look(starts.starter())
    browser = Browser(starts.http)
    await browser.sign_in(OLGA)
    page = await browser.open("/schedules")
    assert page.status_code == 200
    assert "the schedule 30 3 * * * in Europe/Amsterdam" in page.text
    assert "each new item of identity.list_access, asked every 5m" in page.text
    assert '<span class="badge failed">fails</span>' in page.text
    [row] = await starts.polls()
    assert row.failure is not None
    assert row.failure.message in page.text
    await starts.load({"identity.open": "start: { form: { who: everyone } }"})
    assert "No workflow starts by a schedule or a poll." in (await browser.open("/schedules")).text
