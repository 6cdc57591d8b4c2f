"""One turn of one peer: start it in its own environment, ask it, stop it with everything it started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from psycopg.conninfo import conninfo_to_dict

from bench.stand import Stand
from regie.settings import child_environment

ROOT = Path(__file__).parent.parent.parent
PYTHON = ROOT / ".venv-peers" / "bin" / "python"
READY_WITHIN_S = 180.0
ANSWER_WITHIN_S = 300.0
STOP_WITHIN_S = 20.0
LAST_LINES = 6


class PeerFailed(Exception):
    """A peer did not start or did not answer; the message ends with what it said last."""


@dataclass(frozen=True)
class Ground:
    """What a peer is given."""

    stand: Stand
    folder: Path
    port: int

    def database(self, scheme: str) -> str:
        """Address of an empty database of its own on our server, over its socket."""
        parts = conninfo_to_dict(self.stand.make_database())
        who = f"{parts['user']}:{quote(str(parts['password']), safe='')}"
        return f"{scheme}://{who}@/{parts['dbname']}?{urlencode({'host': parts['host'], 'port': parts['port']})}"


def _dbos(ground: Ground) -> tuple[list[str], dict[str, str]]:
    return [ground.database("postgresql")], {}


def _temporal(ground: Ground) -> tuple[list[str], dict[str, str]]:
    return [str(ground.folder), str(ground.port)], {}


def _prefect(ground: Ground) -> tuple[list[str], dict[str, str]]:
    return [str(ground.port)], {
        "PREFECT_API_URL": f"http://127.0.0.1:{ground.port}/api",
        "PREFECT_API_DATABASE_CONNECTION_URL": ground.database("postgresql+asyncpg"),
        "PREFECT_HOME": str(ground.folder),
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


@dataclass(frozen=True)
class Named:
    """A peer that can be asked.

    Attributes:
        kept: Where it keeps what must survive, for the report.
        runs: How many runs it is given while loaded: some seconds' worth.
    """

    kept: str
    runs: int
    given: Callable[[Ground], tuple[list[str], dict[str, str]]]


PEERS: Mapping[str, Named] = {
    "dbos": Named("the same PostgreSQL", 150, _dbos),
    "temporal": Named("SQLite file of its development server", 50, _temporal),
    "prefect": Named("the same PostgreSQL, results in files", 30, _prefect),
}


@dataclass
class Turn:
    """A peer that runs."""

    process: asyncio.subprocess.Process
    log: Path

    async def ask(self, question: Mapping[str, float], within_s: float = ANSWER_WITHIN_S) -> dict[str, Any]:
        """Put a question and wait for the figures.

        Raises:
            PeerFailed: No answer came.
        """
        if self.process.stdin is not None:
            with contextlib.suppress(ConnectionError):
                self.process.stdin.write(json.dumps(dict(question)).encode() + b"\n")
                await self.process.stdin.drain()
        return await self.heard(within_s)

    async def heard(self, within_s: float) -> dict[str, Any]:
        """The next line it answers with.

        Raises:
            PeerFailed: None came.
        """
        line = b""
        if self.process.stdout is not None:
            with contextlib.suppress(TimeoutError):
                line = await asyncio.wait_for(self.process.stdout.readline(), within_s)
        if not line:
            words = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
            raise PeerFailed("\n".join(words) or f"It said nothing within {within_s:g} s.")
        found: dict[str, Any] = json.loads(line)
        return found


@asynccontextmanager
async def turn(name: str, stand: Stand, python: Path = PYTHON) -> AsyncIterator[Turn]:
    """A peer for as long as the block lasts, fresh each time.

    Args:
        python: The interpreter of the environment that the peers are installed in.

    Raises:
        PeerFailed: It does not start.
    """
    if not python.exists():  # noqa: ASYNC240  nothing else runs meanwhile
        raise PeerFailed(f"There is no {python}; `make bench-peers` makes it.")
    with tempfile.TemporaryDirectory(prefix="regie-peer-") as made:
        folder = Path(made)
        arguments, environment = PEERS[name].given(Ground(stand, folder, _free_port()))
        with (folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                python,
                "-m",
                f"bench.peers.on_{name}",
                *arguments,
                cwd=ROOT,
                env={**child_environment(), **environment},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=2**24,
                # Its servers are in its group, so that nothing is left when it has to be ended by force.
                start_new_session=True,
            )
        try:
            made_turn = Turn(process, folder / "log")
            await made_turn.heard(READY_WITHIN_S)
            yield made_turn
        finally:
            await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """No more questions is its sign to end; whatever of its group is left then is ended."""
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
