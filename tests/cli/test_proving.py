"""What `regie prove` says of workflows of the workspace, and when it cannot prove anything."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from regie.cli import story
from regie.cli.api import Api
from regie.cli.demo_world import copy_domains
from regie.cli.processes import Supervisor
from regie.cli.proving import lack_of_proof
from regie.cli.running import Services
from regie.cli.sandbox_client import SandboxClient
from regie.cli.servers_client import ServersClient
from regie.cli.services import EXIT_INTERRUPTED
from regie.cli.stories import find_rehearsal
from regie.cli.stories.telling import Once
from regie.cli.story import Story
from regie.core.errors import InvalidInput, Unavailable
from regie.domains import load_catalogue
from regie.settings import Settings, child_environment, forget_settings, read_or_make_token
from regie.workspace.loading import load_release
from regie_sandbox.app import make_app

from .stage import REGIE, Stage

pytestmark = pytest.mark.slow


DESK = """
domain: desk
title: Service desk
owner: team:desk
classification: internal
"""
CHECK = """
workflow: desk.check_machine
title: Have a machine looked at
owner: team:desk
start:
  ticket: {{ system: jira, project: ITSM, request_type: Slow machine }}
input:
  title: {{ type: text, from: ticket.title }}
steps:
  - uses: ticket.open
    with: {{ queue: ITSM, title: "Look: ${{{{ input.title }}}}", text: "Please." }}
  - if: run.ticket != ''
    uses: ticket.comment
    with: {{ ticket: "${{{{ run.ticket }}}}", text: "${{{{ run.report }}}}" }}
tests:
  - name: A slow machine
    {example}
"""
BY_TICKET = "ticket: { reporter: elif.demir@example.com, summary: host-1 is slow }"


HANDED = "input: { title: host-1 }"


def write_desk(workspace: Path, *, example: str = BY_TICKET) -> None:
    folder = workspace / "domains" / "desk"
    (folder / "workflows").mkdir(parents=True)
    (folder / "domain.yaml").write_text(DESK, encoding="utf-8")
    (folder / "workflows" / "check_machine.yaml").write_text(CHECK.format(example=example), encoding="utf-8")


async def test_an_unknown_workflow_is_said_to_be_none(stage: Stage) -> None:
    done = await stage.regie("prove", "idempotent", "identity.suspend_account")
    assert done.returncode == 2
    assert "no workflow 'identity.suspend_account'" in done.stderr
    assert "identity.offboard_employee" in done.stderr


async def test_a_workflow_of_the_workspace_that_does_it_each_time(stage: Stage) -> None:
    """Those that do it once are proven by the pages: the first workflow, and the domain of one's own."""
    write_desk(stage.installation.settings.workspace_folder)
    done = await stage.regie("prove", "idempotent", "desk.check_machine", "--runs", "2", "--json")
    proof = json.loads(done.stdout)
    assert (done.returncode, proof["proven"], proof["writes"]) == (1, False, [1, 1])
    assert proof["ticket_writes"] == [1, 1]
    assert [each["status"] for each in proof["runs"]] == ["done", "done"]
    assert "not idempotent: writes 1,1" in done.stderr


async def test_an_example_that_cannot_be_read_is_told_before_anything_is_started(stage: Stage) -> None:
    write_desk(stage.installation.settings.workspace_folder, example="input: 7")
    done = await stage.regie("prove", "idempotent", "desk.check_machine")
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be read: input: Input should be a valid dictionary" in done.stderr
    assert "database" not in done.stderr


@pytest.mark.parametrize(
    ("example", "says"),
    [
        ("", "starts nothing"),
        ("ticket: { request_type: Slow machines }", "starts nothing: a jira ticket of type Slow machine in ITSM does"),
        ("ticket: { reporter: 7 }", "cannot be read: ticket.reporter: Input should be a valid string"),
        ("inputs: {}", "cannot be read: inputs: Extra inputs are not permitted"),
        ("input: { titel: host-1 }", "titel is no field of it"),
        (f"{HANDED}\n    ticket: {{ request_type: Slow machine }}", "would be carried out twice"),
    ],
)
async def test_an_example_that_cannot_be_carried_out(tmp_path: Path, example: str, says: str) -> None:
    write_desk(tmp_path, example=example)
    definition = load_release(tmp_path, load_catalogue()).definition("desk.check_machine")
    with pytest.raises(InvalidInput) as caught:
        find_rehearsal("desk").check(definition)
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("example", "request_type"),
    [
        (BY_TICKET, "Slow machine"),
        (f"{HANDED}\n    {BY_TICKET}", "Get IT help"),
        (f"{HANDED}\n    ticket: {{ request_type: Onboarding }}", "Onboarding"),
    ],
)
async def test_a_ticket_starts_one_run_at_most(tmp_path: Path, example: str, request_type: str) -> None:
    write_desk(tmp_path, example=example)
    definition = load_release(tmp_path, load_catalogue()).definition("desk.check_machine")
    async with told(Settings(home=tmp_path), "http://nowhere") as teller:
        given = await find_rehearsal("desk").set_scene(teller, definition)
    assert given["ticket"]["request_type"] == request_type


