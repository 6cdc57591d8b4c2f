"""What `regie prove` says when it cannot prove anything."""

from __future__ import annotations

import httpx2
import pytest

from regie.cli.api import Api
from regie.cli.demo_world import Services
from regie.cli.processes import Supervisor
from regie.cli.sandbox_client import SandboxClient
from regie.cli.servers_client import ServersClient
from regie.cli.story import Story
from regie.core.errors import Unavailable
from regie.settings import read_or_make_token

from .stage import Stage

pytestmark = pytest.mark.slow


async def test_a_workflow_of_the_workspace_is_said_to_be_none_that_ships(stage: Stage) -> None:
    done = await stage.regie("prove", "idempotent", "identity.suspend_account")
    assert done.returncode == 2
    assert "No workflow identity.suspend_account ships with Regie" in done.stderr
    assert "identity.offboard_employee" in done.stderr


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
