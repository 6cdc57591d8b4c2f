"""The pages about approvals: the plan before the button, and every way in which an answer may not count."""

from __future__ import annotations

import re
import uuid

import pytest

from regie.core.audit import Actor
from regie.core.limit import asking_place
from regie.core.plan import plan_digest
from regie.core.run import EVENT, CloseApproval, Decided
from regie.store import approvals, inbox
from regie.store.keys import RunKey
from regie.web.pages.visitor import COOKIE

from .conftest import Browser
from .stage import ANA, BEN, OLGA, PLAN, RIK, SAM, Stage

pytestmark = pytest.mark.slow

SEEN = plan_digest(list(PLAN))


@pytest.fixture
async def key(stage: Stage) -> RunKey:
    return await stage.start(ticket="ITSM-1", by=Actor(type="person", id=RIK))


@pytest.fixture
async def approval(stage: Stage, key: RunKey) -> str:
    return await stage.ask(key, ANA, BEN)


async def decisions(stage: Stage, key: RunKey) -> list[Decided]:
    async with stage.database.reading() as tx:
        events = [EVENT.validate_json(event.payload_json) for event in await inbox.unconsumed(tx, key)]
    return [event for event in events if isinstance(event, Decided)]


async def say(browser: Browser, approval: str, decision: str = "approved", **fields: str) -> tuple[int, str]:
    """Send the form of an approval; the answer, or the page it leads to."""
    where = f"/approvals/{approval}"
    answer = await browser.send(where, f"{where}/decision", decision=decision, **fields)
    if answer.status_code == 303:
        assert answer.headers["Location"] == where
        return 303, (await browser.open(where)).text
    return answer.status_code, answer.text


async def test_a_run_that_asks_for_more_changes_is_answered_like_any_other(
    stage: Stage, browser: Browser, key: RunKey
) -> None:
    place = asking_place(1)
    approval = await stage.ask(key, ANA, place=place)
    await browser.sign_in(ANA)
    run = (await browser.open(f"/runs/{key.run}")).text
    assert "Ask for more changes than the limit" in run
    assert f"/approvals/{approval}" in (await browser.open("/")).text
    status, shown = await say(browser, approval, comment="Go on.")
    assert status == 303
    assert "Approve</button>" not in shown
    [decided] = await decisions(stage, key)
    assert (decided.place, decided.decision, decided.by) == (place, "approved", ANA)


async def test_the_plan_comes_before_the_buttons(stage: Stage, browser: Browser, approval: str) -> None:
    await browser.sign_in(ANA)
    shown = (await browser.open(f"/approvals/{approval}")).text
    places = [
        shown.index(text)
        for text in ("Offboard Zoë Ünal?", "Jan Janssen", "accountEnabled", "yes</span>", "no</span>", "not a member")
    ]
    assert places == sorted(places)
    assert max(places) < shown.index(">Approve<") < shown.index(">Refuse<")
    for told in (RIK, ANA, BEN, "1 of 2", SEEN[:12], "the next people are asked"):
        assert told in shown
    assert re.findall(r'<form[^>]*action="([^"]*)"', shown) == ["/sign-out", f"/approvals/{approval}/decision"]


@pytest.mark.parametrize("decision", ["approved", "refused"])
async def test_an_answer_counts_once_and_is_said_clearly(
    stage: Stage, browser: Browser, key: RunKey, approval: str, decision: str
) -> None:
    await browser.sign_in(ANA)
    status, shown = await say(browser, approval, decision, comment="Quite <i>sure</i>")
    assert status == 303
    assert f"You have {decision} this" in shown
    assert "Quite &lt;i&gt;sure&lt;/i&gt;" in shown
    assert ">Approve<" not in shown
    assert [(each.decision, each.by, each.comment) for each in await decisions(stage, key)] == [
        (decision, ANA, "Quite <i>sure</i>")
    ]


async def test_a_second_answer_is_refused_and_says_who_was_first(
    stage: Stage, browser: Browser, key: RunKey, approval: str
) -> None:
    await browser.sign_in(BEN)
    open_page = (await browser.open(f"/approvals/{approval}")).text
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', open_page))
    ben = browser.http.cookies[COOKIE]
    await browser.sign_in(ANA)
    await say(browser, approval, "refused")
    browser.be(ben)
    answer = await browser.post(f"/approvals/{approval}/decision", **fields, decision="approved", comment="My words")
    assert answer.status_code == 409
    assert "Your answer was not taken." in answer.text
    assert f"{ANA} has already decided this: refused" in answer.text
    assert [each.by for each in await decisions(stage, key)] == [ANA]


async def test_an_answer_to_another_plan_is_refused_and_shows_the_plan_anew(
    stage: Stage, browser: Browser, key: RunKey, approval: str
) -> None:
    await browser.sign_in(ANA)
    status, shown = await say(browser, approval, plan_sha256="0" * 64, comment="I had a look")
    assert status == 409
    assert "another one than you saw" in shown
    assert ">I had a look</textarea>" in shown
    assert f'name="plan_sha256" value="{SEEN}"' in shown
    assert await decisions(stage, key) == []


