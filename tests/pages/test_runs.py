"""The pages about runs: what is shown to whom, in which words, and how fast when there are many."""

from __future__ import annotations

import re
import time
import uuid

import pytest
from fastapi import FastAPI

from regie.core.audit import Actor, Event
from regie.core.children import child_id
from regie.core.run import ChildState, Parent, RunState, StepState
from regie.core.status import RunStatus, StepStatus
from regie.store import audit, run_lists, runs, workers
from regie.store.commits import Kin, StepCommit
from regie.store.keys import RunKey
from regie.store.runs import NewRun

from .conftest import Browser
from .stage import ANA, AS_OPERATOR, BEN, CHANGE, OFFBOARD, OLGA, OPERATOR, RIK, SAM, Stage

pytestmark = pytest.mark.slow

MANY = 2_000
FEWEST_TRIES, MOST_TRIES = 5, 50
QUICK_S = 0.1
"""What a page of runs may take at the server, however many runs there are."""


def main_of(html: str) -> str:
    return html.split("<main", 1)[1]


async def answered(stage: Stage, browser: Browser) -> RunKey:
    """A run with an approval, its change applied."""
    key = await stage.start(ticket="ITSM-7", by=Actor(type="person", id=RIK))
    approval = await stage.ask(key, ANA, BEN)
    await browser.sign_in(ANA)
    await browser.send(
        f"/approvals/{approval}", f"/approvals/{approval}/decision", decision="approved", comment="Fine."
    )
    await stage.finish(key)
    return key


async def test_the_overview_shows_what_waits_runs_and_failed(stage: Stage, browser: Browser) -> None:
    key = await stage.start(ticket="ITSM-1", trigger="a")
    await stage.ask(key, ANA)
    failed = await stage.start(ticket="ITSM-2", trigger="b")
    await stage.ask(failed, BEN)
    await stage.finish(failed)
    await stage.start(ticket="ITSM-3", trigger="c")
    await browser.sign_in(OLGA)
    shown = main_of((await browser.open("/")).text)
    assert "Nothing waits for your answer." in shown
    for ticket in ("ITSM-1", "ITSM-2", "ITSM-3"):
        assert ticket in shown
    await browser.sign_in(ANA)
    shown = main_of((await browser.open("/")).text)
    assert "Offboard Zoë Ünal?" in shown
    assert "ITSM-1" in shown
    assert f"asked for by {RIK} · waits for an answer: Offboard Zoë Ünal?" in shown
    assert "ITSM-2" not in shown
    assert "ITSM-3" not in shown


async def test_a_list_is_filtered_and_goes_on(stage: Stage, browser: Browser, app: FastAPI) -> None:
    for number in range(60):
        await stage.start(ticket=f"ITSM-{number}", trigger=str(number))
    await browser.sign_in(OLGA)
    first = (await browser.open("/runs")).text
    following = re.search(r'href="(/runs\?before=[^"]+)"', first)
    assert following is not None
    second = (await browser.open(following[1])).text
    tickets = [re.findall(r'class="ticket">ITSM-(\d+)<', page) for page in (first, second)]
    assert [*map(int, tickets[0] + tickets[1])] == list(range(59, -1, -1))
    found = main_of((await browser.open("/runs?ticket=ITSM-7&status=&workflow=")).text)
    assert re.findall(r'class="ticket">(ITSM-\d+)<', found) == ["ITSM-7"]
    assert "No run fits." in (await browser.open("/runs?status=failed")).text
    for wrong in ("status=x", "before=x", "colour=red"):
        assert (await browser.open(f"/runs?{wrong}")).status_code == 422


async def test_people_see_what_concerns_them(stage: Stage, browser: Browser) -> None:
    asked = await stage.start(trigger="a", ticket="ITSM-1")
    await stage.ask(asked, ANA)
    own = await stage.start(trigger="b", ticket="ITSM-2", by=Actor(type="person", id=SAM))
    other = await stage.start("umbrella", trigger="c", ticket="ITSM-3")

    async def tickets(person: str) -> list[str]:
        await browser.sign_in(person)
        return re.findall(r'class="ticket">(ITSM-\d+)<', (await browser.open("/runs")).text)

    assert await tickets(OLGA) == ["ITSM-3", "ITSM-2", "ITSM-1"]
    assert await tickets(ANA) == ["ITSM-1"]
    assert await tickets(SAM) == ["ITSM-2"]
    assert await tickets(RIK) == ["ITSM-1"], "who asked for it"
    assert await tickets(BEN) == []
    await browser.sign_in(SAM)
    for key, status in ((own, 200), (asked, 404), (other, 404)):
        for path in (f"/runs/{key.run}", f"/runs/{key.run}/changes"):
            if path.endswith("changes") and status == 200:
                continue
            assert (await browser.open(path)).status_code == status
    absent = await browser.open(f"/runs/{uuid.uuid4()}")
    hidden = await browser.open(f"/runs/{asked.run}")
    assert main_of(absent.text) == main_of(hidden.text)
    assert (await browser.open(f"/runs/{own.run}/values")).status_code == 403


