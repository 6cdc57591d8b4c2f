"""Writes docs/explanation/performance.md from the figures that are kept beside it: `python -m bench.page`.

What has not been measured, or not yet by the version of the bench that was run last, says so on the page.
"""

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
PEERS = HERE / "peers.json"
TAKEOVERS = HERE / "takeovers.json"
PAGE = HERE.parent / "docs" / "explanation" / "performance.md"
NOT_MEASURED = "not measured"
EFFECTS_WANTED = 100
"""Changes in a second."""
EFFECT_PARTS = {
    "ledger": "effect ledger: intent and receipt, each committed",
    "audit": "audit: two leaves, in the same transactions",
    "grant": "policy: grant of the step in its pinned release, and what the ledger knows of it",
    "approval": "policy: approvals over the step (this one has none), and the decision about the change",
    "lock": "lock of the target, and what else we have done to it",
    "budget": "rate budgets of the vendor, for three requests",
    "vendor": "waiting for the vendor, three requests",
    "rest": "the rest: HTTP, JSON, planning, checks",
}
"""As the gateway's metrics name them."""
NAMES = {
    "regie": "Regie, steps that reach nothing outside",
    "regie_apart": "Regie, each step written by itself",
    "dbos": "DBOS",
    "temporal": "Temporal, development server",
    "prefect": "Prefect",
}

Figures = Mapping[str, Any]


def kept(file: Path) -> Figures:
    """What a measurement has left; nothing when it was never made."""
    found: Figures = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def page(bench: Figures, storm: Figures, peers: Figures, takeovers: Figures) -> str:
    """The whole page.

    Args:
        bench: What `python -m bench` wrote; any part may be missing.
        storm: What `python -m torture` wrote; empty when no storm has been kept.
        peers: What `python -m bench.peers` wrote; empty when it was not run.
        takeovers: What `python -m torture --takeovers` wrote; empty when it was not run.
    """
    parts = [
        _head(bench),
        _targets(bench),
        _engine(bench),
        _peers(peers),
        _effects(bench),
        _waiting(bench),
        _fairness(bench),
        _storm(storm),
        _only_takeovers(takeovers),
        _again(),
    ]
    return "\n".join(parts)


def _head(bench: Figures) -> str:
    return f"""\
# What it costs, and what it survives

For whoever has to size a machine, or wants to know what happens when one misbehaves. Made by `python -m bench.page` from
`bench/figures.json`, `bench/peers.json`, `bench/storm.json` and `bench/takeovers.json`; do not edit it by hand.

{_machine(bench)}
**Read the ratios.** The machine was shared with other work, and its figures moved between rounds as the columns "least" and
"most" show. A ratio is made from two measurements of the same minute, so what slows the machine slows both. Everything ran on
this one machine: worker, database, gateway, outside world and whoever measured took CPU from each other.
"""


def _targets(bench: Figures) -> str:
    rows = "\n".join(
        f"| {each['name']} | {each['wanted']} | {each['found']:,g} | {'yes' if each['is_met'] else '**no**'} |"
        for each in bench.get("targets", ())
    )
    if not rows:
        return "## What was wanted\n\nNot measured.\n"
    return f"""\
## What was wanted

Set beforehand; each is explained further down.

| | wanted | found | met |
|---|---|---|---|
{rows}
"""


def _machine(figures: Figures) -> str:
    about = figures.get("conditions")
    if about is None:
        return "Nothing of the sections on engine, changes and waiting has been measured.\n"
    return f"""\
Machine: {about["cores"]} cores ({about["cpu"]}), {about["memory_gb"]} GB, Linux {about["kernel"]}, Python
{about["python"]}, PostgreSQL {about["postgresql"]} on a unix socket with fsync on. Load average before and after:
{_list(about["load_average_before"])} and {_list(about["load_average_after"])}.
"""


