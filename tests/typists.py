"""Typists of the tests: each has loaded one tree of `regie`, and commands typed through it need not."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

TYPIST = Path(__file__).with_name("typist.py")
LOADED_WITHIN_S = 150.0
POLL_S = 0.05


class Typist:
    """One typist, who begins when first needed.

    Args:
        folder: Where the socket lies; the typist is there, too.
        environment: Says which tree.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._serving: subprocess.Popen[bytes] | None = None

    def words(self) -> list[str]:
        """What to type for `regie`."""
        address = self._folder / "typist.sock"
        if self._serving is None:
            self._serving = subprocess.Popen(
                (sys.executable, str(TYPIST), "serve", str(address)),
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # Away from the terminal that the tests may be started on: a command would ask for passwords there.
                start_new_session=True,
            )
        until = time.monotonic() + LOADED_WITHIN_S
        while not address.exists():
            assert self._serving.poll() is None
            assert time.monotonic() < until
            time.sleep(POLL_S)
        return [sys.executable, "-ISE", str(TYPIST), "type", str(address)]

    def close(self) -> None:
        """End the typist, if there is one."""
        if self._serving is not None:
            self._serving.kill()
            self._serving.wait()
