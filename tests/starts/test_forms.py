from __future__ import annotations

import asyncio
import html
import re

import httpx2
import pytest

from regie.core.audit import Event

from ..pages.conftest import Browser  # noqa: TID252  tests are no installed package, so there is no absolute name
from ..web.stage import ANA, OLGA, RIK, SAM  # noqa: TID252  same
from .stage import ASKED, OPEN, TICKETED, Starts

pytestmark = pytest.mark.slow

FORM = "/forms/acme/identity.asked"
GOOD = {"field.employee": "jan.janssen@example.com", "field.laptop": "on", "field.names": "Ana\r\n Ben \r\n\r\n"}


@pytest.fixture
async def browser(starts: Starts) -> Browser:
    await starts.load({"identity.asked": ASKED, "identity.open": OPEN, "identity.ticketed": TICKETED})
    return Browser(starts.http)


def told(answer: httpx2.Response, field: str) -> str:
    """The message beside a field."""
    found = re.search(rf'id="field-{field}-fault">([^<]*)<', answer.text)
    return html.unescape(found[1]) if found else ""


async def test_a_list_shows_the_forms_one_may_use(browser: Browser) -> None:
    await browser.sign_in(RIK)
    page = (await browser.open("/forms")).text
    assert "/forms/acme/identity.open" in page
    assert FORM not in page
    for person in (SAM, OLGA):
        await browser.sign_in(person)
        assert FORM in (await browser.open("/forms")).text


async def test_a_form_for_everyone_is_for_everybody_of_its_tenant(browser: Browser, starts: Starts) -> None:
    await browser.sign_in(RIK)
    address = "/forms/acme/identity.open"
    token = re.search(r'name="token" value="(\w+)"', (await browser.open(address)).text)
    assert token is not None
    await browser.sign_in(ANA)
    assert "Acme" not in (await browser.open("/forms")).text
    assert (await browser.open(address)).status_code == 404
    assert (await browser.send("/", address, token=token[1])).status_code == 404
    assert await starts.runs("identity.open") == []


@pytest.mark.row("form-not-mine")
async def test_what_one_may_not_use_does_not_exist(browser: Browser, starts: Starts) -> None:
    await browser.sign_in(RIK)
    token = re.search(r'name="token" value="(\w+)"', (await browser.open("/forms/acme/identity.open")).text)
    assert token is not None
    for address in (FORM, "/forms/acme/identity.ticketed", "/forms/nobody/identity.open", "/forms/acme/identity.none"):
        assert (await browser.open(address)).status_code == 404
        sent = await browser.send("/forms/acme/identity.open", address)
        assert sent.status_code == 404
    assert await starts.runs("identity.asked") == []


async def test_a_form_asks_for_each_field_in_its_own_way(browser: Browser) -> None:
    await browser.sign_in(SAM)
    page = (await browser.open(FORM)).text
    for shown in (
        '<label for="field-employee">Employee</label>',
        "The address they sign in with.",
        'name="field.employee" type="email" maxlength="10000" value="" aria-describedby="field-employee-help" required',
        'name="field.last_day" type="date"',
        '<option value="leaves" selected>leaves</option>',
        'name="field.laptop" type="checkbox"',
        'name="field.days" type="number" step="1"',
        'name="field.hours" type="number" step="any" value="1.5"',
        '<textarea id="field-names" name="field.names"',
    ):
        assert shown in page, shown


async def test_what_was_filled_in_starts_a_run_of_whoever_signed_in(browser: Browser, starts: Starts) -> None:
    await browser.sign_in(SAM)
    answer = await browser.send(FORM, FORM, **GOOD)
    assert answer.status_code == 303
    [run] = await starts.runs("identity.asked")
    assert answer.headers["Location"] == f"/runs/{run.key.run}"
    assert (run.started_by.type, run.started_by.id, run.requester) == ("person", SAM, SAM)
    assert (await browser.open(answer.headers["Location"])).status_code == 200
    assert (await starts.state(run)).facts.given == {
        "employee": "jan.janssen@example.com",
        "laptop": True,
        "names": ["Ana", "Ben"],
    }
    assert await starts.leaves(run) == [Event.TRIGGER_ACCEPTED, Event.RUN_STARTED]


