"""The main job, told: a colleague leaves."""

from __future__ import annotations

from typing import Any, ClassVar

from regie.cli.sandbox_client import about_people
from regie.cli.stories.telling import Tale, headline, problems_in, show_plan
from regie.cli.story import Story
from regie.cli.terminal import out, print_table, say
from regie.core.errors import RegieError

EMPLOYEE = "jan.janssen@example.com"
REPORTER = "elif.demir@example.com"
OFFICER = "ingrid.larsen@example.com"


class Offboarding(Tale):
    """Somebody leaves, and every access goes."""

    domain: ClassVar[str] = "identity"

    async def tell(self, story: Story) -> dict[str, Any]:
        """From ticket to closed ticket, twice. See `Tale.tell`."""
        before = await story.sandbox.digest()
        headline(1, "A colleague leaves: somebody opens a ticket in Jira")
        request = {"reporter": REPORTER, "employee": EMPLOYEE, "last_day": "2026-12-31"}
        ticket = await story.sandbox.open_ticket(request)
        run = await story.run_of(ticket)
        say(f"Ticket {ticket}; Jira's signed webhook started run {run}")

        headline(2, "Regie plans every change and asks the manager")
        approval = await _asked(story, run, rung=1)
        show_plan(approval)
        say(f"Asked: {', '.join(approval['approvers'])}, who stays silent")

        headline(3, "The manager is reminded; then the security officer is asked, and says yes")
        approval = await _asked(story, run, rung=2)
        await story.decide(approval, OFFICER, "approved", "Confirmed with HR.")
        first = await story.end_of(run)
        seq, writes = await story.sandbox.ledger()
        say(f"Run {first['status']}; the outside world took {len(writes)} writes")

        headline(4, "Jira delivers the same webhook again")
        await story.sandbox.redeliver(ticket)
        _, repeated = await story.sandbox.ledger(seq)
        runs = (await story.operator.get("/v1/runs", ticket=ticket))["items"]
        say(f"Still {len(runs)} run for {ticket}; {len(repeated)} writes")

        headline(5, "Somebody opens a second ticket about the same person")
        after = await story.sandbox.digest()
        again = await story.sandbox.open_ticket(request)
        second_run = await story.run_of(again)
        approval = await _asked(story, second_run, rung=1)
        await story.decide(approval, approval["approvers"][0], "approved", "")
        second = await story.end_of(second_run)
        _, second_writes = await story.sandbox.ledger(seq)
        say(f"Run {second['status']}; {len(about_people(second_writes))} writes about people")
        return {
            "problems": problems_in(
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
        }

    def show(self, summary: dict[str, Any]) -> None:
        """What changed for whom. See `Tale.show`."""
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

    def places(self, web: str) -> list[tuple[str, str]]:
        """Where to look. See `Tale.places`."""
        return [(web, "what has run, and what waits for whom")]


OFFBOARDING = Offboarding()


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
