"""The commands, put together."""

from __future__ import annotations

import typer

from regie.cli import (
    accounts,
    approvals,
    auditing,
    definitions,
    demo,
    doctor,
    policies,
    proving,
    quotas,
    releases,
    runs,
    schedules,
    secrets,
    services,
    steering,
    top,
    witness,
)

program = typer.Typer(
    name="regie",
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
RUNNING, LOOKING, DOING = "Running Regie", "Looking", "Doing"

program.command(rich_help_panel=RUNNING)(demo.demo)
program.command(rich_help_panel=RUNNING)(services.up)
program.command(rich_help_panel=RUNNING)(services.down)
program.command(rich_help_panel=RUNNING)(doctor.doctor)
program.command(rich_help_panel=RUNNING)(witness.witness)
program.command(rich_help_panel=LOOKING)(definitions.workflows)
program.command(rich_help_panel=LOOKING)(definitions.blocks)
program.command(rich_help_panel=LOOKING)(definitions.validate)
program.command(rich_help_panel=LOOKING)(runs.plan)
program.command(rich_help_panel=LOOKING)(runs.runs)
program.command(rich_help_panel=LOOKING)(runs.show)
program.command(rich_help_panel=LOOKING)(approvals.approvals)
program.command(rich_help_panel=LOOKING)(schedules.schedules)
program.command(rich_help_panel=LOOKING)(quotas.quotas)
program.command(rich_help_panel=LOOKING)(top.top)
runs.audit.command("logs")(auditing.list_logs)
runs.audit.command("checkpoint")(auditing.checkpoint)
runs.audit.command("keys")(auditing.keys)
runs.audit.command("export")(auditing.export)
runs.audit.command("verify")(auditing.verify)
runs.audit.command("rotate-key")(auditing.rotate_key)
program.add_typer(runs.audit, name="audit", rich_help_panel=LOOKING)
program.add_typer(policies.program, name="policy", rich_help_panel=LOOKING)
program.command(rich_help_panel=DOING)(runs.start)
program.command(rich_help_panel=DOING)(steering.cancel)
program.command(rich_help_panel=DOING)(steering.pause)
program.command(rich_help_panel=DOING)(steering.resume)
program.command(rich_help_panel=DOING)(steering.rerun)
program.command(rich_help_panel=DOING)(steering.wake)
program.command(rich_help_panel=DOING)(approvals.approve)
program.command(rich_help_panel=DOING)(approvals.refuse)
program.add_typer(releases.program, name="release", rich_help_panel=DOING)
program.add_typer(accounts.program, name="account", rich_help_panel=DOING)
program.add_typer(secrets.program, name="secret", rich_help_panel=DOING)
program.add_typer(proving.program, name="prove", rich_help_panel=DOING)
