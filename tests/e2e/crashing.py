"""Killing processes of a running installation, for the crash tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from regie.cli.installation import Installation
from regie.cli.processes import Process
from regie.crashpoints import CrashPoint

from .conftest import Stage

GATEWAY = {
    CrashPoint.BEFORE_INTENT,
    CrashPoint.AFTER_INTENT,
    CrashPoint.AFTER_EFFECT,
    CrashPoint.BEFORE_RECEIPT,
    CrashPoint.AFTER_RECEIPT,
}


def victim_of(point: CrashPoint, domain: str = "identity") -> str:
    """The process that passes a crash point in a run of a domain."""
    if point is CrashPoint.IN_NOTARY:
        return "notary"
    return "gateway" if point in GATEWAY else f"worker-{domain}-1"


def process(stage: Stage, name: str) -> Process:
    return next(each for each in stage.services.supervisor.processes if each.name == name)


def kill(stage: Stage, name: str) -> None:
    """End a process as `kill -9` does; the database server with all its children."""
    if name == "database":
        server = Installation(stage.services.settings, lambda _: None).server()
        assert server is not None
        server.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        if pid := process(stage, name).pid:
            os.kill(pid, signal.SIGKILL)


def process_state(pid: int) -> str:
    """The letter of proc_pid_stat(5): T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


@contextlib.asynccontextmanager
async def armed(stage: Stage, name: str, point: str) -> AsyncIterator[Process]:
    """A process that dies when it passes a crash point, once."""
    victim = process(stage, name)
    starts = victim.starts
    victim.environment["crash_at"] = point
    kill(stage, name)
    while victim.starts == starts:  # noqa: ASYNC110  another process is what is waited for
        await asyncio.sleep(0.05)
    yield victim
