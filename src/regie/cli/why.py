"""Commands for auditors: why a run did what it did, and which run an id in their hands leads to."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from regie.cli.api import asked
from regie.cli.runs import RunId
from regie.cli.terminal import Json, moment, out, print_json, print_table, short
from regie.core.errors import RegieError

Anything = Annotated[
    str,
    typer.Argument(
        help="Of a run, an approval or an entry; a ticket, a correlation id, an outside system's id, our marker there."
    ),
]


def why(run: RunId, as_json: Json = False) -> None:
    """Tell why a run did what it did: who started it, who agreed to what, what changed, and which policy allowed it.

    All of it is read from the audit log of the run. Exit code 1 when an entry is missing or altered, or when what is
    kept beside the log is not what the log says.
    """
    told = asked(f"/v1/runs/{quote(run, safe='')}/why")
    if as_json:
        print_json(told)
    else:
        _show(told)
    if told["faults"]:
        raise RegieError("What is told here cannot be relied on: " + "; ".join(told["faults"]) + ".")


def find(identifier: Anything, as_json: Json = False) -> None:
    """Find the runs that an id leads to: one of ours, a ticket, or an outside system's own, which must be whole."""
    items = asked("/v1/audit/find", id=identifier)["items"]
    if as_json:
        print_json(items)
        return
    print_table(
        ("run", "workflow", "ticket", "started", "it is"),
        (
            (
                short(row["run"]),
                row["workflow"],
                row["ticket"],
                moment(row["started_at"]),
                ", ".join(row["how"]),
            )
            for row in items
        ),
        nothing=f"{identifier} leads to no run.",
    )


def _show(told: dict[str, Any]) -> None:
    dry = ", a dry run: nothing was to change" if told["dry"] else ""
    _line(f"{told['title']} ({told['workflow']}) for {told['tenant']}, domain {told['domain']}: {told['status']}{dry}")
    _line(f"run {told['run']}")
    about = [("ticket", told["ticket"]), ("asked for by", told["requester"])]
    if told["corr"] != told["run"]:
        about.append(("correlation id", told["corr"]))
    _line(", ".join(f"{name} {value}" for name, value in about if value))
    _line(f"workflow {told['definition_sha256'][:12]} of release {told['release'][:12]}")
    _heading("Who or what started it")
    _told(told["started"])
    _heading("Who agreed to what")
    for approval in told["approvals"]:
        _show_approval(approval)
    _unless(told["approvals"], "Nobody was asked.")
    _heading("What changed")
    for change in told["changes"]:
        _show_change(change)
    _unless(told["changes"], "Nothing.")
    for heading, part in (("Who held it up or stopped it", "steered"), ("What was denied", "denied")):
        if told[part]:
            _heading(heading)
            _told(told[part])
    if told["children"]:
        _heading("Runs that it started")
        for child in told["children"]:
            _line(f"  {child}: regie audit why {child}")
    if not told["faults"]:
        out.print(f"\n{told['entries']} entries in the audit log, chain whole.", style="green")


def _show_approval(approval: dict[str, Any]) -> None:
    _line(f"  {moment(approval['asked_at'])}  {', '.join(approval['asked']) or 'nobody'} asked: {approval['question']}")
    count = len(approval["plan"])
    _line(f"    plan {approval['plan_sha256']}, {count} {'change' if count == 1 else 'changes'}:")
    for words in approval["plan"]:
        _line(f"      ~ {words}")
    if approval["by"]:
        through = f", in the chat {approval['through']}" if approval["through"] else ""
        through += ", signed with an authenticator" if approval["assertion_sha256"] else ""
        _line(f"  {moment(approval['at'])}  {approval['by']} answered: {approval['decision']}{through}{_by(approval)}")
    else:
        _line(f"    nobody has answered: {approval['decision']}")


def _show_change(change: dict[str, Any]) -> None:
    _line(f"  {moment(change['intended_at'] or change['settled_at'])}  {change['words'] or change['capability']}")
    target = f" on {change['target']}" if change["target"] else ""
    _line(f"    step {change['place']}: {change['capability']}{target} through {change['connection']}")
    if change["approval"]:
        _line(f"    approved by {change['approved_by']}, approval {change['approval']}")
    if change["intended_at"]:
        _line(f"    without an approval{_by(change)}" if not change["approval"] else f"    allowed{_by(change)}")
    _line(f"    {change['outcome']} {moment(change['settled_at']) if change['settled_at'] else ''}".rstrip())
    for name, part in (("id of the request", "request_id"), ("id of what was made or changed", "remote_id")):
        if change[part]:
            _line(f"    {change['connection']}'s {name}: {change[part]}")


def _told(parts: list[dict[str, Any]]) -> None:
    for part in parts:
        _line(f"  {moment(part['at'])}  {part['by']} {part['words']}{_by(part)}")


def _by(policed: dict[str, Any]) -> str:
    named = ", ".join(policed["policies"])
    return f" (policy {named}, set {policed['set_sha256'][:12]})" if named else ""


def _heading(text: str) -> None:
    out.print(f"\n[bold]{text}[/bold]")


def _unless(found: list[Any], text: str) -> None:
    if not found:
        _line(f"  {text}")


def _line(text: str) -> None:
    if text:
        out.print(text, markup=False, highlight=False, soft_wrap=True)
