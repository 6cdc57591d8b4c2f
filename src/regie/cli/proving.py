"""`regie prove idempotent`: run a workflow several times and let the outside world count what changed."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, ValidationError

from regie.cli.demo_world import Services, up
from regie.cli.installation import Installation, Say
from regie.cli.sandbox_client import about_people
from regie.cli.story import Story, telling
from regie.cli.terminal import Json, out, print_json, print_table, say
from regie.core.definition import Definition
from regie.core.errors import InvalidInput, RegieError
from regie.domains import load_catalogue
from regie.settings import Settings
from regie.workspace.loading import load_release

program = typer.Typer(no_args_is_help=True, help="Show that a promise holds, with figures.")


class Example(BaseModel):
    """One entry of a definition's `tests`: a request that it must carry out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    ticket: dict[str, str]


@program.command("idempotent")
def idempotent(
    workflow: Annotated[str, typer.Argument(help="A workflow with an example under `tests`.")],
    runs: Annotated[int, typer.Option(min=2, max=50, help="How many times to run it.")] = 5,
    is_forgetful: Annotated[
        bool, typer.Option("--forget", help="Empty Regie's own database before each further run.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a workflow several times, each with a fresh ticket about the same thing, on an imaginary world.

    The world itself counts the writes. Only the first run may change anything: exit code 0 then, else 1.
    The tickets' own comments and moves are counted apart.
    """
    definition = load_release(None, load_catalogue()).definition(workflow)
    example = _example(definition)
    rows = asyncio.run(_prove(example, runs, is_forgetful=is_forgetful))
    counts = [row["writes"] for row in rows]
    digests = sorted({row["world"] for row in rows})
    is_proven = counts[0] > 0 and not any(counts[1:]) and len(digests) == 1
    is_proven = is_proven and all(row["status"] == "done" for row in rows)
    proof = {
        "workflow": workflow,
        "definition": definition.digest,
        "forgetting": is_forgetful,
        "writes": counts,
        "ticket_writes": [row["ticket_writes"] for row in rows],
        "world": digests,
        "runs": rows,
        "proven": is_proven,
    }
    if as_json:
        print_json(proof)
    else:
        _show(proof)
    if not is_proven:
        raise RegieError(f"{workflow} is not idempotent: writes {','.join(map(str, counts))}.")


def _example(definition: Definition) -> Example:
    try:
        tests = definition.tests if isinstance(definition.tests, list) else []
        return Example.model_validate(tests[0])
    except (IndexError, ValidationError) as error:
        raise InvalidInput(
            f"{definition.workflow} has no example to run.",
            hint="Give it one: tests: [{name: ..., ticket: {reporter: ..., employee: ..., ...}}]",
        ) from error


async def _prove(example: Example, runs: int, *, is_forgetful: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="regie-prove-") as folder:
        settings = Settings().model_copy(
            update={"home": Path(folder) / "home", "port": 0, "database_url": "", "workspace": None}
        )
        try:
            while len(rows) < runs:
                async with _services(settings, say) as services, telling(services) as story:
                    rows.append(await _once(story, example, len(rows) + 1))
                    while not is_forgetful and len(rows) < runs:
                        rows.append(await _once(story, example, len(rows) + 1))
                if is_forgetful:
                    _forget(settings)
        finally:
            _forget(settings)
    return rows


@asynccontextmanager
async def _services(settings: Settings, show: Say) -> AsyncIterator[Services]:
    async with up(settings, show, is_demo=True) as services:
        yield services


def _forget(settings: Settings) -> None:
    """Delete Regie's database, data folder and all; the outside world keeps what it knows."""
    server = Installation(settings, say).server()
    if server is not None:
        server.remove()


async def _once(story: Story, example: Example, number: int) -> dict[str, Any]:
    seq, _ = await story.sandbox.ledger()
    ticket = await story.sandbox.open_ticket(example.ticket)
    run = await story.run_of(ticket)
    approval = await story.open_approval(run)
    if approval is not None:
        await story.decide(approval, approval["approvers"][0], "approved", "")
    shown = await story.end_of(run)
    _, entries = await story.sandbox.ledger(seq)
    people = about_people(entries)
    say(f"Run {number}: {shown['status']}, {len(people)} writes")
    return {
        "run": run,
        "ticket": ticket,
        "status": shown["status"],
        "writes": len(people),
        "ticket_writes": len(entries) - len(people),
        "world": await story.sandbox.digest(),
    }


def _show(proof: dict[str, Any]) -> None:
    print_table(
        ("run", "ticket", "outcome", "writes", "ticket's own", "world"),
        (
            (number, row["ticket"], row["status"], row["writes"], row["ticket_writes"], row["world"][:16])
            for number, row in enumerate(proof["runs"], start=1)
        ),
        nothing="Nothing ran.",
    )
    forgetting = ", its own database emptied between runs" if proof["forgetting"] else ""
    out.print(f"\n{proof['workflow']}{forgetting}")
    out.print(f"writes {','.join(map(str, proof['writes']))}")
    out.print(f"world  {' '.join(proof['world'])}")
    out.print("[green]idempotent[/green]" if proof["proven"] else "[red]not idempotent[/red]")
