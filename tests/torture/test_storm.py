"""The machinery of a storm itself: a short one with a fixed seed, in which each kind of disturbance comes once."""

from __future__ import annotations

import json

import pytest

from torture.schedule import WORKERS, drawn
from torture.trial import trial

pytestmark = pytest.mark.slow

SECONDS = 20.0
SEED = 20261122


async def test_a_storm_with_each_disturbance_once_leaves_nothing_behind() -> None:
    said: list[str] = []
    report = await trial(SEED, SECONDS, drawn(SEED, SECONDS, once_each=True), said.append, in_flight=6)
    assert report.violations == []
    figures = json.loads(report.as_json())
    assert figures["requests_accepted"] >= 6
    assert sum(figures["runs"].values()) == figures["requests_accepted"]
    assert figures["writes_outside"] > 0
    struck = figures["totals"]
    assert struck["kills"] >= 2
    assert struck["database restarts"] == 1
    assert struck["connections cut"] >= 1
    assert struck["vendor faults"] >= 1
    # What a machine does not allow is left out and named; everything else has really happened.
    assert figures["left_out"].keys() <= {"clock", "disk"}
    assert struck["clocks turned"] == ("clock" not in figures["left_out"])
    assert struck["disks filled"] == ("disk" not in figures["left_out"])
    assert struck["releases changed"] == 1
    assert report.starts["web"] + report.starts["gateway"] + sum(report.starts[each] for each in WORKERS) >= 2
    assert said[0] == "Starting an installation"
    assert sum(line.startswith("Left out") for line in said) == len(figures["left_out"])
    assert said[-1] == "Examining"
