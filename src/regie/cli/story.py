"""One request through the demo installation, from ticket to end: what `demo` and `prove` are made of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from regie.cli.api import TIMEOUT_S, Api, password_of
from regie.cli.demo_world import TENANT
from regie.cli.running import Services
from regie.cli.sandbox_client import SandboxClient
from regie.cli.servers_client import ServersClient
from regie.core.errors import Unavailable
from regie.settings import read_or_make_token

LONGEST_S = 120.0
"""Longest that anything in the story may take before it counts as stuck."""
POLL_S = 0.1
MOST_RUNS = 1000
"""A story has fewer."""


@dataclass
class Story:
    """Ways to act in the demo installation: as the world, as the operator, as a person.

    Attributes:
        sandbox: The imaginary Jira, Graph and Slack.
        servers: Real servers; only where the world has some.
    """

    services: Services
    operator: Api
    sandbox: SandboxClient
    servers: ServersClient

    async def start(self, workflow: str, given: dict[str, Any], *, ticket: str = "") -> str:
        """Start a run as the operator, for a ticket if there is one; its id."""
        wanted = {"tenant": TENANT, "workflow": workflow, "input": given, "ticket": ticket}
        return str((await self.operator.post("/v1/runs", wanted))["id"])

    async def run_of(self, ticket: str) -> str:
        """The id of the run that a ticket started."""
        return await self._run(f"for ticket {ticket}", ticket=ticket)

    async def newest_run(self, workflow: str) -> str:
        """The id of the newest run of a workflow, once there is one."""
        return await self._run(f"of {workflow}", workflow=workflow)

    async def _run(self, of_what: str, **query: str) -> str:
        deadline_s = time.monotonic() + LONGEST_S
        while time.monotonic() < deadline_s:
            found = await self.operator.get("/v1/runs", **query)
            if found["items"]:
                return str(found["items"][0]["id"])
            await asyncio.sleep(POLL_S)
        raise Unavailable(f"No run has started {of_what}.", hint="See the web, worker and sandbox logs.")

    async def open_approval(self, run: str, *, rung: int = 1) -> dict[str, Any] | None:
        """The approval that a run waits for, once its rung has been asked; none when the run ends without."""
        deadline_s = time.monotonic() + LONGEST_S
        while time.monotonic() < deadline_s:
            shown = await self.operator.get(f"/v1/runs/{run}")
            for approval in shown["approvals"]:
                if approval["status"] == "open" and approval["rung"] >= rung:
                    return dict(approval)
            if shown["outcome"]:
                return None
            await asyncio.sleep(POLL_S)
        raise Unavailable(f"Run {run} has not come to an approval.", hint="See the worker's log.")

    async def decide(self, approval: dict[str, Any], person: str, decision: str, comment: str) -> None:
        """Answer an approval as a person, having seen its plan."""
        auth = httpx2.BasicAuth(person, password_of(self.services.settings, person))
        async with httpx2.AsyncClient(
            base_url=self.services.web, auth=auth, timeout=TIMEOUT_S, trust_env=False
        ) as http:
            await Api(http).post(
                f"/v1/approvals/{approval['id']}/decision",
                {"decision": decision, "comment": comment, "plan_sha256": approval["plan_sha256"]},
            )

    async def everything_over(self, *, says_yes: bool) -> list[dict[str, Any]]:
        """Every run there is, newest first, once none goes on.

        Args:
            says_yes: Whoever is asked first says yes to everything that is asked meanwhile.
        """
        deadline_s = time.monotonic() + LONGEST_S
        while time.monotonic() < deadline_s:
            if says_yes:
                for approval in (await self.operator.get("/v1/approvals"))["items"]:
                    await self.decide(approval, approval["approvers"][0], "approved", "")
            runs = await self.operator.every("/v1/runs", MOST_RUNS)
            if all(run["ended_at"] for run in runs):
                return runs
            await asyncio.sleep(POLL_S)
        going = ", ".join(f"{run['workflow']} {run['id']}" for run in runs if not run["ended_at"])
        asked = _who_is_asked((await self.operator.get("/v1/approvals"))["items"])
        raise Unavailable(f"Not everything has ended: {going}.", hint=asked)

    async def end_of(self, run: str, *, within_s: float = LONGEST_S) -> dict[str, Any]:
        """The run once it is over.

        Raises:
            Unavailable: It is not over in that time; the hint says who is asked, since its world may be gone soon.
        """
        deadline_s = time.monotonic() + within_s
        while True:
            shown: dict[str, Any] = await self.operator.get(f"/v1/runs/{run}")
            if shown["outcome"]:
                return shown
            if time.monotonic() > deadline_s:
                raise Unavailable(
                    f"Run {run} has not ended: {shown['status']}.", hint=_who_is_asked(shown["approvals"])
                )
            await asyncio.sleep(POLL_S)


def _who_is_asked(approvals: list[dict[str, Any]]) -> str:
    """Whom open approvals wait for, in words; empty when nobody is asked."""
    opened = (each for each in approvals if each["status"] == "open")
    return "; ".join(f"{', '.join(each['approvers'])} asked: {each['question']}" for each in opened)


@asynccontextmanager
async def telling(services: Services) -> AsyncIterator[Story]:
    """A story in running services."""
    token = read_or_make_token(services.settings.operator_token_file)
    async with (
        httpx2.AsyncClient(
            base_url=services.web,
            headers={"Authorization": f"Bearer {token}", "Regie-Operator": "demo"},
            timeout=TIMEOUT_S,
            trust_env=False,
        ) as web,
        httpx2.AsyncClient(base_url=services.sandbox, timeout=TIMEOUT_S, trust_env=False) as sandbox,
        httpx2.AsyncClient(base_url=services.outside.get("servers", ""), timeout=TIMEOUT_S, trust_env=False) as servers,
    ):
        yield Story(services, Api(web), SandboxClient(sandbox), ServersClient(servers))
