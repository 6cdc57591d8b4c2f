"""Where the runs of a worker bring their commits: nobody is left waiting there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from regie.core.status import RunStatus
from regie.engine.committing import LANES, GroupCommit, Waiting
from regie.store.claims import Claim
from regie.store.commits import Committed, StepCommit
from regie.store.database import Database
from regie.store.keys import RunKey
from regie.store.sealer import Sealer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOTHING = StepCommit(state_json="{}", status=RunStatus.RUNNING)


def claim(number: int) -> Claim:
    return Claim(RunKey("acme", "things", f"run-{number}"), 1, 0)


async def turns() -> None:
    """Let everybody come as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


@dataclass
class Gated(GroupCommit):
    """Writes nothing; all transactions end at the same moment."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, group: list[Waiting]) -> None:
        await self.gate.wait()
        for waiting in group:
            waiting.settle(Committed(waiting.claim, 0, NOW))


async def test_who_comes_when_every_lane_has_just_ended_is_not_left_waiting(tmp_path: Path) -> None:
    database = Database("host=127.0.0.1 port=9", Sealer.from_file(tmp_path / "sealing.json"))
    group = Gated(database)

    async def twice() -> None:
        await group.commit(claim(0), NOTHING)
        await group.commit(claim(0), NOTHING)

    async def once(number: int) -> None:
        await group.commit(claim(number), NOTHING)

    everyone = [asyncio.create_task(twice())]
    await turns()
    for number in range(1, LANES):
        everyone.append(asyncio.create_task(once(number)))
        await turns()
    group.gate.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*everyone)
