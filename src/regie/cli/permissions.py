"""What a workflow needs to be allowed at the outside systems."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from regie.cli.checking import checked_release
from regie.cli.definitions import workspace_folder
from regie.cli.tenants import only_tenant
from regie.cli.terminal import Json, out, print_json
from regie.gateway.permissions import Allowance, Needed, allowances, needed_by

Workflow = Annotated[str, typer.Argument(help="Name of the workflow, such as identity.offboard_employee.")]
Tenant = Annotated[str, typer.Option(help="Tenant it runs for; may be left out when there is only one.")]


def permissions(workflow: Workflow, tenant: Tenant = "", as_json: Json = False) -> None:
    """Print what each step of a workflow needs to be allowed at the outside systems, and what to allow there.

    It is derived from the workflow and from what the connectors declare: IAM policies, application roles of Microsoft
    Graph, scopes of Jira and Slack. What is not listed is not needed.
    """
    release = checked_release(workspace_folder())
    whose = tenant or only_tenant(release.tenants)
    needed = needed_by(release, workflow, whose)
    found = allowances(needed)
    if as_json:
        told: dict[str, Any] = {"workflow": workflow, "tenant": whose}
        print_json({**told, "steps": [asdict(each) for each in needed], "allow": [asdict(each) for each in found]})
        return
    _show_steps(needed)
    for each in found:
        _show(each)


def _show_steps(needed: list[Needed]) -> None:
    """A line for each step and capability; lists of permissions are too long for a column."""
    if not needed:
        out.print("It asks nothing of the outside.", style="dim")
    width = max((len(each.place) for each in needed), default=0)
    shown = ""
    for each in needed:
        if each.workflow != shown:
            out.print(f"[bold]{each.workflow}[/bold]")
            shown = each.workflow
        through = f"through {each.connection}: {', '.join(each.permissions)}" if each.connection else "served by nobody"
        out.print(
            f"  {each.place:<{width}}  {each.capability} {through}", markup=False, highlight=False, soft_wrap=True
        )


def _show(allowance: Allowance) -> None:
    words = "IAM policy" if allowance.policy is not None else allowance.permissions_are
    out.print(f"\n[bold]{allowance.connection}[/bold]", end="")
    out.print(f"  {allowance.title}: {words}", markup=False)
    lines = json.dumps(allowance.policy, indent=2) if allowance.policy is not None else "\n".join(allowance.permissions)
    for line in lines.splitlines():
        out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
