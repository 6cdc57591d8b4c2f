"""What `regie prove` says of workflows of the workspace, and when it cannot prove anything."""

from __future__ import annotations

import json

import httpx2
import pytest

from regie.cli.api import Api
from regie.cli.processes import Supervisor
from regie.cli.running import Services
from regie.cli.sandbox_client import SandboxClient
from regie.cli.servers_client import ServersClient
from regie.cli.story import Story
from regie.core.errors import Unavailable
from regie.settings import read_or_make_token

from .stage import Stage

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


def write_desk(stage: Stage, *, example: str = BY_TICKET) -> None:
    folder = stage.installation.settings.workspace_folder / "domains" / "desk"
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
    write_desk(stage)
    done = await stage.regie("prove", "idempotent", "desk.check_machine", "--runs", "2", "--json")
    proof = json.loads(done.stdout)
    assert (done.returncode, proof["proven"], proof["writes"]) == (1, False, [1, 1])
    assert proof["ticket_writes"] == [1, 1]
    assert [each["status"] for each in proof["runs"]] == ["done", "done"]
    assert "not idempotent: writes 1,1" in done.stderr


@pytest.mark.parametrize(
    ("example", "says"),
    [
        ("input: 7", "has no example to run"),
        ("", "starts nothing"),
    ],
)
async def test_an_example_that_starts_nothing(stage: Stage, example: str, says: str) -> None:
    write_desk(stage, example=example)
    done = await stage.regie("prove", "idempotent", "desk.check_machine")
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


@pytest.mark.usefixtures("answering")
async def test_a_run_that_does_not_end_says_whom_it_waits_for(stage: Stage) -> None:
    await stage.ask("ana@example.com")
    settings = stage.installation.settings
    address = stage.installation.read_state()["web"]
    headers = {"Authorization": f"Bearer {read_or_make_token(settings.operator_token_file)}"}
    async with httpx2.AsyncClient(base_url=address, headers=headers, trust_env=False) as http:
        services = Services(address, "identity", {}, settings, Supervisor(lambda _: None))
        story = Story(services, Api(http), SandboxClient(http), ServersClient(http))
        [run] = (await story.operator.get("/v1/runs"))["items"]
        with pytest.raises(Unavailable, match="has not ended: waiting") as caught:
            await story.end_of(run["id"], within_s=0)
    assert caught.value.hint == "ana@example.com asked: Really?"
