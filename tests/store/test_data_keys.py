"""What is sealed for a tenant in a domain opens there only, and only for who was given the key of that domain."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.core.audit import Actor
from regie.store import data_keys, key_rotation
from regie.store.data_keys import DataKeys
from regie.store.database import Database
from regie.store.key_encryption import KeyFiles
from regie.store.key_file import KeyFile
from regie.store.sealer import SealBroken, Sealer

pytestmark = pytest.mark.slow

ADDRESS = {"tenant": "acme", "domain": "hr", "table": "run.state", "pk": "1"}
KEY = b"k" * 32
OPERATOR = Actor(type="operator", id="olga")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def sealing(database_url: str, folder: Path) -> Sealer:
    """A sealer of a process that has all keys, at a fresh database."""
    return Sealer.from_file(folder / "sealing.json").at(database_url)


@pytest.fixture
def owner(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def versions(owner: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return owner.execute("select tenant, domain, version, uses from regie.data_key order by 1, 2, 3").fetchall()


def test_each_tenant_has_a_key_in_each_domain_from_its_first_use_on(
    sealing: Sealer, owner: psycopg.Connection[Any]
) -> None:
    for place in (ADDRESS, ADDRESS, {**ADDRESS, "tenant": "globex"}, {**ADDRESS, "domain": "support"}):
        sealed = sealing.seal(b"state", **place)
        assert sealing.open(sealed, **place) == b"state"
    assert versions(owner) == [("acme", "hr", 1, 0), ("acme", "support", 1, 0), ("globex", "hr", 1, 0)]
    wrapped = owner.execute("select wrapped from regie.data_key").fetchall()
    assert len({bytes(each) for (each,) in wrapped}) == 3


def test_a_value_that_is_moved_does_not_open(sealing: Sealer) -> None:
    sealed = sealing.seal(b"state", **ADDRESS)
    moves = {"tenant": "globex", "domain": "support", "table": "run.inbox", "pk": "2"}
    for part, elsewhere in moves.items():
        moved = {**ADDRESS, part: elsewhere}
        sealing.seal(b"so that there is a key", **moved)
        with pytest.raises(SealBroken):
            sealing.open(sealed, **moved)
    with pytest.raises(SealBroken):
        sealing.open(sealed, **{**ADDRESS, "tenant": ""})


def test_a_key_that_is_moved_does_not_unwrap(sealing: Sealer, owner: psycopg.Connection[Any]) -> None:
    """Somebody who writes in the database gives one tenant the key of another, under the same domain's key."""
    sealing.seal(b"state", **ADDRESS)
    owner.execute("insert into regie.data_key select 'globex', domain, version, wrapped from regie.data_key")
    with pytest.raises(SealBroken, match="does not open the data keys"):
        sealing.seal(b"state", **{**ADDRESS, "tenant": "globex"})


