"""The world of the main job: a service desk, a directory and a chat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from regie.cli.worlds.sandbox import HERE, asked, jira, secrets_of_desk_and_chat, slack, start_sandbox, titled
from regie.cli.worlds.world import DemoTenant, Site, World
from regie.core.tenant import SecretRef

_TICKET = '{"reporter": "elif.demir@example.com", "employee": "zoe.dubois@example.com", "last_day": "2026-12-31"}'


class Identity(World):
    """People who join and leave."""

    domain: ClassVar[str] = "identity"

    async def start(self, site: Site, webhook_secret: str) -> dict[str, str]:
        """Start it. See `World.start`."""
        process = await start_sandbox(site, webhook_secret)
        return {"sandbox": process.ready["address"]}

    async def tenant(self, addresses: Mapping[str, str], webhook_secret: str) -> DemoTenant:
        """The tenant: managers and the security officer decide. See `World.tenant`."""
        sandbox = addresses["sandbox"]
        given = await asked(sandbox, "/sandbox/credentials")
        people = (await asked(sandbox, "/sandbox/world"))["people"]
        graph = given["graph"]
        managers = {person["manager_id"] for person in people}
        return DemoTenant(
            connections={
                "jira": jira(self.domain, sandbox, given["jira"]),
                "graph": {
                    "connector": "graph",
                    "domains": [self.domain],
                    "reach": [HERE],
                    "settings": {
                        "address": f"{sandbox}/graph/v1.0",
                        "token_url": f"{sandbox}/login/{graph['tenant_id']}/oauth2/v2.0/token",
                        "client_id": graph["client_id"],
                    },
                    "secrets": {"client_secret": "secret://identity/graph-client"},
                },
                "slack": slack(self.domain, sandbox, given["slack"]),
            },
            roles={"security-officer": [titled(people, "Security Officer")]},
            # A demo cannot wait for hours.
            settings={"manager_answers_within": "3s", "remind_after": "1s", "officer_answers_within": "20m"},
            secrets={
                **secrets_of_desk_and_chat(self.domain, given, webhook_secret),
                SecretRef(domain=self.domain, name="graph-client"): graph["client_secret"],
            },
            people=tuple(person["upn"] for person in people if person["id"] in managers),
        )

    def hints(self, addresses: Mapping[str, str]) -> list[str]:
        """How to answer, and how to open a ticket. See `World.hints`."""
        return [
            "  .venv/bin/regie approve APPROVAL --as ingrid.larsen@example.com",
            "A new ticket, as a customer would open it:",
            f"  curl -s {addresses['sandbox']}/sandbox/tickets -H 'Content-Type: application/json' \\",
            f"       -d '{_TICKET}'",
        ]


IDENTITY = Identity()
