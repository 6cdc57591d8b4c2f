"""The page of figures: bars and numbers of what whoever looks may see."""

from __future__ import annotations

import re

import pytest

from .conftest import Browser
from .stage import ANA, OLGA, SAM, Stage

pytestmark = pytest.mark.slow


async def test_it_shows_what_stands_what_ended_and_bars(stage: Stage, browser: Browser) -> None:
    await stage.ask(await stage.start(), ANA)
    await stage.finish(await stage.start(trigger="second"))
    await browser.sign_in(OLGA)
    page = (await browser.open("/figures?window=hour")).text
    assert "0 queued · 0 running · 1 waiting" in page
    assert "1 failed" in page
    assert re.search(r'<rect class="failed" x="231" y="0.0" width="8" height="40.0">', page)
    assert "No worker runs" in page
    assert "<script" not in page
    assert page.count('aria-current="true"') == 1


async def test_people_see_their_own_runs_only_and_no_workers(stage: Stage, browser: Browser) -> None:
    await stage.ask(await stage.start(), ANA)
    await browser.sign_in(ANA)
    page = (await browser.open("/figures")).text
    assert "1 waiting" in page
    assert "Workers" not in page
    await browser.sign_in(SAM)
    page = (await browser.open("/figures")).text
    assert "Nothing has run yet that concerns you." in page
    assert "identity" not in page


async def test_a_window_that_is_none_is_a_day(stage: Stage, browser: Browser) -> None:
    await browser.sign_in(OLGA)
    page = (await browser.open("/figures?window=<b>")).text
    assert 'href="/figures?window=day" aria-current="true"' in page


async def test_a_run_shows_how_long_each_step_waited(stage: Stage, browser: Browser) -> None:
    key = await stage.start()
    await stage.ask(key, ANA)
    await stage.finish(key)
    await browser.sign_in(OLGA)
    page = (await browser.open(f"/runs/{key.run}")).text
    assert "2.00 s + 2.00 s" in page, "two attempts queued and ran a second each"
    assert 'rect class="waited"' in page
