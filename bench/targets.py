"""What was wanted beforehand, beside what was found: one row for each figure that Regie is to meet."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Figures = Mapping[str, Any]


class Target(NamedTuple):
    """One figure.

    Attributes:
        unit: Of both values; empty for ratios.
        is_least: The value wanted is the least that will do; else it is the most.
        find: Its value in the figures of a measurement. It raises `KeyError` when that was not measured.
    """

    name: str
    wanted: float
    unit: str
    is_least: bool
    find: Callable[[Figures], float]


TARGETS = (
    Target(
        "one run after the other, as part of pgbench's transactions with 1 client",
        0.05,
        "",
        is_least=True,
        find=lambda figures: float(figures["ratios"]["one_at_a_time / pgbench_1"]["median"]),
    ),
    Target(
        "start to first step, p50", 3, "ms", is_least=False, find=lambda figures: float(figures["first_step_ms"]["p50"])
    ),
    Target(
        "runs moved by one worker",
        1000,
        "per second",
        is_least=True,
        find=lambda figures: statistics.median(figures["engine"]["moved"]),
    ),
    Target(
        "runs moved by one worker, as part of those without audit leaves",
        0.9,
        "",
        is_least=True,
        find=lambda figures: float(figures["ratios"]["moved / moved_without_audit"]["median"]),
    ),
    Target(
        "changes through the gateway",
        100,
        "per second",
        is_least=True,
        find=lambda figures: statistics.median(figures["effects"]["gateway_per_s"]),
    ),
    Target(
        "signed webhook to first step, p95",
        50,
        "ms",
        is_least=False,
        find=lambda figures: float(figures["arriving_ms"]["p95"]),
    ),
    Target(
        "quiet domain in the flood, one worker: p95 as a multiple of that without",
        2,
        "",
        is_least=False,
        find=lambda figures: float(figures["fairness"]["one_worker"]["quiet_p95_flood / alone"]),
    ),
    Target(
        "flooded domain beside the quiet one, one worker: part of its throughput alone",
        0.8,
        "",
        is_least=True,
        find=lambda figures: float(figures["fairness"]["one_worker"]["flooded_beside_quiet / alone"]["median"]),
    ),
    Target(
        "quiet domain in the flood, a worker each as `regie up` has them: p95 as a multiple of that without",
        2,
        "",
        is_least=False,
        find=lambda figures: float(figures["fairness"]["a_worker_each"]["quiet_p95_flood / alone"]),
    ),
    Target(
        "flooded domain beside the quiet one, a worker each: part of its throughput alone",
        0.8,
        "",
        is_least=True,
        find=lambda figures: float(figures["fairness"]["a_worker_each"]["flooded_beside_quiet / alone"]["median"]),
    ),
    Target("parked runs", 50_000, "", is_least=True, find=lambda figures: float(figures["parked"]["runs"])),
    Target(
        "memory of the worker beside them, more than with an empty database",
        10,
        "MB",
        is_least=False,
        find=lambda figures: max(0.0, figures["parked"]["worker_mb"] - figures["parked"]["empty_worker_mb"]),
    ),
    Target(
        "CPU while they wait",
        2,
        "% of a core",
        is_least=False,
        find=lambda figures: float(figures["parked"]["idle_cpu_percent"]),
    ),
    Target("start of a worker", 1, "s", is_least=False, find=lambda figures: float(figures["parked"]["restart_s"])),
    Target(
        "decision to next step, p95",
        50,
        "ms",
        is_least=False,
        find=lambda figures: float(figures["parked"]["resume_ms"]["p95"]),
    ),
)


def judged(figures: Figures) -> list[dict[str, Any]]:
    """Each target that was measured, with what was found."""
    rows = []
    for target in TARGETS:
        try:
            found = target.find(figures)
        except KeyError:
            continue
        is_met = found >= target.wanted if target.is_least else found <= target.wanted
        wanted = f"{'at least' if target.is_least else 'at most'} {target.wanted:,g} {target.unit}".rstrip()
        rows.append({"name": target.name, "wanted": wanted, "found": float(f"{found:.4g}"), "is_met": is_met})
    return rows
