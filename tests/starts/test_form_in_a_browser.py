"""A form on a phone of 360 pixels, in a browser that runs no scripts."""

from __future__ import annotations

import pytest
from playwright.async_api import async_playwright, expect

from regie.web.app import make_web

from ..pages.test_browser import CHROMIUM, FLAGS, PHONE, WITHIN_MS, fits, require_chromium  # noqa: TID252  same
from ..web.listening import listening  # noqa: TID252  tests are no installed package, so there is no absolute name
from ..web.stage import LOCAL, OLGA, PASSWORD, SAM, TOKEN, FakeGateway  # noqa: TID252  same
from .stage import WAYS, Starts

pytestmark = pytest.mark.slow


async def test_a_form_on_a_phone_without_scripts(starts: Starts) -> None:
    require_chromium()
    await starts.load(WAYS)
    app = make_web(starts.database, FakeGateway(), operator_token=TOKEN, ways_in=LOCAL)
    async with listening(app) as address, async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, "--no-sandbox"])
        context = await chromium.new_context(
            base_url=address,
            viewport={"width": PHONE[0], "height": PHONE[1]},
            is_mobile=True,
            has_touch=True,
            java_script_enabled=False,
        )
        context.set_default_timeout(WITHIN_MS)
        expect.set_options(timeout=WITHIN_MS)
        page = await context.new_page()
        await page.goto("/forms")
        await page.get_by_label("E-mail address").fill(SAM)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("link", name="Do identity.asked").click()
        await fits(page)
        # A browser would not send this by itself: what it lets through the server refuses.
        await page.get_by_label("Employee").fill("jan@example")
        await page.get_by_label("Names").fill("Ana\nBen")
        await page.get_by_label("Has a laptop").check()
        await page.get_by_role("button", name="Send").click()
        await expect(page.get_by_text("Employee must be one e-mail address", exact=False).last).to_be_visible()
        await expect(page.get_by_label("Names")).to_have_value("Ana\nBen")
        await expect(page.get_by_label("Has a laptop")).to_be_checked()
        await fits(page)
        await page.get_by_label("Employee").fill("jan@example.com")
        await page.get_by_role("button", name="Send").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Do identity.asked")
        [run] = await starts.runs("identity.asked")
        assert page.url.endswith(f"/runs/{run.key.run}")
        assert (await starts.state(run)).facts.given["names"] == ["Ana", "Ben"]
        await context.clear_cookies()
        await starts.look(starts.starter())
        await page.goto("/schedules")
        await page.get_by_label("E-mail address").fill(OLGA)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", name="Schedules")).to_be_visible()
        await fits(page)
        await chromium.close()
