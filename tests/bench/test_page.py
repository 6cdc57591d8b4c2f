"""The page with the figures is made from the JSON that is kept, and owns up to what was not measured."""

from __future__ import annotations

import json

from bench.page import FIGURES, PAGE, PEERS, STORM, TAKEOVERS, kept, page
from torture.evidence import Evidence
from torture.report import Report
from torture.takeover import Takeover


def test_the_page_says_what_was_measured() -> None:
    made = page(*map(kept, (FIGURES, STORM, PEERS, TAKEOVERS)))
    assert PAGE.read_text(encoding="utf-8") == made, "Run: python -m bench.page"


def test_without_figures_the_page_says_so() -> None:
    made = page({}, {}, {}, {})
    assert made.count("ot measured") > 15
    assert "nan" not in made


def test_half_of_the_figures_are_shown_and_the_other_half_is_not_made_up() -> None:
    spread = {"number": 3, "p50": 1.5, "p95": 2.5, "most": 3.5}
    bench = {"engine": {"moved": [10.0, 1500.0, 2000.0]}, "first_step_ms": spread, "parked": {"runs": 5000}}
    made = page(bench, {}, {}, {})
    assert "| runs per second, many at once, accepted before | 1,500 | 10 | 2,000 |" in made
    assert "| runs per second, one at a time | not measured | - | - |" in made
    assert "p50 1.5 ms, p95 2.5 ms (3 runs)" in made
    assert "5,000 of them wait here" in made


def test_peers_stand_beside_regie_and_a_missing_one_is_named() -> None:
    one = {
        "version": "dbos 3.4.0",
        "kept_in": "the same PostgreSQL",
        "one_at_a_time": [20.0],
        "loaded": [50.0],
        "moved": [45.0],
        "first_step_ms": {"number": 9, "p50": 4.0, "p95": 6.0, "most": 9.0},
    }
    ratio = {"median": 21.5, "least": 20.0, "most": 23.0}
    peers = {
        "engines": {"regie": {**one, "version": "", "loaded": [1100.0]}, "dbos": one},
        "missing": {"prefect": "a traceback"},
        "ratios": {"regie / dbos, loaded": ratio},
    }
    made = page({}, {}, peers, {})
    assert "| DBOS (dbos 3.4.0) | the same PostgreSQL | 20 | 50 | 45 | 4 / 6 / 9 |" in made
    assert "| Regie, steps that reach nothing outside / DBOS, 64 at once | 21.5 | 20 | 23 |" in made
    assert "Prefect was left out" in made


def test_a_storm_is_shown_with_its_targets_and_with_what_the_machine_did_not_allow() -> None:
    report = Report(
        seed=7,
        seconds=1200,
        quiet_s=9.5,
        evidence=Evidence(requests=(), runs=(), writes=(), people={}),
        violations=[],
        disturbances={"kill -9 worker": 299, "database server killed and restarted": 20, "connections cut": 2000},
        starts={},
        takeovers=[
            Takeover(1.0, "kill", 3, 0.5, 0.9, is_alone=True),
            Takeover(9.0, "stop", 3, 31.0, 31.0, is_alone=True),
        ],
        answers={},
        surprises={},
        left_out={"disk": "mount: permission denied"},
    )
    assert {target.name: target.is_met for target in report.targets()} == {
        "kills": True,
        "database restarts": True,
        "connections cut": True,
        "takeover after kill, alone, first run, p95 in s": True,
        "takeover after stop, alone, first run, p95 in s": False,
    }
    made = page({}, json.loads(report.as_json()), {}, json.loads(report.as_json()))
    assert "## A storm of 20 minutes" in made
    assert "| kills | 300 | 319 | yes |" in made
    assert "| takeover after stop, alone, first run, p95 in s | 30 | 31 | **no** |" in made
    assert "Left out on this machine: disk (mount: permission denied)." in made
