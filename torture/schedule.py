"""What goes wrong when: a list of disturbances drawn from a seed before anything starts. `storm.py` carries it out."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from regie.crashpoints import HOLD, CrashPoint

WORKERS = ("worker-identity-1", "worker-identity-2")
NOTARY = "notary"
PROCESSES = ("gateway", *WORKERS, "web", NOTARY)
KILLED = (*PROCESSES, *WORKERS)
"""Workers twice as often as the others: how soon their runs go on elsewhere is measured each time."""
VICTIM_OF = {
    point: "gateway" if point.value.endswith(("intent", "effect", "receipt")) else "worker" for point in CrashPoint
} | {CrashPoint.IN_NOTARY: NOTARY}
"""Which kind of process passes a crash point."""
SKEWED = WORKERS[0]
"""The worker whose clock is turned; the other one keeps the right time."""
CLOCKS = ("+400d", "-1h", "+1h", "-30d", "+0")
"""Times that a clock is set to, beside the right one."""
QUIET_AT_THE_ENDS_S = 2.0
APART_S = 6.0
"""Seconds between two kills when only takeovers are measured: time enough for a worker to come back and get runs."""


class Kind(StrEnum):
    """Everything that is done to an installation."""

    KILL = "kill"
    """kill -9 of gateway, worker, web or notary."""
    CRASH = "crash"
    """kill -9, and the process that comes back ends itself at a named crash point."""
    HOLD = "hold"
    """The same, but it stands still there (SIGSTOP) and goes on later as a zombie."""
    STOP = "stop"
    """SIGSTOP of a worker, SIGCONT some seconds later."""
    DATABASE = "database"
    """Every process of the database server ends at once; it is started again immediately."""
    CUT = "cut"
    """Connections to the database are dropped."""
    TEAR = "tear"
    """Connections are dropped in the middle of a message."""
    NO_ANSWER = "no_answer"
    """A COMMIT reaches the server; its answer does not reach us."""
    SLOW = "slow"
    """Every message to and from the database is late."""
    BLACKHOLE = "blackhole"
    """Nothing passes to or from the database; then everything does."""
    VENDOR = "vendor"
    """The next calls to an outside system go wrong."""
    REDELIVER = "redeliver"
    """A webhook comes twice."""
    RELEASE = "release"
    """Another release becomes the current one."""
    CLOCK = "clock"
    """The wall clock of one worker is set to another time."""
    DISK = "disk"
    """The disk of the database is full for some seconds."""


PER_MINUTE: dict[Kind, float] = {
    Kind.KILL: 14,
    Kind.CRASH: 3.5,
    Kind.HOLD: 0.7,
    Kind.STOP: 1.5,
    Kind.DATABASE: 1.4,
    Kind.CUT: 52,
    Kind.TEAR: 6,
    Kind.NO_ANSWER: 6,
    Kind.SLOW: 1.0,
    Kind.BLACKHOLE: 0.7,
    Kind.VENDOR: 24,
    Kind.REDELIVER: 6,
    Kind.RELEASE: 1.0,
    Kind.CLOCK: 1.0,
    Kind.DISK: 0.3,
}
"""How often each kind comes. A cut takes two or three connections, so that makes about 130 of them in a minute."""


@dataclass(frozen=True)
class Disturbance:
    """One thing that goes wrong.

    Attributes:
        at_s: Seconds after the storm begins.
        target: Name of a process; empty where there is none.
        detail: How; its words depend on the kind.
    """

    at_s: float
    kind: Kind
    target: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


def drawn(seed: int, seconds: float, *, once_each: bool = False) -> list[Disturbance]:
    """The disturbances of a storm, in order. The same seed gives the same list.

    Args:
        once_each: Only one of each kind, for a trial of the machinery itself.
    """
    chance = random.Random(seed)  # noqa: S311  a plan that can be drawn again
    last_s = max(seconds - QUIET_AT_THE_ENDS_S, QUIET_AT_THE_ENDS_S)
    points = _points(chance)
    made = []
    for kind in Kind:
        number = 1 if once_each else max(1, round(PER_MINUTE[kind] * seconds / 60))
        for _ in range(number):
            target, detail = _MAKE[kind](chance, points)
            made.append(Disturbance(round(chance.uniform(QUIET_AT_THE_ENDS_S, last_s), 3), kind, target, detail))
    return sorted(made, key=lambda each: each.at_s)


def only_takeovers(seed: int, number: int) -> list[Disturbance]:
    """Workers are killed in turn, so often, and nothing else goes wrong: how soon their runs go on elsewhere."""
    chance = random.Random(seed)  # noqa: S311  a plan that can be drawn again
    moments = [APART_S * (turn + 1) + round(chance.uniform(0, 1), 3) for turn in range(number)]
    return [Disturbance(at_s, Kind.KILL, WORKERS[turn % len(WORKERS)]) for turn, at_s in enumerate(moments)]


def _points(chance: random.Random) -> Iterator[CrashPoint]:
    """Every crash point in random order, and then again: none is left out by chance."""
    while True:
        points = list(CrashPoint)
        chance.shuffle(points)
        yield from points


def _crash(chance: random.Random, points: Iterator[CrashPoint], mark: str = "") -> tuple[str, dict[str, Any]]:
    point = next(points)
    victim = chance.choice(WORKERS) if VICTIM_OF[point] == "worker" else VICTIM_OF[point]
    return victim, {"point": f"{mark}{point.value}:{chance.randint(1, 3)}"}


def _hold(chance: random.Random, points: Iterator[CrashPoint]) -> tuple[str, dict[str, Any]]:
    victim, detail = _crash(chance, points, HOLD)
    return victim, {**detail, "seconds": round(chance.uniform(3, 20), 1)}


def _vendor(chance: random.Random, _: Iterator[CrashPoint]) -> tuple[str, dict[str, Any]]:
    kind = chance.choice(
        ["timeout-after", "timeout-after", "cut-after", "cut", "garbage", "delay", "throttled", "500", "503"]
    )
    fault: dict[str, Any] = {
        "times": chance.randint(1, 3),
        "path": chance.choice(["^/graph/", "^/graph/", "^/jira/", "^/(graph|jira|login)/"]),
        # Half of them strike writes, which are where a lost answer hurts.
        "method": chance.choice([".*", "POST|PATCH|DELETE|PUT"]),
    }
    match kind:
        case "throttled":
            fault |= {"kind": "status", "status": 429, "retry_after": chance.choice([None, "1", "3"])}
        case "500" | "503":
            fault |= {"kind": "status", "status": int(kind)}
        case "timeout-after" | "delay":
            fault |= {"kind": kind, "seconds": round(chance.uniform(0.5, 8), 1)}
        case _:
            fault |= {"kind": kind}
    return "", {"fault": fault}


def _nothing(_: random.Random, __: Iterator[CrashPoint]) -> tuple[str, dict[str, Any]]:
    return "", {}


_MAKE: dict[Kind, Callable[[random.Random, Iterator[CrashPoint]], tuple[str, dict[str, Any]]]] = {
    Kind.KILL: lambda chance, _: (chance.choice(KILLED), {}),
    Kind.CRASH: _crash,
    Kind.HOLD: _hold,
    Kind.STOP: lambda chance, _: (chance.choice(WORKERS), {"seconds": round(chance.uniform(5, 20), 1)}),
    Kind.DATABASE: _nothing,
    Kind.CUT: lambda chance, _: ("", {"connections": chance.randint(2, 3)}),
    Kind.TEAR: lambda chance, _: ("", {"connections": 1, "up": chance.random() < 0.5}),
    Kind.NO_ANSWER: _nothing,
    Kind.SLOW: lambda chance, _: (
        "",
        {"seconds": round(chance.uniform(1, 4), 1), "most_s": round(chance.uniform(0.02, 0.3), 3)},
    ),
    Kind.BLACKHOLE: lambda chance, _: ("", {"seconds": round(chance.uniform(1, 6), 1)}),
    Kind.VENDOR: _vendor,
    Kind.REDELIVER: _nothing,
    Kind.RELEASE: _nothing,
    Kind.CLOCK: lambda chance, _: (SKEWED, {"offset": chance.choice(CLOCKS)}),
    Kind.DISK: lambda chance, _: ("", {"seconds": round(chance.uniform(2, 6), 1)}),
}
