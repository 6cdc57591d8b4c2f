"""Commands about the data keys that inputs, outputs, states and plans are sealed with."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from regie.cli.installation import Installation, operator, real_home
from regie.cli.terminal import Json, moment, out, print_json, print_table, say
from regie.core.audit import written
from regie.core.errors import InvalidInput
from regie.settings import Settings
from regie.store import key_rotation
from regie.store.key_rotation import NewestKey

program = typer.Typer(no_args_is_help=True, help="Data keys, which seal what is stored for a tenant in a domain.")

Tenant = Annotated[str, typer.Option(help="Only of this tenant.")]
Domain = Annotated[str, typer.Option(help="Only in this domain.")]


@program.command("list")
def list_keys(tenant: Tenant = "", domain: Domain = "", as_json: Json = False) -> None:
    """List the data key that seals for each tenant in each domain. Times are UTC.

    A key gets a successor by itself long before it has sealed as much as it may. What it has sealed is counted in
    steps of 65,536, so there may be a step more for each process.
    """
    found = asyncio.run(_list(tenant, domain))
    if as_json:
        print_json([{**vars(each), "made_at": written(each.made_at)} for each in found])
        return
    print_table(
        ("tenant", "domain", "version", "made", "sealed, at least"),
        ((each.tenant, each.domain, each.version, moment(written(each.made_at)), each.uses) for each in found),
        nothing="There are no data keys yet.",
    )


@program.command("rotate")
def rotate(tenant: Tenant = "", domain: Domain = "", as_json: Json = False) -> None:
    """Make new data keys: what is sealed from now on is sealed with them. What was sealed before still opens.

    Processes that run use them within a minute.
    """
    made = asyncio.run(_rotate(tenant, domain))
    if as_json:
        print_json([{"tenant": key.tenant, "domain": key.domain, "version": version} for key, version in made])
        return
    for key, version in made:
        out.print(f"  {key.tenant} in {key.domain}: version {version}", markup=False)
    out.print(f"Made {len(made)} new data {'key' if len(made) == 1 else 'keys'}.")


async def _list(tenant: str, domain: str) -> list[NewestKey]:
    async with Installation(real_home(Settings()), say).database() as database, database.reading() as tx:
        return _chosen(await key_rotation.list_keys(tx), tenant, domain)


async def _rotate(tenant: str, domain: str) -> list[tuple[NewestKey, int]]:
    made = []
    async with Installation(real_home(Settings()), say).database() as database:
        async with database.reading() as tx:
            chosen = _chosen(await key_rotation.list_keys(tx), tenant, domain)
        # Each by itself: one whose key file is lost is told, and what was made before stays.
        for key in chosen:
            async with database.transaction() as tx:
                made.append((key, await key_rotation.rotate(tx, key.tenant, key.domain, operator())))
    return made


def _chosen(found: list[NewestKey], tenant: str, domain: str) -> list[NewestKey]:
    chosen = [key for key in found if tenant in {"", key.tenant} and domain in {"", key.domain}]
    if found and not chosen:
        raise InvalidInput("There is no data key of that tenant and domain.", hint="See: regie keys list")
    return chosen
