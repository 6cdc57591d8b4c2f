"""`python -m bench`: everything that is measured, in turn with what it is compared to; JSON and a table."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from bench.arriving import arrivals
from bench.effects import EffectFigures, effects
from bench.engine import loaded, one_at_a_time, unaudited
from bench.fairness import A_WORKER_EACH, ONE_WORKER, Fairness, fairness
from bench.parked import parked
from bench.stand import Stand, standing
from bench.summing import conditions, digits, ratio, rounded, spread
from bench.targets import judged

REPORT = Path(__file__).parent / "figures.json"
SEED = 20261122
CLIENTS = 8
"""Of pgbench when it is loaded."""


async def measure(stand: Stand, given: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """All figures; each list has one value a round."""
    rounds: dict[str, list[float]] = {
        name: []
        for name in (
            *("pgbench_1", "one_at_a_time", "pgbench_8", "loaded", "loaded_cpu_ms", "moved", "moved_cpu_ms"),
            "moved_without_audit",
        )
    }
    first_step_s: list[float] = []
    for number in range(1, given.rounds + 1):
        say(f"Engine and pgbench, round {number} of {given.rounds}")
        rounds["pgbench_1"].append(await asyncio.to_thread(stand.pgbench, 1, given.seconds))
        single = await one_at_a_time(stand, given.seconds)
        rounds["one_at_a_time"].append(single.runs_per_s)
        first_step_s += single.first_step_s
        rounds["pgbench_8"].append(await asyncio.to_thread(stand.pgbench, CLIENTS, given.seconds))
        # What pgbench has left for the disk to do slows whoever comes first: each does in turn.
        for is_audited in (True, False) if number % 2 else (False, True):
            if is_audited:
                many = await loaded(stand, given.runs)
                rounds["loaded"].append(many.runs_per_s)
                rounds["loaded_cpu_ms"].append(many.cpu_ms)
                rounds["moved"].append(many.moved_per_s)
                rounds["moved_cpu_ms"].append(many.moving_cpu_ms)
            else:
                with unaudited():
                    rounds["moved_without_audit"].append((await loaded(stand, given.runs)).moved_per_s)
    say("Changes through the gateway")
    changed = await effects(given.rounds, given.few, given.many)
    say(f"{given.webhooks} webhooks, one after the other")
    arrived_s = await arrivals(given.webhooks)
    say(f"{given.parked} parked runs")
    waited = await parked(stand, given.parked, given.timers, SEED)
    fair = {}
    for name, domains in (("one_worker", ONE_WORKER), ("a_worker_each", A_WORKER_EACH)):
        say(f"A quiet domain beside a flood of {given.flood} runs: {name.replace('_', ' ')}")
        fair[name] = await fairness(stand, given.flood, given.quiet_s, given.rounds, domains)
    told = _changes(changed)
    ratios = {
        "one_at_a_time / pgbench_1": ratio(rounds["one_at_a_time"], rounds["pgbench_1"]),
        "moved / pgbench_8": ratio(rounds["moved"], rounds["pgbench_8"]),
        "moved / moved_without_audit": ratio(rounds["moved"], rounds["moved_without_audit"]),
        **told.pop("ratios"),
    }
    figures = {
        "engine": rounded(rounds),
        "first_step_ms": spread(first_step_s),
        **told,
        "arriving_ms": spread(arrived_s),
        "parked": {
            "runs": waited.runs,
            "worker_mb": round(waited.memory_mb, 1),
            "empty_worker_mb": round(waited.empty_memory_mb, 1),
            "idle_cpu_percent": round(waited.idle_cpu * 100, 1),
            "restart_s": round(waited.restart_s, 2),
            "resume_ms": spread(waited.resume_s),
            "timers": waited.timers,
            "timer_lag_ms": spread(waited.timer_lag_s),
        },
        "fairness": {"flood": given.flood, **{name: _fairness(each) for name, each in fair.items()}},
        "ratios": ratios,
    }
    return {**figures, "targets": judged(figures)}


def _changes(measured: EffectFigures) -> dict[str, Any]:
    return {
        "effects": rounded({name: values for name, values in vars(measured).items() if name != "parts_ms"}),
        "effect_parts_ms": rounded(measured.parts_ms),
        "ratios": {
            "gateway_ms / bare_ms": ratio(measured.gateway_ms, measured.bare_ms),
            "gateway_per_s / bare_per_s": ratio(measured.gateway_per_s, measured.bare_per_s),
        },
    }


def renew_changes(report: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Measure only the changes through the gateway, and put them beside what the report has of the rest."""
    figures: dict[str, Any] = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    about = conditions()
    told = _changes(asyncio.run(effects(given.rounds, given.few, given.many)))
    about["load_average_after"] = [round(value, 1) for value in os.getloadavg()]
    ratios = {**figures.get("ratios", {}), **told.pop("ratios")}
    return {**figures, **told, "ratios": ratios, "effects_conditions": about}


