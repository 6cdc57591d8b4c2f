"""Commands about runs: plan one, start one, list them, show one, show its audit log."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from regie.cli.api import Api, asked, connected
from regie.cli.tenants import only_tenant
from regie.cli.terminal import Json, moment, out, outcome_style, print_json, print_table, say, short
from regie.core.approval import APPROVE
from regie.core.errors import Denied, InvalidInput, RegieError
from regie.core.source import MAX_CHARACTERS, decode, read_source
from regie.core.status import RunStatus
from regie.settings import Settings

Workflow = Annotated[str, typer.Argument(help="Name of the workflow, such as identity.offboard_employee.")]
Input = Annotated[
    Path | None, typer.Option("--input", "-i", help="File with the input, YAML or JSON: field: value.", dir_okay=False)
]
Ticket = Annotated[str, typer.Option(help="Key of the ticket that asks for it; its fields fill the input.")]
Tenant = Annotated[str, typer.Option(help="Tenant to do it for; may be left out when there is only one.")]
RunId = Annotated[str, typer.Argument(help="Id of the run, or a beginning of it.")]

SHORTEST_S = 0.005
"""Less than that is not told."""


def plan(
    workflow: Workflow, input_file: Input = None, ticket: Ticket = "", tenant: Tenant = "", as_json: Json = False
) -> None:
    """Show what a workflow would change in the outside world. Changes nothing.

    Reads the world as a run would, assumes that approvals are given, and plans every change field by field.
    """
    shown = asyncio.run(_start(workflow, _read(input_file), ticket, tenant, is_dry=True, is_awaited=True))
    changes = _planned(shown)
    failure = (shown["outcome"] or {}).get("failure")
    result = {
        "workflow": workflow,
        "run": shown["id"],
        "status": shown["status"],
        "changes": [change for change in changes if change["kind"] == "change"],
        "unchanged": [change for change in changes if change["kind"] != "change"],
        "failure": failure,
    }
    if as_json:
        print_json(result)
    else:
        _show_plan(result)
    if shown["status"] == "failed":
        raise _failed("The plan stops", failure)


def start(
    workflow: Workflow,
    input_file: Input = None,
    ticket: Ticket = "",
    tenant: Tenant = "",
    is_awaited: Annotated[bool, typer.Option("--wait", help="Wait until it is over or waits for people.")] = False,
    as_json: Json = False,
) -> None:
    """Start a run.

    With --wait: exit code 1 when it failed or was cancelled, 3 when people refused it or did not answer; 0 when it is
    done, waits for people or is paused.
    """
    shown = asyncio.run(_start(workflow, _read(input_file), ticket, tenant, is_dry=False, is_awaited=is_awaited))
    if as_json:
        print_json(shown)
    else:
        out.print(f"Run {shown['id']}: {shown['status']}")
    if is_awaited:
        _require_well(shown)


def runs(
    status: Annotated[str | None, typer.Option(help="Only with this status.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Only of this workflow.")] = None,
    ticket: Annotated[str | None, typer.Option(help="Only for this ticket.")] = None,
    is_late: Annotated[
        bool, typer.Option("--late", help="Only those not finished when they should have been.")
    ] = False,
    most: Annotated[int, typer.Option("--most", min=1, max=10_000, help="How many at most, newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """List runs, newest first."""

    async def ask() -> list[dict[str, Any]]:
        async with connected(Settings(), say) as api:
            return await api.every(
                "/v1/runs", most, status=status, workflow=workflow, ticket=ticket, late="true" if is_late else None
            )

    found = asyncio.run(ask())
    if as_json:
        print_json(found)
        return
    print_table(
        ("run", "workflow", "ticket", "status", "started"),
        (
            (
                short(row["id"]),
                row["workflow"] + (" (dry)" if row["dry"] else ""),
                row["ticket"],
                row["status"] + (", late" if row["is_late"] else ""),
                moment(row["started_at"]),
            )
            for row in found
        ),
        nothing="No run fits." if status or workflow or ticket or is_late else "Nothing has run.",
        prose=(),
    )


def show(run: RunId, as_json: Json = False) -> None:
    """Show a run: its steps, what was asked and answered, what changed."""
    shown, rungs = asyncio.run(_look(run))
    if as_json:
        print_json(shown)
    else:
        _show_run(shown, rungs)


def audit_show(run: RunId, as_json: Json = False) -> None:
    """Show a run's entries in the audit log, and whether their chain is whole.

    Exit code 1 when an entry is missing or altered.
    """
    log = asked(f"/v1/runs/{quote(run, safe='')}/audit")
    if as_json:
        print_json(log)
    else:
        print_table(
            ("", "at (UTC)", "event", "who", "about"),
            (
                (
                    leaf["fields"].get("run_seq", ""),
                    moment(leaf["fields"]["at"])[11:],
                    leaf["fields"]["event"],
                    _who(leaf["fields"]["actor"]),
                    _about(leaf["fields"]),
                )
                for leaf in log["leaves"]
            ),
            nothing="The log holds nothing about this run.",
        )
    if log["faults"]:
        raise RegieError("The chain of this run is broken: " + "; ".join(log["faults"]) + ".")
    if not as_json:
        out.print(f"\n{len(log['leaves'])} entries, chain whole.", style="green")


async def _start(
    workflow: str, given: dict[str, Any], ticket: str, tenant: str, *, is_dry: bool, is_awaited: bool
) -> dict[str, Any]:
    async with connected(Settings(), say, is_working=True) as api:
        body = {
            "tenant": tenant or only_tenant(await _tenants(api)),
            "workflow": workflow,
            "input": given,
            "ticket": ticket,
            "dry": is_dry,
        }
        started: dict[str, Any] = await api.post("/v1/runs", body)
        if not is_awaited:
            return started
        await api.settled(started["id"], also_waiting=not is_dry)
        shown: dict[str, Any] = await api.get(f"/v1/runs/{started['id']}")
        return shown


def _require_well(shown: dict[str, Any]) -> None:
    """Make sure that a run has not ended badly.

    Raises:
        Denied: People have said no, or nothing.
        RegieError: It failed or was cancelled.
    """
    see = f"See: regie audit why {short(shown['id'])}"
    match shown["status"]:
        case RunStatus.FAILED:
            raise _failed("The run has failed", shown["outcome"]["failure"])
        case RunStatus.CANCELLED:
            raise RegieError("The run was cancelled.", hint=see)
        case RunStatus.REFUSED:
            raise Denied("The run was refused: those who were to agree have not.", hint=see)


def _failed(what: str, failure: dict[str, Any] | None) -> RegieError:
    """The error for a run that failed, with what to do about it."""
    known = failure or {}
    return RegieError(f"{what}: {known.get('message')}", hint=known.get("hint"))


async def _tenants(api: Api) -> set[str]:
    return {tenant for each in (await api.get("/v1/workflows"))["items"] for tenant in each["tenants"]}


def _read(file: Path | None) -> dict[str, Any]:
    """The input in a file.

    Raises:
        InvalidInput: There is no such file, or it holds no fields.
        DefinitionError: It is not the YAML that Regie reads: no aliases, bounded in size and depth.
    """
    if file is None:
        return {}
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_CHARACTERS + 1)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}.") from error
    if len(content) > MAX_CHARACTERS:
        raise InvalidInput(f"{file} has more than {MAX_CHARACTERS} bytes.")
    text = decode(content, str(file))
    try:
        # YAML reads most of JSON, but not characters that JSON writes as two escapes.
        found = json.loads(text) if file.suffix == ".json" else read_source(text, str(file)).root.plain()
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{file} is no JSON that can be used: {error}.") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{file} holds no fields.", hint="Write one line a field, such as employee: jan@example.com")
    return found


async def _look(run: str) -> tuple[dict[str, Any], set[tuple[str, int]]]:
    """A run, and the rungs that were asked where some were passed over: each with the id of its approval."""
    async with connected(Settings(), say) as api:
        shown: dict[str, Any] = await api.get(f"/v1/runs/{quote(run, safe='')}")
        if all(each["rung"] == 1 for each in shown["approvals"]):
            return shown, set()
        leaves = (await api.get(f"/v1/runs/{shown['id']}/audit"))["leaves"]
    told = [leaf["fields"]["approval"] for leaf in leaves if "approval" in leaf["fields"]]
    return shown, {(each["id"], each["rung"]) for each in told if "rung" in each}


def _planned(shown: dict[str, Any]) -> list[dict[str, Any]]:
    """Every planned step of a dry run: what approvals cover, then what stands outside any approval."""
    covered = [step for approval in shown["approvals"] for step in approval["plan"]]
    known = {step["place"] for step in covered}
    others = [
        {
            "place": step["place"],
            "uses": step["uses"],
            "kind": "change" if note["changed"] else "no_change",
            "capability": note["capability"],
            "target": note["target"],
            "words": note["words"],
            "digest": note["digest"],
        }
        for step in shown["steps"]
        for note in step["effects"]
        if step["place"] not in known
    ]
    return covered + others


def _show_plan(result: dict[str, Any]) -> None:
    for change in result["changes"]:
        out.print("[yellow]~[/yellow] ", end="")
        out.print(change["words"], markup=False)
    for change in result["unchanged"]:
        out.print(f"= {change['words']}", style="dim", markup=False)
    count = len(result["changes"])
    out.print(f"\n{count} {'change' if count == 1 else 'changes'} planned; nothing was written.")


def _show_run(shown: dict[str, Any], rungs: set[tuple[str, int]]) -> None:
    style = outcome_style(shown["status"])
    out.print(f"[bold]{shown['workflow']}[/bold]  run {shown['id']}  [{style}]{shown['status']}[/{style}]")
    out.print(f"tenant {shown['tenant']}  ticket {shown['ticket'] or '-'}  requester {shown['requester'] or '-'}")
    out.print(f"started {moment(shown['started_at'])}  ended {moment(shown['ended_at'])}")
    if shown["parent"]:
        out.print(f"child of run {shown['parent']['run']}, step {shown['parent']['place']}", markup=False)
    if shown["finish_by"]:
        late = "  [red]late[/red]" if shown["is_late"] else ""
        out.print(f"to finish by {moment(shown['finish_by'])}{late}")
    if cause := shown["cause"]:
        by = f", published by run {cause['run']}" if cause["run"] else ""
        out.print(f"started by the event {cause['name']} {cause['event']}{by}", markup=False)
    if shown["rerun_of"]:
        out.print(f"repeats run {shown['rerun_of']}; steps marked `kept` were not done again")
    for again in shown["reruns"]:
        out.print(f"repeated by run {again}")
    if held := shown["paused"]:
        out.print(
            f"paused with its parent {held['parent']} by " if held["parent"] else "paused by ",
            held["by"],
            ": ",
            held["reason"] or "no reason given",
            sep="",
            markup=False,
            style="yellow",
        )
    out.print()
    if shown["queued"]:
        out.print(f"[yellow]{shown['queued']}[/yellow]\n")
    asked_at = {approval["place"] for approval in shown["approvals"]}
    _show_steps(shown["steps"], asked_at, is_dry=shown["dry"])
    ladders = {step["place"]: step["ladder"] for step in shown["steps"]}
    for approval in shown["approvals"]:
        _show_approval(approval, ladders.get(approval["place"], []), rungs)
    if shown["outcome"] and shown["outcome"]["failure"]:
        out.print("\n[red]Failed:[/red] ", end="")
        out.print(shown["outcome"]["failure"]["message"], markup=False)
        if hint := shown["outcome"]["failure"]["hint"]:
            out.print(hint, markup=False, style="dim")


def _show_steps(steps: list[dict[str, Any]], asked_at: set[str], *, is_dry: bool) -> None:
    """A line a step, and below it what it did, in words.

    Args:
        asked_at: Places at which people have been asked.
    """
    places = max((len(step["place"]) for step in steps), default=0)
    blocks = max((len(step["uses"]) for step in steps), default=0)
    for step in steps:
        style = outcome_style(step["status"])
        line = f"{step['place']:<{places}}  {step['uses']:<{blocks}}  {_times(step)}"
        out.print(f"[{style}]{step['status']:<8}[/{style}]", end="  ")
        out.print(line.rstrip(), markup=False)
        if step["child"]:
            out.print(f"          run {step['child']}", markup=False)
        for note in step["effects"]:
            out.print(f"          {'~' if note['changed'] else '='} {note['words']}", markup=False)
        if step["ladder"] and step["status"] == "done" and not (step["place"] in asked_at or step["kept"] or is_dry):
            whom = ", ".join(rung["who"] for rung in step["ladder"])
            out.print(f"          nobody could be asked: {whom}", markup=False, style="yellow")
        if step["failure"]:
            out.print(f"          {step['failure']['kind']}: {step['failure']['message']}", markup=False, style="red")


def _show_approval(approval: dict[str, Any], ladder: list[dict[str, Any]], rungs: set[tuple[str, int]]) -> None:
    out.print(f"\n[bold]Approval[/bold] {approval['id']}  {approval['status']}")
    out.print(f"  {approval['question']}", markup=False)
    if approval["decided_by"]:
        out.print(
            f"  by {approval['decided_by']}, {moment(approval['decided_at'])}: {approval['comment']}", markup=False
        )
    else:
        out.print(f"  asked: {', '.join(approval['approvers'])} (rung {approval['rung']} of {approval['rungs']})")
    if approval["status"] == "open":
        out.print(f"  until {moment(approval['expires_at'])}")
        for rung, each in enumerate(ladder, start=1):
            if rung < approval["rung"] and (approval["id"], rung) not in rungs:
                out.print(f"  passed over: {each['who']}, since nobody there may answer", markup=False)
            if rung == approval["rung"] + 1:
                out.print(f"  asked then: {each['who']}", markup=False)
    for step in approval["plan"]:
        out.print(f"  {'~' if step['kind'] == 'change' else '='} {step['words']}", markup=False)


def _times(step: dict[str, Any]) -> str:
    """How long it was at work, and what it waited for if that is worth telling."""
    if step["kept"]:
        return "kept"
    if not step["attempts"]:
        return ""
    told = [f"{step['duration_s']:>6.2f} s"]
    if step["queue_wait_s"] >= SHORTEST_S:
        told.append(f"queued {step['queue_wait_s']:.2f} s")
    if step["own_wait_s"] >= SHORTEST_S:
        told.append(f"waited {step['own_wait_s']:.2f} s")
    if step["attempts"] > 1 and step["uses"] != APPROVE:
        told.append(f"{step['attempts']} attempts")
    return "  ".join(told)


def _who(actor: dict[str, str]) -> str:
    """A person by their address, a process by what it is."""
    return actor["id"] if actor["type"] in ("person", "operator") else actor["type"]


def _about(fields: dict[str, Any]) -> str:
    step, approval = fields.get("step") or {}, fields.get("approval") or {}
    parts = [
        step.get("place"),
        step.get("uses"),
        step.get("outcome"),
        f"run {fields['child']['run']}" if "child" in fields else None,
        f"child of run {fields['parent']['run']}" if "parent" in fields else None,
        fields.get("capability"),
        approval.get("decision"),
        f"rung {approval['rung']}" if "rung" in approval else None,
        f"plan {approval['plan_sha256'][:12]}" if approval.get("plan_sha256") else None,
    ]
    return " ".join(str(part) for part in parts if part)
