"""`regie prove idempotent`: run a workflow several times and let the outside world count what changed."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from regie.cli.checking import checked_release
from regie.cli.definitions import workspace_folder
from regie.cli.demo_world import TENANT, Extension, up_demo
from regie.cli.installation import Installation, demo_home, real_home
from regie.cli.services import EXIT_INTERRUPTED
from regie.cli.stories import find_rehearsal
from regie.cli.stories.telling import Once, Rehearsal
from regie.cli.story import telling
from regie.cli.terminal import Json, out, print_json, print_table, say
from regie.core.definition import Definition
from regie.core.errors import RegieError
from regie.settings import Settings, forget_settings

program = typer.Typer(no_args_is_help=True, help="Show that a promise holds, with figures.")


@program.command("idempotent")
def idempotent(
    workflow: Annotated[str, typer.Argument(help="One that ships with Regie, or one of the workspace.")],
    runs: Annotated[int, typer.Option(min=2, max=50, help="How many times to run it.")] = 5,
    is_forgetful: Annotated[
        bool, typer.Option("--forget", help="Empty Regie's own database before each further run.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a workflow several times, each with a fresh request for the same thing, on an imaginary world of its own.

    The request is the first example of the workflow (`tests`). Whoever is asked says yes.

    The world itself counts the writes. Only the first run may change anything: exit code 0 then, else 1.
    Where a run is about a ticket, the ticket's own comments and moves are counted apart.
    """
    definition, extension = _looked_up(workflow)
    rehearsal = find_rehearsal(definition.domain)
    rehearsal.check(definition)
    ends = _on_a_world(rehearsal, definition, extension, runs, is_forgetful=is_forgetful)
    lack = lack_of_proof(workflow, ends)
    proof = {
        "workflow": workflow,
        "definition": definition.digest,
        "forgetting": is_forgetful,
        "writes": [_count(once) for once in ends],
        "ticket_writes": [once.ticket_writes for once in ends],
        "world": sorted({once.world for once in ends}),
        "runs": [asdict(once) for once in ends],
        "proven": not lack,
    }
    if as_json:
        print_json(proof)
    else:
        _show(proof)
    if lack:
        raise RegieError(lack)


def lack_of_proof(workflow: str, ends: list[Once]) -> str:
    """Why runs do not show that a workflow is idempotent, in words; empty when they show it."""
    for number, once in enumerate(ends, start=1):
        if once.failure:
            return f"Run {number} {once.failure}"
    counts = [_count(once) for once in ends]
    if not any(counts):
        but = " but the tickets that its runs are about" if any(once.ticket_writes for once in ends) else ""
        return f"{workflow} changes nothing{but}, so nothing is proven."
    if any(counts[1:]):
        return f"{workflow} is not idempotent: writes {','.join(map(str, counts))}."
    if len({once.world for once in ends}) > 1:
        return f"{workflow} is not idempotent: the world is another one after each run."
    return ""


def _count(once: Once) -> int:
    return sum(once.writes.values())


def _looked_up(workflow: str) -> tuple[Definition, Extension]:
    """The workflow as it would run here, and what the workspace has that a world of its own needs for it.

    Raises:
        InvalidInput: There is no such workflow.
        DefinitionError: The workspace has faults.
    """
    folder = workspace_folder()
    release = checked_release(folder)
    definition = release.definition(workflow, known=release.definitions)
    # The tenant of a demo is known here by everything but its addresses and secrets.
    known = release.tenants.get(TENANT) if demo_home(real_home(Settings())) else None
    extension = Extension(
        folder=domains if folder and (domains := folder / "domains").is_dir() else None,
        domains=tuple(dict.fromkeys((*(known.domains if known else ()), definition.domain))),
        roles={role: list(people) for role, people in known.roles.items()} if known else {},
        settings={domain: dict(chosen) for domain, chosen in known.settings.items()} if known else {},
    )
    return definition, extension


def _on_a_world(
    rehearsal: Rehearsal, definition: Definition, extension: Extension, runs: int, *, is_forgetful: bool
) -> list[Once]:
    """Run it on a world that is made for that and gone afterwards, however this ends.

    Raises:
        typer.Exit: Somebody ends it before that.
    """
    # Whatever is set is about a real installation: its database, its authority, its traces.
    forget_settings()
    try:
        with tempfile.TemporaryDirectory(prefix="regie-prove-") as folder:
            settings = Settings(home=Path(folder) / "home", port=0)
            try:
                return asyncio.run(_prove(rehearsal, definition, extension, settings, runs, is_forgetful=is_forgetful))
            finally:
                # Not earlier: a thread may still be starting the database when everything else has been cancelled.
                _forget(settings)
    except asyncio.CancelledError:
        say("Stopped before everything had run")
        raise typer.Exit(EXIT_INTERRUPTED) from None


async def _prove(
    rehearsal: Rehearsal,
    definition: Definition,
    extension: Extension,
    settings: Settings,
    runs: int,
    *,
    is_forgetful: bool,
) -> list[Once]:
    _be_cancelled_by_signals()
    rows: list[Once] = []
    given: dict[str, Any] | None = None
    while len(rows) < runs:
        async with (
            up_demo(settings, say, domain=rehearsal.domain, extension=extension) as services,
            telling(services) as story,
        ):
            given = given if given is not None else await rehearsal.set_scene(story, definition)
            for _ in range(1 if is_forgetful else runs):
                rows.append(await rehearsal.run_once(story, definition, given))
                count = _count(rows[-1])
                say(f"Run {len(rows)}: {rows[-1].status}, {count} {'write' if count == 1 else 'writes'}")
        if is_forgetful:
            _forget(settings)
    return rows


def _be_cancelled_by_signals() -> None:
    """Let whoever ends this process have everything taken down first."""
    loop, here = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # One that is ignored stays so: `nohup` means it.
        if here and signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, here.cancel)


def _forget(settings: Settings) -> None:
    """Delete Regie's database, data folder and all; the outside world keeps what it knows."""
    server = Installation(settings, say).server()
    if server is not None:
        server.remove()


def _show(proof: dict[str, Any]) -> None:
    has_tickets = any(each["subject"] for each in proof["runs"])
    heads = ["run", *(["ticket", "ticket's own"] if has_tickets else []), "outcome", "world", "writes"]
    print_table(
        heads,
        (
            (
                number,
                *((each["subject"], each["ticket_writes"]) if has_tickets else ()),
                each["status"],
                each["world"][:16],
                ", ".join(f"{count} {where}" for where, count in each["writes"].items() if count) or "none",
            )
            for number, each in enumerate(proof["runs"], start=1)
        ),
        nothing="Nothing ran.",
    )
    forgetting = ", its own database emptied between runs" if proof["forgetting"] else ""
    out.print(f"\n{proof['workflow']}{forgetting}")
    out.print(f"writes {','.join(map(str, proof['writes']))}")
    out.print(f"world  {' '.join(proof['world'])}")
    out.print("[green]idempotent[/green]" if proof["proven"] else "[red]not proven to be idempotent[/red]")
