"""The pages of records: what is due when, for whoever may see it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest

from regie.core.capabilities.record import NewRecord
from regie.core.release import Release
from regie.core.tenant import RecordField, RecordKind, RecordState
from regie.store import records
from regie.store.records import Shelf

from .conftest import Browser
from .stage import ANA, OLGA, SAM, Stage, make_release

pytestmark = pytest.mark.slow

KIND = RecordKind(
    title="Certificates",
    about="What endpoints present.",
    due="Expires",
    begins="not_before",
    fields=(
        RecordField(field="findings", title="Findings", at_a_glance=True),
        RecordField(field="owner", title="Owner"),
    ),
    states=(
        RecordState(state="expired", title="Expired", tone="bad"),
        RecordState(state="due", title="Due", tone="run"),
        RecordState(state="healthy", title="Healthy", tone="good"),
    ),
    seen_by=("certificate-owner",),
)


@pytest.fixture
def release() -> Release:
    made = make_release()
    domains = {**made.domains, "identity": made.domains["identity"].model_copy(update={"records": {"endpoint": KIND}})}
    acme = made.tenants["acme"].model_copy(update={"roles": {"certificate-owner": (ANA,)}})
    return made.model_copy(update={"domains": domains, "tenants": {**made.tenants, "acme": acme}})


New = Callable[[datetime], NewRecord]


def endpoint(name: str, state: str, days: float, **more: str | list[str]) -> New:
    """One that is due so many days after now and lives for 90."""

    def made(now: datetime) -> NewRecord:
        due = now + timedelta(days=days)
        value = {"not_before": (due - timedelta(days=90)).isoformat(), **more}
        return NewRecord(key=name, state=state, due_at=due, value=value)

    return made


def endless(name: str) -> New:
    return lambda _: NewRecord(key=name, state="healthy")


async def keep(stage: Stage, tenant: str, *new: New, kind: str = "endpoint") -> None:
    async with stage.database.transaction() as tx:
        now = await tx.clock()
        await records.put(tx, Shelf(tenant, "identity", kind), [each(now) for each in new], by="a step")


def listed(page: str) -> Sequence[str]:
    return re.findall(r'<span class="name">([^<]+)</span>', page)


async def test_what_is_due_first_stands_first_with_how_much_of_its_time_is_over(stage: Stage, browser: Browser) -> None:
    await keep(
        stage,
        "acme",
        endpoint("later.example.com:443", "healthy", 60.01, owner="zoë@example.com"),
        endpoint("gone.example.com:443", "expired", -2.01, findings=["expired", "unreachable:timeout"]),
        endless("silent.example.com:443"),
    )
    await keep(stage, "umbrella", endpoint("soon.example.com:443", "due", 9.01))
    await browser.sign_in(OLGA)
    page = (await browser.open("/records/identity/endpoint")).text
    assert listed(page) == [
        "gone.example.com:443",
        "soon.example.com:443",
        "later.example.com:443",
        "silent.example.com:443",
    ]
    assert "2 days ago" in page
    assert "in 9 days" in page
    assert "expired, unreachable:timeout" in page
    assert "zoë@example.com" in page
    assert 'aria-label="90 % of its time is over"' in page
    assert "<script" not in page
    assert "style=" not in page, "the policy of the pages forbids styles that are no file of ours"


async def test_the_bars_lead_to_what_they_stand_for(stage: Stage, browser: Browser) -> None:
    await keep(
        stage,
        "acme",
        *(endpoint(f"week-{day}.example.com:443", "healthy", day + 0.01) for day in (1, 8, 300)),
        endpoint("past.example.com:443", "expired", -400),
    )
    await browser.sign_in(OLGA)
    page = (await browser.open("/records/identity/endpoint")).text
    bars = [address.replace("&amp;", "&") for address in re.findall(r'<a href="([^"]+)" aria-label="1 ', page)]
    assert [listed((await browser.open(bar)).text) for bar in bars] == [
        ["past.example.com:443"],
        ["week-1.example.com:443"],
        ["week-8.example.com:443"],
        ["week-300.example.com:443"],
    ]


async def test_they_are_filtered_by_customer_and_state(stage: Stage, browser: Browser) -> None:
    await keep(stage, "acme", endpoint("a:443", "due", 3), endpoint("b:443", "healthy", 70))
    await keep(stage, "umbrella", endpoint("c:443", "due", 4))
    await browser.sign_in(OLGA)
    assert listed((await browser.open("/records/identity/endpoint?state=due&tenant=")).text) == ["a:443", "c:443"]
    assert listed((await browser.open("/records/identity/endpoint?state=&tenant=acme")).text) == ["a:443", "b:443"]
    assert "Nothing fits." in (await browser.open("/records/identity/endpoint?tenant=nobody")).text
    assert (await browser.open("/records/identity/endpoint?since=yesterday")).status_code == 422
    assert (await browser.open("/records/identity/endpoint?after=nonsense")).status_code == 422


async def test_a_thousand_are_shown_in_pages_each_once(stage: Stage, browser: Browser) -> None:
    await keep(stage, "acme", *(endpoint(f"same-{each}", "due", 5) for each in range(70)))
    await keep(stage, "acme", *(endless(f"never-{each}") for each in range(50)))
    await browser.sign_in(OLGA)
    address, names = "/records/identity/endpoint", list[str]()
    for _ in range(3):
        page = (await browser.open(address)).text
        names += listed(page)
        following = re.search(r'<p class="pager"><a class="button" href="([^"]+)"', page)
        address = following[1].replace("&amp;", "&") if following else ""
    assert address == ""
    assert len(names) == len(set(names)) == 120
    assert all(each.startswith("same") for each in names[:70])


async def test_whoever_has_the_role_sees_their_customers_and_nobody_else_any(stage: Stage, browser: Browser) -> None:
    await keep(stage, "acme", endpoint("ours:443", "due", 3))
    await keep(stage, "umbrella", endpoint("theirs:443", "due", 4))
    await keep(stage, "acme", endpoint("inner", "due", 4), kind="reminder")
    await browser.sign_in(ANA)
    assert "1 Due" in (await browser.open("/records")).text
    page = (await browser.open("/records/identity/endpoint")).text
    assert listed(page) == ["ours:443"]
    assert "umbrella" not in page
    assert listed((await browser.open("/records/identity/endpoint?tenant=umbrella")).text) == []
    assert (await browser.open("/records/identity/reminder")).status_code == 404
    await browser.sign_in(SAM)
    assert (await browser.open("/records/identity/endpoint")).status_code == 404
    assert "no records that you may see" in (await browser.open("/records")).text


async def test_what_others_wrote_is_text(stage: Stage, browser: Browser) -> None:
    await keep(stage, "acme", endpoint("<b>x</b>", "healthy", 3, owner="<script>alert(1)</script>"))
    await browser.sign_in(OLGA)
    page = (await browser.open("/records/identity/endpoint")).text
    assert "<b>x" not in page
    assert "<script" not in page
