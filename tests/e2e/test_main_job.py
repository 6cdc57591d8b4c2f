"""What a newcomer sees: the demo, a plan that touches nothing, refusal and silence, the proof of idempotence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from regie import cli

from .conftest import EMPLOYEE, REQUEST, Stage, assert_each_effect_once

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

GIVEN, RULED = "Repository 001", "All of Engineering"
"""Groups that the employee is not in: one that people fill, one that a rule does."""

REGIE = str(Path(sys.executable).parent / "regie")
WITHIN_S = 240.0


def environment(home: Path) -> dict[str, str]:
    # Whoever tests another tree than the installed one means that tree here too.
    tree = str(Path(cli.__file__).parents[2])
    return {
        "PATH": os.defpath,
        "HOME": str(home.parent),
        "PYTHONPATH": tree,
        "REGIE_HOME": str(home),
        "REGIE_PORT": "0",
    }


def regie(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [REGIE, *arguments], capture_output=True, text=True, timeout=WITHIN_S, env=environment(home), check=False
    )


@contextmanager
def up(home: Path) -> Iterator[None]:
    """The installation of the demo runs meanwhile: a command that finds none starts all of it for itself."""
    said = home.parent / "up.log"
    with said.open("wb") as log:
        process = subprocess.Popen([REGIE, "up", "--demo"], stdout=log, stderr=log, env=environment(home))
    try:
        until_s = time.monotonic() + WITHIN_S
        while "Regie is up at" not in said.read_text(encoding="utf-8"):
            assert process.poll() is None, said.read_text(encoding="utf-8")
            assert time.monotonic() < until_s, said.read_text(encoding="utf-8")
            time.sleep(0.05)
        yield
        assert regie(home, "down").returncode == 0
        assert process.wait(WITHIN_S) == 0, said.read_text(encoding="utf-8")
    finally:
        process.terminate()
        process.wait(WITHIN_S)


async def test_demo_then_plan_then_look_around(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    done = regie(home, "demo", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout)
    assert summary["problems"] == []
    assert [each["writes_about_people"] for each in summary["runs"]] == [5, 0]
    assert [each["status"] for each in summary["runs"]] == ["done", "done"]
    assert summary["runs"][0]["decisions"] == [{"decision": "approved", "by": "ingrid.larsen@example.com", "rung": 2}]

    # Nothing runs any more: the command starts by itself what it needs.
    listed = regie(home, "runs", "--json")
    assert [row["status"] for row in json.loads(listed.stdout)] == ["done", "done"]
    with up(home):
        look_around(home, summary["runs"][0]["run"])


def look_around(home: Path, run: str) -> None:
    given = home.parent / "input.yaml"
    given.write_text("employee: zoe.dubois@example.com\nlast_day: 2026-12-31\n")
    planned = regie(home, "plan", "identity.offboard_employee", "--input", str(given), "--json")
    assert planned.returncode == 0, planned.stderr
    changes = json.loads(planned.stdout)["changes"]
    assert [change["capability"] for change in changes] == [
        "identity.disable_account",
        "identity.revoke_sessions",
        "identity.remove_from_group",
        "identity.remove_from_group",
    ]

    shown = regie(home, "show", run)
    assert "enabled true -> false" in shown.stdout
    told = regie(home, "audit", "why", run)
    assert told.returncode == 0, told.stderr
    assert_tells(told.stdout)
    audited = regie(home, "audit", "show", run)
    assert audited.returncode == 0
    assert "effect:intended" in audited.stdout
    assert "chain whole" in audited.stdout


def assert_tells(told: str) -> None:
    """Whoever reads it learns who started the run, who agreed to which plan, what changed and what allowed it."""
    for part in (
        "Jan Janssen (jan.janssen@example.com): enabled true -> false",
        "the connection jira told of ticket ITSM-",
        "ingrid.larsen@example.com answered: approved (policy asked_people_decide, set ",
        "approved by ingrid.larsen@example.com, approval ",
        "allowed (policy steps_do_what_they_are_written_for, set ",
        "graph's id of the request: ",
        "chain whole",
    ):
        assert part in told, f"{part!r} is missing in:\n{told}"


async def test_a_plan_writes_nothing_outside(stage: Stage) -> None:
    seq, _ = await stage.story.sandbox.ledger()
    world = await stage.story.sandbox.digest()
    started = await stage.story.operator.post(
        "/v1/runs",
        {
            "tenant": "example",
            "workflow": "identity.offboard_employee",
            "input": {"employee": EMPLOYEE, "last_day": "2026-12-31"},
            "dry": True,
        },
    )
    shown = await stage.story.end_of(started["id"])
    assert shown["status"] == "done"
    assert len(shown["approvals"]) == 0, "nobody is asked in a dry run"
    assert sum(note["changed"] for step in shown["steps"] for note in step["effects"]) == 5
    assert await stage.story.sandbox.ledger(seq) == (seq, [])
    assert await stage.story.sandbox.digest() == world


async def test_refusal_leaves_the_account_alive_and_says_so_on_the_ticket(stage: Stage) -> None:
    world = await stage.story.sandbox.digest()
    result = await stage.offboard("refused")
    assert result["shown"]["status"] == "refused"
    assert await stage.story.sandbox.digest() == world
    await assert_open_with_comment(stage, result["ticket"], "refused")
    assert await stage.audit_faults(result["run"]) == []


async def assert_an_auditor_finds_it(stage: Stage, done: dict[str, Any]) -> None:
    """From a ticket and from each id of the outside systems to the run, and what the run says of them."""
    told = await stage.story.operator.get(f"/v1/runs/{done['run']}/why")
    assert told["faults"] == []
    made = [change for change in told["changes"] if change["request_id"]]
    about_accounts = [change for change in made if change["connection"] == "graph"]
    assert len(about_accounts) == 5
    for change in about_accounts:
        assert change["approved_by"]
        assert change["policies"] == ["steps_do_what_they_are_written_for"]
        assert change["words"]
    for known in (done["ticket"], told["corr"], *(change["request_id"] for change in made)):
        found = await stage.story.operator.get("/v1/audit/find", id=known)
        assert done["run"] in {item["run"] for item in found["items"]}, known


async def test_silence_leaves_the_account_alive_and_says_so_on_the_ticket(stage: Stage) -> None:
    """Both rungs stay silent: a run pinned to a release in which silence is short."""
    tenant = stage.services.settings.workspace_folder / "tenants" / "example.yaml"
    written = tenant.read_text(encoding="utf-8")
    world = await stage.story.sandbox.digest()
    try:
        await load(stage, written.replace("20m", "1s").replace("3s", "1s"))
        ticket = await stage.story.sandbox.open_ticket(REQUEST)
        shown = await stage.story.end_of(await stage.story.run_of(ticket))
    finally:
        await load(stage, written)
    assert shown["status"] == "refused"
    assert [approval["status"] for approval in shown["approvals"]] == ["timeout"]
    assert await stage.story.sandbox.digest() == world
    await assert_open_with_comment(stage, ticket, "nobody who was asked has answered in time")


async def test_the_requester_cannot_approve_and_nobody_decides_twice(stage: Stage) -> None:
    ticket = await stage.story.sandbox.open_ticket({**REQUEST, "reporter": "piet.devries@example.com"})
    run = await stage.story.run_of(ticket)
    approval = await stage.story.open_approval(run)
    assert approval is not None
    assert approval["approvers"] == ["ingrid.larsen@example.com"], "the manager asked for it, so the next rung is asked"
    with pytest.raises(Exception, match=r"cannot approve|not been asked|There is no"):
        await stage.story.decide(approval, "piet.devries@example.com", "approved", "")
    await stage.story.decide(approval, "ingrid.larsen@example.com", "refused", "No.")
    with pytest.raises(Exception, match="ingrid"):
        await stage.story.decide(approval, "ingrid.larsen@example.com", "approved", "Yes after all.")
    assert (await stage.story.end_of(run))["status"] == "refused"


async def asked(stage: Stage) -> tuple[str, str, dict[str, Any]]:
    """A ticket, its run, and what people are asked there."""
    ticket = await stage.story.sandbox.open_ticket(REQUEST)
    run = await stage.story.run_of(ticket)
    approval = await stage.story.open_approval(run)
    assert approval is not None
    return ticket, run, approval


async def test_the_world_moves_between_approval_and_change(stage: Stage) -> None:
    await stage.bring_back()
    _, run, approval = await asked(stage)
    await stage.story.sandbox.http.post(f"/sandbox/people/{EMPLOYEE}/leave", json={"group": "VPN Users"})
    await stage.story.decide(approval, approval["approvers"][0], "approved", "")
    shown = await stage.story.end_of(run)
    assert shown["status"] == "done", "a change that is not needed any more is no surprise"
    unchanged = [note for step in shown["steps"] for note in step["effects"] if not note["changed"]]
    assert len(unchanged) == 1


async def test_a_ticket_that_names_somebody_else_since_the_question_changes_nobody(stage: Stage) -> None:
    world = await stage.bring_back()
    sandbox = stage.story.sandbox
    ticket, run, approval = await asked(stage)
    (
        await sandbox.http.patch(f"/sandbox/tickets/{ticket}", json={"employee": "zoe.dubois@example.com"})
    ).raise_for_status()
    await stage.story.decide(approval, approval["approvers"][0], "approved", "")
    shown = await stage.story.end_of(run)
    assert shown["status"] == "failed"
    assert await sandbox.digest() == world
    await assert_open_with_comment(
        stage, ticket, "The yes was for jan.janssen@example.com, and the ticket does not name them any more"
    )
    assert await stage.audit_faults(run) == []


async def test_a_ticket_that_was_closed_without_our_hearing_of_it_changes_nobody(stage: Stage) -> None:
    world = await stage.bring_back()
    sandbox = stage.story.sandbox
    ticket, run, approval = await asked(stage)
    await listen(stage, "")
    try:
        (await sandbox.http.patch(f"/sandbox/tickets/{ticket}", json={"status": "Canceled"})).raise_for_status()
    finally:
        await listen(stage, f"{stage.services.web}/v1/inbound/example/jira")
    await stage.story.decide(approval, approval["approvers"][0], "approved", "")
    assert (await stage.story.end_of(run))["status"] == "failed"
    assert await sandbox.digest() == world
    said = json.dumps((await sandbox.ticket(ticket))["comments"])
    assert "The ticket is closed, so nobody asks for this any more." in said


async def listen(stage: Stage, url: str) -> None:
    """Have the imaginary Jira tell of what happens there, or nobody."""
    secret = (stage.services.settings.keys / "sandbox-webhook.secret").read_text()
    told = {"url": url or None, "secret": secret}
    (await stage.story.sandbox.http.put("/sandbox/webhook", json=told)).raise_for_status()


async def test_access_given_since_the_question_is_named_and_the_ticket_stays_open(stage: Stage) -> None:
    await stage.bring_back()
    sandbox = stage.story.sandbox
    ticket, run, approval = await asked(stage)
    given = {"group": GIVEN}
    (await sandbox.http.post(f"/sandbox/people/{EMPLOYEE}/join", json=given)).raise_for_status()
    await stage.story.decide(approval, approval["approvers"][0], "approved", "")
    shown = await stage.story.end_of(run)
    assert shown["status"] == "failed"
    jan = await person(stage)
    assert (jan["account_enabled"], jan["groups"]) == (False, [GIVEN]), "what was agreed to is done, and no more"
    await assert_open_with_comment(stage, ticket, f"has access that was in no plan: {GIVEN}.")
    (await sandbox.http.post(f"/sandbox/people/{EMPLOYEE}/leave", json=given)).raise_for_status()
    assert await stage.audit_faults(run) == []


async def test_groups_that_a_rule_fills_are_named_when_the_ticket_is_closed(stage: Stage) -> None:
    await stage.bring_back()
    sandbox = stage.story.sandbox
    ruled = {"group": RULED}
    (await sandbox.http.post(f"/sandbox/people/{EMPLOYEE}/join", json=ruled)).raise_for_status()
    result = await stage.offboard()
    (await sandbox.http.post(f"/sandbox/people/{EMPLOYEE}/leave", json=ruled)).raise_for_status()
    assert result["shown"]["status"] == "done"
    closed = await sandbox.ticket(result["ticket"])
    assert closed["status"] == "Done"
    assert f"Still in groups that a rule of the directory fills: {RULED}" in json.dumps(closed["comments"])


async def person(stage: Stage) -> dict[str, Any]:
    """The employee as the world has them."""
    people = (await stage.story.sandbox.world())["people"]
    return next(each for each in people if each["upn"] == EMPLOYEE)


async def test_an_offboarding_changes_everything_once_and_a_second_one_nothing(stage: Stage) -> None:
    await stage.bring_back()
    first = await stage.offboard()
    assert first["shown"]["status"] == "done"
    assert_each_effect_once(first)
    await assert_an_auditor_finds_it(stage, first)
    world = await stage.story.sandbox.digest()
    second = await stage.offboard()
    assert second["shown"]["status"] == "done"
    assert [entry for entry in second["entries"] if entry["about"] == "person"] == []
    assert await stage.story.sandbox.digest() == world
    for result in (first, second):
        assert await stage.audit_faults(result["run"]) == []


@pytest.mark.parametrize("further", [(), ("--forget",)], ids=["same-database", "forgetting"])
async def test_prove_idempotent(tmp_path: Path, further: tuple[str, ...]) -> None:
    runs = () if not further else ("--runs", "2")
    done = regie(tmp_path / "home", "prove", "idempotent", "identity.offboard_employee", *further, *runs, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    proof = json.loads(done.stdout)
    assert proof["writes"] == [5, *[0] * (len(proof["writes"]) - 1)]
    assert len(proof["world"]) == 1


async def test_a_ticket_that_people_close_cancels_its_run_and_nothing_is_changed(stage: Stage) -> None:
    sandbox = stage.story.sandbox
    ticket = await sandbox.open_ticket(REQUEST)
    run = await stage.story.run_of(ticket)
    assert await stage.story.open_approval(run) is not None
    world = await sandbox.digest()
    closed = await sandbox.http.patch(
        f"/sandbox/tickets/{ticket}", json={"status": "Canceled", "by": "ingrid.larsen@example.com"}
    )
    closed.raise_for_status()
    shown = await stage.story.end_of(run)
    assert shown["status"] == "cancelled"
    assert [approval["status"] for approval in shown["approvals"]] == ["cancelled"]
    assert await sandbox.digest() == world
    said = json.dumps((await sandbox.ticket(ticket))["comments"], ensure_ascii=False)
    assert "cancelled by ingrid.larsen@example.com (as jira tells). The ticket was closed: Canceled." in said
    assert await stage.audit_faults(run) == []


async def assert_open_with_comment(stage: Stage, key: str, words: str) -> None:
    ticket: dict[str, Any] = await stage.story.sandbox.ticket(key)
    assert ticket["status"] == "Open"
    assert words in json.dumps(ticket["comments"], ensure_ascii=False)


async def load(stage: Stage, tenant: str) -> None:
    """Make a changed workspace the current release, as an operator would."""
    from_file = stage.services.settings.workspace_folder / "tenants" / "example.yaml"
    from_file.write_text(tenant, encoding="utf-8")
    await stage.load_release()