def test_altered_bytes_do_not_open(sealing: Sealer) -> None:
    sealed = sealing.seal(b"state", **ADDRESS)

    @given(st.integers(0, len(sealed) * 8 - 1))
    def altered(at: int) -> None:
        wrong = bytearray(sealed)
        # Which version of a key it is stands in the bytes too: one that there is not is asked for each time.
        at = at if at < 8 or at >= 39 else 39
        wrong[at // 8] ^= 1 << (at % 8)
        with pytest.raises(SealBroken):
            sealing.open(bytes(wrong), **ADDRESS)

    altered()
    with pytest.raises(SealBroken):
        sealing.open(sealed[:4], **ADDRESS)


def test_rows_from_before_there_were_data_keys_still_open(folder: Path, sealing: Sealer) -> None:
    old = KeyFile.read(folder / "sealing.json").seal(b"state", b"acme|hr|run.state|1")
    assert sealing.open(old, **ADDRESS) == b"state"
    with pytest.raises(SealBroken):
        sealing.open(old, **{**ADDRESS, "tenant": "globex"})


def test_processes_that_seal_first_at_once_have_the_same_key(
    database_url: str, owner: psycopg.Connection[Any], folder: Path
) -> None:
    sealers = [Sealer.from_file(folder / "sealing.json").at(database_url) for _ in range(8)]
    gate = threading.Barrier(len(sealers))
    sealed: list[bytes] = []

    def seal(one: Sealer) -> None:
        gate.wait()
        sealed.append(one.seal(b"state", **ADDRESS))

    threads = [threading.Thread(target=seal, args=[one]) for one in sealers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.open(each, **ADDRESS) for one in sealers for each in sealed} == {b"state"}
    assert versions(owner) == [("acme", "hr", 1, 0)]


def test_many_uses_are_counted_and_end_a_key(
    sealing: Sealer, owner: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_keys, "TOLD_EVERY", 10)
    monkeypatch.setattr(data_keys, "MOST_USES", 30)
    sealed = [sealing.seal(b"state", **ADDRESS) for _ in range(45)]
    assert versions(owner) == [("acme", "hr", 1, 30), ("acme", "hr", 2, 10)]
    assert [sealing.open(each, **ADDRESS) for each in sealed] == [b"state"] * 45
    assert {each[:5] for each in sealed[:30]} == {b"\0\0\0\0\1"}
    assert {each[:5] for each in sealed[30:]} == {b"\0\0\0\0\2"}


@pytest.mark.parametrize("silent_s", [0.0, 70.0, 2000.0])
async def test_a_new_key_is_used_however_long_nothing_was_asked_for_its_tenant(
    database_url: str, folder: Path, owner: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch, silent_s: float
) -> None:
    async with Database(database_url, Sealer.from_file(folder / "sealing.json")) as database:
        async with database.transaction("acme") as tx:
            before = tx.sealer.seal(b"state", **ADDRESS)
            version = await key_rotation.rotate(tx, "acme", "hr", OPERATOR)
        owner.execute("update regie.data_key set made_at = made_at - make_interval(secs => %s)", [silent_s])
        now_s = time.monotonic() + silent_s
        monkeypatch.setattr(time, "monotonic", lambda: now_s)
        async with database.reading("acme") as tx:
            after = tx.sealer.seal(b"state", **ADDRESS)
            assert tx.sealer.open(before, **ADDRESS) == b"state"
    assert (before[4], after[4]) == (1, version if silent_s else 1)


def test_a_database_that_lost_its_keys_is_noticed(
    sealing: Sealer, owner: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing may be sealed for long under a key that nobody can read any more."""
    monkeypatch.setattr(data_keys, "TOLD_EVERY", 10)
    sealing.seal(b"state", **ADDRESS)
    owner.execute("delete from regie.data_key")
    with pytest.raises(SealBroken, match="not in the database any more"):
        [sealing.seal(b"state", **ADDRESS) for _ in range(10)]


def test_the_limit_leaves_room_for_what_is_never_told() -> None:
    """2^32 values under one key; a process tells of each 2^16, and what it had not told is forgotten as it ends."""
    processes_a_key_may_outlive = 30_000
    assert data_keys.MOST_USES + processes_a_key_may_outlive * data_keys.TOLD_EVERY < 2**32


def test_a_lost_key_of_a_domain_is_not_replaced(
    database_url: str, owner: psycopg.Connection[Any], tmp_path: Path
) -> None:
    Sealer.from_file(tmp_path / "sealing.json").at(database_url).seal(b"state", **ADDRESS)
    (tmp_path / "domain-hr.json").unlink()
    later = Sealer.from_file(tmp_path / "sealing.json").at(database_url)
    for tenant in ("acme", "globex"):
        with pytest.raises(SealBroken, match="no key file") as caught:
            later.seal(b"state", **{**ADDRESS, "tenant": tenant})
        assert "backup" in str(caught.value.hint)
    assert versions(owner) == [("acme", "hr", 1, 0)]
    assert not (tmp_path / "domain-hr.json").exists()


@pytest.fixture
async def of_support(
    url_of: Callable[[str], str], database_url: str, sealing: Sealer, folder: Path, tmp_path: Path
) -> AsyncIterator[Database]:
    """The database as a worker of Support opens it, in a folder where only its own keys are."""
    async with Database(database_url, sealing) as everybodys, everybodys.transaction() as tx:
        for domain in ("support", "hr"):
            tx.sealer.seal(b"", **{**ADDRESS, "domain": domain})
    for name in ("sealing.json", "domain-support.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
        (tmp_path / name).chmod(0o600)
    async with Database(url_of("worker-support"), Sealer.from_file(tmp_path / "sealing.json")) as database:
        yield database


async def test_a_worker_needs_the_key_of_its_domain_only_and_reads_no_other(
    of_support: Database, sealing: Sealer, url_of: Callable[[str], str], folder: Path
) -> None:
    of_hr = sealing.seal(b"salary", **ADDRESS)
    async with of_support.transaction() as tx:
        own = tx.sealer.seal(b"ticket", **{**ADDRESS, "domain": "support"})
        assert tx.sealer.open(own, **{**ADDRESS, "domain": "support"}) == b"ticket"
        seen = await tx.rows("select domain from regie.data_key")
        assert seen == [{"domain": "support"}]
        with pytest.raises(SealBroken, match="no data key 1 of acme in hr"):
            tx.sealer.open(of_hr, **ADDRESS)
    # And when it has got hold of HR's wrapped key somehow, as from a backup:
    stolen = sealing.data_keys.fresh("acme", "hr", 1, is_first=False)
    for domains in (None, ["support"]):
        keys = DataKeys(url_of("worker-support"), KeyFiles(folder / "elsewhere", domains))
        keys.learn([{"tenant": "acme", "domain": "hr", "version": 1, "wrapped": stolen}])
        with pytest.raises(SealBroken, match="no key file" if domains is None else "no key of the domain hr"):
            keys.to_open("acme", "hr", 1)


async def test_a_worker_cannot_take_a_key_away_or_change_one(of_support: Database) -> None:
    for statement in ("delete from regie.data_key", "update regie.data_key set wrapped = ''"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with of_support.transaction() as tx:
                await tx.connection.execute(statement.encode())


def test_the_key_of_a_domain_may_be_changed_while_processes_run(tmp_path: Path) -> None:
    """A key that was added to the file is found without starting anew; the one before still unwraps."""
    files = KeyFiles(tmp_path)
    before = files.wrap("hr", KEY, b"1", is_first=True)
    path = tmp_path / "domain-hr.json"
    path.write_text(path.read_text().replace('"keys": {', '"keys": {"2": "%s", ' % ("A" * 43 + "=")))
    path.write_text(path.read_text().replace('"current": 1', '"current": 2'))
    after = KeyFiles(tmp_path).wrap("hr", KEY, b"2", is_first=False)
    assert after[0] == 2
    assert files.unwrap("hr", after, b"2") == KEY
    assert files.unwrap("hr", before, b"1") == KEY


def test_no_key_lies_outside_its_folder(tmp_path: Path) -> None:
    for name in ("../hr", "", "hr/x", "HR"):
        with pytest.raises(SealBroken, match="no name of a domain"):
            KeyFiles(tmp_path / "keys").wrap(name, KEY, b"", is_first=True)
