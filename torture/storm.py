"""Carries out the disturbances of a schedule, each at its time, and counts what really came of them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from regie.core.errors import RegieError
from torture.customers import Customers
from torture.place import LOOK_S, Place
from torture.schedule import WORKERS, Disturbance, Kind
from torture.skewed import set_clock
from torture.takeover import Alone, Takeovers

POINT_WITHIN_S = 30.0
"""How long a process that was armed to stand still is watched; one that does not come past the point is left armed."""
ARMED_WITHIN_S = 60.0
RELEASE_TRIES = 15
RELEASE_PAUSE_S = 1.0
MOST_ARMED = 2
"""Kinds of vendor faults that lie in wait at the same time."""


@dataclass
class Storm:
    """What goes wrong.

    Attributes:
        counts: What was done, by name; `skipped` is what could not be done, such as killing a process that is down.
        blows: When processes, the server or all connections were struck, for takeovers measured near them.
    """

    place: Place
    customers: Customers
    takeovers: Takeovers
    counts: Counter[str] = field(default_factory=Counter)
    blows: list[float] = field(default_factory=list)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def rage(self, schedule: list[Disturbance]) -> None:
        """Carry everything out; returns when the last of it is over."""
        began_s = time.monotonic()
        for disturbance in schedule:
            await asyncio.sleep(max(0.0, began_s + disturbance.at_s - time.monotonic()))
            task = asyncio.create_task(self._strike(disturbance))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        while self._under_way:
            done, _ = await asyncio.wait(self._under_way)
            for task in done:
                if not task.cancelled():
                    task.result()
                else:
                    self.counts["skipped"] += 1

    async def _strike(self, disturbance: Disturbance) -> None:
        target, detail = disturbance.target, disturbance.detail
        match disturbance.kind:
            case Kind.KILL:
                await self._kill(target)
            case Kind.CRASH:
                await self._arm(target, detail["point"])
            case Kind.HOLD:
                await self._hold(target, detail["point"], detail["seconds"])
            case Kind.STOP:
                await self._stop(target, detail["seconds"])
            case Kind.DATABASE:
                await self._restart_database()
            case Kind.VENDOR:
                await self._break_vendor(detail["fault"])
            case Kind.REDELIVER:
                await self.customers.deliver_again()
            case Kind.RELEASE:
                await self._load_release()
            case Kind.CLOCK:
                self._turn_clock(detail["offset"])
            case Kind.DISK:
                await self._fill_disk(detail["seconds"])
            case _:
                await self._disturb_connections(disturbance.kind, detail)

    async def _disturb_connections(self, kind: Kind, detail: dict[str, Any]) -> None:
        proxy = self.place.proxy
        match kind:
            case Kind.CUT:
                proxy.cut(detail["connections"])
            case Kind.TEAR:
                proxy.tear(detail["connections"], up=detail["up"])
            case Kind.NO_ANSWER:
                proxy.lose_answer()
            case Kind.SLOW:
                proxy.slow(detail["seconds"], detail["most_s"])
                self.counts["spells of slow connections"] += 1
            case _:
                await self._blackhole(detail["seconds"])

    async def _kill(self, name: str) -> bool:
        """End a process; false when it does not run or stands still."""
        pid = self.place.process(name).pid
        if not pid or name in self.place.frozen:
            self.counts["skipped"] += 1
            return False
        held = await self.takeovers.held_by(pid) if name in WORKERS else []
        if self.place.process(name).pid != pid:
            self.counts["skipped"] += 1
            return False
        self.blows.append(time.monotonic())
        self.place.send(name, signal.SIGKILL)
        self.counts[f"kill -9 {_kind_of(name)}"] += 1
        if held:
            self._watch_takeover(held, "kill")
        return True

    async def _arm(self, name: str, point: str) -> int:
        """End a process; the one that comes back is armed. Gives its id, 0 when it does not come."""
        process = self.place.process(name)
        starts = process.starts
        # The supervisor hands it to one life only.
        process.environment["crash_at"] = point
        if not await self._kill(name):
            process.environment.pop("crash_at", None)
            return 0
        until_s = time.monotonic() + ARMED_WITHIN_S
        while process.starts == starts and time.monotonic() < until_s:  # noqa: ASYNC110  another process is waited for
            await asyncio.sleep(LOOK_S)
        pid = process.pid if process.starts > starts else 0
        if pid and "!" not in point:
            watching = asyncio.create_task(self._count_crash(name, pid, point.partition(":")[0]))
            self._under_way.add(watching)
            watching.add_done_callback(self._under_way.discard)
        return pid

    async def _count_crash(self, name: str, pid: int, point: str) -> None:
        """Count an armed process that ends before anybody else ends it."""
        others = self._kills(name)
        until_s = time.monotonic() + POINT_WITHIN_S
        while self.place.process(name).pid == pid and time.monotonic() < until_s:  # noqa: ASYNC110  the same
            await asyncio.sleep(LOOK_S)
        if self.place.process(name).pid != pid and self._kills(name) == others:
            self.blows.append(time.monotonic())
            self.counts[f"crash point {point}"] += 1

    def _kills(self, name: str) -> int:
        return self.counts[f"kill -9 {_kind_of(name)}"]

    async def _hold(self, name: str, point: str, seconds: float) -> None:
        pid = await self._arm(name, point)
        until_s = time.monotonic() + POINT_WITHIN_S
        while pid and time.monotonic() < until_s and self.place.process(name).pid == pid:
            if _state(pid) == "T" and name not in self.place.frozen:
                self.counts[f"held at {point.partition('!')[2].partition(':')[0]}"] += 1
                await self._be_still(name, pid, seconds)
                return
            await asyncio.sleep(LOOK_S)

    async def _stop(self, name: str, seconds: float) -> None:
        pid = self.place.process(name).pid
        if not pid or name in self.place.frozen:
            self.counts["skipped"] += 1
            return
        self.place.frozen.add(name)
        self.place.send(name, signal.SIGSTOP)
        self.counts["stopped for a while"] += 1
        await self._be_still(name, pid, seconds)

    async def _be_still(self, name: str, pid: int, seconds: float) -> None:
        """Leave a process that stands still alone for a while, then let it go on."""
        self.place.frozen.add(name)
        self.blows.append(time.monotonic())
        if name in WORKERS and (held := await self.takeovers.held_by(pid)):
            self._watch_takeover(held, "stop")
        await asyncio.sleep(seconds)
        if self.place.process(name).pid == pid:
            self.place.send(name, signal.SIGCONT)
        self.place.frozen.discard(name)

    def _watch_takeover(self, held: list[Any], cause: str) -> None:
        task = asyncio.create_task(self.takeovers.measure(held, cause, Alone(self.blows)))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _restart_database(self) -> None:
        self.blows.append(time.monotonic())
        self.counts["database server killed and restarted"] += 1
        await asyncio.to_thread(self.place.server.kill)
        try:
            await asyncio.to_thread(self.place.server.ensure)
        except RegieError as error:
            # The supervisor looks every second as well, and says so when it cannot either.
            self.place.said.append(str(error))
        self.blows.append(time.monotonic())

    async def _blackhole(self, seconds: float) -> None:
        self.blows.append(time.monotonic())
        self.counts["blackholes"] += 1
        self.place.proxy.close()
        await asyncio.sleep(seconds)
        self.place.proxy.reopen()
        self.blows.append(time.monotonic())

    def _turn_clock(self, offset: str) -> None:
        if self.place.clock is not None:
            set_clock(self.place.clock, offset)
            self.counts["clock of a worker turned"] += 1

    async def _fill_disk(self, seconds: float) -> None:
        disk = self.place.disk
        if disk is None:
            return
        self.blows.append(time.monotonic())
        self.counts["disk filled"] += 1
        await asyncio.to_thread(disk.fill)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(disk.clear)
        self.blows.append(time.monotonic())

    async def _break_vendor(self, fault: dict[str, Any]) -> None:
        named = str(fault.get("status", fault["kind"]))
        given = {name: value for name, value in fault.items() if value is not None}
        with contextlib.suppress(httpx2.HTTPError):
            # Where few calls come, faults would pile up until every call meets one.
            if len((await self.place.sandbox.get("/sandbox/faults")).raise_for_status().json()) >= MOST_ARMED:
                self.counts["skipped"] += 1
                return
            (await self.place.sandbox.post("/sandbox/faults", json=given)).raise_for_status()
            self.counts[f"vendor faults {named}"] += fault["times"]

    async def _load_release(self) -> None:
        number = self.place.releases

        def rename(tenant: dict[str, Any]) -> None:
            tenant["title"] = f"Example Company {number}"

        # Whoever the database does not answer tries again, as an operator would.
        for _ in range(RELEASE_TRIES):
            try:
                await self.place.change_tenant(rename)
            except RegieError:
                await asyncio.sleep(RELEASE_PAUSE_S)
            else:
                self.counts["releases changed"] += 1
                return
        self.counts["skipped"] += 1


def _kind_of(name: str) -> str:
    return "worker" if name in WORKERS else name


def _state(pid: int) -> str:
    """The letter of proc_pid_stat(5): T is stopped; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return ""