def _engine(bench: Figures) -> str:
    engine, ratios, first = (bench.get(name, {}) for name in ("engine", "ratios", "first_step_ms"))
    begun = f"p50 {first['p50']:g} ms, p95 {first['p95']:g} ms ({first['number']:g} runs)" if first else NOT_MEASURED
    posted = bench.get("arriving_ms")
    arrived = f"{_three(posted)} ms (p50 / p95 / most, {posted['number']:g} webhooks)" if posted else NOT_MEASURED
    share = ""
    if "moved" in engine and "moved_cpu_ms" in engine:
        used = statistics.median(engine["moved"]) * statistics.median(engine["moved_cpu_ms"]) / 10
        share = f"So while loaded the worker process used about {used:.0f} % of a core. "
    return f"""\
## The engine

One worker process, the real worker loop, runs of five steps that do nothing, every step with its row, its audit leaves and a
durable commit. Beside it, pgbench inserts one row in a transaction.

| | median | least | most |
|---|---|---|---|
| runs per second, one at a time | {_cells(engine, "one_at_a_time")} |
| pgbench transactions per second, 1 client | {_cells(engine, "pgbench_1")} |
| ratio | {_ratio(ratios, "one_at_a_time / pgbench_1")} |
| runs per second, many at once, accepted before | {_cells(engine, "moved")} |
| pgbench transactions per second, 8 clients | {_cells(engine, "pgbench_8")} |
| ratio | {_ratio(ratios, "moved / pgbench_8")} |
| runs per second without any audit leaf, which only a measurement can have | {_cells(engine, "moved_without_audit")} |
| ratio, with leaves to without | {_ratio(ratios, "moved / moved_without_audit")} |
| CPU of the worker process per run, ms | {_cells(engine, "moved_cpu_ms")} |
| the same with accepting them first, in the same process | {_cells(engine, "loaded")} |
| CPU per run, ms | {_cells(engine, "loaded_cpu_ms")} |

Accepting is a transaction for each run; in an installation the web does it. From the call that starts a run to its first
step, nothing else going on: {begun}. There the worker is in the process that starts the run, and takes it in hand as it is
started, as it does when no other run of the domain is ready and no quota has to be counted.

From posting a signed webhook to the first step of its run, through the processes of an installation (web, gateway, web again,
worker), one after the other: {arrived}.

{share}The commits of many runs go into one transaction, and steps that reach nothing
outside are written together with what led to them, so a run of such steps costs few commits.
"""


def _peers(peers: Figures) -> str:
    head = """\
## Beside other engines

The same run of five steps that do nothing, each engine in turn in every round, with nothing of the others running meanwhile;
in each case the process that starts the runs also works on them, with its own default settings.
"""
    if not peers:
        return f"{head}\nNot measured: `make bench-peers` does it.\n"
    engines, ratios = peers.get("engines", {}), peers.get("ratios", {})
    rows = "\n".join(
        f"| {NAMES.get(name, name)}{_version(each)} | {each['kept_in']} | {_median(each, 'one_at_a_time')} | "
        f"{_median(each, 'loaded')} | {_median(each, 'moved') if 'moved' in each else ''} | "
        f"{_three(each.get('first_step_ms'))} |"
        for name, each in engines.items()
    )
    compared = "\n".join(f"| {_compared(name)} | {_ratio(ratios, name)} |" for name in ratios)
    missing = "".join(
        f"\n{NAMES.get(name, name)} was left out: it did not start or stopped answering.\n"
        for name in peers.get("missing", {})
    )
    return f"""\
{head}
| | durable in | runs per second, one at a time | 64 at once | moved by one worker | start to first step, ms: p50 / p95 / most |
|---|---|---|---|---|---|
{rows}

| Ratio, of each round on its own | median | least | most |
|---|---|---|---|
{compared}
{missing}
{_machine(peers)}
What they do is not the same. Steps that reach nothing outside are done again after a crash, so Regie writes what they gave
together; the peers write each step by itself, and so does the second line of Regie, whose steps may reach the outside. Compare
that one where it is about durable steps, the first one where it is about such runs. Regie writes a row and audit leaves for each step; none of the others keeps such a log. Temporal's
development server is not what one runs in production, and its PostgreSQL variant is in no wheel; its workflow runs without the
sandbox, which only costs time. DBOS starts workflows directly, without its queue, except where one worker moves runs that were
accepted before it was there: they wait in the queue, which is looked at every 10 ms, and
the time of its worker, a process of its own, counts from its launch; Regie's worker is in the process that has accepted them. Prefect's tasks keep their results in files.
"""


