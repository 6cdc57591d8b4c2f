"""Commands about approvals: what waits for an answer, and answering as a person."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer
from rich.prompt import Confirm

from regie.cli.api import Api, connected
from regie.cli.terminal import Json, err, moment, out, print_json, print_table, say, short
from regie.core.approval import closed, require_may_decide
from regie.core.errors import Denied, InvalidInput, NotFound
from regie.settings import Settings

ApprovalId = Annotated[
    str, typer.Argument(help="Id of the approval, or of the run that waits for it, or a beginning of it.")
]
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
        prose=("question",),
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


async def _decide(
    approval: str, person: str, decision: Literal["approved", "refused"], comment: str, *, is_sure: bool, as_json: bool
) -> None:
    async with connected(Settings(), say, person=person) as api, connected(Settings(), say) as operator:
        meant = await _meant(operator, approval)
        if meant["status"] != "open":
            at = datetime.fromisoformat(meant["decided_at"])
            raise Denied(closed(meant["status"], by=meant["decided_by"], at=at))
        shown = await _shown_to(person, api, meant)
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


async def _meant(operator: Api, given: str) -> dict[str, Any]:
    """The approval that is named by its id, or by that of its run; a beginning of either will do.

    Raises:
        InvalidInput: Several could be meant.
        NotFound: There is none.
    """
    try:
        run = await operator.get(f"/v1/runs/{quote(given, safe='')}")
    except NotFound:
        found: dict[str, Any] = await operator.get(f"/v1/approvals/{quote(given, safe='')}")
        return found
    opened = [each for each in run["approvals"] if each["status"] == "open"]
    if len(opened) > 1:
        ids = ", ".join(each["id"] for each in opened)
        raise InvalidInput("That run waits for several approvals.", hint=f"Name one: {ids}")
    for each in opened or reversed(run["approvals"]):
        return dict(each)
    raise NotFound("That run has asked nobody.", hint="`regie approvals` lists what waits for an answer.")


async def _shown_to(person: str, api: Api, meant: dict[str, Any]) -> dict[str, Any]:
    """The approval as the person sees it.

    Raises:
        Denied: They do not see it, since they have not been asked; the hint says who has.
    """
    try:
        shown: dict[str, Any] = await api.get(f"/v1/approvals/{meant['id']}")
    except NotFound:
        require_may_decide(person, requester=meant["requester"], approvers=meant["approvers"])
        raise
    return shown
