"""Writes docs/explanation/performance.md from the figures: `python -m bench.page [BENCH.json [TORTURE.json]]`."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FIGURES = HERE / "figures.json"
STORM = HERE / "storm.json"
PAGE = HERE.parent / "docs" / "explanation" / "performance.md"


def page(bench: Mapping[str, Any], storm: Mapping[str, Any] | None) -> str:
    """The whole page.

    Args:
        bench: What `python -m bench` wrote.
        storm: What `python -m torture` wrote; none when no storm has been kept.
    """
    parts = [_head(bench["conditions"]), _engine(bench), _effects(bench), _waiting(bench["parked"])]
    if "fairness" in bench:
        parts.append(_fairness(bench["fairness"]))
    if storm is not None:
        parts.append(_storm(storm))
    parts.append(_again())
    return "\n".join(parts)


def _head(about: Mapping[str, Any]) -> str:
    return f"""\
# What it costs, and what it survives

For whoever has to size a machine, or wants to know what happens when one misbehaves. Made by `python -m bench.page` from
`bench/figures.json` and `bench/storm.json`; do not edit it by hand.

Machine: {about["cores"]} cores ({about["cpu"]}), {about["memory_gb"]} GB, Linux {about["kernel"]}, Python
{about["python"]}, PostgreSQL {about["postgresql"]} on a unix socket with fsync on. Load average before and after:
{_list(about["load_average_before"])} and {_list(about["load_average_after"])}.

**Read the ratios.** The machine was shared with other work, and its figures moved between rounds as the columns "least" and
"most" show. A ratio is made from two measurements of the same minute, so what slows the machine slows both. Everything ran on
this one machine: worker, database, gateway, outside world and whoever measured took CPU from each other.
"""


def _engine(bench: Mapping[str, Any]) -> str:
    engine, ratios, first = bench["engine"], bench["ratios"], bench["first_step_ms"]
    return f"""\
## The engine

One worker process, the real worker loop, runs of five steps that do nothing, every step with its row, its audit leaves and a
durable commit. Beside it, pgbench inserts one row in a transaction.

| | median | least | most |
|---|---|---|---|
| runs per second, one at a time | {_cells(engine["one_at_a_time"])} |
| pgbench transactions per second, 1 client | {_cells(engine["pgbench_1"])} |
| ratio | {_ratio(ratios["one_at_a_time / pgbench_1"])} |
| runs per second, many at once | {_cells(engine["loaded"])} |
| pgbench transactions per second, 8 clients | {_cells(engine["pgbench_8"])} |
| ratio | {_ratio(ratios["loaded / pgbench_8"])} |
| CPU of the worker process per run, ms | {_cells(engine["loaded_cpu_ms"])} |

The starting of the runs is in these figures: it happens in the same process. From the call that starts a run to its first
step, nothing else going on: p50 {first["p50"]:g} ms, p95 {first["p95"]:g} ms ({first["number"]:g} runs).

So while loaded the worker process used about {statistics.median(engine["loaded"]) * statistics.median(engine["loaded_cpu_ms"]) / 10:.0f} % of a core; the rest of the time is PostgreSQL's, and other
work's on the machine. Each step is a transaction of its own: putting those of several runs into one is not built yet.
"""


def _effects(bench: Mapping[str, Any]) -> str:
    changed, ratios = bench["effects"], bench["ratios"]
    cost = statistics.median(one - other for one, other in zip(changed["gateway_ms"], changed["bare_ms"], strict=True))
    return f"""\
## Changes in the outside world

An account is switched off through the gateway: grant looked up, looked at, planned, looked at again under the lock of the
target, intent written, changed, read back, receipt written, two audit leaves. Beside it, the same four requests to the same
imaginary vendor without a gateway.

| | median | least | most |
|---|---|---|---|
| through the gateway, one after the other, ms | {_cells(changed["gateway_ms"])} |
| the bare requests, ms | {_cells(changed["bare_ms"])} |
| ratio | {_ratio(ratios["gateway_ms / bare_ms"])} |
| through the gateway, 16 at once, per second | {_cells(changed["gateway_per_s"])} |
| the bare requests, 16 at once, per second | {_cells(changed["bare_per_s"])} |
| ratio | {_ratio(ratios["gateway_per_s / bare_per_s"])} |

So grant, ledger, lock and audit cost about {cost:.0f} ms a change. The imaginary vendor is one Python process that writes
each change durably; a second of its time is no property of Regie, which is why the bare requests stand beside.
"""


def _waiting(waited: Mapping[str, Any]) -> str:
    resume, lag = waited["resume_ms"], waited["timer_lag_ms"]
    return f"""\
## Waiting

A run that waits for people is a row. {waited["runs"]:,} of them wait here, and one worker process looks after them.

| | |
|---|---|
| memory of the worker, MB (with an empty database) | {waited["worker_mb"]:g} ({waited["empty_worker_mb"]:g}) |
| CPU while nothing happens, % of a core | {waited["idle_cpu_percent"]:g} |
| from starting the process to a registered worker, s | {waited["restart_s"]:g} |
| decision to next step, other processes, ms: p50 / p95 / most | {_three(resume)} |
| {waited["timers"]:,} timers due at one instant, lateness in ms: p50 / p95 / most | {_three(lag)} |

