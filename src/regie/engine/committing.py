"""Commits the runs of one worker and domain together: what is ready at the same time goes into one transaction.

A commit costs round trips and a flush to disk, whatever it holds. What comes while others are on their way waits and
goes together; so a worker with one run never waits, and a worker with many pays for few commits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from regie.core.errors import OutcomeUnknown, Unavailable
from regie.store import commits
from regie.store.claims import Claim
from regie.store.commits import Committed, StepCommit
from regie.store.database import Database

MOST_TOGETHER = 128
"""Runs in one transaction: more gain little, and what breaks one makes all of them be written singly."""
LANES = 2
"""Transactions under way at once: one is prepared while the other is flushed."""


@dataclass
class Waiting:
    """One commit that waits for its turn."""

    claim: Claim
    step: StepCommit
    answer: asyncio.Future[Committed]

    def settle(self, outcome: Committed | BaseException) -> None:
        """Tell what became of it."""
        # Whoever asked may have been cancelled meanwhile.
        if self.answer.done():
            return
        if isinstance(outcome, BaseException):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


@dataclass
class GroupCommit:
    """Where the runs of one worker and domain bring their commits.

    Args:
        database: Where the runs are.
    """

    database: Database
    _waiting: deque[Waiting] = field(default_factory=deque)
    _lanes: set[asyncio.Task[None]] = field(default_factory=set)
    _at_work: int = 0

    async def commit(self, claim: Claim, step: StepCommit) -> Committed:
        """Write what one advance of a run changes.

        Raises:
            FencedOut, HeardMeanwhile, AuditBroken, InvalidInput: See `commits.commit`; nothing of it is written.
            Unavailable: The database does not answer; nothing is written.
            OutcomeUnknown: Read again whether it was written.
        """
        waiting = Waiting(claim, step, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._at_work < LANES:
            self._at_work += 1
            lane = asyncio.create_task(self._work())
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)
        return await waiting.answer

    async def _work(self) -> None:
        """Write until nothing waits."""
        try:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
                try:
                    await self.write(group)
                except BaseException as error:
                    for waiting in group:
                        waiting.settle(error)
                    if not isinstance(error, Exception):
                        raise
        finally:
            # Here, and not when its task is done, which is a moment later: who comes between would be left waiting.
            self._at_work -= 1

    async def write(self, group: list[Waiting]) -> None:
        """Write a group in one transaction, and settle each; what is raised is every one's."""
        try:
            async with self.database.transaction() as tx:
                outcomes = await commits.commit_all(
                    tx, [(waiting.claim, waiting.step) for waiting in group], is_last=True
                )
        except (Unavailable, OutcomeUnknown):
            raise
        except Exception:
            if len(group) == 1:
                raise
            # One of them cannot be written, whatever it is: alone it shows which, and the others are not held up.
            for waiting in group:
                await self._write_alone(waiting)
            return
        for waiting, outcome in zip(group, outcomes, strict=True):
            waiting.settle(outcome)

    async def _write_alone(self, waiting: Waiting) -> None:
        try:
            await self.write([waiting])
        except Exception as error:  # noqa: BLE001  whatever it is, it is raised where the commit was asked for
            waiting.settle(error)
