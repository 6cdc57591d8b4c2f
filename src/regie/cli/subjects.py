"""Commands about the people whom the audit log names."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from regie.cli.installation import Installation, operator, real_home
from regie.cli.terminal import Json, out, print_json, say
from regie.settings import Settings
from regie.store import erasing
from regie.store.erasing import Erased

program = typer.Typer(no_args_is_help=True, help="People whom the audit log names.")


@program.callback()
def about() -> None:
    """People whom the audit log names."""


@program.command("erase")
def erase(
    subject: Annotated[str, typer.Argument(help="E-mail address, or whatever else the person is known by.")],
    as_json: Json = False,
) -> None:
    """Erase a person: no entry tells any more who was meant. Every proof of the log holds as before.

    It cannot be undone. Runs that are not over keep the address until they are; erase again then.
    """
    erased = asyncio.run(_erase(subject))
    if as_json:
        print_json([vars(each) for each in erased])
        return
    for each in erased:
        out.print(f"  {each.tenant or 'the installation'} {each.domain}: {each.subject}", markup=False)
    out.print(f"Erased in {len(erased)} logs." if erased else "No log names that person.")


async def _erase(person: str) -> list[Erased]:
    async with Installation(real_home(Settings()), say).database() as database, database.transaction() as tx:
        return await erasing.erase(tx, person, operator())
