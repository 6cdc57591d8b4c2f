"""Commands about approvals: what waits for an answer, and answering as a person."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer
from rich.prompt import Confirm

from regie.cli.api import connected
from regie.cli.terminal import Json, err, moment, out, print_json, print_table, say, short
from regie.core.errors import InvalidInput
from regie.settings import Settings
from regie.store.keys import LEAST_DIGITS

ApprovalId = Annotated[str, typer.Argument(help="Id of the approval, or of the run that waits for it.")]
Person = Annotated[str, typer.Option("--as", help="Your address. Your password is asked for, or is REGIE_PASSWORD.")]
Comment = Annotated[str, typer.Option(help="Why; kept with the decision.")]
Sure = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask once more after showing the plan.")]


def approvals(
    is_all: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False, as_json: Json = False
) -> None:
    """List what waits for an answer."""

    async def ask() -> list[dict[str, Any]]:
        async with connected(Settings(), say) as api:
            return await api.every("/v1/approvals", 1000, status="all" if is_all else "open")

    found = asyncio.run(ask())
    if as_json:
        print_json(found)
        return
    print_table(
        ("approval", "question", "status", "asked", "answer by"),
        (
            (
                short(row["id"]),
                row["question"],
                row["status"],
                "\n".join(row["approvers"]),
                moment(row["expires_at"]),
            )
            for row in found
        ),
        nothing="Nothing waits for an answer.",
    )


def approve(
    approval: ApprovalId, person: Person, comment: Comment = "", is_sure: Sure = False, as_json: Json = False
) -> None:
    """Say yes to a plan, after seeing it."""
    asyncio.run(_decide(approval, person, "approved", comment, is_sure=is_sure, as_json=as_json))


def refuse(
    approval: ApprovalId, person: Person, comment: Comment = "", is_sure: Sure = False, as_json: Json = False
) -> None:
    """Say no to a plan, after seeing it."""
    asyncio.run(_decide(approval, person, "refused", comment, is_sure=is_sure, as_json=as_json))


def _is_meant(approval: dict[str, Any], given: str) -> bool:
    """Whether what a person gave is the beginning of an approval's id, or of its run's."""
    return len(given) >= LEAST_DIGITS and (approval["id"].startswith(given) or approval["run"].startswith(given))


async def _decide(
    approval: str, person: str, decision: Literal["approved", "refused"], comment: str, *, is_sure: bool, as_json: bool
) -> None:
    async with connected(Settings(), say, person=person) as api:
        open_ones = await api.every("/v1/approvals", 1000, status="open")
        by_run = [each["id"] for each in open_ones if each["run"] == approval]
        if len(by_run) > 1:
            raise InvalidInput("That run waits for several approvals.", hint="Name one: " + ", ".join(by_run))
        shown = await api.get(f"/v1/approvals/{quote(by_run[0] if by_run else approval, safe='')}")
        if not as_json:
            err.print(shown["question"], markup=False, style="bold")
            for step in shown["plan"]:
                err.print(f"  {'~' if step['kind'] == 'change' else '='} {step['words']}", markup=False)
            if not shown["plan"]:
                err.print("  No plan: what the run changes afterwards is not bound to the answer.")
        if not is_sure and err.is_terminal and not Confirm.ask(f"{decision.capitalize()}?", console=err):
            raise typer.Exit(1)
        answer = await api.post(
            f"/v1/approvals/{shown['id']}/decision",
            {"decision": decision, "comment": comment, "plan_sha256": shown["plan_sha256"]},
        )
    if as_json:
        print_json(answer)
    else:
        out.print(f"{decision.capitalize()} by {person}.")
