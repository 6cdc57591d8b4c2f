"""`regie top`: one look for programs, one for people, and a live view that leaves the terminal as it was."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import termios
import time
from collections.abc import Callable

import pytest

from regie.cli.terminal import Terminal
from regie.cli.top import picture

from .stage import REGIE, Stage

pytestmark = pytest.mark.slow

END_SCREEN = b"\x1b[?1049l"
PATIENCE_S = 60.0


@pytest.mark.usefixtures("answering")
async def test_one_look_for_programs(stage: Stage) -> None:
    await stage.start()
    done = await stage.regie("top", "--once", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert [(each["domain"], each["queued"], each["ended"]) for each in shown["domains"]] == [("identity", 1, {})]
    assert shown["workers"] == []


def press_q(process: subprocess.Popen[bytes], terminal: int) -> None:
    os.write(terminal, b"q")


def interrupt(process: subprocess.Popen[bytes], terminal: int) -> None:
    process.send_signal(signal.SIGINT)


@pytest.mark.parametrize("leave", [press_q, interrupt])
@pytest.mark.usefixtures("answering")
async def test_it_leaves_the_terminal_as_it_was(
    stage: Stage, leave: Callable[[subprocess.Popen[bytes], int], None]
) -> None:
    await stage.start()
    settings = {"HOME": str(stage.home), "PORT": "0", "DATABASE_URL": stage.installation.settings.database_url}
    environment = {"PATH": os.defpath, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(  # noqa: ASYNC220  it starts at once
        [REGIE, "top"],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**environment, **{f"REGIE_{name}": value for name, value in settings.items()}},
        start_new_session=True,
    )
    try:
        written = await asyncio.to_thread(read_until, ours, b"identity")
        leave(process, ours)
        written += await asyncio.to_thread(read_until, ours, END_SCREEN)
        assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0
        assert END_SCREEN in written
        assert termios.tcgetattr(theirs) == before
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()
        os.close(ours)
        os.close(theirs)


def read_until(terminal: int, wanted: bytes) -> bytes:
    """What comes from a terminal until something has."""
    written = b""
    deadline_s = time.monotonic() + PATIENCE_S
    while wanted not in written:
        assert time.monotonic() < deadline_s, written
        written += os.read(terminal, 65_536)
    return written


def test_names_from_outside_steer_no_terminal() -> None:
    times = {"p50_s": 0.01, "p95_s": 7200.0}
    sla = {"on_time": 0, "late": 2, "going_on_time": 0, "going_at_risk": 1, "going_late": 0}
    domain = {
        "domain": "hr",
        "queued": 1,
        "running": 2,
        "waiting": 3,
        "oldest_wait_s": 90.0,
        "ended": {"done": 3, "failed": 1},
        "success": 0.75,
        "per_hour": 4.0,
        "took": times,
        "step_queued": times,
        "sla": sla,
    }
    at = "2026-01-01T00:00:00Z"
    worker = {"name": "host\x1b[2J[bold]", "domains": ["hr"], "since": at, "beat_at": at}
    console = Terminal(record=True, width=100, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123  closed with it
    with console.file:
        console.print(picture({"at": at, "window_s": 3600.0, "domains": [domain], "workers": [worker]}, "Away."))
    text = console.export_text()
    assert "\x1b" not in text
    assert "[bold]" in text
    for part in ("75.0%", "10 ms / 2.0 h", "1 at risk", "2 late", "1.5 min", "Away."):
        assert part in text
