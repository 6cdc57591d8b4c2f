"""The pages on which a person steers a run: what is offered to whom, asked once more, and done by a form."""

from __future__ import annotations

import re

import pytest

from regie.core.audit import Actor
from regie.core.status import RunStatus
from regie.store import runs, workers
from regie.store.commits import StepCommit
from regie.store.keys import RunKey

from .conftest import Browser
from .stage import ANA, OLGA, RIK, SAM, Stage

pytestmark = pytest.mark.slow


async def acts(browser: Browser, key: RunKey) -> list[str]:
    html = (await browser.open(f"/runs/{key.run}")).text
    return re.findall(rf'href="/runs/{key.run}/(cancel|pause|resume|rerun)"', html)


async def test_what_is_offered_fits_the_run_and_whoever_looks(stage: Stage, browser: Browser) -> None:
    key = await stage.start(by=Actor(type="person", id=RIK))
    await stage.ask(key, ANA)
    for person, expected in ((RIK, ["pause", "cancel"]), (OLGA, ["pause", "cancel"]), (ANA, [])):
        await browser.sign_in(person)
        assert await acts(browser, key) == expected
    await stage.finish(key)
    assert await acts(browser, key) == []
    await browser.sign_in(OLGA)
    assert await acts(browser, key) == ["rerun"]


async def test_a_run_is_paused_and_resumed_by_forms(stage: Stage, browser: Browser) -> None:
    key = await stage.start(by=Actor(type="person", id=RIK))
    await browser.sign_in(RIK)
    page = f"/runs/{key.run}/pause"
    answer = await browser.send(page, page, reason="Wait for <HR>.")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/runs/{key.run}")
    html = (await browser.open(f"/runs/{key.run}")).text
    assert f"Paused by {RIK}." in html
    assert "Wait for &lt;HR&gt;." in html
    assert await acts(browser, key) == ["resume", "cancel"]
    page = f"/runs/{key.run}/resume"
    assert (await browser.send(page, page, reason="")).status_code == 303
    assert await acts(browser, key) == ["pause", "cancel"]
    again = await browser.send(page, page, reason="")
    assert again.status_code == 409
    assert "This run is not paused." in again.text


async def test_cancelling_asks_once_more_and_looking_cancels_nothing(stage: Stage, browser: Browser) -> None:
    key = await stage.start(by=Actor(type="person", id=RIK))
    await browser.sign_in(RIK)
    page = f"/runs/{key.run}/cancel"
    asked = await browser.open(page)
    assert "Cancel this run?" in asked.text
    async with stage.database.reading() as tx:
        assert not await runs.is_cancelled(tx, key)
    assert (await browser.post(page, reason="")).status_code == 403, "without the hidden field"
    assert (await browser.send(page, page, reason="Jan stays.")).status_code == 303
    async with stage.database.reading() as tx:
        assert await runs.is_cancelled(tx, key)


@pytest.mark.parametrize("act", ["cancel", "pause", "resume", "rerun"])
async def test_others_are_not_even_asked(stage: Stage, browser: Browser, act: str) -> None:
    key = await stage.start(by=Actor(type="person", id=RIK))
    await stage.ask(key, ANA)
    for person, status in ((ANA, 403), (SAM, 404)):
        await browser.sign_in(person)
        assert (await browser.open(f"/runs/{key.run}/{act}")).status_code == status
        fields = {"from_step": "close"} if act == "rerun" else {"reason": ""}
        assert (await browser.send("/", f"/runs/{key.run}/{act}", **fields)).status_code == status


async def test_a_run_is_repeated_from_the_page_once(stage: Stage, browser: Browser) -> None:
    key = await stage.start(by=Actor(type="person", id=RIK))
    ready = (await stage.state(key)).model_copy(update={"ready": True})
    async with workers.registered(stage.database, name="w", domains=["identity"]) as worker:
        step = StepCommit(state_json=ready.model_dump_json(), status=RunStatus.RUNNING, park_seen=-1)
        await stage.move(key, worker, step)
    await stage.finish(key)
    await browser.sign_in(OLGA)
    page = f"/runs/{key.run}/rerun"
    assert '<option value="approval" selected>' in (await browser.open(page)).text
    answers = [await browser.send(page, page, from_step="approval", release="same") for _ in range(2)]
    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.headers["Location"] for answer in answers}) == 1
    new = (await browser.open(answers[0].headers["Location"])).text
    assert f'href="/runs/{key.run}"' in new
    assert "Repeated by" in (await browser.open(f"/runs/{key.run}")).text
    wrong = await browser.send(page, page, from_step="nowhere", release="same")
    assert (wrong.status_code, "has no step" in wrong.text) == (409, True)


async def test_a_late_run_is_marked(stage: Stage, browser: Browser) -> None:
    key = await stage.start()
    async with stage.database.transaction() as tx:
        await tx.change("update regie.run set finish_by = started_at", {})
    await browser.sign_in(OLGA)
    for address in (f"/runs/{key.run}", "/runs"):
        assert '<span class="badge late">late</span>' in (await browser.open(address)).text
