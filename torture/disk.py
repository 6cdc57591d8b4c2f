"""A disk that can be filled: a file with a file system in it, where the database of a storm lies.

Making one needs root and a kernel that mounts files; where that is missing, storms leave a full disk out and say so.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SIZE_BYTES = 2 * 1024**3
"""Four times the write-ahead log's most (`max_wal_size`). The file is sparse: what is not used is not there."""
LEAST_PIECE_BYTES = 4096


class NoDisk(Exception):
    """There can be none here; the message says why."""


@dataclass(frozen=True)
class SmallDisk:
    """A mounted one.

    Attributes:
        folder: Where it is mounted.
    """

    folder: Path

    @property
    def ballast(self) -> Path:
        """The file that fills it."""
        return self.folder / "ballast"

    @property
    def free_bytes(self) -> int:
        """What is left for others."""
        return shutil.disk_usage(self.folder).free

    def fill(self) -> None:
        """Take everything that is left."""
        with self.ballast.open("ab") as file:
            piece = self.free_bytes
            while piece >= LEAST_PIECE_BYTES:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), piece)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    piece //= 2

    def clear(self) -> None:
        """Give back what was taken."""
        self.ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, image: Path) -> Iterator[SmallDisk]:
    """A disk at an empty folder for as long as the block lasts.

    Args:
        folder: Made when it is missing.
        image: The file that holds it; made here.

    Raises:
        NoDisk: There can be none here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with image.open("xb") as file:
        file.truncate(SIZE_BYTES)
    # Root may not keep a share for itself: full is full.
    _run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1,nodiscard", str(image))
    _run("mount", "-o", "loop", str(image), str(folder))
    try:
        folder.chmod(0o755)
        yield SmallDisk(folder)
    finally:
        # Whoever still has a file open there keeps it until then.
        with contextlib.suppress(NoDisk):
            _run("umount", "--lazy", str(folder))


def _run(name: str, *arguments: str) -> None:
    # Debian keeps these programs where the PATH of many does not look.
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if program is None:
        raise NoDisk(f"{name} is not installed")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoDisk(f"{name}: {' '.join(done.stderr.split()) or done.returncode}")
