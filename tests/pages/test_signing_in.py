"""Signing in and out: who gets in, what a stolen or forged request can do, where one is led afterwards."""

from __future__ import annotations

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regie.store.database import Database
from regie.web.limits import FAILURES_AT_ONCE
from regie.web.pages.signing_in import own_address
from regie.web.pages.visitor import COOKIE

from .conftest import ORIGIN, Browser
from .stage import ANA, OLGA, PASSWORD, Stage

pytestmark = pytest.mark.slow


async def age(database: Database, **seconds: float) -> None:
    """Make every session look older."""
    async with database.transaction() as tx:
        for column in seconds:
            assert column in {"seen_at", "created_at"}
        await tx.change(
            """update regie.session set seen_at = seen_at - make_interval(secs => %(seen)s::float8),
                                        created_at = created_at - make_interval(secs => %(created)s::float8)""",
            {"seen": seconds.get("seen_at", 0), "created": seconds.get("created_at", 0)},
        )


async def test_a_page_asks_to_sign_in_and_then_goes_on(stage: Stage, browser: Browser) -> None:
    answer = await browser.open("/runs?status=failed")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in?next=%2Fruns%3Fstatus%3Dfailed")
    answer = await browser.send(answer.headers["Location"], "/sign-in", address=ANA.title(), password=PASSWORD)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/runs?status=failed")
    assert (await browser.open("/runs?status=failed")).status_code == 200


async def test_the_cookie_cannot_be_read_or_sent_by_others(stage: Stage, browser: Browser) -> None:
    answer = await browser.sign_in(ANA)
    given = next(line for line in answer.headers.get_list("set-cookie") if line.startswith(f"{COOKIE}="))
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} <= set(given.split("; "))
    assert "Domain" not in given
    async with stage.database.reading() as tx:
        kept = await tx.rows("select * from regie.session")
    assert len(kept) == 1
    assert browser.http.cookies[COOKIE] not in str(kept)


async def test_a_wrong_password_says_the_same_as_an_unknown_address(stage: Stage, browser: Browser) -> None:
    wrong = await browser.sign_in(ANA, "wrong")
    unknown = await browser.sign_in("nobody@example.com", "wrong")
    for answer in (wrong, unknown):
        assert answer.status_code == 401
        assert "Address and password do not fit" in answer.text
        assert COOKIE not in browser.http.cookies
    assert ANA in wrong.text, "the address need not be typed again"
    assert "wrong" not in wrong.text


async def test_failing_too_often_has_to_wait(stage: Stage, browser: Browser) -> None:
    for _ in range(FAILURES_AT_ONCE):
        assert (await browser.sign_in(ANA, "wrong")).status_code == 401
    refused = await browser.sign_in(ANA)
    assert refused.status_code == 429
    assert "Try again in" in refused.text
    assert (await browser.sign_in(OLGA)).status_code == 303


async def test_signing_in_gives_a_new_token_and_ends_the_old_one(stage: Stage, browser: Browser) -> None:
    await browser.sign_in(ANA)
    first = browser.http.cookies[COOKIE]
    await browser.send("/", "/sign-out")
    assert COOKIE not in browser.http.cookies
    await browser.sign_in(ANA)
    assert browser.http.cookies[COOKIE] != first
    second = browser.http.cookies[COOKIE]
    browser.be(first)
    assert (await browser.open("/")).status_code == 303
    browser.be(second)
    assert (await browser.open("/")).status_code == 200


async def test_a_session_ends_when_idle_and_at_last_in_any_case(stage: Stage, browser: Browser) -> None:
    await browser.sign_in(ANA)
    for _ in range(3):
        await age(stage.database, seen_at=29 * 60)
        assert (await browser.open("/")).status_code == 200, "a page keeps it awake"
    await age(stage.database, seen_at=30 * 60 + 1)
    assert (await browser.open("/")).status_code == 303
    await browser.sign_in(ANA)
    await age(stage.database, created_at=12 * 3600 + 1)
    assert (await browser.open("/")).status_code == 303


async def test_looking_often_seldom_writes(stage: Stage, browser: Browser) -> None:
    await browser.sign_in(ANA)

    async def seen() -> object:
        async with stage.database.reading() as tx:
            return await tx.rows("select seen_at from regie.session")

    before = await seen()
    for _ in range(5):
        await browser.open("/runs")
    assert await seen() == before
    await age(stage.database, seen_at=61)
    await browser.open("/runs")
    assert await seen() != before


FORGED: list[tuple[dict[str, str], dict[str, str]]] = [
    ({"Origin": "https://evil.example.com"}, {}),
    ({"Origin": "null"}, {}),
    ({"Origin": "https://["}, {}),
    ({}, {}),
    ({"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"}, {}),
    ({"Origin": ORIGIN}, {"csrf": ""}),
    ({"Origin": ORIGIN}, {"csrf": "0" * 64}),
    ({"Origin": ORIGIN}, {"csrf": "\u00fc"}),
]


@pytest.mark.parametrize(("headers", "fields"), FORGED)
async def test_forged_forms_do_nothing(
    stage: Stage, browser: Browser, headers: dict[str, str], fields: dict[str, str]
) -> None:
    await browser.sign_in(ANA)
    shown = (await browser.open("/")).text
    csrf = shown.split('name="csrf" value="')[1].split('"')[0]
    answer = await browser.http.post("/sign-out", data={"csrf": csrf, **fields}, headers=headers)
    assert answer.status_code == 403
    assert (await browser.open("/")).status_code == 200, "still signed in"
    browser.http.cookies.clear()
    await browser.open("/sign-in")
    said = {"address": ANA, "password": PASSWORD, "csrf": csrf, **fields}
    answer = await browser.http.post("/sign-in", data=said, headers=headers)
    assert answer.status_code == 403
    assert COOKIE not in browser.http.cookies


async def test_a_form_of_another_sign_in_does_nothing(stage: Stage, browser: Browser) -> None:
    await browser.sign_in(OLGA)
    csrf = (await browser.open("/")).text.split('name="csrf" value="')[1].split('"')[0]
    await browser.sign_in(ANA)
    answer = await browser.post("/sign-out", csrf=csrf)
    assert answer.status_code == 403
    assert "from another sign-in" in answer.text


async def test_the_pages_cookie_opens_nothing_of_the_api(stage: Stage, browser: Browser) -> None:
    await browser.sign_in(OLGA)
    assert (await browser.open("/v1/runs")).status_code == 401
    basic = await browser.http.get("/runs", auth=httpx2.BasicAuth(OLGA, PASSWORD))
    assert basic.status_code == 200, "by the cookie"
    browser.http.cookies.clear()
    assert (await browser.http.get("/runs", auth=httpx2.BasicAuth(OLGA, PASSWORD))).status_code == 303


@pytest.mark.parametrize("good", ["/", "/runs?status=done&before=x", "/approvals/1#plan"])
def test_our_own_addresses_are_gone_on_to(good: str) -> None:
    assert own_address(good) == good


@pytest.mark.parametrize(
    "bad",
    [
        "https://evil.example.com/",
        "//evil.example.com",
        "/\\evil.example.com",
        "\\\\evil.example.com",
        "/\t/evil.example.com",
        "\n//evil.example.com",
        "javascript:alert(1)",
        "evil.example.com",
        "",
        "///evil.example.com",
        "//[",
    ],
)
def test_no_link_leads_elsewhere(bad: str) -> None:
    assert own_address(bad) == "/"


@given(st.text(max_size=40))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_wherever_one_is_led_is_here(wanted: str) -> None:
    led = own_address(wanted)
    assert httpx2.URL("https://web").join(led).host == "web"
