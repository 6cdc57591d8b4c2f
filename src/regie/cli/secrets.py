"""Commands about secrets: putting them into the vault. None reads one back."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from regie.cli.installation import real_home
from regie.cli.terminal import out
from regie.core.errors import InvalidInput
from regie.core.tenant import SecretRef
from regie.gateway.keeping import INSTALLATION, keep_secrets
from regie.settings import Settings

program = typer.Typer(no_args_is_help=True, help="Secrets that connections refer to.")


@program.command("put")
def put(
    reference: Annotated[str, typer.Argument(help="secret://domain/name or secret://domain/name#field")],
    tenant: Annotated[str | None, typer.Option(help="Customer whose secret it is.")] = None,
    is_installation: Annotated[
        bool, typer.Option("--installation", help="It is of the installation itself, not of a customer.")
    ] = False,
) -> None:
    """Keep a secret. The value is asked for, or read from standard input; never an argument, which others could see."""
    try:
        parsed = SecretRef.parse(reference)
    except ValueError as error:
        raise InvalidInput(str(error)) from error
    if not isinstance(parsed, SecretRef):
        raise InvalidInput("That is no secret reference.")
    if is_installation == bool(tenant):
        raise InvalidInput("Say whose secret it is: --tenant NAME, or --installation.")
    whose = tenant or INSTALLATION
    is_person = sys.stdin.isatty()
    value = typer.prompt("Value", hide_input=True) if is_person else sys.stdin.read().rstrip("\n")
    keep_secrets(real_home(Settings()).vault_file, whose, {parsed: value})
    out.print(f"Kept {parsed} for {tenant or 'the installation'}.")
