"""Commands about the release: what new runs are made from."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

import typer

from regie.cli.installation import Installation, operator, real_home
from regie.cli.terminal import Json, out, print_json, say
from regie.core.release import Release
from regie.core.release_changes import changes_between
from regie.settings import Settings
from regie.store import releases

program = typer.Typer(no_args_is_help=True, help="The workspace, loaded as a release.")


@program.callback()
def about() -> None:
    """The workspace, loaded as a release."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of a load.

    Attributes:
        digest: Of the release that is current now.
        is_new: Whether it became current by this.
        changes: What differs from the one before, in words.
        new_domains: Domains that there were not before. `regie up` starts workers for those that a tenant has.
    """

    digest: str
    is_new: bool
    changes: list[str]
    new_domains: list[str]


@program.command("load")
def load(
    as_json: Json = False,
    is_trial: Annotated[bool, typer.Option("--check", help="Only say what would change.")] = False,
) -> None:
    """Make the workspace as it is now the release that new runs get. Runs under way keep theirs.

    Exit code 2 when it has faults: then the release before stays current.
    """
    settings = real_home(Settings())
    installation = Installation(settings, say)
    release = installation.read_release()
    loaded = asyncio.run(_load(installation, release, is_trial=is_trial))
    if as_json:
        print_json(
            {
                "release": loaded.digest,
                "is_new": loaded.is_new,
                "changes": loaded.changes,
                "new_domains": loaded.new_domains,
            }
        )
        return
    for change in loaded.changes:
        out.print(f"  {change}", markup=False)
    verb = "would be" if is_trial else "is"
    state = f"{verb} current now" if loaded.is_new else "is current already; nothing changed"
    out.print(f"Release {loaded.digest[:12]} {state}.")
    if loaded.new_domains:
        names = ", ".join(loaded.new_domains)
        out.print(f"New: {names}. Where `regie up` runs, a worker starts within seconds once a tenant has it.")


async def _load(installation: Installation, release: Release, *, is_trial: bool) -> Loaded:
    async with installation.running_database() as database:
        async with database.reading() as tx:
            has_one = bool(await releases.history(tx, limit=1))
            before = await releases.current(tx) if has_one else None
        is_new = before is None or before.digest != release.digest
        if is_new and not is_trial:
            async with database.transaction() as tx:
                is_new = await releases.put(tx, release, by=operator())
    return Loaded(
        digest=release.digest,
        is_new=is_new,
        changes=changes_between(before, release),
        new_domains=sorted(release.domains.keys() - before.domains.keys()) if before else [],
    )
