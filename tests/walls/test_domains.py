"""Whatever SQL a worker of one domain runs, rows of the others are not there for it and cannot be changed by it."""

# ruff: noqa: S608  what an intruder would send is put together as an intruder would
from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from .town import BY_ID, DOMAINS, PLACES, TENANTS, Place, places_in, settle

pytestmark = pytest.mark.slow

Connection = psycopg.Connection[Any]
SEED = 20261129
OPERATIONS = 1_500

GETTING_OUT = (
    "set role regie",
    "set role postgres",
    "set session authorization regie",
    "set row_security = off",
    "reset role",
    "reset all",
    "reset session authorization",
    "select set_config('regie.tenant', 'globex', false)",
    "select set_config('regie.domain', 'hr', false)",
    "select set_config('role', 'regie', false)",
    "set local role regie",
    "discard all",
    "alter table regie.run disable row level security",
    "alter table regie.run no force row level security",
    "create policy open on regie.run using (true)",
    "drop policy owner on regie.run",
    "alter role current_user bypassrls",
    "grant regie to current_user",
    "grant select on regie.account to current_user",
    "create view pg_temp.peep as select * from regie.run; select * from pg_temp.peep",
    """create function pg_temp.peep(anyelement) returns boolean language plpgsql cost 0.0000001 as
       $$ begin raise notice '%', $1; return true; end $$; select * from regie.run r where pg_temp.peep(r)""",
    """create function pg_temp.own() returns setof regie.run language sql security definer as
       $$ select * from regie.run $$; select * from pg_temp.own()""",
    "copy regie.run to stdout",
    "copy (select * from regie.run) to program 'cat'",
    "select pg_read_file('postgresql.conf')",
    "select lo_import('/etc/passwd')",
    "call regie.wall_in('regie.run')",
    "select * from pg_stats where schemaname = 'regie'",
    "select * from pg_stat_activity",
    "select stavalues1::text from pg_statistic",
    "select * from pg_authid",
    "truncate regie.run cascade",
)
"""What somebody would try who can run any SQL as a worker."""


@pytest.fixture(scope="module")
def workers(town_login: Callable[[str], str]) -> Iterator[dict[str, Connection]]:
    connections = {domain: psycopg.connect(town_login(f"worker-{domain}"), autocommit=True) for domain in DOMAINS}
    yield connections
    for connection in connections.values():
        connection.close()


@pytest.fixture(scope="module")
def tables(owner: Connection) -> list[str]:
    found = owner.execute(
        """select schemaname || '.' || tablename from pg_tables
           where schemaname in ('regie', 'audit') and rowsecurity order by 1"""
    ).fetchall()
    return [name for (name,) in found]


def run(connection: Connection, statement: str) -> tuple[set[Place], str]:
    """Run SQL of any kind as it is; whose rows came back, in answers or in messages, and what refused it."""
    heard: list[tuple[Any, ...]] = []
    connection.add_notice_handler(note := lambda diagnostic: heard.append((diagnostic.message_primary,)))
    refusal = ""
    try:
        cursor = connection.cursor()
        if statement.startswith("copy"):
            with cursor.copy(statement.partition(";")[0].encode()) as copied:
                heard += [(bytes(part),) for part in copied]
        else:
            cursor.execute(statement.encode(), prepare=False)
        while True:
            if cursor.description is not None:
                heard += cursor.fetchall()
            if not cursor.nextset():
                break
    except psycopg.Error as error:
        refusal = type(error).__name__
        # Without the line of the statement, which says what was asked.
        heard.append((error.diag.message_primary, error.diag.message_detail, error.diag.context))
    finally:
        connection.remove_notice_handler(note)
        connection.rollback()
        # What else a statement has changed for the session is the next one's beginning.
        connection.execute("discard temp")
    return places_in(heard), refusal


