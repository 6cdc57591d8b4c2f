"""`python -m torture`: one storm over a fresh installation; exits with 1 when anything was lost, doubled or stuck."""

from __future__ import annotations

import argparse
import asyncio
import logging
import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from torture.report import Report
from torture.schedule import APART_S, Disturbance, drawn, only_takeovers
from torture.trial import IN_FLIGHT, trial

SEED_BITS = 31


async def _until_told(
    given: argparse.Namespace, seed: int, schedule: list[Disturbance], say: Callable[[str], None]
) -> Report:
    """Torture, and clean up as well when told to stop in the middle of it."""
    trying = asyncio.create_task(
        trial(
            seed,
            given.seconds,
            schedule,
            say,
            in_flight=given.in_flight,
            keep_logs=given.logs,
            is_storm=given.takeovers is None,
        )
    )
    told = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        say(f"Told to stop ({number.name})")
        told.set()
        trying.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        return await trying
    except asyncio.CancelledError:
        if told.is_set():
            sys.exit("Stopped before the end: nothing was examined.")
        raise


def main() -> None:
    """Torture, write the report, show it."""
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0, help="length of the storm (default: 180)")
    parser.add_argument("--seed", type=int, help="draw the same storm again (default: a new one)")
    parser.add_argument("--in-flight", type=int, default=IN_FLIGHT, help="requests under way at any time")
    parser.add_argument("--takeovers", type=int, help="only kill workers, so often, and measure takeovers")
    parser.add_argument("--report", type=Path, default=Path("torture-report.json"), help="where the JSON goes")
    parser.add_argument("--logs", type=Path, help="keep the processes' logs in this folder")
    given = parser.parse_args()
    seed = secrets.randbits(SEED_BITS) if given.seed is None else given.seed
    # That connections are lost is what this is about.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    console = Console()
    if given.takeovers is None:
        schedule = drawn(seed, given.seconds)
    else:
        schedule = only_takeovers(seed, given.takeovers)
        given.seconds = APART_S * (given.takeovers + 2)
    console.print(f"{len(schedule)} disturbances in {given.seconds:g} s, seed {seed}")
    report = asyncio.run(_until_told(given, seed, schedule, lambda line: console.print(line, style="dim")))
    given.report.write_text(report.as_json(), encoding="utf-8")
    report.show(console)
    console.print(f"All figures: {given.report}")
    sys.exit(bool(report.violations))


if __name__ == "__main__":
    main()
