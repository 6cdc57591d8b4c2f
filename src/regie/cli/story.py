"""One request through the demo installation, from ticket to end: what `demo` and `prove` are made of."""

from __future__ import annotations

import asyncio
import json
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
from regie.cli.terminal import say
from regie.core.errors import InvalidInput, Unavailable
from regie.settings import read_or_make_token

LONGEST_S = 120.0
"""Longest that anything in the story may take before it counts as stuck."""
POLL_S = 0.1
TELL_EVERY_S = 15.0
"""Between two words about what is waited for."""
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

    async def run_of(self, ticket: str, workflow: str | None = None) -> str:
        """The id of the run that a ticket started; of that workflow, where one is named."""
        return await self._run(f"for ticket {ticket}", ticket=ticket, workflow=workflow)

    async def newest_run(self, workflow: str) -> str:
        """The id of the newest run of a workflow, once there is one."""
        return await self._run(f"of {workflow}", workflow=workflow)

    async def _run(self, of_what: str, **query: str | None) -> str:
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

    async def everything_over(
        self, *, says_yes: bool, of_run: str = "", within_s: float = LONGEST_S
    ) -> list[dict[str, Any]]:
        """Every run there is, newest first, once none goes on.

        Args:
            says_yes: Somebody who is asked says yes to everything that these runs ask meanwhile.
            of_run: Only this run and what came of it: the runs that share its correlation id.

        Raises:
            InvalidInput: Nobody who is asked has an account here.
            Unavailable: Not all are over in that time; the hint says what is waited for, since their world may be gone
                soon.
        """
        corr = (await self.operator.get(f"/v1/runs/{of_run}"))["corr"] if of_run else ""
        deadline_s = time.monotonic() + within_s
        tell_at_s = time.monotonic() + TELL_EVERY_S
        while True:
            runs = [run for run in await self.operator.every("/v1/runs", MOST_RUNS) if corr in ("", run["corr"])]
            going = [run for run in runs if not run["ended_at"]]
            if not going:
                return runs
            if time.monotonic() > deadline_s:
                names = ", ".join(f"{run['workflow']} {run['id']}" for run in going)
                raise Unavailable(f"Not everything has ended: {names}.", hint=await self._awaited(going))
            if time.monotonic() > tell_at_s:
                say(f"Waiting. {await self._awaited(going)}")
                tell_at_s += TELL_EVERY_S
            if says_yes:
                await self._say_yes({run["id"] for run in going})
            await asyncio.sleep(POLL_S)

    async def why_not_done(self, started: str, runs: list[dict[str, Any]]) -> str:
        """What became of runs that are over and were not done, and why, in words; empty when all were done.

        Args:
            started: Id of the one that the others came of.
        """
        told = []
        for run in reversed(runs):
            if run["status"] != "done":
                shown = await self.operator.get(f"/v1/runs/{run['id']}")
                became = f"{run['status']}: {_why(shown)}"
                told.append(became if run["id"] == started else f"led to {run['workflow']}, which was {became}")
        return "; ".join(told)

    async def _say_yes(self, runs: set[str]) -> None:
        """Answer what some runs ask now."""
        known: list[str] = list(json.loads(self.services.settings.sign_ins_file.read_text()))
        for approval in (await self.operator.get("/v1/approvals"))["items"]:
            if approval["run"] in runs:
                await self.decide(approval, _with_account(approval, known), "approved", "")

    async def _awaited(self, runs: list[dict[str, Any]]) -> str:
        """What runs that go on wait for, in words."""
        shown = [await self.operator.get(f"/v1/runs/{run['id']}") for run in runs]
        return "; ".join(f"{each['workflow']} is {each['status']}: {_awaited_by(each) or 'at work'}" for each in shown)

    async def end_of(self, run: str, *, within_s: float = LONGEST_S) -> dict[str, Any]:
        """The run once it is over.

        Raises:
            Unavailable: It is not over in that time; the hint says what it waits for, since its world may be gone soon.
        """
        deadline_s = time.monotonic() + within_s
        while True:
            shown: dict[str, Any] = await self.operator.get(f"/v1/runs/{run}")
            if shown["outcome"]:
                return shown
            if time.monotonic() > deadline_s:
                raise Unavailable(f"Run {run} has not ended: {shown['status']}.", hint=_awaited_by(shown))
            await asyncio.sleep(POLL_S)


def _awaited_by(shown: dict[str, Any]) -> str:
    """What a run waits for, in words; empty when it waits for nothing."""
    # A step that waits and has no block is the word itself.
    steps = [
        f"step {each['place']} ({each['uses'] or 'wait'})" for each in shown["steps"] if each["status"] == "waiting"
    ]
    asked = [
        f"{', '.join(each['approvers'])} asked: {each['question']}"
        for each in shown["approvals"]
        if each["status"] == "open"
    ]
    return "; ".join(filter(None, (*steps, *asked, shown["queued"])))


def _why(shown: dict[str, Any]) -> str:
    """Why a run that is over was not done, in words."""
    failure = shown["outcome"]["failure"]
    if failure:
        return " ".join(filter(None, (failure["message"], failure["hint"])))
    said = [f"{each['status']}: {each['question']}" for each in shown["approvals"] if each["status"] != "approved"]
    return "; ".join(said) or "it says no more"


def _with_account(approval: dict[str, Any], known: list[str]) -> str:
    """Somebody who is asked and can sign in.

    Args:
        known: Addresses of all who can.

    Raises:
        InvalidInput: There is nobody.
    """
    asked = {person.casefold() for person in approval["approvers"]}
    for person in known:
        if person.casefold() in asked:
            return person
    raise InvalidInput(
        f"Nobody who is asked has an account in the imaginary company: {', '.join(approval['approvers'])} "
        f"at {approval['place']}: {approval['question']}",
        hint=f"Ask a role, or somebody who has an account: {', '.join(known)}.",
    )


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