def standing(owner: Connection, tables: list[str]) -> dict[str, dict[str, str]]:
    """A digest of the rows of each domain, by table."""
    found: dict[str, dict[str, str]] = {}
    for table in tables:
        domain = sql.SQL(_DOMAIN_OF.get(table, "t.domain"))
        rows = owner.execute(
            sql.SQL("select {}, md5(string_agg(t::text, ',' order by t::text)) from {} t group by 1").format(
                domain, sql.Identifier(*table.split("."))
            )
        ).fetchall()
        found[table] = dict(rows)
    return found


_DOMAIN_OF = {
    "regie.worker": "t.domains[1]",
    **{
        f"audit.{name}": "(select l.domain from audit.log l where l.log_id = t.log_id)"
        for name in ("intake", "leaf", "tile", "checkpoint")
    },
}


def test_the_town_has_rows_of_everybody_everywhere(owner: Connection, tables: list[str]) -> None:
    """Else nothing that follows would show anything."""
    for table in tables:
        rows = owner.execute(sql.SQL("select * from {}").format(sql.Identifier(*table.split(".")))).fetchall()
        everybody = set(DOMAINS) if table == "regie.quota" else set(PLACES)
        seen = {domain for domain, *_ in rows} if table == "regie.quota" else places_in(rows)
        assert seen == everybody, table


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_worker_sees_its_domain_and_nothing_else(
    workers: dict[str, Connection], tables: list[str], domain: str
) -> None:
    own = {place for place in PLACES if place.domain == domain}
    reached = set()
    for table in tables:
        seen, refusal = run(workers[domain], f"select * from {table}")
        assert seen <= own, table
        reached |= {table} if seen == own else set()
        assert seen == own or refusal == "InsufficientPrivilege" or table == "regie.quota", table
    assert {"regie.run", "regie.step", "regie.inbox", "regie.approval", "regie.event", "regie.timer"} <= reached
    assert workers[domain].execute("select domain from regie.quota").fetchall() == [(domain,)]


@pytest.mark.parametrize("statement", GETTING_OUT, ids=lambda statement: statement[:50])
def test_there_is_no_way_out(workers: dict[str, Connection], tables: list[str], statement: str) -> None:
    """The statement itself shows nothing of others, nor does what is asked behind it on the same connection."""
    own = {place for place in PLACES if place.domain == "support"}
    seen, _ = run(workers["support"], statement)
    assert seen <= own
    for table in tables:
        seen, _ = run(workers["support"], f"select * from {table}")
        assert seen <= own, table
    # Without a transaction around them all, which the first that is refused would end.
    seen, _ = run(workers["support"], f"{statement}; select * from regie.run; select * from regie.approval")
    assert seen <= own


def test_nothing_of_another_domain_can_be_written(
    workers: dict[str, Connection], owner: Connection, tables: list[str]
) -> None:
    before = standing(owner, tables)
    statements = [statement for table in tables for statement in writings(owner, table)]
    done = sum(not run(workers["support"], statement)[1] for statement in statements)
    after = standing(owner, tables)
    for table in tables:
        others = {domain: digest for domain, digest in before[table].items() if domain != "support"}
        assert others == {domain: digest for domain, digest in after[table].items() if domain != "support"}, table
    assert len(statements) > 60
    assert done > 10, "what is its own it may write"
    settle(owner)


def writings(owner: Connection, table: str) -> Iterator[str]:
    """What a worker of Support may try to do to HR's rows of a table, its own or theirs in the first place."""
    columns = owner.execute(
        """select attname from pg_attribute
           where attrelid = %s::regclass and attnum > 0 and not attisdropped and attidentity = ''""",
        [table],
    ).fetchall()
    names = [name for (name,) in columns]
    for_hr = {"domain": "'hr'", "domains": "array['hr']", "tenant": "'acme'", "origin": "origin || 'x'"}
    forged = ", ".join(for_hr.get(name, name) for name in names)
    yield f"insert into {table} ({', '.join(names)}) select {forged} from {table} on conflict do nothing"
    for name in {"domain", "domains"} & set(names):
        yield f"update {table} set {name} = {for_hr[name]}"
        yield f"update {table} set {name} = {name} where {name}::text like '%hr%'"
        yield f"delete from {table} where {name}::text like '%hr%'"
    if "log_id" in names:
        yield f"insert into {table} ({', '.join(names)}) select {', '.join(names)} from {table} on conflict do nothing"
        yield f"update {table} set log_id = log_id + 1"
    yield f"delete from {table}"


