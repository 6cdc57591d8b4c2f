"""Metrics: names as Prometheus wants them, labels with few values, and a token that is needed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.telemetry import metrics

LABELS = {
    "tenant",
    "domain",
    "workflow",
    "outcome",
    "part",
    "block",
    "capability",
    "connector",
    "route",
    "method",
    "status",
    "state",
    "kind",
}
UNITS = ("_seconds",)


@pytest.mark.parametrize("described", metrics.DESCRIBED, ids=lambda each: each.name)
def test_names_follow_the_convention_and_labels_are_bounded(described: metrics.Described) -> None:
    assert re.fullmatch(r"regie_[a-z]+(_[a-z]+)*", described.name)
    assert described.name.endswith("_total") == (described.kind == "counter")
    assert described.kind != "histogram" or described.name.endswith(UNITS)
    assert set(described.labels) <= LABELS
    assert described.about.endswith(".")
    assert described.processes


def test_a_process_tells_its_own_metrics() -> None:
    for process in ("web", "gateway", "worker", "notary"):
        text = metrics.text(process).decode()
        told = {name for name in re.findall(r"^# TYPE (\w+)", text, re.MULTILINE) if name.startswith("regie_")}
        assert told >= {each.name for each in metrics.DESCRIBED if process in each.processes}
        assert "process_resident_memory_bytes" in text


@given(st.text(min_size=1).map(str.strip).filter(bool), st.text())
def test_only_the_token_opens(token: str, other: str) -> None:
    assert metrics.may_read(f"Bearer {token}", token)
    assert metrics.may_read(f"Bearer {other}", token) == (other.strip() == token)
    assert not metrics.may_read(f"Basic {token}", token)
    assert not metrics.may_read(token, token) or token.lower().startswith("bearer ")
    assert not metrics.may_read(f"Bearer {other}", "")
    assert not metrics.may_read(None, token)
