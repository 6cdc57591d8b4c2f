"""The commands, put together. Each is loaded when it is called: most need little of what Regie is made of."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import typer
from typer.core import TyperGroup

from regie import discovery

RUNNING, LOOKING, DOING = "Running Regie", "Looking", "Doing"
COMMANDS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "demo": (RUNNING, "demo", "demo"),
        "up": (RUNNING, "services", "up"),
        "down": (RUNNING, "services", "down"),
        "doctor": (RUNNING, "doctor", "doctor"),
        "witness": (RUNNING, "witness", "witness"),
        "workflows": (LOOKING, "definitions", "workflows"),
        "blocks": (LOOKING, "definitions", "blocks"),
        "validate": (LOOKING, "definitions", "validate"),
        "permissions": (LOOKING, "permissions", "permissions"),
        "plan": (LOOKING, "runs", "plan"),
        "runs": (LOOKING, "runs", "runs"),
        "show": (LOOKING, "runs", "show"),
        "approvals": (LOOKING, "approvals", "approvals"),
        "schedules": (LOOKING, "schedules", "schedules"),
        "quotas": (LOOKING, "quotas", "quotas"),
        "top": (LOOKING, "top", "top"),
        "audit": (LOOKING, "audit", "program"),
        "policy": (LOOKING, "policies", "program"),
        "start": (DOING, "runs", "start"),
        "cancel": (DOING, "steering", "cancel"),
        "pause": (DOING, "steering", "pause"),
        "resume": (DOING, "steering", "resume"),
        "rerun": (DOING, "steering", "rerun"),
        "wake": (DOING, "steering", "wake"),
        "approve": (DOING, "approvals", "approve"),
        "refuse": (DOING, "approvals", "refuse"),
        "release": (DOING, "releases", "program"),
        "account": (DOING, "accounts", "program"),
        "token": (DOING, "tokens", "program"),
        "secret": (DOING, "secrets", "program"),
        "keys": (DOING, "keys", "program"),
        "subject": (DOING, "subjects", "program"),
        "prove": (DOING, "proving", "program"),
    }
)
"""For each command where it stands in the help, its module of this room, and its function or group there."""


class Commands(TyperGroup):
    """The commands of the table above."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in the order of the help."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One of them, loaded; nothing when there is none of that name."""
        if cmd_name not in COMMANDS:
            # Whoever mistypes is told the nearest of those that are loaded.
            for each in COMMANDS:
                self.get_command(ctx, each)
            return None
        if cmd_name not in self.commands:
            panel, module, name = COMMANDS[cmd_name]
            found = getattr(discovery.module(f"regie.cli.{module}"), name)
            alone = typer.Typer()
            if isinstance(found, typer.Typer):
                alone.add_typer(found, name=cmd_name, rich_help_panel=panel)
            else:
                alone.command(cmd_name, rich_help_panel=panel)(found)
                # One command alone would not be in a group.
                alone.callback()(_nothing)
            self.commands.update(typer.main.get_group(alone).commands)
        return self.commands[cmd_name]


def _nothing() -> None:
    pass


program = typer.Typer(
    name="regie",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=(
        "Regie directs processes across ticketing, identity, cloud and security tools: it plans every change, asks "
        "the right people, makes the changes and proves them.\n\n"
        "Start with `regie demo`. Settings are REGIE_... variables; REGIE_HOME is the folder of the installation "
        "(.regie here).\n\n"
        "Exit codes: 0 good, 1 it did not work, 2 what was given is wrong, 3 not allowed, 4 something does not answer."
    ),
)
program.callback()(_nothing)
