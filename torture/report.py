"""What a storm came to, as JSON for programs and as a table for people."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from torture.evidence import Evidence
from torture.invariants import RULES, Violation
from torture.takeover import Takeover

LIMITS = (
    "One machine: no second host, no network between hosts, no failover of the database.",
    (
        "Not disturbed: the disk but for being full (read-only, torn pages), memory, the file of the vault, the clocks "
        "of all but one worker, the sandbox's own process."
    ),
    (
        "kill -9 ends processes, not the machine: what the kernel had in its caches is not lost, so this says nothing "
        "about fsync."
    ),
    "The outside world is imaginary: real vendors have other lags and other ways to fail.",
    (
        "Every write of the tortured workflow can be looked up again or carries a mark. For one of the class `once` a "
        "person would have to find out; see docs/explanation/effects.md."
    ),
    (
        "A run may fail: a step that met trouble for longer than its retries last says so on the ticket. Failed runs "
        "are counted here, they are no violation."
    ),
    (
        "The desk delivers until it is answered, as long as it takes; a desk that gives up would lose requests that "
        "Regie never saw."
    ),
    (
        "Takeovers are measured for workers that owned runs when they were struck; `alone` means that nothing else was "
        "struck within two seconds before, or until the takeover. Connections that were cut meanwhile do not count."
    ),
)


PER_HOUR = {"kills": 900, "database restarts": 60, "connections cut": 6000}
"""Least that a storm does: 300 kills, 20 restarts and 2,000 cuts in twenty minutes."""
TAKEOVER_P95_S = {"kill": 2.0, "stop": 30.0}
"""Seconds until the first run of a struck worker is with another one; a worker that stands still is silent for 15 s."""


@dataclass(frozen=True)
class Target:
    """A figure that was set beforehand, and what came of it."""

    name: str
    wanted: float
    found: float
    is_met: bool


@dataclass(frozen=True)
class Report:
    """Everything about one storm.

    Attributes:
        disturbances: What was done to the installation, how often.
        starts: How often each process became ready.
        quiet_s: Seconds after the storm until every run was over.
        surprises: Events of levels error and critical in the logs, by process and name.
        left_out: Disturbances that the machine did not allow, and why.
        is_storm: Everything went wrong that can, and so often that it counts as one; else only takeovers are measured.
    """

    seed: int
    seconds: float
    quiet_s: float
    evidence: Evidence
    violations: Sequence[Violation]
    disturbances: Mapping[str, int]
    starts: Mapping[str, int]
    takeovers: Sequence[Takeover]
    answers: Mapping[str, int]
    surprises: Mapping[str, int]
    left_out: Mapping[str, str] = field(default_factory=dict)
    is_storm: bool = True

    def as_json(self) -> str:
        """For programs."""
        return json.dumps(self.figures(), indent=2, ensure_ascii=False) + "\n"

    def figures(self) -> dict[str, Any]:
        """What the JSON holds."""
        evidence = self.evidence
        by_rule = Counter(violation.rule for violation in self.violations)
        return {
            "seed": self.seed,
            "seconds": self.seconds,
            "seconds_until_quiet": round(self.quiet_s, 1),
            "requests_accepted": len(evidence.requests),
            "runs": dict(Counter(run.status.value for run in evidence.runs)),
            "failed_with": dict(Counter(run.failure for run in evidence.runs if run.failure)),
            "effects": dict(Counter(effect.state.value for run in evidence.runs for effect in run.effects)),
            "writes_outside": len(evidence.writes),
            "leaves": sum(len(run.leaves) for run in evidence.runs),
            "lost": by_rule["no accepted request is lost"],
            "doubled_runs": by_rule["one request, one run"],
            "stuck": by_rule["every run ends"],
            "duplicate_effects": by_rule["no effect happens twice"],
            "invariants": {rule: by_rule[rule] for rule in RULES},
            "violations": [asdict(violation) for violation in self.violations],
            "disturbances": dict(sorted(self.disturbances.items())),
            "totals": self._totals(),
            "takeover_s": {
                f"{cause}{', alone' if alone else ''}": _summary(
                    [each.first_s for each in self.takeovers if each.cause == cause and (each.is_alone or not alone)],
                    [each.last_s for each in self.takeovers if each.cause == cause and (each.is_alone or not alone)],
                )
                for cause in ("kill", "stop")
                for alone in (False, True)
            },
            "takeovers": [
                {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(each).items()}
                for each in self.takeovers
            ],
            "process_starts": dict(self.starts),
            "people": dict(self.answers),
            "surprises": dict(sorted(self.surprises.items())),
            "targets": [asdict(target) for target in self.targets()],
            "left_out": dict(self.left_out),
            "limits": list(LIMITS),
        }

    def _totals(self) -> dict[str, int]:
        """The sums that a target is set for."""
        done = self.disturbances

        def total(*starts: str) -> int:
            return sum(number for name, number in done.items() if name.startswith(starts))

        return {
            "kills": total("kill -9", "crash point", "database server"),
            "database restarts": total("database server"),
            "connections cut": total("connections"),
            "processes stopped": total("stopped", "held"),
            "vendor faults": total("vendor"),
            "clocks turned": total("clock"),
            "disks filled": total("disk"),
            "releases changed": total("releases"),
        }

    def targets(self) -> list[Target]:
        """What a storm must come to: as often as its length asks for, and soon enough. Of takeovers only the latter."""
        totals = self._totals()
        often = [
            Target(
                name,
                round(per_hour * self.seconds / 3600),
                totals[name],
                totals[name] >= per_hour * self.seconds / 3600,
            )
            for name, per_hour in PER_HOUR.items()
        ]
        # What a cut-off database or a second blow adds is not the takeover's.
        first = {
            cause: [each.first_s for each in self.takeovers if each.cause == cause and each.is_alone]
            for cause in TAKEOVER_P95_S
        }
        soon = [
            Target(
                f"takeover after {cause}, alone, first run, p95 in s",
                most_s,
                (found := percentile(first[cause], 95)),
                found < most_s,
            )
            for cause, most_s in TAKEOVER_P95_S.items()
            if first[cause]
        ]
        return often + soon if self.is_storm else soon

    def show(self, console: Console) -> None:
        """For people."""
        figures = self.figures()
        table = Table(title=f"Storm of {self.seconds:g} s, seed {self.seed}", show_header=False, title_justify="left")
        table.add_column(style="bold")
        table.add_column()
        rows: Iterable[tuple[str, Any]] = (
            ("requests accepted", figures["requests_accepted"]),
            ("runs", _inline(figures["runs"])),
            ("failed with", _inline(figures["failed_with"])),
            ("lost / doubled / stuck", f"{figures['lost']} / {figures['doubled_runs']} / {figures['stuck']}"),
            ("duplicate effects", f"{figures['duplicate_effects']} of {figures['writes_outside']} writes outside"),
            ("struck", _inline(figures["totals"])),
            ("process starts", _inline(figures["process_starts"])),
            *((f"takeover, {name}", _inline(times)) for name, times in figures["takeover_s"].items()),
            (
                "targets missed",
                ", ".join(
                    f"{each.name}: {each.found:g} (wanted {each.wanted:g})"
                    for each in self.targets()
                    if not each.is_met
                )
                or "none",
            ),
            ("left out", _inline(figures["left_out"])),
            ("quiet after", f"{figures['seconds_until_quiet']} s"),
            ("logged errors", _inline(figures["surprises"])),
        )
        for name, value in rows:
            table.add_row(name, str(value))
        console.print(table)
        checks = Table("Invariant", "Violations", title="What must hold", title_justify="left")
        for rule, number in figures["invariants"].items():
            checks.add_row(rule, f"[red]{number}[/red]" if number else "0")
        console.print(checks)
        for violation in self.violations:
            console.print(f"[red]{violation.rule}[/red]: {violation.about}: {violation.what}", markup=True)


def _inline(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.items()) or "none"


def _summary(first: list[float], last: list[float]) -> dict[str, float | int]:
    if not first:
        return {"measured": 0}
    return {
        "measured": len(first),
        "first_p50": percentile(first, 50),
        "first_p95": percentile(first, 95),
        "all_p50": percentile(last, 50),
        "all_p95": percentile(last, 95),
    }


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that so many of a hundred do not exceed, in three digits after the point."""
    ordered = sorted(values)
    return round(ordered[max(0, math.ceil(part / 100 * len(ordered)) - 1)], 3)
