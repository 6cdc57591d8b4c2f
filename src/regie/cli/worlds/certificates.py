"""The world of certificates: a service desk, a chat, and real servers: Pebble, nginx, HAProxy and Knot.

The servers are started and looked after by `regie_sandbox.servers`, a process of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

from regie.cli.processes import Process
from regie.cli.worlds.sandbox import HERE, asked, jira, secrets_of_desk_and_chat, slack, start_sandbox
from regie.cli.worlds.world import DemoTenant, Site, World
from regie.core.tenant import SecretRef

OWNER = "anna.visser@example.com"
"""The platform engineer: says yes to certificates that are put in place."""
MANAGED = "shop"
"""The entry of the setting `managed`."""


class Certificates(World):
    """What a company serves over TLS."""

    domain: ClassVar[str] = "certificates"

    async def start(self, site: Site, webhook_secret: str) -> dict[str, str]:
        """Start it. See `World.start`."""
        home = site.settings.home
        servers = Process(
            "servers", "regie_sandbox.servers", home / "logs", arguments=("--state", str(home / "servers"))
        )
        sandbox, _ = await asyncio.gather(start_sandbox(site, webhook_secret), site.supervisor.add(servers))
        return {"sandbox": sandbox.ready["address"], "servers": servers.ready["address"]}

    async def tenant(self, addresses: Mapping[str, str], webhook_secret: str) -> DemoTenant:
        """The tenant: one certificate is Regie's to renew at two servers, the others are people's."""
        given = await asked(addresses["sandbox"], "/sandbox/credentials")
        found = await asked(addresses["servers"], "/servers")
        connections = _servers(found)
        return DemoTenant(
            connections={
                "jira": jira(self.domain, addresses["sandbox"], given["jira"]),
                "slack": slack(self.domain, addresses["sandbox"], given["slack"]),
                **connections,
            },
            roles={"certificate-owner": [OWNER]},
            settings=_settings(found),
            secrets={
                **secrets_of_desk_and_chat(self.domain, given, webhook_secret),
                SecretRef(domain=self.domain, name="dns-key"): found["name_server"]["key"],
            },
            moving=frozenset(connections),
        )

    def hints(self, addresses: Mapping[str, str]) -> list[str]:  # noqa: ARG002  nothing is typed to an address
        """How to look, and how to answer. See `World.hints`."""
        return [
            "  .venv/bin/regie start certificates.watch --tenant example",
            f"  .venv/bin/regie approve APPROVAL --as {OWNER}",
        ]


CERTIFICATES = Certificates()


def _servers(found: dict[str, Any]) -> dict[str, Any]:
    """Connections to what is served, to who signs and to who answers for names."""
    target, names = found["target"], found["name_server"]

    def server(connector: str) -> dict[str, Any]:
        its = found[connector]
        targets = {target["name"]: {"server_name": target["server_name"], "address": its["address"]}}
        settings = {name: value for name, value in its.items() if name != "address"} | {"targets": targets}
        return {"connector": connector, "domains": ["certificates"], "reach": [HERE], "settings": settings}

    return {
        "endpoints": {
            "connector": "tls",
            "domains": ["certificates"],
            "settings": {
                "endpoints": found["endpoints"],
                "networks": [HERE],
                "roots": found["roots"],
                "public_roots": False,
            },
        },
        "authority": {
            "connector": "acme",
            "domains": ["certificates"],
            "reach": [HERE],
            "settings": {
                "directory": found["acme"]["directory"],
                "trusted_authority": found["acme"]["trust"],
            },
            "secrets": {"account_key": "secret://certificates/acme-account"},
        },
        "names": {
            "connector": "dns",
            "domains": ["certificates"],
            "reach": [HERE],
            "settings": {
                "primary": names["address"],
                "zones": [names["zone"]],
                "key_name": names["key_name"],
                "algorithm": names["algorithm"],
            },
            "secrets": {"key": "secret://certificates/dns-key"},
        },
        "web": server("nginx"),
        "proxy": server("haproxy"),
    }


def _settings(found: dict[str, Any]) -> dict[str, Any]:
    target = found["target"]["name"]
    return {
        "watched": ["endpoints"],
        "ask_before_deploying": True,
        "ticket_queue": "ITSM",
        "tell_in_chat": True,
        "chat_channel": "certificates",
        "owners": [
            {"names": ["shop.example.test"], "owners": ["lukasz.nowak@example.com", "mehmet.yildiz@example.com"]},
            {"names": ["mail.example.test"], "owners": [OWNER], "channel": "alerts"},
            {"names": ["*.example.test"], "owners": ["soren.holm@example.com"]},
        ],
        "managed": {
            MANAGED: {
                "names": found["names"],
                "authority": "authority",
                "key": "ec-p256",
                "proof": "dns-01",
                "prove_through": "names",
                "targets": [{"connection": "web", "target": target}, {"connection": "proxy", "target": target}],
            }
        },
    }
