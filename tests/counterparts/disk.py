"""A small disk of its own, to be full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def disk(folder: Path, options: str) -> Iterator[None]:
    """A disk in memory at a folder, such as with `size=64k`; only root may mount one."""
    made = subprocess.run(
        ("/usr/bin/mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)),
        capture_output=True,
        text=True,
        check=False,
    )
    # A container may forbid it even to root: nothing that a set-up of ours installs would change that.
    if made.returncode:
        pytest.skip(f"no disk of its own can be mounted here: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(("/usr/bin/umount", "--lazy", str(folder)), check=True)
