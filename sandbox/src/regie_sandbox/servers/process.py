"""Starting a server, waiting until it answers, and stopping it."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

READY_S = 60.0
STOP_S = 10.0
_PR_SET_PDEATHSIG = 1


class NotInstalled(Exception):
    """A program is not on this machine."""


class DidNotStart(Exception):
    """A server ended, or kept silent."""


def require(program: str, package: str) -> str:
    """The path of a program.

    Args:
        package: Where Debian has it.

    Raises:
        NotInstalled: It is not there.
    """
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")  # noqa: TID251  programs are looked for as a shell does
    if found is None:
        raise NotInstalled(f"there is no {program}: make counterparts, or on Debian: apt-get install {package}")
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


def _end_with_parent() -> None:
    """Ask the kernel to end this process when the one that started it is gone (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


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
        DidNotStart: It ends, or does not get ready; with the end of its log.
    """
    with log.open("ab") as out:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(environment or {})},
            user=user,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  there is one thread yet, or one that only waits
        )
    try:
        until_s = time.monotonic() + READY_S
        while not is_ready():
            said = f"{arguments[0]}: {log.read_text(errors='replace')[-2000:]}"
            if process.poll() is not None:
                raise DidNotStart(f"it ended: {said}")
            if time.monotonic() > until_s:
                raise DidNotStart(f"it does not get ready: {said}")
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
