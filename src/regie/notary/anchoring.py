"""Has parties outside attest checkpoints of the anchor log, each in its own time, for as long as the notary lives.

What one of them does, or fails to do, never holds up the notary: a failure is noted for `regie doctor` and the metrics,
and tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from regie.core.errors import AuditBroken, RegieError
from regie.store.attesting import Party
from regie.store.sequencing import LogDatabase
from regie.telemetry import metrics

FIRST_RETRY_S = 10.0
"""Before an attempt that failed is repeated; doubles each time, up to the party's own pace."""
LOOK_EVERY_S = 10.0
"""Between two looks whether the anchor log has grown, once it is time."""
ANSWER_WITHIN_S = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Question:
    """A checkpoint of the anchor log that is to be attested.

    Attributes:
        origin, size: Of the anchor log.
        note: The signed checkpoint, as it is stored: what is attested are its bytes.
        now: The database's clock.
    """

    origin: str
    size: int
    note: bytes
    now: datetime


class Attester(Protocol):
    """A way to have checkpoints attested."""

    @property
    def party(self) -> Party:
        """Who it is."""

    async def attest(self, question: Question) -> bytes:
        """Have a checkpoint attested, and give the proof to keep.

        Raises:
            RegieError: It was not; asking again does no harm.
        """


class Anchoring:
    """Asks one party, again and again.

    Args:
        every_s: Least seconds between two checkpoints that it attests.
    """

    def __init__(self, database: LogDatabase, attester: Attester, every_s: float) -> None:
        self._database = database
        self._attester = attester
        self._every_s = every_s

    async def run(self, pause: Callable[[float], Awaitable[bool]]) -> None:
        """Ask until told to stop.

        Args:
            pause: Waits so many seconds, and says whether to go on.
        """
        while await pause(await self.step()):
            pass

    async def step(self) -> float:
        """Have the newest checkpoint attested if that is due; how many seconds to wait until the next look."""
        party = self._attester.party
        try:
            async with self._database.turn() as turn:
                standing = await turn.attesters.standing(party)
                anchor_id, origin = await turn.anchor()
                newest = await turn.checkpoint(anchor_id)
                now = await turn.now()
            if newest is None or newest[0] == standing.anchor_size:
                return min(LOOK_EVERY_S, self._every_s)
            if standing.done_ago_s < self._every_s and not standing.failures:
                return self._every_s - standing.done_ago_s
            size, note = newest
            return await self._asked(Question(origin, size, str(note).encode(), now))
        except RegieError as error:
            # Of the database: the log could not be read, or what came of it not be written.
            log.warning("anchoring:waiting", kind=party.kind, party=party.name, reason=error.message)
            return min(LOOK_EVERY_S, self._every_s)

    async def _asked(self, question: Question) -> float:
        party, is_broken = self._attester.party, False
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                proof = await self._attester.attest(question)
        except RegieError as error:
            reason, is_broken = error.message, isinstance(error, AuditBroken)
        except TimeoutError:
            reason = f"There was no answer within {ANSWER_WITHIN_S:.0f} s."
        except Exception as error:  # noqa: BLE001  whatever a library stumbles over must not end the notary
            reason = f"The answer could not be used: {type(error).__name__}."
        else:
            async with self._database.turn() as turn:
                await turn.attesters.attested(party, question.size, proof)
            metrics.count_attestation(party.kind, "done")
            return self._every_s
        metrics.count_attestation(party.kind, "failed")
        level = log.critical if is_broken else log.warning
        level("anchoring:failed", kind=party.kind, party=party.name, reason=reason)
        async with self._database.turn() as turn:
            failures = await turn.attesters.failed(party, reason, is_broken=is_broken)
        return retry_after_s(failures, self._every_s)


def retry_after_s(failures: int, every_s: float) -> float:
    """How long to wait after so many failures in a row."""
    return min(FIRST_RETRY_S * 2.0 ** min(failures - 1, 20), every_s)
