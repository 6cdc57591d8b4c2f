"""Notary and witness as processes: what one writes the other has signed, over deaths of both."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from regie.cli.processes import Process
from regie.core.errors import Unavailable
from regie.core.signed_note import KeyKind, VerifierKey
from regie.crashpoints import CrashPoint
from regie.notary.keys import KeyFile
from regie.store import attesting, logs
from regie.store.attesting import Kind
from regie.store.database import Database
from regie.store.logs import ANCHOR
from tests.counterparts.here import NOBODYS_PORT
from tests.counterparts.tsa import timestamp_authority

from .conftest import Write

pytestmark = pytest.mark.slow
PATIENCE_S = 30.0


@asynccontextmanager
async def notary(home: Path, url: str, **more: str) -> AsyncIterator[Process]:
    environment = {"home": str(home), "notary_database_url": url, "notary_every_s": "0.05", "crash_at": "", **more}
    process = Process("notary", "regie.notary", home / "logs", environment=environment)
    await process.start()
    try:
        yield process
    finally:
        await process.stop()


@asynccontextmanager
async def witness(folder: Path, *arguments: str) -> AsyncIterator[str]:
    """The command, and its first line."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "regie"),
        "witness",
        str(folder),
        *arguments,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield (await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)).decode().strip()
    finally:
        process.terminate()
        await process.wait()


async def until_taken_in(database: Database, size: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with database.reading() as tx:
                if (await logs.find(tx, "acme", "identity")).size == size:
                    return
            await asyncio.sleep(0.02)


async def until_cosigned(database: Database) -> int:
    """Until a witness has signed the newest checkpoint of the anchor log; its size."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with database.reading() as tx:
                size = (await logs.find(tx, *ANCHOR)).size
                if size and await logs.cosignatures(tx, size):
                    return size
            await asyncio.sleep(0.02)


async def test_what_a_notary_that_was_killed_had_in_hand_is_taken_in_by_the_next(
    database: Database, notary_url: str, write: Write, tmp_path: Path
) -> None:
    await write(3)
    async with notary(tmp_path, notary_url) as process:
        await until_taken_in(database, 3)
        await process.stop()
        process.environment["crash_at"] = CrashPoint.IN_NOTARY
        await write(2)
        async with database.reading() as tx:
            assert (await logs.waiting(tx))[0] == 2
        with pytest.raises(Unavailable):
            await process.start()
        async with database.reading() as tx:
            assert (await logs.waiting(tx))[0] == 2
        await process.start()
        await until_taken_in(database, 5)
    assert (tmp_path / "notary" / "signing.json").stat().st_mode & 0o077 == 0
    assert (tmp_path / "notary").stat().st_mode & 0o077 == 0


async def test_a_witness_signs_what_the_notary_writes_and_remembers_when_it_is_started_again(
    database: Database, notary_url: str, write: Write, tmp_path: Path
) -> None:
    key = KeyFile(tmp_path / "notary" / "signing.json").add()
    async with database.reading() as tx:
        anchor = await logs.find(tx, *ANCHOR)
    log = str(VerifierKey(anchor.origin, KeyKind.LOG, key.public))
    policy = tmp_path / "witnesses"
    folder = tmp_path / "witness"
    async with witness(folder, "--name", "witness.example", "--log", log) as line:
        port = line.rpartition(":")[2]
        policy.write_text(f"{line.replace('witness.example', 'w1', 1)}\nquorum w1\n")
        async with notary(tmp_path, notary_url, witnesses=str(policy), witness_every_s="0.05"):
            await write(1)
            await until_taken_in(database, 1)
            assert await until_cosigned(database) == 1
    async with notary(tmp_path, notary_url, witnesses=str(policy), witness_every_s="0.05"):
        # Nobody answers: the log goes on without a signature from outside.
        await write(1)
        await until_taken_in(database, 2)
        async with witness(folder, "--log", log, "--port", port):
            assert await until_cosigned(database) == 2


async def test_it_goes_on_when_nobody_outside_answers_and_tells_its_metrics(
    database: Database, notary_url: str, write: Write, tmp_path: Path
) -> None:
    nowhere = f"http://127.0.0.1:{NOBODYS_PORT}"
    credentials = tmp_path / "credentials"
    credentials.touch(mode=0o600)
    credentials.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    with timestamp_authority(tmp_path) as tsa:
        ca = tsa.ca
    settings = {
        "timestamp_url": nowhere,
        "timestamp_ca": str(ca),
        "deposit_bucket": "bucket",
        "deposit_region": "eu-west-1",
        "deposit_endpoint": nowhere,
        "deposit_credentials": str(credentials),
        "notary_metrics_port": "0",
    }
    await write(2)
    async with notary(tmp_path, notary_url, **settings) as process:
        await until_taken_in(database, 2)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                async with database.reading() as tx:
                    failing = await attesting.failing(tx)
                if len(failing) == 2:
                    break
                await asyncio.sleep(0.05)
        assert {each.party.kind for each in failing} == {Kind.TIMESTAMP, Kind.DEPOSIT}
        assert all("does not answer" in each.reason for each in failing)
        await write(1)
        await until_taken_in(database, 3)
        token = {"Authorization": f"Bearer {(tmp_path / 'keys' / 'metrics.token').read_text()}"}
        async with httpx2.AsyncClient(trust_env=False) as http:
            told = (await http.get(process.ready["metrics"], headers=token)).text
    assert "regie_audit_leaves_total 3.0" in told
    assert 'regie_audit_attestations_total{kind="deposit",outcome="failed"}' in told
    assert 'regie_audit_merge_delay_seconds_bucket{le="10.0"}' in told
