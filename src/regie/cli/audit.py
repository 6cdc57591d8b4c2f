"""The commands about the audit log, put together."""

from __future__ import annotations

import typer

from regie.cli import auditing, runs, why

program = typer.Typer(no_args_is_help=True, help="What the audit log holds, and proofs of it.")
program.command("show")(runs.audit_show)
program.command("why")(why.why)
program.command("find")(why.find)
program.command("logs")(auditing.list_logs)
program.command("checkpoint")(auditing.checkpoint)
program.command("keys")(auditing.keys)
program.command("export")(auditing.export)
program.command("verify")(auditing.verify)
program.command("rotate-key")(auditing.rotate_key)
