"""A worker with a clock that can be turned: its wall clock jumps, and nothing else does."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from regie.settings import child_environment
from torture.skewed import AS_IT_IS, library, set_clock

ROOT = Path(__file__).parent.parent.parent
TELLING = """\
import asyncio, sys, time

async def tell():
    began = time.monotonic()
    print(time.time(), flush=True)
    sys.stdin.readline()
    while time.time() < float(sys.argv[1]) and time.monotonic() < began + 20:
        await asyncio.sleep(0.05)
    print(time.time(), time.monotonic() - began)

asyncio.run(tell())
"""
DAY_S = 86_400


def test_without_the_library_there_is_none(tmp_path: Path) -> None:
    assert library(tmp_path) is None
    there = tmp_path / "usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
    there.parent.mkdir(parents=True)
    there.touch()
    assert library(tmp_path) == there


@pytest.mark.slow
def test_the_wall_clock_jumps_in_a_process_that_runs_and_its_monotonic_clock_does_not(tmp_path: Path) -> None:
    found = library()
    if found is None:
        pytest.skip("libfaketime is not installed: make clock")
    (tmp_path / "telling.py").write_text(TELLING, encoding="utf-8")
    set_clock(tmp_path / "clock", AS_IT_IS)
    far_s = time.clock_gettime(time.CLOCK_REALTIME) + 300 * DAY_S
    with subprocess.Popen(
        [sys.executable, "-m", "torture.skewed", str(found), str(tmp_path / "clock"), "telling", str(far_s)],
        env={**child_environment(), "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        before_s = float(process.stdout.readline())
        assert abs(before_s - time.clock_gettime(time.CLOCK_REALTIME)) < DAY_S
        set_clock(tmp_path / "clock", "+400d")
        process.stdin.write("\n")
        process.stdin.flush()
        after_s, passed_s = map(float, process.stdout.readline().split())
    assert 399 * DAY_S < after_s - before_s < 401 * DAY_S
    assert passed_s < 20
