"""`regie doctor`: what is wrong with this installation and what to do. Looks, and changes nothing."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from regie.cli import doctor_machine, doctor_release, doctor_runs
from regie.cli.findings import Finding, Level, info
from regie.cli.installation import Installation, real_home
from regie.cli.terminal import Json, out, print_json, say
from regie.settings import Settings

_STYLES = {Level.OK: "green", Level.INFO: "dim", Level.WARNING: "yellow", Level.PROBLEM: "red"}
NO_WITNESS = info(
    "audit log",
    "Nobody outside attests it: whoever holds the signing key could rewrite the log, and nobody would have seen it.",
    "Name a witness with REGIE_WITNESSES, a bucket with REGIE_DEPOSIT_BUCKET or an authority with REGIE_TIMESTAMP_URL; "
    "and keep checkpoints elsewhere: regie audit checkpoint",
)


def doctor(
    as_json: Json = False,
    is_online: Annotated[
        bool, typer.Option("--online", help="Also ask every outside system something harmless, through the gateway.")
    ] = False,
) -> None:
    """Say what is wrong with this installation and what to do. Works whether Regie runs or not.

    Exit code 0 when there is no problem, 1 otherwise; warnings are no problems.
    """
    installation = Installation(real_home(Settings()), say)
    findings = asyncio.run(examine(installation, is_online=is_online))
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    if as_json:
        print_json({"ok": not problems, "findings": [finding.as_json() for finding in findings]})
    else:
        _show(findings, problems)
    if problems:
        raise typer.Exit(1)


async def examine(installation: Installation, *, is_online: bool = False) -> list[Finding]:
    """Look at everything, from the machine to single runs."""
    settings = installation.settings
    findings = [doctor_machine.python(), doctor_machine.home(settings)]
    if findings[-1].level is Level.PROBLEM:
        # Nothing in a folder that is not ours can be looked at.
        return findings
    findings += [*doctor_machine.private_files(settings), doctor_machine.room(settings.home)]
    findings += [doctor_machine.server_programs(settings), *doctor_machine.processes(installation)]
    dsn, found = await doctor_runs.database(installation)
    findings += found
    current = None
    if dsn is not None:
        current, found = await doctor_runs.inside(installation, dsn)
        findings += found
    release, found = doctor_release.workspace(installation)
    findings += found
    is_open = not any(finding.check == "database" and finding.level is not Level.OK for finding in findings)
    if release is not None and dsn is not None and is_open:
        findings.append(doctor_release.loaded(release, current))
    if release is not None:
        findings += doctor_release.secrets(settings, release)
        findings += doctor_release.roles(release)
    if is_online and current is not None:
        findings += await doctor_release.connections(installation, current)
    is_attested = settings.witnesses or settings.timestamp_url or settings.deposit_bucket
    return findings if is_attested else [*findings, NO_WITNESS]


def _show(findings: list[Finding], problems: int) -> None:
    for finding in findings:
        style = _STYLES[finding.level]
        out.print(f"[{style}]{finding.level.value:8}[/{style}]", end="")
        out.print(f"{finding.check}: {finding.message}", markup=False)
        if finding.remedy:
            out.print(f"        -> {finding.remedy}", markup=False, style="bold")
    warnings = sum(finding.level is Level.WARNING for finding in findings)
    out.print(f"\n{problems} {'problem' if problems == 1 else 'problems'}, {warnings} to look at.")
