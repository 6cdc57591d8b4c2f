"""Secrets that slip into what a process writes: through its log, a library's, an exception nobody caught, in parts."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from regie import logs
from tests.telemetry.test_logs import ENVIRONMENT

CANARY = "canary-Zß7'\"x9Q2-f31c0a8e"
PROGRAM = f"""
import logging, subprocess, sys, warnings
import structlog, httpx2
from regie import logs
logs.configure()
canary = {CANARY!r}
logs.hide(canary)
log = structlog.get_logger("x")
log.info("sent", body={{"password": canary}}, url=f"https://x.example/?key={{canary}}")
logging.getLogger("library").warning("could not use %r", canary.encode())
try:
    httpx2.get(f"nowhere://{{canary}}")
except Exception as error:
    log.info("told", told=str(error), shown=repr(error))
try:
    subprocess.run(["/nonexistent", canary])
except OSError as error:
    log.info("told", told=str(error), arguments=repr(error))
for piece in (canary[:10], canary[10:], "\\n"):
    sys.stderr.write(piece)
    sys.stderr.flush()
warnings.warn(canary)
raise ValueError(canary)
"""


def test_nothing_of_a_secret_leaves_a_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, timeout=60, env=ENVIRONMENT, check=False
    )
    written = done.stderr.decode()
    assert done.returncode == 1
    assert written.count("[secret]") >= 8, written
    assert "ValueError" in written
    for fragment in (CANARY[at : at + 12] for at in range(len(CANARY) - 11)):
        assert fragment not in written, written
    assert "x9Q2-f31c0a8e" not in written


class Stream(io.StringIO):
    """A process's standard error."""


def test_a_line_is_written_once_it_is_whole() -> None:
    logs.hide("correct horse battery")
    stream = Stream()
    sink = logs.Sink(stream)
    sink.write("a correct ho")
    sink.flush()
    assert stream.getvalue() == ""
    sink.write("rse battery\nb")
    assert stream.getvalue() == "a [secret]\n"
    sink.close()
    assert stream.getvalue() == "a [secret]\nb"


def test_a_line_without_an_end_is_not_held_for_ever() -> None:
    stream = Stream()
    sink = logs.Sink(stream)
    sink.write("x" * (logs.LONGEST_LINE + 1))
    assert len(stream.getvalue()) == logs.LONGEST_LINE + 1


@pytest.mark.parametrize("text", ["", "ż\udcff\ud800", "\x00"])
def test_any_text_can_be_written(text: str) -> None:
    stream = Stream()
    sink = logs.Sink(stream)
    sink.write(text + "\n")
    assert stream.getvalue().endswith("\n")


def test_a_text_on_its_way_out_is_scrubbed_as_well() -> None:
    logs.hide("correct horse battery")
    assert logs.hidden('{"detail": "correct horse battery"}') == '{"detail": "[secret]"}'
