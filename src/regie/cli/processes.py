"""The processes of one machine: start them, wait until each says it is ready, start again what dies, stop them all."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from regie.core.errors import RegieError, Unavailable
from regie.ending import ended
from regie.settings import child_environment, gateway_environment

READY_WITHIN_S = 60.0
"""Longest a process may take until it says it is ready."""
STOP_WITHIN_S = 15.0
"""Longest a process may take to finish what it has in hand."""
RESTART_AFTER_S = 0.3
"""Pause before a process that died is started again; doubles while it keeps dying at once."""
LONGEST_RESTART_S = 10.0
LOOK_EVERY_S = 1.0
"""Between two looks at what is kept running without being a child."""

_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """Ask the kernel to end this process when the one that started it is gone (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Process:
    """One process of ours.

    Attributes:
        name: Also the name of its log file.
        module: What `python -m` runs.
        environment: `REGIE_` settings it gets.
        with_secrets: Whether it gets variables that hold secrets, too.
        ready: What it said when it became ready; empty until then.
        starts: How often it has become ready.
    """

    name: str
    module: str
    logs: Path
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    with_secrets: bool = False
    ready: dict[str, str] = field(default_factory=dict)
    starts: int = 0
    child: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Process id; 0 when it does not run."""
        return self.child.pid if self.child and self.child.returncode is None else 0

    async def start(self) -> None:
        """Start it and wait for its line on standard output.

        Raises:
            Unavailable: It ended or kept silent instead.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        self.ready = {}
        surroundings = gateway_environment if self.with_secrets else child_environment
        with self.log_file.open("ab") as log:
            self.child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self.module,
                *self.arguments,
                env=surroundings(**self.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        # A crash point is for one life: the process that comes back has to get further.
        self.environment.pop("crash_at", None)
        line = b""
        if self.child.stdout is not None:
            with contextlib.suppress(TimeoutError):
                line = await asyncio.wait_for(self.child.stdout.readline(), READY_WITHIN_S)
        if not line:
            await self.stop()
            raise Unavailable(f"The {self.name} process did not start.", hint=self.last_words())
        self.starts += 1
        self.ready = {name: str(value) for name, value in json.loads(line).items()}

    async def stop(self) -> None:
        """End it gracefully, or by force when it does not end in time."""
        if self.child is None or self.child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.child.terminate()
        try:
            await asyncio.wait_for(self.child.wait(), STOP_WITHIN_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.child.kill()
            await self.child.wait()

    @property
    def log_file(self) -> Path:
        """Where its messages go."""
        return self.logs / f"{self.name}.log"

    def last_words(self) -> str:
        """The end of its log, to show why it does not start."""
        if not self.log_file.exists():
            return f"It left no log in {self.log_file}."
        lines = self.log_file.read_text(errors="replace").splitlines()[-8:]
        return f"The end of {self.log_file}:\n" + "\n".join(lines)


@dataclass
class Supervisor:
    """Keeps processes running until told to stop."""

    say: Callable[[str], None]
    processes: list[Process] = field(default_factory=list)
    watchers: list[asyncio.Task[None]] = field(default_factory=list)

    async def add(self, process: Process) -> Process:
        """Start a process and keep it running."""
        await process.start()
        self.processes.append(process)
        self.watchers.append(asyncio.create_task(self._watch(process)))
        return process

    async def add_together(self, *processes: Process) -> None:
        """Start several at once; when one does not start, the others have by then been started and can be stopped."""
        ended = await asyncio.gather(*(self.add(process) for process in processes), return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException):
                raise error

    def keep(self, is_running: Callable[[], bool], start: Callable[[], object]) -> None:
        """Look every second whether something that is no process of ours still runs, and start it again if not."""
        self.watchers.append(asyncio.create_task(self._keep(is_running, start)))

    async def stop(self) -> None:
        """Stop all, the last started first."""
        await ended(self.watchers)
        for process in reversed(self.processes):
            await process.stop()

    async def _keep(self, is_running: Callable[[], bool], start: Callable[[], object]) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                if not await asyncio.to_thread(is_running):
                    await asyncio.to_thread(start)
            except RegieError as error:
                self.say(str(error))

    async def _watch(self, process: Process) -> None:
        pause_s = RESTART_AFTER_S
        while True:
            if process.child is not None:
                code = await process.child.wait()
                self.say(f"The {process.name} process ended ({code}); starting it again.")
            await asyncio.sleep(pause_s)
            try:
                # A process keeps its port over a restart, so that others find it again.
                await process.start()
                pause_s = RESTART_AFTER_S
            except Unavailable as error:
                self.say(str(error))
                pause_s = min(pause_s * 2, LONGEST_RESTART_S)