@pytest.mark.row("form-wrong-fields")
async def test_what_is_wrong_is_said_beside_its_field_and_what_was_typed_stays(
    browser: Browser, starts: Starts
) -> None:
    await browser.sign_in(SAM)
    bad = {
        "field.employee": "<b>jan",
        "field.last_day": "tomorrow",
        "field.kind": "stays",
        "field.days": "1.5",
        "field.hours": "nan",
        "field.names": "x" * 10_001,
    }
    answer = await browser.send(FORM, FORM, **bad)
    assert answer.status_code == 422
    assert told(answer, "employee") == "Employee must be one e-mail address such as jan.janssen@example.com."
    assert told(answer, "last_day") == "Last day must be a date such as 2026-11-30."
    assert told(answer, "kind") == "Kind must be one of leaves, moves."
    assert told(answer, "days") == "Days must be a whole number."
    assert told(answer, "hours") == "Hours must be a number."
    assert told(answer, "names") == "Names must have at most 10000 characters."
    assert told(answer, "laptop") == ""
    assert 'value="&lt;b&gt;jan"' in answer.text
    assert "<b>jan" not in answer.text
    assert await starts.runs("identity.asked") == []
    answer = await browser.send(FORM, FORM)
    assert told(answer, "employee") == "Employee is missing."
    # Corrected and sent again from the page that said so.
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', answer.text))
    assert (await browser.post(FORM, **{**hidden, **GOOD})).status_code == 303


@pytest.mark.row("form-sent-again")
@pytest.mark.row("form-sent-again-changed")
async def test_the_same_page_sent_many_times_starts_one_run(browser: Browser, starts: Starts) -> None:
    await browser.sign_in(SAM)
    page = (await browser.open(FORM)).text
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    answers = await asyncio.gather(*(browser.post(FORM, **{**hidden, **GOOD}) for _ in range(5)))
    answers += [await browser.post(FORM, **{**hidden, **GOOD})]
    [run] = await starts.runs("identity.asked")
    assert {(answer.status_code, answer.headers["Location"]) for answer in answers} == {(303, f"/runs/{run.key.run}")}
    # The page once more, with other answers: nothing is lost without a word.
    other = await browser.post(FORM, **{**hidden, **GOOD, "field.days": "3"})
    assert other.status_code == 409
    assert f"/runs/{run.key.run}" in other.text
    assert len(await starts.runs("identity.asked")) == 1
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', other.text))
    assert (await browser.post(FORM, **{**hidden, **GOOD, "field.days": "3"})).status_code == 303
    assert len(await starts.runs("identity.asked")) == 2


async def test_a_token_belongs_to_whoever_got_it(browser: Browser, starts: Starts) -> None:
    address = "/forms/acme/identity.open"
    await browser.sign_in(SAM)
    page = (await browser.open(address)).text
    token = re.findall(r'name="token" value="(\w+)"', page)[0]
    assert (await browser.send(address, address)).status_code == 303
    await browser.sign_in(RIK)
    assert (await browser.send(address, address, token=token)).status_code == 303
    assert {run.started_by.id for run in await starts.runs("identity.open")} == {SAM, RIK}


@pytest.mark.row("form-forged")
async def test_a_forged_form_starts_nothing(browser: Browser, starts: Starts) -> None:
    await browser.sign_in(SAM)
    page = (await browser.open(FORM)).text
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    good = {**hidden, **GOOD}
    assert (await starts.http.post(FORM, data=good, headers={"Origin": "https://evil.example"})).status_code == 403
    assert (await starts.http.post(FORM, data=good)).status_code == 403
    assert (await browser.post(FORM, **{**good, "csrf": "0" * 64})).status_code == 403
    assert (await browser.post(FORM, **{**good, "token": "x"})).status_code == 422
    many = {f"field.x{number}": "" for number in range(300)}
    assert (await browser.post(FORM, **{**good, **many})).status_code == 422
    starts.http.cookies.clear()
    assert (await browser.post(FORM, **good)).status_code == 401
    assert (await browser.open(FORM)).headers["Location"].startswith("/sign-in")
    assert await starts.runs("identity.asked") == []


async def test_fields_that_the_form_does_not_have_do_not_count(browser: Browser, starts: Starts) -> None:
    await browser.sign_in(SAM)
    answer = await browser.send(FORM, FORM, **GOOD, **{"field.admin": "true", "dry": "true"})
    assert answer.status_code == 303
    [run] = await starts.runs("identity.asked")
    assert "admin" not in (await starts.state(run)).facts.given
    assert not run.dry