def _version(each: Figures) -> str:
    return f" ({each['version']})" if each.get("version") else ""


PARTS = {"one_at_a_time": "one at a time", "loaded": "64 at once", "moved": "moved by one worker"}


def _compared(ratio: str) -> str:
    """`regie / dbos, loaded` in words."""
    engines, _, part = ratio.partition(", ")
    ours, _, other = engines.partition(" / ")
    return f"{NAMES.get(ours, ours)} / {NAMES.get(other, other)}, {PARTS[part]}"


def _effects(bench: Figures) -> str:
    changed, ratios, parts = (bench.get(name, {}) for name in ("effects", "ratios", "effect_parts_ms"))
    split = "\n".join(f"| {what} | {_cells(parts, part)} |" for part, what in EFFECT_PARTS.items())
    found = statistics.median(changed["gateway_per_s"]) if changed.get("gateway_per_s") else None
    apart = bench.get("effects_conditions")
    when = f"Measured apart from the rest of this page. {_machine({'conditions': apart})}" if apart else ""
    wanted = NOT_MEASURED if found is None else f"{_number(found)} | {'yes' if found >= EFFECTS_WANTED else '**no**'}"
    return f"""\
## Changes in the outside world

An account is switched off through the gateway: grant looked up, looked at, planned, target locked and what we have done to it
since looked up, intent written, changed, read back, receipt written, two audit leaves. Beside it, the same three requests to
the same imaginary vendor without a gateway.
{when}
| | median | least | most |
|---|---|---|---|
| through the gateway, one after the other, ms | {_cells(changed, "gateway_ms")} |
| the bare requests, ms | {_cells(changed, "bare_ms")} |
| ratio | {_ratio(ratios, "gateway_ms / bare_ms")} |
| through the gateway, 16 at once, per second | {_cells(changed, "gateway_per_s")} |
| the bare requests, 16 at once, per second | {_cells(changed, "bare_per_s")} |
| ratio | {_ratio(ratios, "gateway_per_s / bare_per_s")} |

| Set beforehand | wanted | found | met |
|---|---|---|---|
| changes per second through one gateway, 16 at once | {EFFECTS_WANTED} | {wanted if found is not None else f"{NOT_MEASURED} | -"} |

Where the gateway's time goes, one change after the other, in ms on average:

| | median | least | most |
|---|---|---|---|
{split}

The imaginary vendor is one Python process that writes each change durably; a second of its time is no property of Regie, which
is why the bare requests stand beside.
"""


def _waiting(bench: Figures) -> str:
    waited = bench.get("parked")
    if waited is None:
        return "## Waiting\n\nNot measured.\n"
    return f"""\
## Waiting

A run that waits for people is a row. {waited["runs"]:,} of them wait here, and one worker process looks after them. Those
that are woken were started and parked like any run; most of the others are copies of their rows, as large as they.

| | |
|---|---|
| memory of the worker, MB (with an empty database) | {_one(waited, "worker_mb")} ({_one(waited, "empty_worker_mb")}) |
| CPU while nothing happens, % of a core | {_one(waited, "idle_cpu_percent")} |
| from starting the process to a registered worker, s | {_one(waited, "restart_s")} |
| decision to next step, other processes, ms: p50 / p95 / most | {_three(waited.get("resume_ms"))} |
| {_one(waited, "timers", ",.0f")} timers due at one instant, lateness in ms: p50 / p95 / most | {_three(waited.get("timer_lag_ms"))} |

How late the last timer is, is how long it takes to move that many runs on.
"""


def _fairness(bench: Figures) -> str:
    fair = bench.get("fairness")
    if not fair:
        return "## A quiet domain beside a flooded one\n\nNot measured.\n"

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


