"""A log with a hundred runs, a witness, an export of it, and what an auditor has kept."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx2
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from regie.core.audit import Actor, Event, Fact
from regie.core.signed_note import KeyKind, VerifierKey
from regie.notary import bundle
from regie.notary.anchoring import Anchoring, Question
from regie.notary.keys import KeyFile
from regie.notary.sequencing import Sequencer
from regie.notary.timestamping import TimestampAuthority
from regie.notary.witnessing import Witnesses, WitnessPolicy
from regie.store import audit, logs, subjects, walls
from regie.store.attesting import Kind, Party
from regie.store.audit import Chain
from regie.store.database import Database
from regie.store.keys import RunKey
from regie.store.logs import ANCHOR
from regie.store.postgres_server import PostgresServer
from regie.store.sealer import Sealer
from regie.store.sequencing import LogDatabase
from regie.witness.app import make_witness
from regie.witness.memory import Memory
from tests.counterparts.tsa import Tsa, timestamp_authority

RUNS, EVENTS = 100, 7
BUILT = "regie_built"
WITNESS = "witness.example"
BEGAN = datetime(2026, 11, 2, 8, tzinfo=UTC)
TICKETS = Actor(type="ticket_system", id="jira")
GATEWAY = Actor(type="gateway", id="gateway")
ENGINE = Actor(type="engine", id="engine")
OFFICER = Actor(type="person", id="ingrid.larsen@example.com")


@dataclass
class Ground:
    """A database with a whole log, and what belongs to it."""

    database: Database
    superuser_url: str
    url: str
    folder: Path
    built: Built
    witnesses: Witnesses

    async def rotate_key(self) -> None:
        """Have the notary take up a new key, go on with it, and the witness follow."""
        keys = KeyFile(self.folder / "signing.json")
        keys.add()
        async with standing(self.database, self.url, self.folder) as (sequencer, witnesses):
            await write_run(self.database, RUNS + len(keys.read()))
            await sequencer.step()
            await witnesses.ask()

    async def sign(self) -> None:
        """Have the notary take in what was written, and the witness follow."""
        async with standing(self.database, self.url, self.folder) as (sequencer, witnesses):
            await sequencer.step()
            await witnesses.ask()

    async def export(
        self, path: Path, since: datetime | None = None, until: datetime | None = None, *, with_people: bool = False
    ) -> bundle.Exported:
        return await export(self.database, policy_of(self.folder).lines, path, since, until, with_people=with_people)


def facts(number: int) -> list[Fact]:
    """What happens in one run."""
    approval = {
        "id": f"a{number}",
        "approver": OFFICER.id,
        "requester": "elif.demir@example.com",
        "decision": "approved",
        "place": "approval",
    }
    return [
        Fact(event=Event.TRIGGER_ACCEPTED, actor=TICKETS, detail={"trigger": f"jira:{number}"}),
        Fact(event=Event.RUN_STARTED, actor=TICKETS, detail={"dry": False}),
        Fact(event=Event.APPROVAL_REQUESTED, actor=ENGINE, detail={"approval": {"id": f"a{number}"}}),
        Fact(event=Event.APPROVAL_GRANTED, actor=OFFICER, detail={"approval": dict(approval)}),
        Fact(event=Event.EFFECT_INTENDED, actor=GATEWAY, detail={"capability": "identity.disable_account"}),
        Fact(event=Event.EFFECT_RECEIVED, actor=GATEWAY, detail={"capability": "identity.disable_account"}),
        Fact(event=Event.RUN_CLOSED, actor=ENGINE, detail={"count": EVENTS, "status": "done"}),
    ]


async def write_run(database: Database, number: int) -> None:
    """All leaves of a run, a minute after those of the one before."""
    key = RunKey("acme", "identity", str(UUID(int=number + 1)))
    at = BEGAN + timedelta(minutes=number)
    async with database.transaction() as tx:
        told = await subjects.committed(tx, key.tenant, key.domain, facts(number))
        _, entries = audit.link(Chain(key, key.run, f"ITSM-{number}", 0, b"", at), told)
        async with audit.written_with(tx, audit.addressed([(key, entries)]), at):
            pass


@dataclass(frozen=True)
class Built:
    """A database as `build` leaves it, without connections, to be copied; its files; and a bundle of it."""

    url: str
    folder: Path
    kept: str
    policy: str
    checkpoint: str
    tsa: bytes


@pytest.fixture(scope="session")
def built(
    postgres_server: PostgresServer, postgres_dsn: str, database_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Built:
    """Made once: it takes seconds."""
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        copy_database(admin, database_template, BUILT)
    url = make_conninfo(postgres_server.ensure().dsn, dbname=BUILT)
    with (
        timestamp_authority(tmp_path_factory.mktemp("tsa")) as tsa,
        timestamp_authority(tmp_path_factory.mktemp("stranger")) as stranger,
    ):
        return asyncio.run(build(url, tmp_path_factory.mktemp("built"), tsa, stranger))


async def build(url: str, folder: Path, tsa: Tsa, stranger: Tsa) -> Built:
    """A hundred runs, ten turns of the notary; a witness, a timestamp and a deposit at the end."""
    async with (
        Database(url, Sealer.from_file(folder / "sealing.json")) as database,
        standing(database, url, folder) as (
            sequencer,
            witnesses,
        ),
    ):
        kept = ""
        for number in range(RUNS):
            await write_run(database, number)
            if number % 10 == 9 or number == RUNS // 2:
                await sequencer.step()
            if number == RUNS // 2:
                async with database.reading() as tx:
                    newest = await logs.newest(tx, await logs.find(tx, "acme", "identity"))
                assert newest is not None
                kept = newest.raw
        await witnesses.ask()
        async with database.reading() as tx:
            anchor = await logs.find(tx, *ANCHOR)
            [(public, _)] = await logs.signing_keys(tx)
        await attest(url, tsa)
        # What somebody may put in place of the timestamp: a true one of something else, and one of somebody else.
        async with httpx2.AsyncClient(trust_env=False) as http:
            for name, authority, note in (
                ("other", tsa, b"other"),
                ("stranger", stranger, await anchor_note(database)),
            ):
                question = Question(anchor.origin, anchor.size, note, BEGAN)
                token = await TimestampAuthority(authority.url, authority.ca, http).attest(question)
                (folder / f"{name}.tsr").write_bytes(token)
        lines = policy_of(folder).lines
        done = await export(database, lines, folder / "bundle")
        trusted = bundle.policy(anchor.origin, [public], lines)
        return Built(url, folder, kept, trusted, done.checkpoint, tsa.ca.read_bytes())


async def anchor_note(database: Database) -> bytes:
    """The anchor log's newest checkpoint."""
    async with database.reading() as tx:
        newest = await logs.newest(tx, await logs.find(tx, *ANCHOR))
    assert newest is not None
    return newest.raw.encode()


