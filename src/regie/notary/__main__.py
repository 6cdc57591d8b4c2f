"""The notary as a process: `python -m regie.notary`. `regie up` starts it.

Prints one line of JSON once it has taken its first turn, and ends after the turn in hand on SIGTERM or SIGINT. While
the database is away it tries again; leaves wait in the intake.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys

import httpx2
import structlog

from regie import crashpoints, logs
from regie.core.errors import AuditBroken, InvalidInput, RegieError, Unavailable
from regie.notary.keys import KeyFile
from regie.notary.sequencing import Sequencer
from regie.notary.witnessing import ANSWER_WITHIN_S, Witnesses, WitnessPolicy
from regie.settings import Settings
from regie.store.sequencing import LogDatabase

log = structlog.get_logger(__name__)


async def serve(settings: Settings) -> None:
    """Take turns until told to stop.

    Raises:
        InvalidInput: A setting is missing, or the file of witnesses is wrong.
        AuthFailed: The signing key cannot be used.
    """
    crashpoints.arm(settings.crash_at)
    if not settings.notary_database_url:
        raise InvalidInput("The notary needs REGIE_NOTARY_DATABASE_URL.", hint="`regie up` starts it with that.")
    policy = WitnessPolicy.read(settings.witnesses)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    database = LogDatabase(settings.notary_database_url)
    try:
        async with httpx2.AsyncClient(timeout=ANSWER_WITHIN_S, trust_env=False) as http, asyncio.TaskGroup() as tasks:
            tasks.create_task(_sequence(Sequencer(database, KeyFile(settings.signing_key_file)), settings, stop))
            if policy.urls:
                tasks.create_task(_ask(Witnesses(database, policy, http), settings, stop))
    finally:
        await database.close()


async def _sequence(sequencer: Sequencer, settings: Settings, stop: asyncio.Event) -> None:
    is_announced = False
    while not stop.is_set():
        try:
            done = await sequencer.step()
        except Unavailable as error:
            log.warning("notary:waiting", reason=error.message)
        except AuditBroken as error:
            # Others go on with their work, whose leaves wait; a person must look at the log.
            log.critical("notary:refused", reason=error.message, hint=error.hint)
            is_announced = is_announced or _announce()
        else:
            is_announced = is_announced or _announce()
            if done.is_full:
                continue
        await _pause(stop, settings.notary_every_s)


def _announce() -> bool:
    sys.stdout.write(json.dumps({"ready": True}) + "\n")
    sys.stdout.flush()
    return True


async def _ask(witnesses: Witnesses, settings: Settings, stop: asyncio.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(Unavailable):
            await witnesses.ask()
        await _pause(stop, settings.witness_every_s)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def main() -> None:
    """Take turns; exit with 1 and one line in the log when that cannot be."""
    logs.configure()
    try:
        asyncio.run(serve(Settings()))
    except* RegieError as group:
        for error in group.exceptions:
            if isinstance(error, RegieError):
                log.critical("notary:failed", kind=type(error).__name__, reason=error.message, hint=error.hint)
        sys.exit(1)


if __name__ == "__main__":
    main()
