"""Commands about secrets: putting them into the vault, and looking whether all are where they should be.

None reads one back.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from regie.cli.installation import Installation, real_home
from regie.cli.terminal import Json, out, print_json, print_table, say
from regie.core.errors import InvalidInput
from regie.core.tenant import SecretRef
from regie.gateway.keeping import (
    INSTALLATION,
    Looked,
    keep_secrets,
    look_for_secrets,
    refuse_what_is_kept_elsewhere,
)
from regie.settings import Settings

program = typer.Typer(no_args_is_help=True, help="Secrets that connections refer to.")


@program.command("put")
def put(
    reference: Annotated[str, typer.Argument(help="secret://domain/name[#field][@version]")],
    tenant: Annotated[str | None, typer.Option(help="Tenant whose secret it is.")] = None,
    is_installation: Annotated[
        bool, typer.Option("--installation", help="It is of the installation itself, not of a tenant.")
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
    settings = real_home(Settings())
    if tenant:
        refuse_what_is_kept_elsewhere(settings, tenant, parsed)
    is_person = sys.stdin.isatty()
    value = typer.prompt("Value", hide_input=True) if is_person else sys.stdin.read().rstrip("\n")
    keep_secrets(settings.vault_file, whose, {parsed: value})
    out.print(f"Kept {parsed} for {tenant or 'the installation'}.")


@program.command("check")
def check(as_json: Json = False) -> None:
    """Look up every secret that the workspace's connections refer to, where it is kept. No value is shown."""
    settings = real_home(Settings())
    release = Installation(settings, say).read_release()
    found = asyncio.run(look_for_secrets(settings, release))
    if as_json:
        print_json([_told(each) for each in found])
    else:
        print_table(
            ("tenant", "connection", "secret", "kept in", "found", ""),
            (tuple(_told(each).values()) for each in found),
            nothing="No connection refers to a secret.",
        )
    if not all(each.is_good for each in found):
        raise typer.Exit(1)


def _told(each: Looked) -> dict[str, str]:
    own = each.referred
    return {
        "tenant": own.tenant,
        "connection": own.connection,
        "secret": str(own.reference),
        "kept_in": own.place,
        "found": each.state,
        "reason": " ".join(filter(None, (each.reason, each.hint))),
    }
