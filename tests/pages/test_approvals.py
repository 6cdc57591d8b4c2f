"""The pages about approvals: the plan before the button, and every way in which an answer may not count."""

from __future__ import annotations

import re
import uuid

import pytest

from regie.core.audit import Actor
from regie.core.classification import Classification
from regie.core.limit import asking_place
from regie.core.plan import Change, FieldChange, PlannedStep, plan_digest
from regie.core.run_commands import CloseApproval
from regie.core.run_events import EVENT, Decided
from regie.store import approvals, inbox, releases
from regie.store.keys import RunKey
from regie.web.pages.approvals import PAGE
from regie.web.pages.visitor import COOKIE

from .conftest import Browser
from .stage import ANA, BEN, OFFBOARD, OLGA, OPERATOR, PLAN, RIK, SAM, Stage, make_release

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


async def test_who_asked_for_which_run_and_what_silence_means_stand_above_the_plan(
    stage: Stage, browser: Browser, approval: str
) -> None:
    await browser.sign_in(ANA)
    shown = (await browser.open(f"/approvals/{approval}")).text
    above = shown[: shown.index("What a yes changes")]
    for told in (f"Asked for by {RIK}", "ITSM-1", "Without an answer in time the next people are asked as well."):
        assert told in above
    for page in (above, (await browser.open("/approvals")).text):
        assert re.search(r"\(in (59 min \d+ s|1 h 0 min)\)", page), "how long is left"


async def test_a_question_without_a_plan_promises_nothing(stage: Stage, browser: Browser, key: RunKey) -> None:
    approval = await stage.ask(key, ANA, plan=())
    await browser.sign_in(ANA)
    shown = (await browser.open(f"/approvals/{approval}")).text
    assert "This question shows no plan. What the run changes afterwards is not bound to the answer." in shown
    assert "nothing else" not in shown
    assert "What a yes changes" not in shown
    assert "no plan" in (await browser.open("/approvals")).text


async def test_the_plan_of_a_run_that_asks_for_more_changes_is_no_promise(
    stage: Stage, browser: Browser, key: RunKey
) -> None:
    approval = await stage.ask(key, ANA, place=asking_place(1))
    await browser.sign_in(ANA)
    shown = (await browser.open(f"/approvals/{approval}")).text
    assert "A yes is not bound to it" in shown
    assert "nothing else" not in shown


def changing(place: str, title: str, field: FieldChange) -> PlannedStep:
    capability = "identity.remove_from_group"
    change = Change(capability=capability, target=f"group:{place}", title=title, fields=(field,))
    return PlannedStep(place=place, uses=capability, planned=change)


async def test_a_long_plan_is_counted_first_grouped_and_whole(stage: Stage, browser: Browser, key: RunKey) -> None:
    truth, number = (
        FieldChange(field="member", before=before, after=after) for before, after in ((True, False), (1, 0))
    )
    same = [changing(f"close[{index}]", f"Group {index:03}", truth) for index in range(200)]
    other = [changing("close[200]", "Another group", number)]
    approval = await stage.ask(key, ANA, plan=(*same, *other))
    await browser.sign_in(ANA)
    shown = (await browser.open(f"/approvals/{approval}")).text
    assert "The same for 200" in shown, "and not for what Python takes for equal: yes and 1"
    for step in (*same, *other):
        assert isinstance(step.planned, Change)
        assert shown.count(step.planned.title) == 1
    assert (
        shown.index("201 changes") < shown.index("201 × ") < shown.index("Group 000") < shown.index("<summary>192 more")
    )
    assert shown.index('href="#answer"') < shown.index('id="answer"')
    await browser.sign_in(OLGA)
    assert 'href="#answer"' not in (await browser.open(f"/approvals/{approval}")).text


async def give(stage: Stage, key: RunKey, **given: str) -> None:
    """Have a run been given this input."""
    state = (await stage.state(key)).model_copy(update={"input": given})
    async with stage.database.transaction() as tx:
        sealed = tx.sealer.seal(
            state.model_dump_json().encode(), tenant=key.tenant, domain=key.domain, table="run.state", pk=key.run
        )
        await tx.change("update regie.run set state = %(s)s where id = %(id)s", {"s": sealed, "id": key.run})


async def test_the_input_is_shown_as_on_the_page_of_the_run(
    stage: Stage, browser: Browser, key: RunKey, approval: str
) -> None:
    await give(stage, key, employee="zoe.unal@example.com", last_day="2026-12-31")
    await browser.sign_in(ANA)
    shown = (await browser.open(f"/approvals/{approval}")).text
    assert shown.index("z•••@example.com") < shown.index("What a yes changes")
    assert "zoe.unal" not in shown
    assert "2026-12-31" not in shown
    assert "/values" not in shown
    await browser.sign_in(OLGA)
    shown = (await browser.open(f"/approvals/{approval}")).text
    assert "zoe.unal" not in shown, "who looks at it leaves a leaf, on the page of values"
    assert f'href="/runs/{key.run}/values"' in shown


async def test_the_input_is_shown_in_full_where_everybody_who_sees_the_run_may_see_it(
    stage: Stage, browser: Browser
) -> None:
    release = make_release()
    domain = release.domains["identity"].model_copy(update={"classification": Classification.INTERNAL})
    fields = (release.definitions[OFFBOARD].input[0].model_copy(update={"title": "Who leaves"}),)
    definition = release.definitions[OFFBOARD].model_copy(update={"input": fields})
    changed = {
        "domains": {**release.domains, "identity": domain},
        "definitions": {**release.definitions, OFFBOARD: definition},
    }
    async with stage.database.transaction() as tx:
        await releases.put(tx, release.model_copy(update=changed), by=OPERATOR)
    key = await stage.start(trigger="internal")
    approval = await stage.ask(key, ANA)
    await give(stage, key, employee="zoe.unal@example.com", last_day="2026-12-31")
    await browser.sign_in(ANA)
    shown = (await browser.open(f"/approvals/{approval}")).text
    plan = shown.index("What a yes changes")
    assert shown.index("Who leaves") < shown.index("zoe.unal@example.com") < shown.index("2026-12-31") < plan


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


async def test_of_a_cancelled_run_it_is_said_that_nobody_needs_to_decide(
    stage: Stage, browser: Browser, key: RunKey, approval: str
) -> None:
    async with stage.database.transaction() as tx:
        await approvals.close(tx, key, CloseApproval(place="approval", decision="cancelled"))
    await browser.sign_in(ANA)
    shown = (await browser.open(f"/approvals/{approval}")).text
    assert "The run was cancelled." in shown
    assert "Nobody decided in time." not in shown


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


async def test_the_last_page_names_no_older_one_even_when_it_is_full(stage: Stage, browser: Browser) -> None:
    for number in range(PAGE):
        await stage.ask(await stage.start(trigger=str(number)), ANA)
    await browser.sign_in(OLGA)
    assert "Older</a>" not in (await browser.open("/approvals")).text
    await stage.ask(await stage.start(trigger="one more"), ANA)
    following = re.search(r'href="(/approvals\?before=[^"]+)"', (await browser.open("/approvals")).text)
    assert following is not None
    assert "Older</a>" not in (await browser.open(following[1])).text
