"""The notary's turns: every leaf once, in one place, under a signed root, with no right beyond that."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from regie.core import merkle
from regie.core.audit import leaf_hash
from regie.core.errors import AuditBroken, AuthFailed, Unavailable
from regie.core.merkle import Edge, Span
from regie.core.signed_note import Checkpoint, VerifierKey
from regie.notary.keys import KeyFile
from regie.notary.sequencing import Sequencer
from regie.store import logs
from regie.store.database import Database
from regie.store.logs import ANCHOR, Log
from regie.store.sequencing import LogDatabase
from tests.leaves import read_outside

from .conftest import Write

pytestmark = pytest.mark.slow


async def log_of(database: Database, tenant: str = "acme", domain: str = "identity") -> Log:
    async with database.reading() as tx:
        return await logs.find(tx, tenant, domain)


async def assert_whole(database: Database, log: Log, key: bytes) -> None:
    """Every checkpoint of a log is signed and is the root of its first leaves, and its tiles are theirs."""
    async with database.reading() as tx:
        signed = await logs.checkpoints(tx, log)
        leaves = await logs.leaves(tx, log, Span(0, log.size))
        edge = await logs.edge_of(tx.connection, log.log_id, log.size)
    assert [idx for idx, _ in leaves] == list(range(log.size))
    tree = Edge()
    for each in signed:
        tree.grow(leaf_hash(leaf) for _, leaf in leaves[tree.size : each.size])
        assert Checkpoint.parse(each.note.text) == Checkpoint(log.origin, each.size, tree.root())
        assert VerifierKey(log.origin, VerifierKey.parse(_vkey(log.origin, key)).kind, key).has_signed(each.note)
    assert (tree.size, tree.root()) == (log.size, edge.root())


def _vkey(origin: str, public: bytes) -> str:
    return str(VerifierKey(origin, 1, public))  # type: ignore[arg-type]  # the byte as it is written


async def test_leaves_of_each_tenant_and_domain_go_into_their_own_log_and_all_into_the_anchor(
    database: Database, sequencer: Sequencer, keys: KeyFile, write: Write
) -> None:
    await write(3)
    await write(300, tenant="umbrella")
    await write(2, domain="hr")
    done = await sequencer.step()
    assert (done.leaves, done.logs) == (305, 3)
    await write(250)
    assert (await sequencer.step()).leaves == 250
    [key] = keys.read()
    for (tenant, domain), size in {
        ("acme", "identity"): 253,
        ("umbrella", "identity"): 300,
        ("acme", "hr"): 2,
        ANCHOR: 4,
    }.items():
        log = await log_of(database, tenant, domain)
        assert log.size == size
        await assert_whole(database, log, key.public)
    async with database.reading() as tx:
        anchored = await logs.leaves(tx, await logs.find(tx, *ANCHOR), Span(0, 4))
        newest = await logs.newest(tx, await logs.find(tx, "acme", "identity"))
        assert newest is not None
        assert anchored[newest.anchor_idx or 0][1].decode() == newest.note.text
        assert await logs.waiting(tx) == (0, 0.0)


async def test_a_turn_without_leaves_signs_nothing(database: Database, sequencer: Sequencer, write: Write) -> None:
    await write(1)
    await sequencer.step()
    for _ in range(3):
        assert (await sequencer.step()).leaves == 0
    async with database.reading() as tx:
        assert len(await logs.checkpoints(tx, await logs.find(tx, "acme", "identity"))) == 1
        assert len(await logs.checkpoints(tx, await logs.find(tx, *ANCHOR))) == 1


async def test_leaves_are_seen_before_and_after_they_are_taken_in(
    database: Database, sequencer: Sequencer, write: Write
) -> None:
    await write(2)
    async with database.reading() as tx:
        before = await read_outside(tx, "acme", "identity")
    await sequencer.step()
    await write(1)
    async with database.reading() as tx:
        after = await read_outside(tx, "acme", "identity")
    assert {leaf.entry_id for leaf in before} < {leaf.entry_id for leaf in after}
    assert len(after) == 3


async def test_a_backlog_is_taken_in_by_parts(database: Database, sequencer: Sequencer, write: Write) -> None:
    await write(25)
    done = [await sequencer.step(limit=10) for _ in range(3)]
    assert [(each.leaves, each.is_full) for each in done] == [(10, True), (10, True), (5, False)]
    assert (await log_of(database)).size == 25


async def test_what_commits_late_is_taken_in_late(
    database: Database, database_url: str, sequencer: Sequencer, keys: KeyFile, write: Write
) -> None:
    await write(1)
    async with await psycopg.AsyncConnection.connect(database_url) as late:
        await late.execute(
            """insert into audit.intake (entry_id, log_id, leaf)
               select gen_random_uuid(), log_id, 'late'::bytea from audit.log where tenant = 'acme'"""
        )
        await write(1)
        assert (await sequencer.step()).leaves == 2
        await late.commit()
    assert (await sequencer.step()).leaves == 1
    await assert_whole(database, await log_of(database), keys.read()[0].public)


async def test_another_process_goes_on_where_one_was_killed(
    database: Database, notary_url: str, sequencer: Sequencer, keys: KeyFile, write: Write
) -> None:
    await write(700)
    await sequencer.step()
    await write(600)
    other = LogDatabase(notary_url)
    await Sequencer(other, keys).step()
    await other.close()
    await write(300)
    await sequencer.step()
    log = await log_of(database)
    assert log.size == 1600
    await assert_whole(database, log, keys.read()[0].public)


async def test_two_notaries_do_not_work_at_once(
    notary_url: str, log_database: LogDatabase, sequencer: Sequencer, write: Write
) -> None:
    await write(1)
    other = LogDatabase(notary_url)
    async with other.turn():
        with pytest.raises(Unavailable):
            await sequencer.step()
    await other.close()
    assert (await sequencer.step()).leaves == 1


@pytest.mark.parametrize(
    "statement",
    [
        "select * from regie.run",
        "select * from regie.account",
        "insert into audit.intake (entry_id, log_id, leaf) values (gen_random_uuid(), 1, 'x')",
        "update audit.intake set leaf = 'x'",
        "update audit.leaf set leaf = 'x'",
        "delete from audit.leaf",
        "delete from audit.checkpoint",
        "truncate audit.leaf",
        "alter table audit.leaf disable trigger all",
        "create table audit.mine (x int)",
    ],
)
async def test_the_notarys_role_may_do_nothing_else(notary_url: str, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(notary_url) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute(statement.encode())


@pytest.mark.parametrize("table", ["leaf", "tile", "checkpoint"])
async def test_even_the_owner_must_take_the_seat_belt_off_first(
    database_url: str, sequencer: Sequencer, write: Write, table: str
) -> None:
    await write(257)
    await sequencer.step()
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as owner:
        for statement in ("delete from audit.{}", "truncate audit.{}", "update audit.{} set log_id = 9"):
            with pytest.raises(psycopg.errors.RaiseException):
                await owner.execute(sql.SQL(statement).format(sql.Identifier(table)))


async def test_a_new_key_is_named_by_the_old_one_and_both_sign_for_a_month(
    database: Database, database_url: str, sequencer: Sequencer, keys: KeyFile, write: Write
) -> None:
    await write(1)
    await sequencer.step()
    [old] = keys.read()
    new = keys.add()
    await sequencer.step()
    await write(1)
    await sequencer.step()
    async with database.reading() as tx:
        anchor = await logs.find(tx, *ANCHOR)
        told = dict(await logs.leaves(tx, anchor, Span(0, anchor.size)))[1].decode()
        assert str(new.verifier(anchor.origin)) in told
        assert str(old.verifier(anchor.origin)) in told
        assert await logs.signing_keys(tx) == [(old.public, 0), (new.public, 1)]
        log = await logs.find(tx, "acme", "identity")
        newest = await logs.newest(tx, log)
    assert newest is not None
    assert new.verifier(log.origin).has_signed(newest.note)
    assert old.verifier(log.origin).has_signed(newest.note)
    async with await psycopg.AsyncConnection.connect(database_url) as owner:
        await owner.execute("update audit.signing_key set at = at - %s", [timedelta(days=30)])
    await write(1)
    await sequencer.step()
    async with database.reading() as tx:
        newest = await logs.newest(tx, await logs.find(tx, "acme", "identity"))
    assert newest is not None
    assert new.verifier(log.origin).has_signed(newest.note)
    assert not old.verifier(log.origin).has_signed(newest.note)


async def test_without_the_key_that_signed_before_nothing_is_signed(
    sequencer: Sequencer, log_database: LogDatabase, keys: KeyFile, write: Write, tmp_path: Path
) -> None:
    await write(1)
    await sequencer.step()
    await write(1)
    with pytest.raises(AuthFailed):
        await Sequencer(log_database, KeyFile(tmp_path / "gone.json")).step()
    other = KeyFile(tmp_path / "other.json")
    other.add()
    with pytest.raises(AuthFailed):
        await Sequencer(log_database, other).step()
    (tmp_path / "other.json").chmod(0o644)
    with pytest.raises(AuthFailed):
        other.read()
    assert (await sequencer.step()).leaves == 1


async def test_what_is_taken_in_twice_is_logged_once(
    database: Database, database_url: str, sequencer: Sequencer, write: Write
) -> None:
    await write(1)
    await sequencer.step()
    async with await psycopg.AsyncConnection.connect(database_url) as owner:
        await owner.execute(
            """insert into audit.intake (entry_id, log_id, leaf, at)
               select entry_id, log_id, leaf, at from audit.leaf limit 1"""
        )
    await sequencer.step()
    log = await log_of(database)
    async with database.reading() as tx:
        leaves = await logs.leaves(tx, log, Span(0, log.size))
    assert len({leaf for _, leaf in leaves}) == len(leaves) == log.size


async def test_proofs_from_the_database_hold(database: Database, sequencer: Sequencer, write: Write) -> None:
    await write(600)
    await sequencer.step()
    async with database.reading() as tx:
        before = await logs.newest(tx, await logs.find(tx, "acme", "identity"))
    await write(400)
    await sequencer.step()
    async with database.reading() as tx:
        log = await logs.find(tx, "acme", "identity")
        after = await logs.newest(tx, log)
        assert before is not None
        assert after is not None
        proof = await logs.proof(tx.connection, log.log_id, log.size, merkle.consistency(600, log.size))
    assert merkle.continues(600, before.root, 1000, after.root, proof)


@pytest.mark.parametrize(
    "change",
    [
        "delete from audit.leaf where idx = 259",
        """insert into audit.leaf (log_id, idx, entry_id, leaf, leaf_hash, at)
           select log_id, 260, gen_random_uuid(), leaf, leaf_hash, at from audit.leaf where idx = 0 limit 1""",
        "update audit.leaf set leaf = 'x', leaf_hash = sha256('\\x0078'::bytea) where idx = 259",
        "update audit.tile set data = sha256('') || substr(data, 33)",
    ],
)
async def test_a_log_that_was_changed_is_not_signed_any_more(
    *, database_url: str, postgres_dsn: str, log_database: LogDatabase, keys: KeyFile, write: Write, change: str
) -> None:
    await write(260)
    await Sequencer(log_database, keys).step()
    async with await psycopg.AsyncConnection.connect(postgres_dsn_of(postgres_dsn, database_url)) as superuser:
        await superuser.execute("set session_replication_role = replica")
        await superuser.execute(change.encode())
    await write(1)
    with pytest.raises(AuditBroken):
        await Sequencer(log_database, keys).step()


def postgres_dsn_of(superuser: str, database_url: str) -> str:
    return make_conninfo(superuser, dbname=conninfo_to_dict(database_url)["dbname"])
