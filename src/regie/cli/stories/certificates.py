"""Certificates, told: endpoints are watched, one is renewed while clients connect, people hear of the others."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any, ClassVar

from regie.cli.demo_world import TENANT
from regie.cli.installation import Installation
from regie.cli.stories.telling import Tale, headline, problems_in, show_plan
from regie.cli.story import Story
from regie.cli.terminal import moment, out, print_table, say
from regie.store import records
from regie.store.records import Shelf

WATCH, RENEW = "certificates.watch", "certificates.renew"
MAIL = "mail.example.test"
KIND = "certificate"
"""The kind of records that the inventory is kept as."""
MOST_ENDPOINTS = 200
ENOUGH_HANDSHAKES = 20
"""Fewer would not show that nobody notices."""


class Certificates(Tale):
    """What is about to expire is renewed, or somebody hears of it."""

    domain: ClassVar[str] = "certificates"

    async def tell(self, story: Story) -> dict[str, Any]:
        """Three looks at the same company. See `Tale.tell`."""
        before = await story.servers.counts()
        await story.servers.begin_visits()
        say("A client connects to nginx and to HAProxy, all the time, and verifies what it is shown")

        headline(1, "Regie looks at everything that the company serves over TLS")
        watched = await story.end_of(await story.start(WATCH, {}))
        inventory = await _inventory(story)
        say(f"{len(inventory)} endpoints: {_in_words(inventory)}")
        for each in _noticed(inventory):
            say(f"{each['name']}: {each['state']}{', ' if each['findings'] else ''}{', '.join(each['findings'])}")

        headline(2, "One certificate is Regie's to renew: it is ordered, proven, issued, and somebody is asked")
        renewal = await story.newest_run(RENEW)
        approval = await story.open_approval(renewal)
        if approval is not None:
            show_plan(approval)
            person = approval["approvers"][0]
            await story.decide(approval, person, "approved", "Go ahead.")
            say(f"{person} said yes")
        renewed = await story.end_of(renewal)
        served = (await story.servers.state())["served"]
        why = renewed["outcome"]["failure"]
        ended = f"{renewed['status']}: {why['kind']}: {why['message']}" if why else renewed["status"]
        say(f"Run {ended}; nginx and HAProxy serve {served['nginx']}")

        headline(3, "Of the others, people hear: a ticket each, the owner, and the chat where it is urgent")
        await story.everything_over(says_yes=False)
        first = await _desk(story)
        for ticket in first["tickets"]:
            say(f"{ticket['key']}  {ticket['summary']}")
        say(f"{len(first['messages'])} messages")

        headline(4, f"Somebody renews {MAIL} by hand; Regie looks again")
        await story.servers.put_by_hand(MAIL, lifetime_days=365, left_days=364)
        await _look(story)
        second = await _desk(story)
        for ticket in second["tickets"]:
            say(f"{ticket['key']}  {ticket['status']}")

        headline(5, "Regie looks once more, and finds nothing to do")
        quiet_counts, quiet_state = await story.servers.counts(), await story.servers.state()
        seq, _ = await story.sandbox.ledger()
        await _look(story)
        _, entries = await story.sandbox.ledger(seq)
        visits = await story.servers.end_visits()
        after = await story.servers.counts()
        say(f"{len(entries)} writes in Jira and Slack; {_sum(quiet_counts, after)} at the servers")
        runs = await story.everything_over(says_yes=False)
        outside = {name: after[name] - before[name] for name in after}
        return {
            "problems": problems_in(
                {
                    "the first look is done": watched["status"] == "done",
                    "everything that is served is in the inventory": len(inventory)
                    == len(await story.servers.endpoints()),
                    "the renewal is done": renewed["status"] == "done",
                    "no run has failed": not [run for run in runs if run["status"] == "failed"],
                    "one order and one certificate": (outside["orders"], outside["certificates"]) == (1, 1),
                    "one deployment at each server": (outside["nginx_reloads"], outside["haproxy_commits"]) == (1, 1),
                    "both servers serve one certificate": served["nginx"] == served["haproxy"],
                    "clients have met the new one": all(
                        seen.serials[-1:] == [served["nginx"]] for seen in visits.values()
                    ),
                    "no handshake has failed": not [seen for seen in visits.values() if seen.failed],
                    "there were handshakes": all(seen.handshakes >= ENOUGH_HANDSHAKES for seen in visits.values()),
                    "three tickets": len(first["tickets"]) == len(second["tickets"]) == 3,
                    "those of what was renewed are closed": sorted(each["status"] for each in second["tickets"])
                    == ["Done", "Done", "Open"],
                    "the last look wrote nothing": not entries and quiet_counts == after,
                    "the servers are the same after it": await story.servers.state() == quiet_state,
                    "the audit chain is whole": not (await story.operator.get(f"/v1/runs/{renewal}/audit"))["faults"],
                }
            ),
            "inventory": {"before": inventory, "after": await _inventory(story)},
            "renewal": _renewal_summary(renewed),
            "tickets": second["tickets"],
            "messages": second["messages"],
            "outside": outside,
            "visits": {name: asdict(seen) for name, seen in visits.items()},
            "runs": len(runs),
        }

    def show(self, summary: dict[str, Any]) -> None:
        """What was watched, planned, decided, and done outside. See `Tale.show`."""
        before, after = summary["inventory"]["before"], summary["inventory"]["after"]
        out.print(f"\n[bold]Watched[/bold]  {len(after)} endpoints")
        out.print(f"  at first  {_in_words(before)}")
        out.print(f"  at last   {_in_words(after)}\n")
        at_last = {each["endpoint"]: each["state"] for each in after}
        print_table(
            ("what was noticed", "expires", "at first", "at last", "findings"),
            (
                (
                    each["name"],
                    moment(each["expires"])[:10],
                    each["state"],
                    at_last[each["endpoint"]],
                    ", ".join(each["findings"]),
                )
                for each in _noticed(before)
            ),
            nothing="Everything is healthy.",
        )
        renewal = summary["renewal"]
        out.print(f"\n[bold]Renewed[/bold]  run {renewal['run']}  [bold]{renewal['status']}[/bold]")
        for words in renewal["changed"]:
            out.print(f"  changed   {words}", markup=False)
        for each in renewal["decisions"]:
            out.print(f"  {each['decision']} by {each['by']}, who saw plan {each['plan'][:16]}")
        out.print(f"\n[bold]Told[/bold]     {len(summary['messages'])} messages, {len(summary['tickets'])} tickets")
        for ticket in summary["tickets"]:
            out.print(f"  {ticket['key']}  {ticket['status']:<8}  {ticket['summary']}", markup=False)
        outside = summary["outside"]
        out.print("\n[bold]Counted at the outside[/bold]")
        print_table(
            ("who counts", "what", "how many"),
            (
                ("Pebble", "orders", outside["orders"]),
                ("Pebble", "certificates issued", outside["certificates"]),
                ("Knot", "changes of the zone: proofs, set and removed", outside["dns_updates"]),
                ("nginx", "deployments: reloads", outside["nginx_reloads"]),
                ("HAProxy", "deployments: certificates replaced over its socket", outside["haproxy_commits"]),
            ),
            nothing="Nobody counted.",
        )
        out.print()
        print_table(
            ("a client of", "handshakes made", "failed", "certificates met"),
            (
                (name, seen["handshakes"], seen["failed"], " -> ".join(_short(each) for each in seen["serials"]))
                for name, seen in summary["visits"].items()
            ),
            nothing="Nobody connected.",
        )

    def places(self, web: str) -> list[tuple[str, str]]:
        """Where to look. See `Tale.places`."""
        return [
            (f"{web}/records/certificates/{KIND}", "what expires when"),
            (web, "what has run, and what waits for whom"),
        ]


CERTIFICATES = Certificates()


async def _look(story: Story) -> None:
    """Watch once, and wait until everything that began with it is over."""
    await story.end_of(await story.start(WATCH, {}))
    await story.everything_over(says_yes=False)


async def _inventory(story: Story) -> list[dict[str, Any]]:
    """What Regie knows of each endpoint, what expires first at the top."""
    shelf = Shelf(TENANT, "certificates", KIND)
    async with Installation(story.services.settings, say).running_database() as database, database.reading() as tx:
        found, _ = await records.list_records(tx, shelf, state="", after="", most=MOST_ENDPOINTS)
    known = [
        {
            "endpoint": each.key,
            "state": each.state,
            "expires": each.due_at.isoformat() if each.due_at else "",
            **{name: each.value[name] for name in ("name", "owner", "renewed_by", "findings")},
        }
        for each in found
    ]
    return sorted(known, key=lambda each: (str(each["expires"]) or "~", str(each["endpoint"])))


def _noticed(inventory: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is not as it should be."""
    return [each for each in inventory if each["state"] != "healthy" or each["findings"]]


async def _desk(story: Story) -> dict[str, Any]:
    """The tickets and the messages there are."""
    world = await story.sandbox.world()
    return {
        "tickets": [{name: each[name] for name in ("key", "status", "summary")} for each in world["tickets"]],
        "messages": [each["text"] for each in world["messages"]],
    }


def _renewal_summary(shown: dict[str, Any]) -> dict[str, Any]:
    return {
        "run": shown["id"],
        "status": shown["status"],
        "decisions": [
            {"decision": each["status"], "by": each["decided_by"], "plan": each["plan_sha256"]}
            for each in shown["approvals"]
        ],
        "changed": [note["words"] for step in shown["steps"] for note in step["effects"] if note["changed"]],
    }


def _in_words(inventory: list[dict[str, Any]]) -> str:
    counts = Counter(str(each["state"]) for each in inventory)
    return ", ".join(f"{count} {state}" for state, count in counts.most_common())


def _short(serial: str) -> str:
    return serial[:12]


def _sum(before: dict[str, int], after: dict[str, int]) -> int:
    return sum(after[name] - before[name] for name in after)
