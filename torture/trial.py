"""One storm from the first process to the report."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from torture.customers import Customers
from torture.gathering import gather
from torture.invariants import violations
from torture.place import Place, standing
from torture.report import Report
from torture.schedule import Disturbance
from torture.storm import Storm
from torture.takeover import Takeovers

IN_FLIGHT = 24
QUIET_WITHIN_S = 240.0
"""Longest that everything may take to end once nothing disturbs it; the longest pause between tries is a minute."""
LOOK_S = 0.5
SAY_EVERY_S = 30.0


async def trial(
    seed: int,
    seconds: float,
    schedule: list[Disturbance],
    say: Callable[[str], None],
    *,
    in_flight: int = IN_FLIGHT,
    keep_logs: Path | None = None,
    is_storm: bool = True,
) -> Report:
    """Torture a fresh installation and examine what is left.

    Args:
        seed: Also decides who asks for what and how they answer.
        seconds: Of the storm; starting before it and the calm after it come on top.
        schedule: What goes wrong.
        in_flight: How many requests are under way at any time.
        keep_logs: Folder to copy the processes' logs to.
        is_storm: See `Report`.
    """
    say("Starting an installation")
    async with standing(seed) as place:
        for kind, reason in place.left_out.items():
            say(f"Left out: {kind}: {reason}")
        customers = Customers(place, random.Random(seed), in_flight)  # noqa: S311  repeatable
        storm = Storm(place, customers, Takeovers(place.database))
        started = place.starts()
        stop_asking, stop_answering = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(customers.ask(stop_asking))
            group.create_task(customers.answer(stop_answering))
            telling = group.create_task(_tell(storm, customers, seconds, say))
            began_s = time.monotonic()
            await storm.rage(schedule)
            await asyncio.sleep(max(0.0, began_s + seconds - time.monotonic()))
            stop_asking.set()
            await asking
            telling.cancel()
            say("Calm")
            quiet_s = await _calm(place, customers)
            stop_answering.set()
        say("Examining")
        evidence = await gather(place, customers)
        logs = place.services.settings.home / "logs"
        if keep_logs is not None:
            shutil.copytree(logs, keep_logs, dirs_exist_ok=True)
        return Report(
            seed=seed,
            seconds=seconds,
            quiet_s=quiet_s,
            evidence=evidence,
            violations=violations(evidence),
            disturbances=storm.counts + _of_connections(place),
            starts=place.starts() - started,
            takeovers=storm.takeovers.found,
            answers=customers.counts,
            surprises=_surprises(logs),
            left_out=place.left_out,
            is_storm=is_storm,
        )


async def _calm(place: Place, customers: Customers) -> float:
    """Stop disturbing and wait until every run is over; how long that took."""
    began_s = time.monotonic()
    place.heal()
    (await place.sandbox.delete("/sandbox/faults")).raise_for_status()
    while time.monotonic() - began_s < QUIET_WITHIN_S:
        await customers.deliver_the_rest()
        if not await customers.open_runs():
            break
        await asyncio.sleep(LOOK_S)
    return time.monotonic() - began_s


async def _tell(storm: Storm, customers: Customers, seconds: float, say: Callable[[str], None]) -> None:
    """Say now and then how it goes."""
    began_s = time.monotonic()
    while True:
        await asyncio.sleep(SAY_EVERY_S)
        rows = await customers.runs()
        over = sum(row.status.is_final for row in rows)
        say(
            f"{time.monotonic() - began_s:.0f} of {seconds:g} s: {len(customers.requests)} requests, {over} over, "
            f"{len(storm.blows)} blows, {storm.place.proxy.counts['cut']} connections cut"
        )


def _of_connections(place: Place) -> Counter[str]:
    """What really happened at the proxy."""
    names = {
        "cut": "connections cut",
        "torn": "connections torn in a message",
        "no_answer": "connections cut before the answer to a commit",
        "late": "late messages",
    }
    return Counter({names[kind]: number for kind, number in place.proxy.counts.items()})


def _surprises(logs: Path) -> Counter[str]:
    """Errors that the processes logged: what they noticed themselves, not all of it wrong."""
    found: Counter[str] = Counter()
    for file in logs.glob("*.log"):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and entry.get("level") in {"error", "critical"}:
                found[f"{file.stem} {entry.get('event')} {entry.get('kind') or ''}".strip()] += 1
    return found
