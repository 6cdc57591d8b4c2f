"""Has the inputs and outputs of old runs taken away, beside the loop that moves runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import structlog

from regie.core.errors import InvalidInput, OutcomeUnknown, Unavailable
from regie.store import emptying, releases
from regie.store.database import Database

LOOK_EVERY_S = 600.0
"""Seconds between two looks: nobody counts the days of a domain by the minute."""
AT_ONCE = 50
"""Runs in one transaction: few enough that nobody waits for it."""

log = structlog.get_logger(__name__)


class Emptier:
    """Takes values away that are older than the current release says."""

    def __init__(self, database: Database, domains: Sequence[str], *, look_every_s: float = LOOK_EVERY_S) -> None:
        self._database = database
        self._domains = domains
        self._look_every_s = look_every_s

    async def run(self, stop: asyncio.Event) -> None:
        """Look again and again until told to stop."""
        while not stop.is_set():
            try:
                await self.look(stop)
            except (Unavailable, OutcomeUnknown, InvalidInput) as error:
                log.warning("emptier:waits", reason=error.message)
            except Exception:  # runs must go on moving; what is left is taken at the next look
                log.exception("emptier:broke")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_every_s):
                    await stop.wait()

    async def look(self, stop: asyncio.Event) -> int:
        """Empty everything that is due; gives the number of runs.

        Raises:
            Unavailable, OutcomeUnknown: The database does not answer now.
            InvalidInput: There is no release yet.
        """
        async with self._database.reading() as tx:
            release = await releases.current(tx)
        count = 0
        for name in self._domains:
            # Of a domain that is gone nobody says any more how long its values are kept.
            if (domain := release.domains.get(name)) is None:
                continue
            while not stop.is_set():
                async with self._database.transaction() as tx:
                    done = await emptying.empty(tx, name, kept_s=domain.values_kept_s, most=AT_ONCE)
                count += len(done)
                if len(done) < AT_ONCE:
                    break
        if count:
            log.info("runs:emptied", runs=count)
        return count
