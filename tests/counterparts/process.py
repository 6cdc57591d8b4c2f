"""Starting a server, waiting until it answers, and stopping it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

READY_S = 60.0
STOP_S = 10.0


def require(program: str, package: str) -> str:
    """The path of a program; without it the test is skipped, or fails on CI."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")  # noqa: TID251  tests may look
    if found is None:
        reason = f"there is no {program}: make counterparts, or on Debian: apt-get install {package}"
        if os.environ.get("CI"):  # noqa: TID251  tests may look
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of the loopback that nobody uses at the moment."""
    with closing(socket.socket(socket.AF_INET, kind)) as door:
        door.bind(("127.0.0.1", 0))
        port: int = door.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def running(
    arguments: Sequence[str],
    *,
    log: Path,
    is_ready: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process for as long as the block takes.

    Raises:
        AssertionError: It ends, or does not get ready; with the end of its log.
    """
    with log.open("ab") as out:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(environment or {})},
            user=user,
        )
    try:
        until_s = time.monotonic() + READY_S
        while not is_ready():
            said = f"{arguments[0]}: {log.read_text(errors='replace')[-2000:]}"
            assert process.poll() is None, f"it ended: {said}"
            assert time.monotonic() < until_s, f"it does not get ready: {said}"
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
