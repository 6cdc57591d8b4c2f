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
from datetime import timedelta

import httpx2
import structlog

from regie import crashpoints, logs
from regie.core.errors import AuditBroken, InvalidInput, RegieError, Unavailable
from regie.notary.anchoring import Anchoring, Attester
from regie.notary.keys import KeyFile
from regie.notary.sequencing import Sequenced, Sequencer
from regie.notary.witnessing import ANSWER_WITHIN_S, Witnesses, WitnessPolicy, party_of
from regie.settings import Settings
from regie.store.sequencing import LogDatabase
from regie.telemetry import metrics
from regie.telemetry.telling import telling

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
        async with (
            httpx2.AsyncClient(timeout=ANSWER_WITHIN_S, trust_env=False) as http,
            telling(settings, "notary", settings.notary_metrics_port) as told_at,
            asyncio.TaskGroup() as tasks,
        ):
            sequencer = Sequencer(database, KeyFile(settings.signing_key_file))
            tasks.create_task(_sequence(sequencer, settings, stop, told_at))
            if policy.urls:
                tasks.create_task(_ask(Witnesses(database, policy, http), settings, stop))
            tasks.create_task(_anchor(database, settings, policy, http, stop))
    finally:
        await database.close()


async def _sequence(sequencer: Sequencer, settings: Settings, stop: asyncio.Event, told_at: str) -> None:
    is_announced = False
    while not stop.is_set():
        try:
            done = await sequencer.step()
        except Unavailable as error:
            log.warning("notary:waiting", reason=error.message)
        except AuditBroken as error:
            # Others go on with their work, whose leaves wait; a person must look at the log.
            log.critical("notary:refused", reason=error.message, hint=error.hint)
            is_announced = is_announced or _announce(told_at)
        else:
            is_announced = is_announced or _announce(told_at)
            _count(done)
            if done.is_full:
                continue
        await _pause(stop, settings.notary_every_s)


def _count(done: Sequenced) -> None:
    if done.leaves:
        metrics.LEAVES.inc(done.leaves)
        metrics.CHECKPOINTS.inc(done.logs + 1)
        metrics.MERGE_DELAY.observe(done.delay_s)
        metrics.TURN_SECONDS.observe(done.took_s)


def _announce(told_at: str) -> bool:
    sys.stdout.write(json.dumps({"ready": True, "metrics": told_at}) + "\n")
    sys.stdout.flush()
    return True


async def _ask(witnesses: Witnesses, settings: Settings, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await witnesses.ask()
        except RegieError as error:
            # Of the database. Signing goes on by itself.
            log.warning("witnesses:waiting", reason=error.message)
        await _pause(stop, settings.witness_every_s)


async def _anchor(
    database: LogDatabase, settings: Settings, policy: WitnessPolicy, http: httpx2.AsyncClient, stop: asyncio.Event
) -> None:
    """Have authority and bucket, where there are any, attest the anchor log's checkpoints."""

    async def pause(seconds: float) -> bool:
        await _pause(stop, seconds)
        return not stop.is_set()

    async with contextlib.AsyncExitStack() as closing, asyncio.TaskGroup() as tasks:
        found = _attesters(settings, http, closing)
        asked = [each.party for each, _ in found] + [party_of(key) for key in policy.urls]
        while not stop.is_set():
            with contextlib.suppress(Unavailable):
                async with database.turn() as turn:
                    await turn.attesters.keep_only(asked)
                break
            await _pause(stop, settings.notary_every_s)
        for attester, every_s in found:
            tasks.create_task(Anchoring(database, attester, every_s).run(pause))


def _attesters(
    settings: Settings, http: httpx2.AsyncClient, closing: contextlib.AsyncExitStack
) -> list[tuple[Attester, float]]:
    """Who is asked besides witnesses, and how often. What speaks with them is loaded for whoever has them."""
    found: list[tuple[Attester, float]] = []
    if settings.timestamp_url:
        from regie.notary.timestamping import TimestampAuthority  # noqa: PLC0415  optional

        authority = TimestampAuthority(settings.timestamp_url, settings.timestamp_ca, http)
        found.append((authority, settings.timestamp_every_s))
    if settings.deposit_bucket:
        from regie.notary.depositing import LockedBucket, client_for  # noqa: PLC0415  boto3 takes half a second

        opening = client_for(settings.deposit_region, settings.deposit_endpoint, settings.deposit_credentials)
        bucket = LockedBucket(settings.deposit_bucket, opening, timedelta(days=settings.deposit_keep_days))
        closing.callback(bucket.close)
        found.append((bucket, settings.deposit_every_s))
    return found


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