def _fairness(measured: Fairness) -> dict[str, Any]:
    alone, flooded = spread(measured.alone_s), spread(measured.flooded_s)
    return {
        "quiet_alone_ms": alone,
        "quiet_in_the_flood_ms": flooded,
        "quiet_p95_flood / alone": digits(flooded["p95"] / alone["p95"]),
        "flooded_alone_per_s": [digits(value) for value in measured.alone_per_s],
        "flooded_beside_quiet_per_s": [digits(value) for value in measured.flooded_per_s],
        "flooded_beside_quiet / alone": ratio(measured.flooded_per_s, measured.alone_per_s),
    }


def show(figures: dict[str, Any], console: Console) -> None:
    """The table for people."""
    table = Table("What", "Median", "Least", "Most")
    for group in ("engine", "effects", "effect_parts_ms"):
        for name, values in figures[group].items():
            table.add_row(
                name, *(f"{digits(value):g}" for value in (statistics.median(values), min(values), max(values)))
            )
    for name, each in figures["ratios"].items():
        table.add_row(name, *(f"{each[part]:g}" for part in ("median", "least", "most")))
    console.print(table)
    spreads = Table("Milliseconds", "p50", "p95", "Most", "Measured")
    waited = figures["parked"]
    for name, times in (
        ("start to first step", figures["first_step_ms"]),
        ("signed webhook to first step", figures["arriving_ms"]),
        (f"resume, {waited['runs']} parked", waited["resume_ms"]),
        (f"{waited['timers']} timers due at once", waited["timer_lag_ms"]),
    ):
        spreads.add_row(name, *(f"{times[part]:g}" for part in ("p50", "p95", "most", "number")))
    for workers, fair in figures["fairness"].items():
        if isinstance(fair, dict):
            for name in ("quiet_alone_ms", "quiet_in_the_flood_ms"):
                words = f"{name.removesuffix('_ms')}, {workers}".replace("_", " ")
                spreads.add_row(words, *(f"{fair[name][part]:g}" for part in ("p50", "p95", "most", "number")))
    console.print(spreads)
    for workers, fair in figures["fairness"].items():
        if isinstance(fair, dict):
            console.print(
                f"Fairness, {workers.replace('_', ' ')}: the quiet domain's p95 in the flood is "
                f"{fair['quiet_p95_flood / alone']:g} times that without; the flooded one keeps "
                f"{fair['flooded_beside_quiet / alone']['median'] * 100:.0f} % of its throughput."
            )
    wanted = Table("Wanted", "", "Found", "Met")
    for row in figures["targets"]:
        wanted.add_row(row["name"], row["wanted"], f"{row['found']:,g}", "yes" if row["is_met"] else "no")
    console.print(wanted)
    console.print(
        f"A worker beside {waited['runs']} parked runs: {waited['worker_mb']} MB (empty: {waited['empty_worker_mb']}), "
        f"{waited['idle_cpu_percent']} % of a core while idle, {waited['restart_s']} s to start."
    )


def main() -> None:
    """Measure, write, show."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round's part that has a length")
    parser.add_argument("--runs", type=int, default=1000, help="at once, in each round")
    parser.add_argument("--few", type=int, default=30, help="changes one after the other, in each round")
    parser.add_argument("--many", type=int, default=150, help="changes at once, in each round")
    parser.add_argument("--webhooks", type=int, default=200, help="one after the other")
    parser.add_argument("--parked", type=int, default=50_000, help="how many runs wait")
    parser.add_argument("--timers", type=int, default=1000, help="due at the same instant")
    parser.add_argument("--flood", type=int, default=8_000, help="runs of the flooded domain, in each round")
    parser.add_argument("--quiet-s", type=float, default=10.0, help="how long the quiet domain is measured alone")
    parser.add_argument("--report", type=Path, default=REPORT, help="where the JSON goes")
    parser.add_argument("--effects", action="store_true", help="measure only the changes; keep the rest of the report")
    given = parser.parse_args()
    if given.effects:
        figures = renew_changes(given.report, given)
        given.report.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        return
    # A pool that closes says so for every connection.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    console = Console()
    about = conditions()
    with standing() as stand:
        figures = uvloop.run(measure(stand, given, lambda line: console.print(line, style="dim")))
    about["load_average_after"] = [round(value, 1) for value in os.getloadavg()]
    figures = {"conditions": about, **figures}
    given.report.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    show(figures, console)
    console.print(f"All figures: {given.report}. To write them into the docs: python -m bench.page")


if __name__ == "__main__":
    main()
