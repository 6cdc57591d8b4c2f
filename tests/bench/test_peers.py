"""Measuring other engines beside ours: what is asked of them, and that one that does not start spoils nothing."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench.peers.__main__ import PACKAGES, measure, show, version
from bench.peers.answering import AT_ONCE, measured
from bench.peers.turn import PEERS, PeerFailed, turn
from bench.stand import standing


class Counting:
    """A peer that takes a moment for each run, and counts those under way."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.under_way = 0
        self.most = 0

    async def run_one(self, number: int) -> float:
        self.begun.append(number)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.002)
        self.under_way -= 1
        return 0.001


async def test_alone_is_one_after_the_other_and_loaded_is_so_many_at_once() -> None:
    peer, numbers = Counting(), iter(range(1000))
    alone = await measured(peer, {"single": 0.05}, numbers)
    assert peer.most == 1
    assert len(alone["first_step_s"]) == len(peer.begun) >= 2
    crowd = await measured(peer, {"loaded": 150}, numbers)
    assert peer.most == AT_ONCE
    assert len(set(peer.begun)) == len(alone["first_step_s"]) + 150
    assert crowd["runs_per_s"] > alone["runs_per_s"]


def test_every_peer_has_a_version_in_the_lock_file() -> None:
    assert PACKAGES.keys() == PEERS.keys()
    assert all(version(name).count(",") == len(PACKAGES[name]) - 1 and version(name) for name in PEERS)


@pytest.mark.slow
async def test_a_peer_that_does_not_start_is_reported_and_the_others_are_measured() -> None:
    given = argparse.Namespace(
        rounds=2, seconds=0.2, runs=5, share=0.1, peers=["dbos", "prefect"], python=Path(sys.executable)
    )
    said: list[str] = []
    with standing() as made:
        figures = await measure(made, given, said.append)
        with pytest.raises(PeerFailed, match="make bench-peers"):
            async with turn("dbos", made, Path("/nonexistent/python")):
                pass
    assert list(figures["engines"]) == ["regie", "regie_apart"]
    assert len(figures["engines"]["regie"]["loaded"]) == 2
    assert {name: "No module named" in why for name, why in figures["missing"].items()} == {
        "dbos": True,
        "prefect": True,
    }
    assert sum(line.startswith("Round") for line in said) == 6
    shown = StringIO()
    show(json.loads(json.dumps(figures)), Console(file=shown, width=120))
    assert "not measured" in shown.getvalue()
