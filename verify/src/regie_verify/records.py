"""What records say about each other: runs without gaps, second pairs of eyes, times that go forward."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from regie_verify.report import Report

LATE = timedelta(minutes=10)
"""A record may come that much later than others of its time: transactions end within two minutes."""
DECISIONS = ("approval:granted", "approval:refused")


@dataclass
class _Run:
    """One run as far as its records have been read."""

    n: int = 0
    head: str = ""
    closed: bool = False
    concerned: set[str] = field(default_factory=set)
    """Who asked for it."""
    ahead: dict[int, tuple[int, str, dict[str, Any]]] = field(default_factory=dict)
    """Records that came before the one they follow."""


class Records:
    """Reads records in their order.

    Args:
        report: Gets the faults.
        begins: Whether the first record read is the log's first: else runs may have begun before it.
        where: Tenant and domain that each record must name.
    """

    def __init__(self, report: Report, where: tuple[str, str], *, begins: bool) -> None:
        self._report = report
        self._begins = begins
        self._where = where
        self._runs: dict[str, _Run] = {}
        self._latest = datetime.min.replace(tzinfo=UTC)
        self.count = 0
        self.decisions = 0

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return len(self._runs)

    def read(self, at: int, raw: bytes, digest: str) -> None:
        """Read one record.

        Args:
            at: Its place in the log.
            digest: Its leaf hash in hexadecimal.
        """
        self.count += 1
        try:
            said = json.loads(raw)
            event, moment = said["event"], _moment(said["at"])
        except (ValueError, KeyError, TypeError, RecursionError):
            self._report.blame("records", f"record {at} is no record that can be read", at)
            return
        if (said.get("tenant", ""), said.get("domain", "")) != self._where:
            self._report.blame("records", f"record {at} is about another tenant or domain", at)
        if self._latest - moment > LATE:
            self._report.blame("times", f"record {at} says {said['at']}, and stands behind {self._latest}", at)
        self._latest = max(self._latest, moment)
        if run := said.get("run"):
            self._follow(str(run), at, digest, said)
        elif event in DECISIONS:
            self._eyes(at, said, set())

    def end(self) -> None:
        """Nothing follows: what still waits for the record before it waits for one that is missing."""
        for name, run in self._runs.items():
            if run.ahead:
                n, (at, _, _) = min(run.ahead.items())
                self._report.blame("runs", f"run {name}: entry {run.n + 1} is missing; entry {n} is record {at}", at)

    def _follow(self, name: str, at: int, digest: str, said: dict[str, Any]) -> None:
        n = said.get("run_seq")
        run = self._runs.get(name)
        if run is None:
            run = self._runs[name] = _Run()
            if isinstance(n, int) and n > 1 and not self._begins:
                run.n, run.head = n - 1, str(said.get("run_prev", ""))
        if not isinstance(n, int) or n <= run.n or n in run.ahead:
            self._report.blame("runs", f"run {name}: record {at} is entry {n} of it a second time", at)
            return
        run.ahead[n] = (at, digest, said)
        while next_one := run.ahead.pop(run.n + 1, None):
            self._link(name, run, *next_one)

    def _link(self, name: str, run: _Run, at: int, digest: str, said: dict[str, Any]) -> None:
        run.n += 1
        if said.get("run_prev", "") != run.head:
            self._report.blame("runs", f"run {name}: entry {run.n}, record {at}, does not follow the one before", at)
        if run.closed:
            self._report.blame("runs", f"run {name}: entry {run.n}, record {at}, stands behind its end", at)
        run.head = digest
        event = said["event"]
        if event == "run:closed":
            run.closed = True
            if said.get("count") != run.n:
                message = f"run {name}: ends as entry {run.n}, record {at}, and counts {said.get('count')}"
                self._report.blame("runs", message, at)
        elif event in ("trigger:accepted", "run:started"):
            if _name(said, "actor", "type") == "person":
                run.concerned.add(_name(said, "actor", "id"))
        elif event in DECISIONS:
            self._eyes(at, said, run.concerned)

    def _eyes(self, at: int, said: dict[str, Any], concerned: set[str]) -> None:
        self.decisions += 1
        approver, requester = _name(said, "approval", "approver"), _name(said, "approval", "requester")
        if not approver or _name(said, "actor", "id") != approver:
            self._report.blame("four eyes", f"record {at}: who decided is not who is named as the approver", at)
        if approver and (approver == requester or approver in concerned):
            self._report.blame("four eyes", f"record {at}: the approver is who asked for it", at)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment


def _name(said: dict[str, Any], outer: str, inner: str) -> str:
    """A name inside a record, as names are compared; empty when there is none."""
    found = said.get(outer)
    return str(found.get(inner, "")).casefold() if isinstance(found, dict) else ""
