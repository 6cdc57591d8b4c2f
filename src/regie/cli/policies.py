"""Commands about the policies of the workspace: what they decide, and why."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pydantic import ValidationError

from regie.cli.checking import checked_release
from regie.cli.definitions import workspace_folder
from regie.cli.tenants import only_tenant
from regie.cli.terminal import Json, out, print_json
from regie.core.errors import InvalidInput
from regie.core.reach import Act
from regie.policy.cedar import Decision, policies_of
from regie.policy.golden import Question, in_words
from regie.workspace.policies import golden_lines

program = typer.Typer(no_args_is_help=True, help="Who may do what, as the policies of the workspace say.")

Addresses = list[str] | None
Acts = list[Act] | None


@program.callback()
def about() -> None:
    """Who may do what, as the policies of the workspace say."""


@program.command("test")
def check(as_json: Json = False) -> None:
    """Check the policies of the workspace, and ask them every question of its golden tables.

    Loading a release does the same. Exit code 2 when something is wrong or is decided otherwise than a table says.
    """
    workspace = workspace_folder()
    release = checked_release(workspace)
    lines = golden_lines(workspace, release)
    policies = policies_of(release)
    if as_json:
        print_json(
            {
                "policies": [each.id for each in policies.known.values()],
                "set_sha256": policies.sha256,
                "decisions": [
                    {
                        **each.row.model_dump(mode="json", exclude_defaults=True),
                        "file": str(file),
                        "found": _told(each.decision) if each.decision else None,
                    }
                    for file, each in lines
                ],
            }
        )
        return
    out.print(f"{len(policies.known)} policies, no faults. Their digest: {policies.sha256}", markup=False)
    if lines:
        out.print(f"{len(lines)} golden {'decision' if len(lines) == 1 else 'decisions'}, all as expected.")
    else:
        out.print("There are no golden decisions: write some into policies/decisions.yaml.", style="yellow")


@program.command("explain")
def explain(
    who: Annotated[
        str, typer.Argument(help="person:ADDRESS, program:TOKEN, operator, or step:PLACE such as step:close/0.")
    ],
    action: Annotated[
        str, typer.Argument(help="start, view, cancel, decide ...; of a step call, plan, apply, change.")
    ],
    workflow: Annotated[str, typer.Argument(help="Name of the workflow.")],
    tenant: Annotated[str, typer.Option(help="Tenant it is about; may be left out when there is only one.")] = "",
    role: Annotated[Addresses, typer.Option(help="A role of the person's account or group; may be repeated.")] = None,
    is_of_tenant: Annotated[
        bool, typer.Option("--of-tenant", help="The person belongs to the tenant without such a role.")
    ] = False,
    act: Annotated[Acts, typer.Option(help="An act of the program's scope; may be repeated.")] = None,
    requester: Annotated[str, typer.Option(help="Address of who asked for the run.")] = "",
    starter: Annotated[str, typer.Option(help="Address of who started it by hand.")] = "",
    asked: Annotated[Addresses, typer.Option(help="Address of somebody asked to decide; may be repeated.")] = None,
    is_form: Annotated[bool, typer.Option("--by-form", help="Started with a form.")] = False,
    of_approval: Annotated[bool, typer.Option("--approval", help="View one of its approvals, not the run.")] = False,
    capability: Annotated[str, typer.Option(help="What the step asks for.")] = "",
    target: Annotated[str, typer.Option(help="What the change is made to, such as user:9f3c.")] = "",
    is_destructive: Annotated[bool, typer.Option("--destructive", help="The change takes something away.")] = False,
    approved_by: Annotated[Addresses, typer.Option(help="Address of who approved the change; may be repeated.")] = None,
    is_dry: Annotated[bool, typer.Option("--dry", help="In a dry run.")] = False,
    as_json: Json = False,
) -> None:
    """Say which policy allows or denies something, and why. Asks the workspace as it is on disk; changes nothing.

    Exit code 0 when it is allowed, 3 when it is denied.
    """
    release = checked_release(workspace_folder())
    given: dict[str, Any] = {
        "who": who,
        "action": action,
        "tenant": tenant or only_tenant(release.tenants),
        "workflow": workflow,
        "roles": tuple(role or ()),
        "is_of_tenant": is_of_tenant,
        "acts": tuple(act or ()),
        "about": "approval" if of_approval else "run",
        "requester": requester,
        "starter": starter,
        "asked": tuple(asked or ()),
        "by_form": is_form,
        "capability": capability,
        "target": target,
        "effect": "destructive" if is_destructive else "write",
        "approved_by": tuple(approved_by or ()),
        "is_dry": is_dry,
    }
    try:
        question = Question.model_validate(given)
    except ValidationError as error:
        places = ", ".join(sorted({str(fault["loc"][0]) for fault in error.errors()}))
        raise InvalidInput(f"The question cannot be put: look at {places}.", hint="See --help.") from error
    decision = policies_of(release).decide(question.request(release))
    if as_json:
        print_json(_told(decision))
    else:
        out.print(f"{who} {action} {workflow}: {in_words(decision)}", markup=False, soft_wrap=True)
        for line in (decision.because, decision.hint):
            if line:
                out.print(f"  {line}", markup=False, soft_wrap=True)
    if not decision.is_allowed:
        raise typer.Exit(3)


def _told(decision: Decision) -> dict[str, Any]:
    return {
        "allowed": decision.is_allowed,
        "policies": list(decision.policies),
        "because": decision.because,
        "hint": decision.hint,
        "errors": list(decision.errors),
        "set_sha256": decision.set_sha256,
    }