def _storm(storm: Figures) -> str:
    if not storm:
        return "## A storm\n\nNot measured: no long storm has been kept. `make torture-long` makes one.\n"
    totals, takeover = storm["totals"], storm["takeover_s"]
    struck = "\n".join(f"| {name} | {number:,} |" for name, number in storm["disturbances"].items())
    rules = "\n".join(f"| {rule} | {number} |" for rule, number in storm["invariants"].items())
    limits = "\n".join(f"* {limit}" for limit in storm["limits"])
    runs = ", ".join(f"{number} {status}" for status, number in storm["runs"].items())
    failed = ", ".join(f"{number} with {kind}" for kind, number in storm["failed_with"].items())
    targets = "\n".join(
        f"| {each['name']} | {each['wanted']:g} | {each['found']:g} | {'yes' if each['is_met'] else '**no**'} |"
        for each in storm.get("targets", ())
    )
    left_out = "".join(
        f"\nLeft out on this machine: {kind} ({why}).\n" for kind, why in storm.get("left_out", {}).items()
    )
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

| Set beforehand | wanted | found | met |
|---|---|---|---|
{targets}

Until a run of a struck worker was with another worker, in seconds:

| | workers | first run p50 | p95 | all runs p50 | p95 |
|---|---|---|---|---|---|
{_takeovers(takeover)}

| Disturbance | Times |
|---|---|
{struck}
{left_out}
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


def _only_takeovers(report: Figures) -> str:
    if not report:
        return "## Workers killed\n\nNot measured: `python -m torture --takeovers 40` does it.\n"
    killed = report["takeover_s"]["kill"]
    return f"""\
## Workers killed

The same installation and load, and nothing goes wrong but kill -9 of a worker every few seconds: until the first run of a killed
worker was with the other one, p50 {killed["first_p50"]:g} s, p95 {killed["first_p95"]:g} s of {killed["measured"]} (wanted: at most 2 s). Lost
{report["lost"]}, doubled {report["doubled_runs"]}, stuck {report["stuck"]}, duplicate changes {report["duplicate_effects"]}.
"""


def _again() -> str:
    return """\
## Do it again

`make bench` and `make bench-peers`, then `.venv/bin/python -m bench.page`; `.venv/bin/python -m bench --effects` measures only
the changes. `.venv/bin/python -m bench.notary` measures how fast leaves are signed and bundles checked, `.venv/bin/python -m bench.policies` how long a
decision takes. `make torture` and `make torture-long` print the table of a storm and
keep its JSON, `.venv/bin/python -m torture --takeovers 40` that of killed workers alone; see [Break it on purpose](../how-to/break-it-on-purpose.md).
"""


def _cells(figures: Figures, name: str) -> str:
    values = figures.get(name)
    if not values:
        return f"{NOT_MEASURED} | - | -"
    return " | ".join(_number(value) for value in (statistics.median(values), min(values), max(values)))


def _median(figures: Figures, name: str) -> str:
    return _number(statistics.median(figures[name])) if figures.get(name) else NOT_MEASURED


def _one(figures: Figures, name: str, form: str = "g") -> str:
    return format(figures[name], form) if name in figures else NOT_MEASURED


def _ratio(ratios: Figures, name: str) -> str:
    ratio = ratios.get(name)
    if ratio is None:
        return f"{NOT_MEASURED} | - | -"
    return " | ".join(f"{ratio[part]:.3g}" for part in ("median", "least", "most"))


def _three(spread: Mapping[str, float] | None) -> str:
    return " / ".join(_number(spread[part]) for part in ("p50", "p95", "most")) if spread else NOT_MEASURED


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("bench", type=Path, nargs="?", default=FIGURES)
    parser.add_argument("storm", type=Path, nargs="?", default=STORM)
    parser.add_argument("peers", type=Path, nargs="?", default=PEERS)
    parser.add_argument("takeovers", type=Path, nargs="?", default=TAKEOVERS)
    given = parser.parse_args()
    files = (given.bench, given.storm, given.peers, given.takeovers)
    PAGE.write_text(page(*map(kept, files)), encoding="utf-8")


if __name__ == "__main__":
    main()