async def attest(url: str, tsa: Tsa) -> None:
    """Have the anchor log's newest checkpoint attested by an authority and, so it is written, by a bucket."""
    [notary_url] = await walls.build(url, [walls.Login(walls.Process.NOTARY, "a password of the tests")])
    log_database = LogDatabase(notary_url)
    async with httpx2.AsyncClient(trust_env=False) as http:
        for attester in (TimestampAuthority(tsa.url, tsa.ca, http), Receipts()):
            await Anchoring(log_database, attester, 3_600.0).step()
    await log_database.close()


class Receipts:
    """Gives receipts as `LockedBucket` does, whose own tests are those of the notary."""

    party = Party(Kind.DEPOSIT, "locked")

    async def attest(self, question: Question) -> bytes:
        receipt = {
            "bucket": "locked",
            "key": f"anchor/{question.size}",
            "version": "1",
            "sha256": hashlib.sha256(question.note).hexdigest(),
            "retained_until": "2033-11-29T00:00:00Z",
        }
        return json.dumps(receipt).encode()


@asynccontextmanager
async def standing(database: Database, url: str, folder: Path) -> AsyncIterator[tuple[Sequencer, Witnesses]]:
    """A notary and its witness, whose files are in a folder."""
    [notary_url] = await walls.build(url, [walls.Login(walls.Process.NOTARY, "a password of the tests")])
    log_database = LogDatabase(notary_url)
    sequencer = Sequencer(log_database, KeyFile(folder / "signing.json"))
    await sequencer.step()
    async with database.reading() as tx:
        anchor = await logs.find(tx, *ANCHOR)
        [(public, _), *_] = await logs.signing_keys(tx)
    app = make_witness(
        Memory(folder / "witness", WITNESS), [VerifierKey(anchor.origin, KeyKind.LOG, public)], lambda: 1_800_000_000
    )
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as http:
        yield sequencer, Witnesses(log_database, policy_of(folder), http)
    await log_database.close()


def policy_of(folder: Path) -> WitnessPolicy:
    """That the witness of a folder must sign."""
    verifier = Memory(folder / "witness", WITNESS).verifier
    return WitnessPolicy({verifier: "http://witness"}, (f"witness w1 {verifier}", "quorum w1"))


async def export(
    database: Database,
    lines: Sequence[str],
    path: Path,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    with_people: bool = False,
) -> bundle.Exported:
    """Write a bundle."""
    async with database.reading() as tx:
        log = await logs.find(tx, "acme", "identity")
        with bundle.sink(path) as into:
            return await bundle.export(
                tx, log, into, since=since, until=until, witness_lines=lines, with_people=with_people
            )


def copy_database(admin: psycopg.Connection[tuple[str, ...]], source: str, name: str) -> None:
    """Copy a database that nobody is connected to."""
    copy = sql.SQL("create database {} template {} owner regie")
    admin.execute(copy.format(sql.Identifier(name), sql.Identifier(source)))


@pytest.fixture
async def ground(built: Built, postgres_dsn: str, tmp_path: Path) -> AsyncIterator[Ground]:
    """A copy of what was built, to do anything to."""
    name = f"v{uuid4().hex}"
    folder = shutil.copytree(built.folder, tmp_path / "ground")
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        copy_database(admin, BUILT, name)
        url = make_conninfo(built.url, dbname=name)
        async with (
            Database(url, Sealer.from_file(folder / "sealing.json")) as database,
            standing(database, url, folder) as (_, witnesses),
        ):
            yield Ground(database, make_conninfo(postgres_dsn, dbname=name), url, folder, built, witnesses)
        admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def exported(built: Built, tmp_path: Path) -> Path:
    """A bundle of one's own."""
    return shutil.copytree(built.folder / "bundle", tmp_path / "bundle")