def test_operations_drawn_at_random_leak_nothing(
    workers: dict[str, Connection], owner: Connection, tables: list[str]
) -> None:
    """Readings, writings and injected SQL by the workers of all domains, about everybody's rows."""
    chance = random.Random(SEED)  # noqa: S311  repeatable
    before = standing(owner, tables)
    refused = leaked = found = 0
    for _ in range(OPERATIONS):
        domain, place = chance.choice(DOMAINS), chance.choice(PLACES)
        statement = drawn(chance, chance.choice(tables), place)
        connection = workers[domain]
        # Rolled back, so that the next one finds everything again.
        seen, refusal = run(connection, f"begin; {statement}")
        refused += bool(refusal)
        found += any(each.domain == domain for each in seen)
        leaked += any(each.domain != domain for each in seen)
        assert leaked == 0, (domain, statement)
    assert standing(owner, tables) == before
    assert refused > OPERATIONS // 10
    assert found > OPERATIONS // 20, "the readings find what is there for them"


def drawn(chance: random.Random, table: str, place: Place) -> str:
    """One operation about a place's rows; now and then something is injected where a value stands."""
    value = chance.choice(
        (
            place.tenant,
            place.mark,
            "x' or true --",
            f"x' union all select null::text from {table} --",
            f"x'; set role regie; select * from {table} --",
            f"x'; reset role; select * from {table} --",
            f"x'; set row_security = off; select * from {table} --",
            f"x'; select set_config('regie.tenant', '{place.tenant}', false); select * from {table} --",
            f"x'; select t::text from {table} t --",
            f"x'; update {table} set domain = '{place.domain}' returning * --",
            f"x'; delete from {table} returning * --",
        )
    )
    return chance.choice(
        (
            f"select * from {table} where tenant = '{value}'",
            f"select * from {table} where domain = '{place.domain}' and tenant = '{value}'",
            f"select count(*), max(t::text) from {table} t where t::text like '%{place.mark}%' or tenant = '{value}'",
            f"update {table} set tenant = '{place.tenant}' where tenant <> '{value}' returning *",
            f"delete from {table} where domain = '{place.domain}' or tenant = '{value}' returning *",
            f"insert into regie.timer values ('{place.tenant}', '{place.domain}', '{place.id}', '{value}', 1, now())",
            f"insert into audit.log (tenant, domain, origin) values ('{value}', '{place.domain}', '{place.mark}')",
            f"select r.*, t.* from regie.run r left join {table} t using (tenant) where r.tenant = '{value}'",
        )
    )


def test_the_gateway_sees_one_tenant_at_a_time_and_without_one_none(
    town_login: Callable[[str], str], tables: list[str]
) -> None:
    with psycopg.connect(town_login("gateway"), autocommit=True) as gateway:
        for table in tables:
            assert places_in_of(gateway, table, "") == set(), table
        for tenant in TENANTS:
            for table in tables:
                seen = places_in_of(gateway, table, tenant)
                assert {place.tenant for place in seen} <= {tenant}, table
            assert {place.domain for place in places_in_of(gateway, "regie.effect", tenant)} == set(DOMAINS)
        # The setting is over with its transaction.
        assert places_in_of(gateway, "regie.effect", "") == set()


def places_in_of(gateway: Connection, table: str, tenant: str) -> set[Place]:
    with gateway.transaction():
        if tenant:
            gateway.execute("select set_config('regie.tenant', %s, true)", [tenant])
        try:
            with gateway.transaction():
                rows = gateway.execute(sql.SQL("select * from {}").format(sql.Identifier(*table.split(".")))).fetchall()
        except psycopg.errors.InsufficientPrivilege:
            return set()
    return places_in(rows)


def test_ids_stand_for_places() -> None:
    assert len(BY_ID) == len(PLACES) == len(TENANTS) * len(DOMAINS)
