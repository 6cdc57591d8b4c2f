"""Commands that start and stop what runs on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from regie.cli.demo_world import LOOKING_AROUND, up_demo
from regie.cli.installation import Installation, real_home
from regie.cli.running import Services
from regie.cli.running import up as up_real
from regie.cli.terminal import out, say
from regie.cli.worlds import find as find_world
from regie.settings import Settings

EXIT_INTERRUPTED = 130
STOP_WITHIN_S = 40.0
"""Longest that `down` waits for `up` to end."""


def up(
    is_demo: Annotated[
        bool, typer.Option("--demo", help="With the imaginary outside world, and accounts to try it with.")
    ] = False,
) -> None:
    """Run Regie on this machine until interrupted: database, gateway, worker, notary and web."""
    try:
        asyncio.run(_up(Settings(), is_demo=is_demo))
    except asyncio.CancelledError:
        say("Stopped before everything was up")
        raise typer.Exit(EXIT_INTERRUPTED) from None


async def _up(settings: Settings, *, is_demo: bool) -> None:
    stop = asyncio.Event()
    loop, here = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        # While things are being started there is nothing to finish: what has started is taken down at once.
        loop.add_signal_handler(number, here.cancel if here else stop.set)
    async with up_demo(settings, say) if is_demo else up_real(settings, say) as services:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        out.print(f"[bold]Regie is up at {services.web}[/bold]")
        if services.sandbox:
            out.print(f"The imaginary outside world is at {services.sandbox}.\n")
            _explain_signing_in(services)
            _explain(find_world(services.domain).hints(services.outside))
        out.print("Stop it with Ctrl-C, or `regie down` from elsewhere.", style="dim")
        await stop.wait()
        say("Stopping")


def _explain_signing_in(services: Services) -> None:
    file = services.settings.sign_ins_file
    out.print(f"Look around in a browser, as {LOOKING_AROUND}, who may see everything:")
    out.print(f"  {services.web}/sign-in", style="bold")
    out.print("The passwords of the demo's people, hers among them:")
    out.print(f"  cat {file}\n", markup=False)


def _explain(hints: Sequence[str]) -> None:
    out.print("Try, from another terminal in the same folder:")
    out.print("  .venv/bin/regie runs                      what has run")
    out.print("  .venv/bin/regie show RUN                  one run: steps, plan, changes")
    out.print("  .venv/bin/regie audit show RUN            who did what and when")
    out.print("  .venv/bin/regie audit verify              whether anything in any log was changed")
    out.print("  .venv/bin/regie approvals                 what waits for an answer")
    for line in hints:
        out.print(line, markup=False)
    out.print()


def down() -> None:
    """Stop what `regie up` runs here, and the database with it."""
    settings = real_home(Settings())
    installation = Installation(settings, say)
    state = installation.read_state()
    if not state:
        server = installation.server() if settings.home.exists() else None
        if server is not None:
            server.stop()
        out.print(f"Nothing runs in {settings.home}.")
        return
    pid = int(state["pid"])
    os.kill(pid, signal.SIGTERM)
    deadline_s = time.monotonic() + STOP_WITHIN_S
    while installation.read_state() and time.monotonic() < deadline_s:
        time.sleep(0.1)
    out.print("Stopped." if not installation.read_state() else f"Process {pid} has not stopped yet.")
