"""Commands about accounts: local ones are added here, those of the identity provider come by themselves."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from regie.cli.installation import Installation, demo_home, operator, real_home
from regie.cli.terminal import Json, out, print_json, print_table, say
from regie.core.errors import InvalidInput
from regie.settings import Settings
from regie.store import accounts

program = typer.Typer(no_args_is_help=True, help="Accounts of people who answer and look.")
Address = Annotated[str, typer.Argument(help="Its e-mail address.")]

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
    settings = real_home(Settings())
    if not (settings.local_accounts or demo_home(settings)):
        say("They get in where the web process has REGIE_LOCAL_ACCOUNTS=true; it is not set here.")


@program.command("list")
def list_accounts(as_json: Json = False) -> None:
    """List the accounts."""
    found = asyncio.run(_list())
    if as_json:
        fields = ("address", "roles", "groups", "is_local", "is_active")
        print_json([{"name": each.display_name} | {name: getattr(each, name) for name in fields} for each in found])
        return
    print_table(
        ("address", "name", "roles", "groups", "kind"),
        (
            (each.address, each.display_name, ", ".join(each.roles), ", ".join(each.groups), _kind(each))
            for each in found
        ),
        nothing="There are no accounts.",
        prose=("roles", "groups", "kind"),
    )


@program.command("deactivate")
def deactivate(address: Address) -> None:
    """Let somebody in no more; their sessions end and their API tokens stop counting."""
    asyncio.run(_set_active(address, is_active=False))
    out.print(f"Deactivated {address}.", markup=False)


@program.command("activate")
def activate(address: Address) -> None:
    """Let somebody in again who was deactivated."""
    asyncio.run(_set_active(address, is_active=True))
    out.print(f"Activated {address}.", markup=False)


@program.command("remove")
def remove(address: Address) -> None:
    """Forget an account. Whoever the identity provider vouches for gets a new one when they next sign in."""
    asyncio.run(_remove(address))
    out.print(f"Removed {address}.", markup=False)


def _kind(account: accounts.Account) -> str:
    return ("local" if account.is_local else "identity provider") + ("" if account.is_active else ", deactivated")


async def _add(address: str, name: str, password: str, roles: tuple[str, ...]) -> None:
    async with Installation(real_home(Settings()), say).database() as database, database.transaction() as tx:
        await accounts.add(tx, address=address, display_name=name, password=password, roles=roles, by=operator())


async def _set_active(address: str, *, is_active: bool) -> None:
    async with Installation(real_home(Settings()), say).database() as database, database.transaction() as tx:
        await accounts.set_active(tx, address, is_active=is_active, by=operator())


async def _remove(address: str) -> None:
    async with Installation(real_home(Settings()), say).database() as database, database.transaction() as tx:
        await accounts.remove(tx, address, by=operator())


async def _list() -> list[accounts.Account]:
    async with Installation(real_home(Settings()), say).database() as database, database.reading() as tx:
        return await accounts.list_accounts(tx)
