"""A disk that can be filled: nothing fits any more, and everything does again."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from torture.disk import NoDisk, small_disk

pytestmark = pytest.mark.slow


def test_a_full_disk_takes_nothing_until_it_is_cleared(tmp_path: Path) -> None:
    try:
        with small_disk(tmp_path / "at", tmp_path / "image") as disk:
            kept = disk.folder / "kept"
            kept.write_bytes(b"before")
            disk.fill()
            with pytest.raises(OSError, match="No space left") as refused, (disk.folder / "more").open("wb") as more:
                more.write(b"x" * 100_000)
            assert refused.value.errno == errno.ENOSPC
            disk.clear()
            (disk.folder / "more").write_bytes(b"x" * 100_000)
            assert kept.read_bytes() == b"before"
    except NoDisk as reason:
        pytest.skip(f"this machine mounts no files: {reason}")
    assert list((tmp_path / "at").iterdir()) == []