async def test_the_requester_may_look_and_not_answer(
    stage: Stage, browser: Browser, key: RunKey, approval: str
) -> None:
    await browser.sign_in(RIK)
    shown = (await browser.open(f"/approvals/{approval}")).text
    assert "somebody else has to decide" in shown
    assert ">Approve<" not in shown
    status, shown = await say(browser, approval, plan_sha256=SEEN)
    assert status == 403
    assert "cannot approve it" in shown
    assert await decisions(stage, key) == []


async def test_a_requester_who_was_asked_still_may_not_answer(stage: Stage, browser: Browser, key: RunKey) -> None:
    approval = await stage.ask(key, ANA, RIK)
    await browser.sign_in(RIK)
    status, shown = await say(browser, approval, plan_sha256=SEEN)
    assert status == 403
    assert "cannot approve it" in shown
    assert await decisions(stage, key) == []


async def test_an_operator_who_was_not_asked_only_looks(
    stage: Stage, browser: Browser, key: RunKey, approval: str
) -> None:
    await browser.sign_in(OLGA)
    shown = (await browser.open(f"/approvals/{approval}")).text
    assert "You have not been asked to decide this" in shown
    assert ">Approve<" not in shown
    status, shown = await say(browser, approval, plan_sha256=SEEN)
    assert status == 403
    assert "has not been asked" in shown
    assert await decisions(stage, key) == []


async def test_strangers_learn_nothing(stage: Stage, browser: Browser, key: RunKey, approval: str) -> None:
    await browser.sign_in(SAM)
    pages = [(await browser.open(f"/approvals/{each}")) for each in (approval, str(uuid.uuid4()), "x", "%00")]
    assert {page.status_code for page in pages} == {404}
    assert len({page.text for page in pages}) == 1
    status, _ = await say(browser, approval, plan_sha256=SEEN)
    assert status == 404
    assert await decisions(stage, key) == []


async def test_after_silence_nobody_can_answer(stage: Stage, browser: Browser, key: RunKey, approval: str) -> None:
    async with stage.database.transaction() as tx:
        await approvals.close(tx, key, CloseApproval(place="approval"))
    await browser.sign_in(ANA)
    shown = (await browser.open(f"/approvals/{approval}")).text
    assert "Nobody decided in time." in shown
    assert ">Approve<" not in shown
    status, shown = await say(browser, approval, plan_sha256=SEEN)
    assert status == 409
    assert "Nobody decided in time: this approval ended" in shown


WRONG: list[dict[str, str]] = [
    {"decision": "yes"},
    {"decision": "timeout"},
    {"decision": "approved", "comment": "x" * 2001},
    {"decision": "approved", "plan_sha256": "x"},
    {"decision": "approved", "by": BEN},
]


async def test_a_form_that_is_wrong_is_explained(stage: Stage, browser: Browser, key: RunKey, approval: str) -> None:
    await browser.sign_in(ANA)
    for fields in WRONG:
        status, shown = await say(browser, approval, **fields)
        assert status == 422, fields
        assert "The form cannot be used" in shown
    as_json = await browser.http.post(
        f"/approvals/{approval}/decision", json={"decision": "approved"}, headers={"Origin": browser.origin}
    )
    assert as_json.status_code == 415
    assert await decisions(stage, key) == []


async def test_without_a_sign_in_an_answer_is_not_taken(
    stage: Stage, browser: Browser, key: RunKey, approval: str
) -> None:
    answer = await browser.post(f"/approvals/{approval}/decision", decision="approved", plan_sha256=SEEN)
    assert answer.status_code == 401
    assert "Please sign in" in answer.text
    assert await decisions(stage, key) == []


async def test_the_inbox_has_what_is_open_first(stage: Stage, browser: Browser, approval: str) -> None:
    second = await stage.ask(await stage.start("umbrella"), BEN)

    async def parts(person: str) -> list[list[str]]:
        await browser.sign_in(person)
        shown = (await browser.open("/approvals")).text.split("<h2")[1:]
        return [re.findall(r'href="/approvals/([0-9a-f-]{36})"', part) for part in shown]

    assert await parts(ANA) == [[approval], []]
    assert await parts(BEN) == [[second, approval], []]
    assert await parts(OLGA) == [[], [second, approval], []]
    await browser.sign_in(BEN)
    await say(browser, approval)
    assert await parts(ANA) == [[], [approval]]
    assert await parts(BEN) == [[second], [approval]]


async def test_looking_changes_nothing(stage: Stage, browser: Browser, key: RunKey, approval: str) -> None:
    async def world() -> object:
        async with stage.database.reading() as tx:
            return [
                await tx.rows(query)
                for query in (
                    "select * from regie.run",
                    "select * from regie.approval",
                    "select * from regie.inbox",
                    "select * from regie.session order by 1",
                    "select * from audit.intake order by entry_id",
                )
            ]

    await browser.sign_in(ANA)
    before = await world()
    for path in (
        "/",
        "/runs",
        f"/runs/{key.run}",
        "/approvals",
        f"/approvals/{approval}",
        f"/approvals/{approval}?decision=approved&plan_sha256={SEEN}",
        f"/approvals/{approval}/decision?decision=approved&plan_sha256={SEEN}",
        "/blocks",
        "/workflows",
        "/sign-in",
        "/sign-out",
    ):
        for method in ("GET", "HEAD"):
            assert (await browser.http.request(method, path)).status_code in (200, 303, 403, 405), path
    assert await world() == before
