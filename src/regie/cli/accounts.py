"""Commands about local accounts: who may sign in with a password."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from regie.cli.installation import Installation, operator, real_home
from regie.cli.terminal import Json, out, print_json, print_table, say
from regie.core.errors import InvalidInput
from regie.settings import Settings
from regie.store import accounts

program = typer.Typer(no_args_is_help=True, help="Local accounts, for people who answer and look.")

LEAST_PASSWORD = 12
"""Characters of a password: what NIST SP 800-63B asks for and a little more, since there is no second factor."""


@program.command("add")
def add(
    address: Annotated[str, typer.Argument(help="E-mail address: the one that the outside systems know.")],
    name: Annotated[str, typer.Option(help="The name that others see.")],
    role: Annotated[list[str] | None, typer.Option(help="`operator` may see and start everything.")] = None,
) -> None:
    """Add a local account. The password is asked for, or read from standard input."""
    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True) if sys.stdin.isatty() else ""
    password = password or sys.stdin.read().rstrip("\n")
    if len(password) < LEAST_PASSWORD:
        raise InvalidInput(f"The password is too short: at least {LEAST_PASSWORD} characters.")
    asyncio.run(_add(address, name, password, tuple(role or ())))
    out.print(f"Added {address}.", markup=False)


@program.command("list")
def list_accounts(as_json: Json = False) -> None:
    """List the local accounts."""
    found = asyncio.run(_list())
    if as_json:
        print_json([{"address": each.address, "name": each.display_name, "roles": each.roles} for each in found])
        return
    print_table(
        ("address", "name", "roles"),
        ((each.address, each.display_name, ", ".join(each.roles)) for each in found),
        nothing="There are no accounts.",
    )


async def _add(address: str, name: str, password: str, roles: tuple[str, ...]) -> None:
    async with Installation(real_home(Settings()), say).database() as database, database.transaction() as tx:
        await accounts.add(tx, address=address, display_name=name, password=password, roles=roles, by=operator())


async def _list() -> list[accounts.Account]:
    async with Installation(real_home(Settings()), say).database() as database, database.reading() as tx:
        return await accounts.list_accounts(tx)
