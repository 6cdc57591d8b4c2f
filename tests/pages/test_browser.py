"""The demo in a real browser: from the ticket to the end of the run, on a desk and on a phone.

Debian's Chromium is driven; without it these tests are skipped, and fail on CI.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser as Chromium
from playwright.async_api import BrowserContext, ConsoleMessage, Page, Request, async_playwright, expect

from regie.cli.demo_world import LOOKING_AROUND, up_demo
from regie.cli.story import Story, telling
from regie.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
)
OFFICER = "ingrid.larsen@example.com"
REPORTER = "elif.demir@example.com"
DESK, PHONE = (1280, 800), (360, 740)
WITHIN_MS = 60_000


@dataclass
class Watched:
    """What must not happen while a browser is used."""

    console: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)

    def over(self, page: Page) -> None:
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.console.append(str(error)))
        page.on("request", self._see)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.console.append(message.text)

    def _see(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme != "data" and address.hostname != "127.0.0.1":
            self.elsewhere.append(request.url)
        if address.path.endswith("/changes"):
            self.streams.append(request.url)

    def assert_nothing(self) -> None:
        assert self.console == []
        assert self.elsewhere == []


@dataclass
class World:
    """The running demo and a browser."""

    story: Story
    chromium: Chromium

    @asynccontextmanager
    async def person(
        self, address: str, size: tuple[int, int], watched: Watched, *, has_scripts: bool = True
    ) -> AsyncIterator[Page]:
        """Somebody who has signed in, in a browser of their own."""
        services = self.story.services
        context: BrowserContext = await self.chromium.new_context(
            base_url=services.web,
            viewport={"width": size[0], "height": size[1]},
            is_mobile=size == PHONE,
            has_touch=size == PHONE,
            java_script_enabled=has_scripts,
        )
        context.set_default_timeout(WITHIN_MS)
        try:
            page = await context.new_page()
            watched.over(page)
            await page.goto("/approvals")
            await page.get_by_label("E-mail address").fill(address)
            await page.get_by_label("Password").fill(json.loads(services.settings.sign_ins_file.read_text())[address])
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.get_by_role("heading", name="Approvals", level=1)).to_be_visible()
            yield page
        finally:
            await context.close()

    async def ticket(self, employee: str) -> str:
        """A ticket to offboard somebody; the id of its run."""
        request = {"reporter": REPORTER, "employee": employee, "last_day": "2026-12-31"}
        return await self.story.run_of(await self.story.sandbox.open_ticket(request))


def require_chromium() -> None:
    """Skip without Chromium; on CI its absence is a fault."""
    if shutil.which(CHROMIUM) is None:
        why = f"There is no {CHROMIUM}. On Debian: apt-get install chromium"
        if os.environ.get("CI") == "true":  # noqa: TID251  a test may ask where it runs
            pytest.fail(why)
        pytest.skip(why)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory, quick_starts: None) -> AsyncIterator[World]:
    require_chromium()
    expect.set_options(timeout=WITHIN_MS)
    home = tmp_path_factory.mktemp("pages") / "home"
    settings = Settings(home=home, port=0, database_url="", workspace=None, crash_at="")
    async with AsyncExitStack() as stack:
        playwright = await stack.enter_async_context(async_playwright())
        flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        stack.push_async_callback(chromium.close)
        services = await stack.enter_async_context(up_demo(settings, lambda _: None))
        yield World(await stack.enter_async_context(telling(services)), chromium)


async def fits(page: Page) -> None:
    """Make sure that a page fits its window, stands right under its header, and that fingers find its buttons."""
    await page.wait_for_load_state()
    header, brand, content = [
        await page.locator(each).first.bounding_box() for each in ("header", ".brand", "main > :first-child")
    ]
    assert header is not None
    assert brand is not None
    assert content is not None
    assert content["x"] == brand["x"]
    assert content["y"] >= header["y"] + header["height"] + 8, "there is room between them"
    wide, window = await page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= window, f"{page.url} is {wide} wide"
    for button in await page.get_by_role("button").all():
        box = await button.bounding_box()
        assert box is None or box["height"] >= 40, await button.inner_text()


@pytest.mark.parametrize(
    ("size", "employee"), [(DESK, "jan.janssen@example.com"), (PHONE, "zoe.dubois@example.com")], ids=["desk", "phone"]
)
async def test_from_the_ticket_to_the_end_on_the_pages(world: World, size: tuple[int, int], employee: str) -> None:
    watched = Watched()
    async with (
        world.person(LOOKING_AROUND, size, watched) as looking,
        world.person(OFFICER, size, watched) as officer,
    ):
        run = await world.ticket(employee)
        await looking.goto(f"/runs/{run}")
        await looking.evaluate("window.isKept = true")
        await expect(looking.get_by_text("Waits for a yes").first).to_be_visible()
        await fits(looking)
        # The manager stays silent; the page tells by itself that the officer is asked.
        await expect(looking.get_by_text("Rung 2 of 2")).to_be_visible()
        assert await world.story.open_approval(run, rung=2) is not None

        await officer.reload()
        await fits(officer)
        question = await officer.locator(".row .name").first.bounding_box()
        assert question is not None
        assert question["width"] >= 200, "a badge leaves it room"
        await officer.get_by_role("link", name="Offboard").first.click()
        plan = officer.get_by_role("heading", name="What a yes changes")
        approve = officer.get_by_role("button", name="Approve")
        above, below = await plan.bounding_box(), await approve.bounding_box()
        assert above is not None
        assert below is not None
        assert above["y"] < below["y"], "the plan comes first"
        await expect(officer.get_by_text("Switch an account off so that nobody can sign in with it.")).to_be_visible()
        await fits(officer)
        await officer.get_by_label("Comment").fill("Confirmed with HR.")
        await approve.click()
        await expect(officer.get_by_text("You have approved this")).to_be_visible()
        await expect(approve).to_have_count(0)

        await expect(looking.locator(".head .badge", has_text="Done")).to_be_visible()
        assert await looking.evaluate("window.isKept"), "without being loaded again"
        shown = await world.story.end_of(run)
        planned = sum(step["kind"] == "change" for step in shown["approvals"][0]["plan"])
        assert planned >= 4
        # The page gets its head before its changes.
        await expect(looking.get_by_text("Exactly as planned")).to_have_count(planned)
        await expect(looking.get_by_text("chain whole")).to_be_visible()
        await fits(looking)
        assert len(watched.streams) == 1, "one connection for the live page"
        for path in ("/", "/runs", "/figures", "/blocks", "/workflows", "/workflows/identity.offboard_employee"):
            await looking.goto(path)
            await fits(looking)
    watched.assert_nothing()


async def test_an_answer_needs_no_scripts(world: World) -> None:
    watched = Watched()
    async with world.person(OFFICER, PHONE, watched, has_scripts=False) as officer:
        run = await world.ticket("lukasz.nowak@example.com")
        approval = await world.story.open_approval(run, rung=2)
        assert approval is not None
        await officer.goto(f"/runs/{run}")
        # Chromium told to run no scripts still reads pages as if it did, so this part is there and not drawn.
        assert "Your browser runs no scripts" in await officer.content()
        await officer.goto(f"/approvals/{approval['id']}")
        await officer.get_by_role("button", name="Refuse").click()
        await expect(officer.get_by_text("You have refused this")).to_be_visible()
        assert (await world.story.end_of(run))["status"] == "refused"
        await officer.goto(f"/runs/{run}")
        await expect(officer.locator(".head .badge", has_text="Refused")).to_be_visible()
    watched.assert_nothing()


async def test_steering_a_run_needs_no_scripts(world: World) -> None:
    watched = Watched()
    async with world.person(LOOKING_AROUND, PHONE, watched, has_scripts=False) as page:
        run = await world.ticket("soren.holm@example.com")
        assert await world.story.open_approval(run, rung=1) is not None
        await page.goto(f"/runs/{run}")
        for act, button in (("Pause", "Pause the run"), ("Resume", "Resume the run"), ("Cancel", "Cancel the run")):
            link = page.locator(".steer").get_by_role("link", name=act, exact=True)
            box = await link.bounding_box()
            assert box is not None
            assert box["height"] >= 40
            await link.click()
            await page.get_by_label("Reason").fill("A look at it.")
            await fits(page)
            await page.get_by_role("button", name=button).click()
            await fits(page)
        assert (await world.story.end_of(run))["status"] == "cancelled"
        await page.reload()
        await page.locator(".steer").get_by_role("link", name="Repeat from a step").click()
        await fits(page)
        await page.get_by_label("From step").select_option("access")
        await page.get_by_role("button", name="Start the new run").click()
        await expect(page.get_by_text("what stands before it was kept")).to_be_visible()
        await fits(page)
        again = page.url.rpartition("/")[2]
        await page.goto(f"/runs/{again}/cancel")
        await page.get_by_role("button", name="Cancel the run").click()
        assert (await world.story.end_of(again))["status"] == "cancelled"
    watched.assert_nothing()


async def test_with_the_keyboard_alone(world: World) -> None:
    watched = Watched()
    async with world.person(LOOKING_AROUND, DESK, watched) as page:
        await page.goto("/runs")
        await page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to the content")
        await expect(skip).to_be_focused()
        await expect(skip).to_be_in_viewport()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(page.get_by_label("Status")).to_be_focused()
        await page.get_by_role("button", name="Sign out").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        await page.goto("/runs")
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    watched.assert_nothing()