async def test_one_run_tells_its_story(stage: Stage, browser: Browser) -> None:
    key = await answered(stage, browser)
    await browser.sign_in(OLGA)
    shown = main_of((await browser.open(f"/runs/{key.run}")).text)
    for told in (
        f"Do {OFFBOARD}",
        "ITSM-7",
        "Failed",
        "The world moved.",
        "Exactly as planned",
        "not a member",
        "entries, chain whole",
        "approval:granted",
        "Fine.",
        "Switch an account off",
        CHANGE.digest[:12],
    ):
        assert told in shown, told
    assert "sse-connect" not in shown, "it is over"


async def test_attempts_are_counted_as_the_api_counts_them(stage: Stage, browser: Browser) -> None:
    key = await answered(stage, browser)
    told = (await browser.http.get(f"/v1/runs/{key.run}", headers=AS_OPERATOR)).json()
    assert [step["attempts"] for step in told["steps"] if step["attempts"] > 1] == [2]
    await browser.sign_in(OLGA)
    shown = main_of((await browser.open(f"/runs/{key.run}")).text)
    assert re.findall(r"(\d+) attempts", shown) == ["2"]


async def test_how_long_people_have_been_taking_is_told_as_the_api_tells_it(stage: Stage, browser: Browser) -> None:
    key = await stage.start()
    await stage.ask(key, ANA)
    async with stage.database.transaction() as tx:
        await tx.change("update regie.approval set asked_at = asked_at - interval '3 hours'", {})
        await tx.change("update regie.run set changed_at = changed_at - interval '3 hours'", {})
    [step] = (await browser.http.get(f"/v1/runs/{key.run}", headers=AS_OPERATOR)).json()["steps"]
    assert 3 * 3600 <= step["own_wait_s"] < 3 * 3600 + 59
    await browser.sign_in(OLGA)
    shown = main_of((await browser.open(f"/runs/{key.run}")).text)
    assert "3 h 0 min" in shown[shown.index('id="steps"') :]


async def test_parent_and_child_link_to_each_other(stage: Stage, browser: Browser) -> None:
    parent = await stage.start(trigger="parent")
    child = parent._replace(run=child_id(parent.run, "close"))
    step = StepState(status=StepStatus.WAITING, child=ChildState(run=child.run, workflow=OFFBOARD))
    state = (await stage.state(parent)).model_copy(update={"steps": {"close": step}, "status": RunStatus.WAITING})
    async with stage.database.transaction() as tx:
        row = await runs.get(tx, parent)
        assert row is not None
        new = NewRun(
            key=child,
            workflow=OFFBOARD,
            release=row.release,
            definition_digest=row.definition_digest,
            trigger_key="child",
            started_by=OPERATOR,
            state_json=(await stage.state(parent)).model_dump_json(),
            parent=Parent(run=parent.run, place="close", lineage=(f"{OFFBOARD}:close",)),
        )
    async with workers.registered(stage.database, name="w", domains=["identity"]) as worker:
        commit = StepCommit(
            state_json=state.model_dump_json(), status=RunStatus.WAITING, park_seen=0, kin=Kin(children=[new])
        )
        await stage.move(parent, worker, commit)
    await browser.sign_in(OLGA)
    assert f'href="/runs/{child.run}"' in main_of((await browser.open(f"/runs/{parent.run}")).text)
    assert f'href="/runs/{parent.run}"' in main_of((await browser.open(f"/runs/{child.run}")).text)


async def test_a_broken_chain_is_said(stage: Stage, browser: Browser) -> None:
    key = await stage.start()
    async with stage.database.transaction() as tx:
        await tx.change("delete from audit.intake where run_id = %(run)s and run_seq = 1", {"run": key.run})
    await browser.sign_in(OLGA)
    shown = (await browser.open(f"/runs/{key.run}")).text
    assert "The chain is broken." in shown
    assert "chain whole" not in shown


