"""`regie demo`: the main job on an imaginary outside world, told step by step and summed up."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from regie.cli.auditing import prove
from regie.cli.demo_world import TENANT, up
from regie.cli.installation import Installation, demo_home, real_home
from regie.cli.sandbox_client import about_people
from regie.cli.story import Story, telling
from regie.cli.terminal import err, out, print_json, print_table, say
from regie.core.errors import InvalidInput, RegieError
from regie.settings import Settings

EMPLOYEE = "jan.janssen@example.com"
REPORTER = "elif.demir@example.com"
DOMAIN = "identity"
OFFICER = "ingrid.larsen@example.com"


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON document.")] = False,
) -> None:
    """Run an employee offboarding on an imaginary company, and sum it up.

    Starts from a clean demo installation each time. Afterwards `regie up --demo` shows what it left.
    """
    began_s = time.monotonic()
    settings = real_home(Settings())
    _clear(settings)
    summary = asyncio.run(_demo(settings))
    summary["seconds"] = round(time.monotonic() - began_s, 1)
    if as_json:
        print_json(summary)
    else:
        _show(summary)
    if summary["problems"]:
        raise RegieError("The demo did not go as it must: " + "; ".join(summary["problems"]) + ".")


def _clear(settings: Settings) -> None:
    """Take away what an earlier demo left."""
    installation = Installation(settings, say)
    if installation.read_state():
        raise InvalidInput(f"Regie runs in {settings.home}.", hint="Stop it first: regie down.")
    if not settings.home.exists():
        return
    if not demo_home(settings) and any(settings.home.iterdir()):
        raise InvalidInput(
            f"{settings.home} holds an installation that is no demo.", hint="Set REGIE_HOME to another folder."
        )
    server = installation.server()
    if server is not None:
        server.remove()
    shutil.rmtree(settings.home)


async def _demo(settings: Settings) -> dict[str, Any]:
    async with up(settings, say, is_demo=True) as services, telling(services) as story:
        summary = await _tell(story)
        path = services.settings.home / "audit-bundle"
        proof = await prove(services.settings, TENANT, DOMAIN, path)
        return {**summary, "proof": {"bundle": str(path), "entries": proof.size, "checkpoint": proof.checkpoint}}


async def _tell(story: Story) -> dict[str, Any]:
    before = await story.sandbox.digest()
    _headline("1", "A colleague leaves: somebody opens a ticket in Jira")
    request = {"reporter": REPORTER, "employee": EMPLOYEE, "last_day": "2026-12-31"}
    ticket = await story.sandbox.open_ticket(request)
    run = await story.run_of(ticket)
    say(f"Ticket {ticket}; Jira's signed webhook started run {run}")

    _headline("2", "Regie plans every change and asks the manager")
    approval = await _asked(story, run, rung=1)
    _show_plan(approval)
    say(f"Asked: {', '.join(approval['approvers'])}, who stays silent")

    _headline("3", "The manager is reminded; then the security officer is asked, and says yes")
    approval = await _asked(story, run, rung=2)
    await story.decide(approval, OFFICER, "approved", "Confirmed with HR.")
    first = await story.end_of(run)
    seq, writes = await story.sandbox.ledger()
    say(f"Run {first['status']}; the outside world took {len(writes)} writes")

    _headline("4", "Jira delivers the same webhook again")
    await story.sandbox.redeliver(ticket)
    _, repeated = await story.sandbox.ledger(seq)
    runs = (await story.operator.get("/v1/runs", ticket=ticket))["items"]
    say(f"Still {len(runs)} run for {ticket}; {len(repeated)} writes")

    _headline("5", "Somebody opens a second ticket about the same person")
    after = await story.sandbox.digest()
    again = await story.sandbox.open_ticket(request)
    second_run = await story.run_of(again)
    approval = await _asked(story, second_run, rung=1)
    await story.decide(approval, approval["approvers"][0], "approved", "")
    second = await story.end_of(second_run)
    _, second_writes = await story.sandbox.ledger(seq)
    say(f"Run {second['status']}; {len(about_people(second_writes))} writes about people")
    return {
        "problems": _problems(
            {
                "the first run is done": first["status"] == "done",
                "the second run is done": second["status"] == "done",
                "the person's account was changed": before != after,
                "five writes about the person": len(about_people(writes)) == 5,
                "the repeated webhook wrote nothing": not repeated and len(runs) == 1,
                "the second run changed nothing about the person": not about_people(second_writes),
                "the world is the same after it": await story.sandbox.digest() == after,
                "the tickets are closed": all(
                    [(await story.sandbox.ticket(key))["status"] == "Done" for key in (ticket, again)]
                ),
                "the audit chains are whole": not await _audit_faults(story, run, second_run),
            }
        ),
        "runs": [
            await _run_summary(story, ticket, first, writes),
            await _run_summary(story, again, second, second_writes),
        ],
        "world": {"before": before, "after": after},
        "web": story.services.web,
    }


async def _asked(story: Story, run: str, *, rung: int) -> dict[str, Any]:
    approval = await story.open_approval(run, rung=rung)
    if approval is None:
        shown = await story.end_of(run)
        raise RegieError(
            f"Run {run} ended as {shown['status']} before anybody was asked.", hint=str(shown["outcome"]["failure"])
        )
    return approval


async def _audit_faults(story: Story, *runs: str) -> list[str]:
    return [fault for run in runs for fault in (await story.operator.get(f"/v1/runs/{run}/audit"))["faults"]]


async def _run_summary(
    story: Story, ticket: str, shown: dict[str, Any], writes: list[dict[str, Any]]
) -> dict[str, Any]:
    audit = await story.operator.get(f"/v1/runs/{shown['id']}/audit")
    systems = sorted({str(entry["system"]) for entry in writes})
    return {
        "ticket": ticket,
        "run": shown["id"],
        "status": shown["status"],
        "decisions": [
            {"decision": each["status"], "by": each["decided_by"], "rung": each["rung"]} for each in shown["approvals"]
        ],
        "changed": [note["words"] for step in shown["steps"] for note in step["effects"] if note["changed"]],
        "unchanged": [note["words"] for step in shown["steps"] for note in step["effects"] if not note["changed"]],
        "writes": {system: sum(entry["system"] == system for entry in writes) for system in systems},
        "writes_about_people": len(about_people(writes)),
        "audit_entries": len(audit["leaves"]),
    }


def _problems(expected: dict[str, bool]) -> list[str]:
    return [f"not so: {what}" for what, holds in expected.items() if not holds]


def _headline(number: str, text: str) -> None:
    err.print(f"\n[bold]{number}. {text}[/bold]")


def _show_plan(approval: dict[str, Any]) -> None:
    err.print(f"   {approval['question']}", markup=False)
    for step in approval["plan"]:
        err.print(f"   {'~' if step['kind'] == 'change' else '='} {step['words']}", markup=False)
    err.print(f"   plan {approval['plan_sha256'][:16]}", style="dim")


def _show(summary: dict[str, Any]) -> None:
    out.rule("[bold]What happened")
    for each in summary["runs"]:
        out.print(f"\n[bold]{each['ticket']}[/bold]  run {each['run']}  [bold]{each['status']}[/bold]")
        for decision in each["decisions"]:
            out.print(f"  {decision['decision']} by {decision['by']} (rung {decision['rung']})")
        for words in each["changed"]:
            out.print(f"  changed    {words}", markup=False)
        for words in each["unchanged"]:
            out.print(f"  unchanged  {words}", markup=False)
    out.print()
    print_table(
        ("ticket", "writes in Jira", "writes in Graph", "about people", "audit entries"),
        (
            (
                each["ticket"],
                each["writes"].get("jira", 0),
                each["writes"].get("graph", 0),
                each["writes_about_people"],
                each["audit_entries"],
            )
            for each in summary["runs"]
        ),
        nothing="Nothing ran.",
    )
    _show_proof(summary["proof"])
    out.print(f"\nDone in {summary['seconds']} s. Nothing runs any more. To look around:")
    out.print("  .venv/bin/regie up --demo", style="bold")
    out.print(f"then open {summary['web']} or try `regie runs`, `regie show RUN`, `regie audit show RUN`.")


def _show_proof(proof: dict[str, Any]) -> None:
    out.print(f"\nEach of the {proof['entries']} entries of the audit log is under this signed checkpoint:")
    for line in proof["checkpoint"].splitlines():
        out.print(f"  {line}", style="dim", markup=False)
    out.print("Check it with a program that knows nothing of Regie:")
    out.print(f"  .venv/bin/regie-verify {_nearby(proof['bundle'])}", style="bold")


def _nearby(path: str) -> str:
    """A path as one would type it here."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
