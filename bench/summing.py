"""What every measurement here ends with: on which machine, how far apart the rounds were, and what their ratio is."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regie.store import postgres_binaries


def conditions() -> dict[str, Any]:
    """The machine and what ran on it."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cores": os.cpu_count(),
        "cpu": model,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "postgresql": postgres_binaries.installed(),
        "load_average_before": [round(value, 1) for value in os.getloadavg()],
    }


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Of each round on its own: what disturbs the machine for longer than a round disturbs both."""
    each = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {"median": digits(statistics.median(each)), "least": digits(min(each)), "most": digits(max(each))}


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """How many there are, and the middle, the twentieth from the top and the largest of a hundred, in milliseconds."""
    ordered = sorted(seconds)

    def part(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 2)

    return {"number": len(ordered), "p50": part(0.5), "p95": part(0.95), "most": part(1.0)}


def rounded(rounds: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """One value a round, in digits that mean something."""
    return {name: [digits(value) for value in values] for name, values in rounds.items()}


def digits(value: float) -> float:
    """Three digits that mean something."""
    return float(f"{value:.3g}")