async def test_values_are_shown_to_who_has_the_right_and_asks(stage: Stage, browser: Browser) -> None:
    key = await stage.start(by=Actor(type="person", id=RIK))
    await stage.ask(key, ANA)
    async with stage.database.transaction() as tx:
        state = RunState.model_validate_json(await runs.state_of(tx, key))
        told = state.model_copy(
            update={"input": {"employee": "zoe.unal@example.com", "note": "has a <b>secret</b>", "n": 7, "late": True}}
        )
        sealed = tx.sealer.seal(
            told.model_dump_json().encode(), tenant=key.tenant, domain=key.domain, table="run.state", pk=key.run
        )
        await tx.change("update regie.run set state = %(s)s where id = %(id)s", {"s": sealed, "id": key.run})
    for person in (ANA, RIK):
        await browser.sign_in(person)
        shown = (await browser.open(f"/runs/{key.run}")).text
        assert "z•••@example.com" in shown
        assert "text, 19 characters" in shown
        assert "zoe.unal" not in shown
        assert "secret" not in shown
        assert "/values" not in shown
        assert (await browser.open(f"/runs/{key.run}/values")).status_code == 403
    await browser.sign_in(OLGA)
    shown = (await browser.open(f"/runs/{key.run}")).text
    assert "z•••@example.com" in shown
    assert "zoe.unal" not in shown
    assert "secret" not in shown
    whole = (await browser.open(f"/runs/{key.run}/values")).text
    assert "has a &lt;b&gt;secret&lt;/b&gt;" in whole
    assert "is in the audit log" in whole
    async with stage.database.reading() as tx:
        leaves = [leaf for leaf in await audit.read(tx, key) if leaf.event.noun in {"inputs", "request"}]
        assert await audit.verify(tx, key) == []
    assert [(leaf.event, leaf.fields["actor"]) for leaf in leaves] == [
        (Event.REQUEST_DENIED, {"type": "person", "id": ANA}),
        (Event.REQUEST_DENIED, {"type": "person", "id": RIK}),
        (Event.INPUTS_VIEWED, {"type": "person", "id": OLGA}),
    ]


async def test_values_that_were_taken_away(stage: Stage, browser: Browser) -> None:
    key = await stage.start(by=Actor(type="person", id=RIK))
    async with stage.database.transaction() as tx:
        await tx.change("update regie.run set emptied_at = clock_timestamp() where id = %(id)s", {"id": key.run})
    await browser.sign_in(OLGA)
    shown = (await browser.open(f"/runs/{key.run}")).text
    assert "Taken away on" in shown
    assert "/values" not in shown
    assert "were taken away" in (await browser.open(f"/runs/{key.run}/values")).text


async def test_a_page_of_many_runs_is_quick(stage: Stage, browser: Browser) -> None:
    first = await stage.start()
    async with stage.database.transaction() as tx:
        row = await runs.get(tx, first)
        state = await runs.state_of(tx, first)
        assert row is not None
        for number in range(MANY - 1):
            key = RunKey("acme", "identity", str(uuid.uuid4()))
            new = NewRun(
                key=key,
                workflow=row.workflow,
                release=row.release,
                definition_digest=row.definition_digest,
                trigger_key=f"many:{number}",
                started_by=Actor(type="person", id=RIK if number % 2 else SAM),
                state_json=state,
                ticket=f"ITSM-{number}",
                requester=RIK if number % 2 else SAM,
            )
            await runs.start(tx, new)
    async with stage.database.reading() as tx:
        assert sum((await run_lists.count_by_status(tx)).values()) == MANY
    for person in (OLGA, RIK, BEN):
        await browser.sign_in(person)
        for path in ("/runs", "/runs?status=running", "/runs?status=failed", "/runs?ticket=ITSM-1999", "/"):
            took = []
            for _ in range(MOST_TRIES):
                began = time.perf_counter()
                assert (await browser.open(path)).status_code == 200
                took.append(time.perf_counter() - began)
                if len(took) >= FEWEST_TRIES and min(took) < QUICK_S:
                    break
            # The quickest is what the page itself costs; the others tell how busy the machine is.
            assert min(took) < QUICK_S, (person, path, took)
