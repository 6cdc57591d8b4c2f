"""How workflows of certificates are proven: the same wish again, at real servers that count what is done to them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any, ClassVar

from regie.cli.stories.telling import Once, Rehearsal
from regie.cli.story import Story
from regie.cli.worlds.certificates import MANAGED
from regie.core.definition import Definition
from regie.core.errors import InvalidInput

SHOP = "shop.example.test"
DUE_DAYS = (90, 28)
"""A lifetime and what is left of it, with which Regie renews and nobody has to be told: one look has to be enough."""
KEY, NAME = "0a1b2c3d CN=Example", "fax.example.test"
REMINDER = {
    "key": f"certificate {KEY}",
    "name": NAME,
    "stage": "urgent",
    "serial": "0a1b2c3d",
    "left": "3 days",
    "not_after": "2027-01-31T00:00:00Z",
    "owner": "soren.holm@example.com",
    "renewed_by": "nobody",
    "told": ["soren.holm@example.com", "mehmet.yildiz@example.com"],
    "channel": "alerts",
}


class OfCertificates(Rehearsal):
    """Certificates at the servers of the imaginary company."""

    domain: ClassVar[str] = "certificates"

    def check(self, definition: Definition) -> None:
        """Make sure that there is a scene for it. See `Rehearsal.check`."""
        if definition.workflow.partition(".")[2] not in _TRIED:
            raise _never_tried(definition)

    async def set_scene(self, story: Story, definition: Definition) -> dict[str, Any]:
        """Make something be due. See `Rehearsal.set_scene`."""
        match definition.workflow.partition(".")[2]:
            case "renew":
                return {"certificate": MANAGED, "serial": await _served(story)}
            case "renew_due":
                serial = await _served(story)
                return {"certificate": MANAGED, "serial": serial, "key": f"{MANAGED} {serial}"}
            case "watch":
                await story.servers.put_by_hand(SHOP, lifetime_days=DUE_DAYS[0], left_days=DUE_DAYS[1])
                return {}
            case "watch_page":
                await story.servers.put_by_hand(SHOP, lifetime_days=DUE_DAYS[0], left_days=DUE_DAYS[1])
                return {"connection": "endpoints", "cursor": ""}
            case "remind":
                return dict(REMINDER)
            case "settle":
                await story.end_of(await story.start("certificates.remind", dict(REMINDER)))
                return {"key": KEY, "name": NAME}
            case _:
                raise _never_tried(definition)

    async def run_once(self, story: Story, definition: Definition, given: dict[str, Any]) -> Once:
        """Start it, say yes to everything, and wait for all that begins with it. See `Rehearsal.run_once`."""
        seq, _ = await story.sandbox.ledger()
        before = await story.servers.counts()
        run = await story.start(definition.workflow, given)
        runs = await story.everything_over(says_yes=True, of_run=run)
        _, entries = await story.sandbox.ledger(seq)
        after = await story.servers.counts()
        at_servers = {name.replace("_", " "): after[name] - before[name] for name in after}
        ends = {str(each["status"]) for each in runs}
        return Once(
            run=run,
            subject="",
            status="done" if ends == {"done"} else ", ".join(sorted(ends)),
            writes=at_servers | dict(Counter(str(entry["system"]) for entry in entries)),
            ticket_writes=0,
            world=await _digest(story),
            failure=await story.why_not_done(run, runs),
        )


OF_CERTIFICATES = OfCertificates()


_TRIED = ("renew", "renew_due", "watch", "watch_page", "remind", "settle")


def _never_tried(definition: Definition) -> InvalidInput:
    return InvalidInput(
        f"Nobody has said how {definition.workflow} is tried in the imaginary company.",
        hint=f"Of {definition.domain} there are tried: {', '.join(_TRIED)}.",
    )


async def _served(story: Story) -> str:
    """The serial that is to be replaced."""
    return str((await story.servers.state())["served"]["nginx"])


async def _digest(story: Story) -> str:
    """Of everything outside: certificates in place and served, proofs, tickets, messages."""
    world = await story.sandbox.world()
    everything = {
        "servers": await story.servers.state(),
        "tickets": [[each[name] for name in _OF_TICKET] for each in world["tickets"]],
        "messages": [[each["channel"], each["text"]] for each in world["messages"]],
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


_OF_TICKET = ("key", "status", "summary", "description", "priority", "labels", "comments")
