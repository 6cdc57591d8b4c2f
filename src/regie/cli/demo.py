"""`regie demo`: a domain's main job on an imaginary outside world, told step by step and summed up."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from regie.cli.auditing import prove
from regie.cli.demo_world import MAIN_JOB, TENANT, up_demo
from regie.cli.installation import Installation, demo_home, real_home
from regie.cli.stories import find_tale
from regie.cli.stories.telling import Tale
from regie.cli.story import telling
from regie.cli.terminal import out, print_json, say
from regie.core.errors import InvalidInput, RegieError
from regie.settings import Settings


def demo(
    domain: Annotated[str, typer.Argument(help="Whose main job: identity or certificates.")] = MAIN_JOB,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON document.")] = False,
) -> None:
    """Run a domain's main job on an imaginary company, and sum it up.

    `identity`: a colleague leaves. `certificates`: endpoints are watched, and what is about to expire is renewed at
    real servers; `make demo-certificates` installs them first.

    Starts from a clean demo installation each time. Afterwards `regie up --demo` shows what it left.
    """
    began_s = time.monotonic()
    tale = find_tale(domain)
    settings = real_home(Settings())
    _clear(settings)
    summary = asyncio.run(_demo(settings, tale))
    summary["seconds"] = round(time.monotonic() - began_s, 1)
    if as_json:
        print_json(summary)
    else:
        _show(tale, summary)
    if summary["problems"]:
        raise RegieError("The demo did not go as it must: " + "; ".join(summary["problems"]) + ".")


def _clear(settings: Settings) -> None:
    """Take away what an earlier demo left."""
    installation = Installation(settings, say)
    if installation.read_state():
        raise InvalidInput(f"Regie runs in {settings.home}.", hint="Stop it first: regie down.")
    if not settings.home.exists():
        return
    if not demo_home(settings) and any(settings.home.iterdir()):
        raise InvalidInput(
            f"{settings.home} holds an installation that is no demo.", hint="Set REGIE_HOME to another folder."
        )
    server = installation.server()
    if server is not None:
        server.remove()
    shutil.rmtree(settings.home)


async def _demo(settings: Settings, tale: Tale) -> dict[str, Any]:
    async with up_demo(settings, say, domain=tale.domain) as services, telling(services) as story:
        summary = await tale.tell(story)
        path = services.settings.home / "audit-bundle"
        proof = await prove(services.settings, TENANT, tale.domain, path)
        checked = {"bundle": str(path), "entries": proof.size, "checkpoint": proof.checkpoint}
        return {**summary, "proof": checked, "web": services.web}


def _show(tale: Tale, summary: dict[str, Any]) -> None:
    out.rule("[bold]What happened")
    tale.show(summary)
    _show_proof(summary["proof"])
    out.print(f"\nDone in {summary['seconds']} s. Nothing runs any more. To look around:")
    out.print("  .venv/bin/regie up --demo", style="bold")
    for address, what in tale.places(summary["web"]):
        out.print(f"then open {address}: {what}")
    out.print("or try `regie runs`, `regie show RUN`, `regie audit show RUN`.")


def _show_proof(proof: dict[str, Any]) -> None:
    out.print(f"\nEach of the {proof['entries']} entries of the audit log is under this signed checkpoint:")
    for line in proof["checkpoint"].splitlines():
        out.print(f"  {line}", style="dim", markup=False)
    out.print("Check it with a program that knows nothing of Regie:")
    out.print(f"  .venv/bin/regie-verify {_nearby(proof['bundle'])}", style="bold")


def _nearby(path: str) -> str:
    """A path as one would type it here."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
