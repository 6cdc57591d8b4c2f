"""Read from the catalogue of the database: no table is without a wall, and no login can get over one."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from regie.store import walls
from regie.store.walls import Login, WallRefused

from .town import UNWALLED

pytestmark = pytest.mark.slow

Owner = psycopg.Connection[Any]
STANDS_FOR_A_TENANT = {"tenant", "domain", "domains", "log_id", "run", "run_id"}


def test_every_table_has_a_forced_wall_or_a_reason(owner: Owner) -> None:
    tables = owner.execute(
        """select s.nspname || '.' || t.relname, t.relrowsecurity and t.relforcerowsecurity,
                  (select array_agg(a.attname::text) from pg_attribute a
                   where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped)
           from pg_class t join pg_namespace s on s.oid = t.relnamespace
           where s.nspname in ('regie', 'audit') and t.relkind in ('r', 'p')"""
    ).fetchall()
    assert {name for name, is_walled, _ in tables if not is_walled} == set(UNWALLED)
    assert [name for name, is_walled, columns in tables if not is_walled and STANDS_FOR_A_TENANT & set(columns)] == []
    assert sum(is_walled for _, is_walled, _ in tables) >= 21


def test_every_policy_is_for_one_role_that_has_a_right_there(owner: Owner) -> None:
    policies = owner.execute(
        """select tablename, policyname, permissive, roles::text[], cmd, qual, with_check from pg_policies
           where schemaname in ('regie', 'audit')"""
    ).fetchall()
    owned = [policy for policy in policies if policy[1] == "owner"]
    assert len(owned) == len({table for table, *_ in policies})
    assert {tuple(roles) for _, _, _, roles, *_ in owned} == {("regie",)}
    for table, policy, permissive, roles, command, seen, written in policies:
        if policy != "owner":
            assert (permissive, roles, command) == ("PERMISSIVE", [policy], "ALL"), (table, policy)
            assert "-worker-" not in policy or policy.rpartition("-")[2] in seen + written or "log l" in seen, table


def test_who_has_a_right_on_a_walled_table_has_a_policy_there(owner: Owner) -> None:
    lacking = owner.execute(
        """select r.rolname, t.relname
           from pg_roles r cross join pg_class t join pg_namespace s on s.oid = t.relnamespace
           where s.nspname in ('regie', 'audit') and t.relrowsecurity and r.rolname like 'regie-%'
             and (has_any_column_privilege(r.oid, t.oid, 'select, insert, update, references')
                  or has_table_privilege(r.oid, t.oid, 'delete, truncate, trigger'))
             and (select count(*) from pg_policy p where p.polrelid = t.oid and p.polroles = array[r.oid]) <> 1"""
    ).fetchall()
    assert lacking == []


def test_no_login_may_do_more_than_its_walls_allow(owner: Owner) -> None:
    roles = owner.execute(
        """select rolname, rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication,
                  (select count(*) from pg_auth_members m where m.member = r.oid),
                  (select count(*) from pg_class where relowner = r.oid),
                  has_schema_privilege(r.oid, 'regie', 'create') or has_schema_privilege(r.oid, 'audit', 'create'),
                  has_any_column_privilege(r.oid, 'regie.account', 'select'),
                  has_any_column_privilege(r.oid, 'regie.session', 'select'),
                  has_column_privilege(r.oid, 'audit.intake', 'leaf', 'select')
           from pg_roles r where rolname like 'regie-%'"""
    ).fetchall()
    assert len(roles) >= 8
    for name, is_strong, memberships, owned, may_create, *may_read in roles:
        assert (is_strong, memberships, owned, may_create) == (False, 0, 0, False), name
        kind = name.split("-")[2]
        assert tuple(may_read) == (kind == "web", kind == "web", kind in {"web", "notary"}), name


def test_nothing_speaks_with_the_rights_of_the_owner(owner: Owner) -> None:
    definers = owner.execute(
        """select p.proname from pg_proc p join pg_namespace s on s.oid = p.pronamespace
           where s.nspname in ('regie', 'audit') and p.prosecdef"""
    )
    assert definers.fetchall() == []
    views = owner.execute(
        """select t.relname from pg_class t join pg_namespace s on s.oid = t.relnamespace
           where s.nspname in ('regie', 'audit')
             and (t.relkind = 'm' or (t.relkind = 'v'
                  and not coalesce('security_invoker=true' = any(t.reloptions), false)))"""
    )
    assert views.fetchall() == []


async def test_building_again_changes_nothing(town_url: str, owner: Owner) -> None:
    def policies() -> list[Any]:
        return owner.execute("select oid, polname from pg_policy order by oid").fetchall()

    before = policies()
    logins = [Login(walls.Process.WORKER, "a password of the tests", "hr")]
    assert await walls.build(town_url, logins) == await walls.build(town_url, logins)
    assert policies() == before


async def test_a_login_that_became_stronger_is_refused(town_url: str, postgres_dsn: str) -> None:
    [name] = [login.role("x") for login in [Login(walls.Process.WORKER, "p", "odd")]]
    assert name == "x-worker-odd"
    login = Login(walls.Process.WORKER, "p", "odd")
    [address] = await walls.build(town_url, [login])
    role = str(psycopg.conninfo.conninfo_to_dict(address)["user"])
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        for strength in ("bypassrls", "createrole"):
            admin.execute(f'alter role "{role}" {strength}'.encode())
            with pytest.raises(WallRefused, match="more than it should"):
                await walls.build(town_url, [login])
            admin.execute(f'alter role "{role}" no{strength}'.encode())
        admin.execute(f'grant "{role.replace("odd", "hr")}" to "{role}"'.encode())
        with pytest.raises(WallRefused, match="belongs to another role"):
            await walls.build(town_url, [login])


async def test_who_works_while_a_domain_comes_into_use_is_in_no_deadlock(town_url: str, owner: Owner) -> None:
    login = Login(walls.Process.WORKER, "p", "arriving")
    waiting = "select count(*) from pg_locks where not granted and relation = 'regie.run'::regclass"
    with psycopg.connect(town_url, options="-c lock_timeout=900ms") as working:
        working.execute("lock table regie.run in row exclusive mode")
        building = asyncio.create_task(walls.build(town_url, [login]))
        async with asyncio.timeout(60):
            while owner.execute(waiting).fetchone() != (1,):
                assert not building.done()
                await asyncio.sleep(0.01)
        # What gets its policy before that table is not held any more.
        for table in ("audit.intake", "regie.approval", "regie.inbox"):
            working.execute(f"lock table {table} in row exclusive mode")
    assert len(await building) == 1


async def test_an_owner_who_may_not_make_roles_is_told_what_to_do(town_url: str, postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute("alter role regie nocreaterole")
        try:
            with pytest.raises(WallRefused, match="may not create") as caught:
                await walls.build(town_url, [Login(walls.Process.WORKER, "p", "newest")])
        finally:
            admin.execute("alter role regie createrole")
    assert "createrole" in str(caught.value.hint)


def test_names_of_roles_fit() -> None:
    long = Login(walls.Process.WORKER, "p", "d" * 39)
    assert len(long.role("regie-0123abcd").encode()) <= walls.LONGEST_NAME
    cut = Login(walls.Process.WORKER, "p", "d" * 60), Login(walls.Process.WORKER, "p", "d" * 61)
    first, second = (login.role("regie-0123abcd") for login in cut)
    assert first != second
    assert len(first) <= walls.LONGEST_NAME
