"""An approval on a phone of 360 pixels, confirmed with an authenticator that Chromium imitates."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, async_playwright, expect

from regie.cli.ports import free_port
from regie.store import approvals, releases
from regie.store.database import Database
from regie.web.app import make_web
from regie.web.identify import WaysIn

from ..pages.test_browser import CHROMIUM, FLAGS, PHONE, fits, require_chromium  # noqa: TID252  same
from ..web.listening import listening  # noqa: TID252  as elsewhere in tests
from ..web.stage import (  # noqa: TID252  same
    ANA,
    OPERATOR,
    PASSWORD,
    TOKEN,
    FakeGateway,
    Stage,
    make_release,
)

pytestmark = pytest.mark.slow

WITHIN_MS = 60_000
PHONE_WITH_FINGERPRINT = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


async def sign_in(page: Page, then: str) -> None:
    await page.goto(then)
    await page.get_by_label("E-mail address").fill(ANA)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()


async def test_a_yes_on_a_phone_is_signed(database: Database, web_database: Database) -> None:
    require_chromium()
    port, gateway = free_port(), FakeGateway()
    origin = f"http://localhost:{port}"
    app = make_web(web_database, gateway, operator_token=TOKEN, ways_in=WaysIn(has_local_accounts=True, origin=origin))
    async with listening(app, port), async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, "--no-sandbox"])
        context = await chromium.new_context(
            base_url=origin, viewport={"width": PHONE[0], "height": PHONE[1]}, is_mobile=True, has_touch=True
        )
        context.set_default_timeout(WITHIN_MS)
        expect.set_options(timeout=WITHIN_MS)
        page = await context.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        async with database.transaction() as tx:
            await releases.put(tx, make_release(), by=OPERATOR)
        stage = Stage(database, gateway, None)  # type: ignore[arg-type]  # the browser is the client here
        await stage.add_people()
        first = await stage.ask(await stage.start(trigger="first"), ANA)
        second = await stage.ask(await stage.start(trigger="second"), ANA)
        device = await context.new_cdp_session(page)
        await device.send("WebAuthn.enable")
        added = await device.send("WebAuthn.addVirtualAuthenticator", {"options": PHONE_WITH_FINGERPRINT})

        await sign_in(page, "/authenticators")
        await expect(page.get_by_text("You have none.")).to_be_visible()
        await fits(page)
        await page.get_by_label("Name").fill("Zoë's phone")
        await page.get_by_role("button", name="Add the authenticator").click()
        await expect(page.get_by_text("never used")).to_be_visible()
        await fits(page)

        await page.goto(f"/approvals/{first}")
        await fits(page)
        await page.get_by_role("button", name="Approve with your authenticator").click()
        await expect(page.get_by_text("You have approved this")).to_be_visible()

        await page.goto(f"/approvals/{second}")
        await device.send(
            "WebAuthn.setUserVerified", {"authenticatorId": added["authenticatorId"], "isUserVerified": False}
        )
        await page.get_by_role("button", name="Approve with your authenticator").click()
        await expect(page.get_by_text("The authenticator did not confirm")).to_be_visible()
        await fits(page)
        async with database.reading() as tx:
            found = [await approvals.find(tx, each) for each in (first, second)]
        assert [each.status for each in found if each] == ["approved", "open"]
        assert faults == []
        await chromium.close()
