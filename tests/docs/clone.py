"""A clone as a reader has it: a copy of what is here, in which commands are typed one after another."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2

from regie.settings import child_environment
from regie.store.postgres_server import PostgresServer

from ..typists import Typist  # noqa: TID252  tests are no installed package, so there is no absolute name
from .reading import ROOT, Command

PATIENCE_S = 150.0
"""Long, since a start on a machine that is busy with other tests takes ten times as long as on an idle one."""
POLL_S = 0.1
STANDING_ADDRESS = "http://127.0.0.1:8321"
"""Where the pages say that Regie answers. Here it takes a free port, since tests run side by side."""
TYPED = "a value that somebody types\n"
REGIE = ".venv/bin/regie "
READY_SETUP = ("make", "make READY= SCRIPTS=")
"""The environment is that of the tests: `make` must not set it up anew for the copy."""


class Clone:
    """One copy of the repository with an installation in its `.regie`."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="regie-docs-"))
        # Under root the database server runs under another account, which must be able to enter.
        self.root.chmod(0o755)
        for name in ("src", "sandbox", "tests", "docs"):
            shutil.copytree(ROOT / name, self.root / name)
        for name in ("Makefile", "pyproject.toml", ".importlinter", "README.md"):
            shutil.copy2(ROOT / name, self.root / name)
        (self.root / ".venv").symlink_to(ROOT / ".venv")
        self._up: subprocess.Popen[bytes] | None = None
        self._typist = Typist(self.root, self._environment())

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def run(self, command: Command, *, by_typist: bool = False) -> None:
        """Type a command and compare what comes of it with the page.

        Args:
            by_typist: `regie` is not started but forked, see `tests/typist.py`.
        """
        if command.text.partition("#")[0].split()[1:3] == ["up", "--demo"]:
            self.start()
            return
        text = self._filled_in(command.text)
        typed = text.replace(REGIE, f"{shlex.join(self._typist.words())} ") if by_typist and REGIE in text else text
        done = subprocess.run(
            ["/bin/bash", "-c", typed],
            cwd=self.root,
            env=self._environment(),
            input=TYPED,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == command.exit_code, f"line {command.line}: {text}\n{said}"
        for line in command.shows:
            for part in line.split("..."):
                assert part.strip() in said, f"line {command.line}: {text}\nthe page shows: {line}\n{said}"
        if self._up is not None and not self._state():
            self._up.wait(PATIENCE_S)
            self._up = None

    def start(self) -> None:
        """Start the installation, as in a terminal of its own; nothing if it runs."""
        if self._up is not None:
            return
        with (self.root / "up.log").open("wb") as log:
            self._up = subprocess.Popen(
                [".venv/bin/regie", "up", "--demo"], cwd=self.root, env=self._environment(), stdout=log, stderr=log
            )
        try:
            self._until("Regie is up", lambda: bool(self._state()))
        except AssertionError:
            self.stop()
            raise

    def load(self) -> None:
        """Load the workspace as it is, if the installation runs; else the next start does."""
        if self._up is not None:
            self.run(Command(0, ".venv/bin/regie release load"), by_typist=True)

    def stop(self) -> None:
        """Stop the installation, if it runs."""
        if self._up is not None:
            if self._up.poll() is None:
                self._up.terminate()
            self._up.wait(PATIENCE_S)
            self._up = None

    def close(self) -> None:
        """Take everything away."""
        self.stop()
        self._typist.close()
        PostgresServer(self.root / ".regie" / "postgres").remove()
        shutil.rmtree(self.root)

    def ask(self, path: str) -> Any:
        """What the API answers to the operator."""
        token = (self.root / ".regie" / "keys" / "operator.token").read_text()
        answer = httpx2.get(
            self._state()["web"] + path, headers={"Authorization": f"Bearer {token}"}, timeout=40, trust_env=False
        )
        return answer.raise_for_status().json()

    def _filled_in(self, text: str) -> str:
        """The command with an id where the page has a word for one: of the newest run, of the open approval."""
        if " RUN" in text:
            text = text.replace(" RUN", f" {self._newest_run()}")
        if " APPROVAL" in text:
            [approval] = self.ask("/v1/approvals?status=open")["items"]
            text = text.replace(" APPROVAL", f" {approval['id']}")
        if STANDING_ADDRESS in text:
            text = text.replace(STANDING_ADDRESS, self._state()["web"])
        if text.startswith("make "):
            text = text.replace(*READY_SETUP, 1)
        return text

    def _newest_run(self) -> str:
        """Its id, once it is over or waits: a reader is not faster than that.

        README.md makes the first one, so pages that speak of a run are tried with it: `-k "README or ..."`.
        """
        found: list[dict[str, Any]] = []

        def is_settled() -> bool:
            found[:] = self.ask("/v1/runs?limit=1")["items"]
            return bool(found) and found[0]["status"] != "running"

        self._until("the newest run is over or waits (README.md makes the first one)", is_settled)
        return str(found[0]["id"])

    def _until(self, what: str, holds: Any) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            is_over = time.monotonic() > deadline_s or self._up is None or self._up.poll() is not None
            assert not is_over, f"never so: {what}\n{(self.root / 'up.log').read_text()}"
            time.sleep(POLL_S)

    def _state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads((self.root / ".regie" / "up.json").read_text())
        except FileNotFoundError:
            return {}
        return state

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in child_environment().items() if not name.startswith("REGIE_")}
        source = f"{self.root / 'src'}:{self.root / 'sandbox' / 'src'}"
        return {**inherited, "PYTHONPATH": source, "REGIE_PORT": "0", "NO_COLOR": "1"}