How late the last timer is, is how long it takes to move that many runs on.
"""


def _fairness(fair: Mapping[str, Any]) -> str:
    def row(what: str, name: str) -> str:
        cells = " | ".join(_three(fair[workers][name]) for workers in ("one_worker", "a_worker_each"))
        return f"| {what} | {cells} |"

    def median(name: str) -> str:
        values = (fair[workers][name] for workers in ("one_worker", "a_worker_each"))
        return " | ".join(f"{statistics.median(each):g}" for each in values)

    each = [fair[workers] for workers in ("one_worker", "a_worker_each")]
    p95 = " | ".join(f"{one['quiet_p95_flood / alone']:g}" for one in each)
    kept = " | ".join(f"{one['flooded_beside_quiet / alone']['median']:g}" for one in each)
    return f"""\
## A quiet domain beside a flooded one

One domain starts a run of five steps every 100 ms. Another one has {fair["flood"]:,} runs ready, and a quota of 10 in hands.
Start to last step, with one worker process for both domains and with one for each.

| | one worker | a worker each |
|---|---|---|
{row("quiet domain without a flood, ms: p50 / p95 / most", "quiet_alone_ms")}
{row("quiet domain in the flood, ms: p50 / p95 / most", "quiet_in_the_flood_ms")}
| ratio of the p95 | {p95} |
| flooded domain alone, runs per second | {median("flooded_alone_per_s")} |
| flooded domain beside the quiet one, runs per second | {median("flooded_beside_quiet_per_s")} |
| ratio | {kept} |
"""


def _storm(storm: Mapping[str, Any]) -> str:
    totals, takeover = storm["totals"], storm["takeover_s"]
    struck = "\n".join(f"| {name} | {number:,} |" for name, number in storm["disturbances"].items())
    rules = "\n".join(f"| {rule} | {number} |" for rule, number in storm["invariants"].items())
    limits = "\n".join(f"* {limit}" for limit in storm["limits"])
    runs = ", ".join(f"{number} {status}" for status, number in storm["runs"].items())
    failed = ", ".join(f"{number} with {kind}" for kind, number in storm["failed_with"].items())
    return f"""\
## A storm of {storm["seconds"] / 60:g} minutes

`python -m torture --seconds {storm["seconds"]:g} --seed {storm["seed"]}`: two workers, gateway, web and database, offboardings
all the time, and {totals["kills"]:,} kills, {totals["database restarts"]:,} restarts of the database,
{totals["connections cut"]:,} connections cut, {totals["processes stopped"]:,} processes stopped for a while,
{totals["vendor faults"]:,} faults of vendors.

**{storm["requests_accepted"]:,} requests accepted: {storm["lost"]} lost, {storm["doubled_runs"]} doubled, {storm["stuck"]} stuck;
{storm["writes_outside"]:,} changes outside by the outside world's own ledger: {storm["duplicate_effects"]} duplicate.** Runs: {runs}
{f"(failed: {failed}) " if failed else ""}with {storm["leaves"]:,} audit leaves. Everything was over {storm["seconds_until_quiet"]:g} s after
the last disturbance.

| Invariant | Violations |
|---|---|
{rules}

Until a run of a struck worker was with another worker, in seconds:

| | workers | first run p50 | p95 | all runs p50 | p95 |
|---|---|---|---|---|---|
{_takeovers(takeover)}

| Disturbance | Times |
|---|---|
{struck}

What this does not show:

{limits}
"""


def _takeovers(takeover: Mapping[str, Mapping[str, float]]) -> str:
    names = {
        "kill": "killed",
        "kill, alone": "killed, nothing else struck meanwhile",
        "stop": "stopped (SIGSTOP)",
        "stop, alone": "stopped, nothing else struck meanwhile",
    }
    keys = ("first_p50", "first_p95", "all_p50", "all_p95")
    return "\n".join(
        f"| {names[name]} | {times['measured']} | "
        + " | ".join(f"{times[key]:g}" if key in times else "-" for key in keys)
        + " |"
        for name, times in takeover.items()
    )


def _again() -> str:
    return """\
## Do it again

`make bench`, then `.venv/bin/python -m bench.page`. `make torture` and `make torture-long` print the table of a storm and
keep its JSON; see [Break it on purpose](../how-to/break-it-on-purpose.md).
"""


def _cells(values: Sequence[float]) -> str:
    return " | ".join(_number(value) for value in (statistics.median(values), min(values), max(values)))


def _ratio(ratio: Mapping[str, float]) -> str:
    return " | ".join(f"{ratio[part]:.3g}" for part in ("median", "least", "most"))


def _three(spread: Mapping[str, float]) -> str:
    return " / ".join(_number(spread[part]) for part in ("p50", "p95", "most"))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("bench", type=Path, nargs="?", default=FIGURES)
    parser.add_argument("storm", type=Path, nargs="?", default=STORM)
    given = parser.parse_args()
    storm = json.loads(given.storm.read_text(encoding="utf-8")) if given.storm.exists() else None
    PAGE.write_text(page(json.loads(given.bench.read_text(encoding="utf-8")), storm), encoding="utf-8")


if __name__ == "__main__":
    main()
