"""Lines of a log: JSON where programs read them, text on a terminal, and the run they are about on each."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import structlog

import regie
from regie import logs

PROGRAM = """
import structlog
from regie import logs
logs.configure()
log = structlog.get_logger("x")
with logs.about(run="r-1", tenant="acme", domain="hr", corr="c-1"):
    try:
        person = "zoe.canary@example.com"
        raise ValueError(person)
    except ValueError:
        log.exception("work:broke", place="close")
    with logs.about(corr="c-2", connection=""):
        log.info("inner")
log.info("after")
try:
    raise ExceptionGroup("of several", [KeyError(person), OSError(person)])
except ExceptionGroup:
    log.exception("group:broke")
"""
ENVIRONMENT = {"PATH": os.defpath, "PYTHONPATH": str(Path(regie.__file__).parents[1])}


def test_lines_are_json_and_name_the_run() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60, env=ENVIRONMENT
    )
    broke, inner, after, group = (json.loads(line) for line in done.stderr.splitlines())
    names = {"run": "r-1", "tenant": "acme", "domain": "hr", "corr": "c-1"}
    assert names.items() <= broke.items()
    assert broke["exception"][0]["kind"] == "ValueError"
    assert inner["corr"] == "c-2"
    assert "connection" not in inner
    assert not names.keys() & after.keys()
    assert [each["kind"] for each in group["exception"]] == ["ExceptionGroup", "KeyError", "OSError"]
    assert "canary" not in done.stderr


def test_on_a_terminal_lines_are_for_people() -> None:
    ours, theirs = pty.openpty()
    try:
        subprocess.run([sys.executable, "-c", PROGRAM], stderr=theirs, check=True, timeout=60, env=ENVIRONMENT)
        shown = os.read(ours, 65_536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "{" not in shown
    assert "work:broke" in shown
    assert "ValueError" in shown
    assert "r-1" in shown
    assert "canary" not in shown


def test_what_was_named_before_is_named_again() -> None:
    with logs.about(run="outer"):
        with logs.about():
            logs.bind(run="inner", tenant="acme")
        with logs.about(domain="hr"):
            assert structlog.contextvars.get_contextvars() == {"run": "outer", "domain": "hr"}
    assert structlog.contextvars.get_contextvars() == {}