async def test_a_ticket_that_the_imaginary_company_does_not_take(tmp_path: Path) -> None:
    known = "elif.demir@example.com"
    wrong: list[tuple[dict[str, str], str]] = [
        ({"reporter": "nobody@example.com"}, "Nobody in this world is called nobody@example.com"),
        ({}, "reporter: Field required"),
        ({"reporter": known, "colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"reporter": known, "last_day": "soon"}, "last_day: Input should be a valid date"),
    ]
    world = httpx2.ASGITransport(make_app(tmp_path / "sandbox"))
    async with httpx2.AsyncClient(transport=world, base_url="http://sandbox") as http:
        for ticket, says in wrong:
            with pytest.raises(InvalidInput) as caught:
                await SandboxClient(http).open_ticket(ticket)
            assert says in caught.value.message


async def test_no_setting_of_another_installation_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("REGIE_TIMESTAMP_URL", "regie_traces_url", "REGIE_SECRET__ACME__DESK__TOKEN", "REGIME")
    monkeypatch.setattr(os, "environ", dict.fromkeys(names, "http://real.example.com"))
    assert Settings().timestamp_url
    forget_settings()
    assert Settings() == Settings(_env_prefix="NONE_OF_THESE_")
    assert list(child_environment()) == ["REGIME"]


async def test_of_a_workspace_only_definitions_go_along(tmp_path: Path) -> None:
    write_desk(tmp_path)
    folder = tmp_path / "domains"
    os.mkfifo(folder / "desk" / "pipe")
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    (folder / "desk" / "again").symlink_to(folder)
    copy_domains(folder, tmp_path / "copied")
    copied = sorted(file.name for file in (tmp_path / "copied").rglob("*") if file.is_file())
    assert copied == ["check_machine.yaml", "domain.yaml"]


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ([(1, "a"), (0, "a")], ""),
        ([(1, "a"), (1, "a")], "w is not idempotent: writes 1,1."),
        ([(0, "a"), (0, "a")], "w changes nothing, so nothing is proven."),
        ([(1, "a"), (0, "b")], "w is not idempotent: the world is another one after each run."),
    ],
)
async def test_what_runs_show(runs: list[tuple[int, str]], says: str) -> None:
    assert lack_of_proof("w", [once(writes, world) for writes, world in runs]) == says


async def test_why_a_run_was_not_done_is_the_verdict() -> None:
    failed = once(0, "a", "failed: NotFound: Nobody is called so.")
    assert lack_of_proof("w", [once(1, "a"), failed]) == "Run 2 failed: NotFound: Nobody is called so."


def once(writes: int, world: str, failure: str = "") -> Once:
    return Once("r", "", "failed" if failure else "done", {"jira": writes}, 0, world, failure)


@asynccontextmanager
async def told(settings: Settings, web: str) -> AsyncIterator[Story]:
    """A story in an installation that has no outside."""
    headers = {"Authorization": f"Bearer {read_or_make_token(settings.operator_token_file)}"}
    async with httpx2.AsyncClient(base_url=web, headers=headers, trust_env=False) as http:
        services = Services(web, "identity", {}, settings, Supervisor(lambda _: None))
        yield Story(services, Api(http), SandboxClient(http), ServersClient(http))


@pytest.mark.usefixtures("answering")
async def test_a_run_that_does_not_end_says_whom_it_waits_for(stage: Stage) -> None:
    await stage.ask("ana@example.com")
    settings = stage.installation.settings
    async with told(settings, stage.installation.read_state()["web"]) as teller:
        [run] = (await teller.operator.get("/v1/runs"))["items"]
        with pytest.raises(Unavailable, match="has not ended: waiting") as caught:
            await teller.end_of(run["id"], within_s=0)
        assert caught.value.hint == "ana@example.com asked: Really?"
        # Nobody who is asked could answer.
        settings.sign_ins_file.write_text('{"eva@example.com": "x"}')
        with pytest.raises(InvalidInput, match=r"has an account in the imaginary company: ana@example\.com") as stuck:
            await teller.everything_over(says_yes=True, of_run=run["id"])
        assert stuck.value.hint == "Ask a role, or somebody who has an account: eva@example.com."


@pytest.mark.usefixtures("answering")
async def test_only_what_came_of_a_run_is_waited_for_and_answered(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(story, "TELL_EVERY_S", 0.0)
    await stage.ask("ana@example.com")
    other = await stage.start("ITSM-2")
    async with told(stage.installation.settings, stage.installation.read_state()["web"]) as teller:
        stage.installation.settings.sign_ins_file.write_text("{}")
        with pytest.raises(Unavailable, match=f"Not everything has ended: [a-z._]+ {other.run}\\.") as caught:
            await teller.everything_over(says_yes=True, of_run=other.run, within_s=0.3)
    assert caught.value.hint
    assert caught.value.hint.startswith("identity.offboard_employee is running: ")
    assert "Waiting. identity.offboard_employee is running: " in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_whoever_ends_it_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, REGIE, "prove", "idempotent", "identity.offboard_employee"),
        env={
            "PATH": os.defpath,
            "HOME": str(tmp_path),
            "TMPDIR": str(tmp_path),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    said: Any = process.stderr
    while b"Starting the database" not in await said.readline():
        assert not said.at_eof()
    process.send_signal(number)
    assert await process.wait() == EXIT_INTERRUPTED
    assert not list(tmp_path.glob("regie-prove-*"))  # noqa: ASYNC240  nothing else goes on here
