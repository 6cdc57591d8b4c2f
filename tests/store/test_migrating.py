"""Migrations: each once, in order, by one process at a time; what does not fit is refused and leaves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from regie.store.database import Database
from regie.store.migrating import Migration, MigrationRefused, migrate, shipped
from regie.store.postgres_server import PostgresServer
from regie.store.sealer import Sealer

ONE = Migration(1, "0001_one.sql", b"create table regie.one (a integer)")
TWO = Migration(2, "0002_two.sql", b"create table regie.two (a integer); insert into regie.two values (7)")
WRONG = Migration(3, "0003_wrong.sql", b"create table regie.three (a integer); select 1 / 0")


@pytest.fixture
def empty_url(postgres_server: PostgresServer, postgres_dsn: str) -> Iterator[str]:
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute("create database empty owner regie")
        yield make_conninfo(postgres_server.ensure().dsn, dbname="empty")
        admin.execute("drop database empty with (force)")


def tables(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        found = connection.execute("select tablename from pg_tables where schemaname in ('regie', 'audit') order by 1")
        return [name for (name,) in found]


def test_the_shipped_files_count_from_one() -> None:
    migrations = shipped()
    assert [migration.number for migration in migrations] == list(range(1, len(migrations) + 1))
    assert all(migration.name == f"{migration.number:04}{migration.name[4:]}" for migration in migrations)


@pytest.mark.slow
async def test_each_file_is_applied_once(empty_url: str) -> None:
    assert await migrate(empty_url, [ONE]) == ["0001_one.sql"]
    assert await migrate(empty_url, [ONE, TWO]) == ["0002_two.sql"]
    assert await migrate(empty_url, [ONE, TWO]) == []
    assert tables(empty_url) == ["migration", "one", "two"]


@pytest.mark.slow
async def test_several_processes_take_turns(empty_url: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_url) for _ in range(5)))
    assert sorted(len(names) for names in applied) == [0, 0, 0, 0, len(shipped())]


@pytest.mark.slow
async def test_a_failing_file_leaves_nothing(empty_url: str) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        await migrate(empty_url, [ONE, TWO, WRONG])
    assert tables(empty_url) == ["migration", "one", "two"]


@pytest.mark.slow
async def test_a_changed_file_is_refused(empty_url: str) -> None:
    await migrate(empty_url, [ONE])
    with pytest.raises(MigrationRefused, match="0001_one"):
        await migrate(empty_url, [Migration(1, ONE.name, ONE.content + b" "), TWO])
    assert tables(empty_url) == ["migration", "one"]


@pytest.mark.slow
async def test_a_newer_database_is_refused(empty_url: str, sealer: Sealer) -> None:
    await migrate(empty_url)
    await migrate(empty_url, [*shipped(), Migration(9999, "9999_later.sql", b"create table regie.later ()")])
    with pytest.raises(MigrationRefused, match="9999_later"):
        await migrate(empty_url)
    with pytest.raises(MigrationRefused, match="9999_later"):
        await Database(empty_url, sealer).open()


@pytest.mark.slow
def test_keys_of_tenants_begin_with_tenant_and_domain(database_url: str) -> None:
    """No unique or foreign key of a tenant's table can tell one tenant about another's rows."""
    with psycopg.connect(database_url) as connection:
        keys = connection.execute(
            """select t.relname, c.conname, array_agg(a.attname::text order by k.n)
               from pg_constraint c join pg_class t on t.oid = c.conrelid
               join pg_namespace s on s.oid = t.relnamespace and s.nspname = 'regie'
               cross join unnest(c.conkey) with ordinality k (attnum, n)
               join pg_attribute a on a.attrelid = t.oid and a.attnum = k.attnum
               where c.contype in ('p', 'u', 'f')
                 and exists (select from pg_attribute o where o.attrelid = t.oid and o.attname = 'tenant')
                 and (c.contype <> 'f' or c.confrelid <> 'regie.release'::regclass)
               group by 1, 2"""
        ).fetchall()
        loose = connection.execute(
            """select x.relname from pg_index i join pg_class t on t.oid = i.indrelid
               join pg_class x on x.oid = i.indexrelid
               join pg_namespace s on s.oid = t.relnamespace and s.nspname = 'regie'
               where i.indisunique and not exists (select from pg_constraint c where c.conindid = i.indexrelid)"""
        ).fetchall()
        database = connection.execute(
            sql.SQL("select count(*) from {}.{}").format(sql.Identifier("regie"), sql.Identifier("deployment"))
        ).fetchone()
    assert len(keys) >= 14
    assert [key for key in keys if key[2][:2] != ["tenant", "domain"]] == []
    # Those of a table that is no tenant's own begin with the tenant too, where a customer's service writes it.
    assert sorted(loose) == [
        ("deployment_is_one",),
        ("provisioned_group_by_name",),
        ("provisioned_user_by_name",),
    ]
    assert database == (1,)
