"""The imaginary Jira, Graph and Slack (the package regie-sandbox), and how the demo's tenant is connected to them."""

from __future__ import annotations

import importlib.util
from typing import Any

import httpx2

from regie.cli.processes import Process
from regie.cli.worlds.world import Site
from regie.core.errors import InvalidInput
from regie.core.tenant import SecretRef


def need_sandbox() -> None:
    """Make sure that the package with the imaginary world is there.

    Raises:
        InvalidInput: It is not.
    """
    if importlib.util.find_spec("regie_sandbox") is None:
        raise InvalidInput(
            "The imaginary outside world (regie-sandbox) is not installed.", hint="`make setup` in a clone installs it."
        )


async def asked(address: str, path: str) -> Any:
    """What a hand above the world answers."""
    async with httpx2.AsyncClient(base_url=address, trust_env=False) as http:
        return (await http.get(path)).raise_for_status().json()


def titled(people: list[dict[str, Any]], title: str) -> str:
    """The address of whoever has a job."""
    return next(str(person["upn"]) for person in people if person["job_title"] == title)


async def start_sandbox(site: Site, webhook_secret: str) -> Process:
    """Start the imaginary Jira, Graph and Slack."""
    need_sandbox()
    web = f"http://127.0.0.1:{site.settings.port}/v1/inbound/{site.tenant}"
    arguments = (
        *("--port", str(site.sandbox_port), "--state", str(site.settings.home / "sandbox")),
        *("--webhook-url", f"{web}/jira"),
        # In one word: a secret may begin with a dash, and would be taken for an option.
        f"--webhook-secret={webhook_secret}",
        *("--interactivity-url", f"{web}/slack"),
    )
    logs = site.settings.home / "logs"
    return await site.supervisor.add(Process("sandbox", "regie_sandbox", logs, arguments=arguments))


HERE = "127.0.0.0/8"
"""What stands for vendors is on this machine, which a connection reaches only when it is told."""


def jira(domain: str, sandbox: str, given: dict[str, Any]) -> dict[str, Any]:
    """The connection to the imaginary Jira."""
    return {
        "connector": "jira",
        "domains": [domain],
        "reach": [HERE],
        "settings": {
            "site": f"{sandbox}/jira",
            "email": given["email"],
            "fields": {name: given["fields"][name] for name in ("employee", "last_day")},
            "closing_transitions": ["Start progress", "Resolve"],
        },
        "secrets": {"api_token": f"secret://{domain}/jira-token", "webhook": f"secret://{domain}/jira-webhook"},
    }


def slack(domain: str, sandbox: str, given: dict[str, Any]) -> dict[str, Any]:
    """The connection to the imaginary Slack."""
    return {
        "connector": "slack",
        "domains": [domain],
        "reach": [HERE],
        "settings": {
            "address": f"{sandbox}/slack/api",
            "workspace": given["workspace"],
            "app": given["app"],
            "channels": given["channels"],
            "decides": True,
        },
        "secrets": {"bot_token": f"secret://{domain}/slack-bot", "signing_secret": f"secret://{domain}/slack-signing"},
    }


def secrets_of_desk_and_chat(domain: str, given: dict[str, Any], webhook_secret: str) -> dict[SecretRef, str]:
    """What the connections to Jira and Slack need."""
    values = {
        "jira-token": given["jira"]["api_token"],
        "jira-webhook": webhook_secret,
        "slack-bot": given["slack"]["bot_token"],
        "slack-signing": given["slack"]["signing_secret"],
    }
    return {SecretRef(domain=domain, name=name): str(value) for name, value in values.items()}
