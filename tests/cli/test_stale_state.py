"""What a killed `regie up` leaves behind names a process id that by now may be anybody's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from regie.cli.installation import Installation
from regie.settings import Settings


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    settings = Settings(home=tmp_path, database_url="postgresql://127.0.0.1:1/none", workspace=None)
    return Installation(settings, lambda _: None)


def test_what_runs_here_is_told_while_it_holds_the_lock(installation: Installation) -> None:
    with installation.alone():
        assert installation.read_state() == {}
        installation.write_state(web="http://127.0.0.1:1")
        assert installation.read_state() == {"pid": str(os.getpid()), "web": "http://127.0.0.1:1"}

    assert installation.read_state() == {}


def test_what_was_left_behind_is_gone_as_soon_as_somebody_starts(installation: Installation) -> None:
    installation.settings.state_file.write_text(json.dumps({"pid": os.getpid()}))

    with installation.alone():
        assert installation.read_state() == {}


def test_down_does_not_end_a_stranger_with_the_same_process_id(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (tmp_path / "up.json").write_text(json.dumps({"pid": stranger.pid, "web": "http://127.0.0.1:1"}))
    try:
        down = subprocess.run(
            [Path(sys.executable).with_name("regie"), "down"],
            env={
                "PATH": os.defpath,
                "REGIE_HOME": str(tmp_path),
                "REGIE_DATABASE_URL": "postgresql://127.0.0.1:1/none",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert stranger.poll() is None
    finally:
        stranger.communicate(b"\n")

    assert (down.returncode, stranger.returncode) == (0, 0)
    assert "Nothing runs" in down.stdout
