"""Processes of an installation without the time it takes to load them: half of what a start costs, and tests start some
hundred.

For each program one process has it imported and forks for each start. What is forked is a process like any other: it
has its own memory, id, environment and streams, and is killed and stopped like any other. Installations that `regie`
starts, such as those of tests/docs and the demo, are started as they are everywhere.

`nursery.py ADDRESS MODULE` is such a process. An order is one connection: environment and arguments come with the three
streams, and it answers with the process id and, at the end, with the exit code; none if the process was killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

STREAMS = 3
"""Standard input, output and error."""
MOST_BYTES = 1_000_000
LOADED_WITHIN_S = 60.0
POLL_S = 0.02
PR_SET_PDEATHSIG = 1
"""prctl(2)."""


def serve(address: str, module: str) -> None:
    """Fork for each order until killed."""
    _end_with_parent()
    program = importlib.import_module(f"{module}.__main__")  # noqa: TID251  the product is not what imports here
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{address}.new")
        listening.listen()
        # Nobody finds it before it listens.
        Path(f"{address}.new").rename(address)
        # The processes belong to whoever ordered them; nobody waits for them here.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            order, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _be(order, module, program.main)
            order.close()


def _end_with_parent() -> None:
    """As a supervisor has it for what it starts."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _be(order: socket.socket, module: str, main: Callable[[], None]) -> None:
    """Become the process that was ordered; never returns."""
    content, streams, _, _ = socket.recv_fds(order, MOST_BYTES, STREAMS)
    while more := order.recv(MOST_BYTES):
        content += more
    wanted = json.loads(content)
    os.setsid()
    _end_with_parent()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()  # noqa: TID251  it is a process of somebody else now
    os.environ.update(wanted["environment"])  # noqa: TID251  same
    sys.argv = [module, *wanted["arguments"]]
    order.sendall(f"{os.getpid()}\n".encode())
    code: object = 1
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001  whatever it is, Python would print it and exit with 1
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        with suppress(OSError):
            order.sendall(f"{code if isinstance(code, int) else 0}\n".encode())
        os._exit(code if isinstance(code, int) else 0)


class Forked:
    """A process that was forked, with what a supervisor uses of `asyncio.subprocess.Process`."""

    def __init__(self, pid: int, stdout: asyncio.StreamReader, ended: Awaitable[int]) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._ending = asyncio.create_task(self._see(ended))

    async def wait(self) -> int:
        return await asyncio.shield(self._ending)

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    async def _see(self, ended: Awaitable[int]) -> int:
        self.returncode = await ended
        return self.returncode


class Nursery:
    """Starts programs by forking; each is loaded when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: dict[str, subprocess.Popen[bytes]] = {}

    async def start(
        self,
        _python: str,
        _option: str,
        module: str,
        *arguments: str,
        env: Mapping[str, str],
        stderr: IO[bytes],
        **_: Any,
    ) -> Forked:
        """As `asyncio.create_subprocess_exec` is called for `python -m MODULE ARGUMENT...`."""
        address = await self._load(module)
        ours, theirs = socket.socketpair()
        nothing = os.open(os.devnull, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as order:
            order.connect(address)
            wanted = json.dumps({"environment": dict(env), "arguments": arguments})
            socket.send_fds(order, [wanted.encode()], [nothing, theirs.fileno(), stderr.fileno()])
            order.shutdown(socket.SHUT_WR)
            answers, closing = await asyncio.open_unix_connection(sock=order.dup())
        os.close(nothing)
        theirs.close()
        pid = int(await answers.readline())
        stdout, silent = await asyncio.open_unix_connection(sock=ours)

        async def ended() -> int:
            said = b""
            with suppress(ConnectionError):
                said = await answers.readline()
            closing.close()
            silent.close()
            return int(said) if said else -signal.SIGKILL

        return Forked(pid, stdout, ended())

    def close(self) -> None:
        """End what forks; what it has forked ends with it."""
        for process in self._loaded.values():
            process.kill()
            process.wait()

    async def _load(self, module: str) -> str:
        address = self._folder / module
        if module not in self._loaded:
            program = (sys.executable, "-P", __file__, str(address), module)
            self._loaded[module] = subprocess.Popen(program, stdin=subprocess.DEVNULL)  # noqa: ASYNC220  it starts at once
        async with asyncio.timeout(LOADED_WITHIN_S):
            while not address.exists():
                assert self._loaded[module].poll() is None, f"{module} cannot be loaded"
                await asyncio.sleep(POLL_S)
        return str(address)


@contextmanager
def forking() -> Iterator[SimpleNamespace]:
    """An `asyncio` for `regie.cli.processes` whose processes are forked."""
    with tempfile.TemporaryDirectory(prefix="regie-nursery-") as folder:
        nursery = Nursery(Path(folder))
        try:
            yield SimpleNamespace(**{**vars(asyncio), "create_subprocess_exec": nursery.start})
        finally:
            nursery.close()


if __name__ == "__main__":
    serve(*sys.argv[1:])
