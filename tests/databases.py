"""Databases for tests, each fresh and migrated: copied from a template, or emptied after the test before.

A copy costs more than what most tests do with it. So the database of a test is emptied for the next one, which gets it
under another name: whoever still knows the former name finds nothing. One whose tables, functions, policies or other
parts a test has changed, or that cannot be made like the template again, is dropped.
"""

from __future__ import annotations

import uuid
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

Connection = psycopg.Connection[tuple[Any, ...]]

MADE_OF: tuple[LiteralString, ...] = (
    "pg_class",
    "pg_attribute",
    "pg_attrdef",
    "pg_constraint",
    "pg_index",
    "pg_namespace",
    "pg_policy",
    "pg_proc",
    "pg_trigger",
    "pg_type",
)
"""Catalogues in which a row is written when a part of a database is made or changed."""
NOW: LiteralString = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint"


class Databases:
    """Gives databases out and takes them back.

    Args:
        admin_dsn: Connection string of the superuser.
        template: The name of the database that they are like.
    """

    def __init__(self, admin_dsn: str, template: str) -> None:
        self._dsn = admin_dsn
        self._template = template
        self._free: str | None = None
        self._as_since = 0
        with psycopg.connect(make_conninfo(admin_dsn, dbname=template)) as connection:
            self._tables = [name for (name,) in connection.execute(_TABLES)]
            self._filled = sorted(_filled(connection, self._tables))
            self._content = _content(connection, self._filled)

    def give(self, admin: Connection) -> str:
        """The name of a fresh database."""
        name = f"t{uuid.uuid4().hex}"
        wanted = sql.Identifier(name)
        if self._free is None:
            copy = sql.SQL("create database {} template {} owner regie")
            admin.execute(copy.format(wanted, sql.Identifier(self._template)))
            self._as_since = _first(admin.execute(NOW))
        else:
            admin.execute(sql.SQL("alter database {} rename to {}").format(sql.Identifier(self._free), wanted))
            self._free = None
        return name

    def take_back(self, admin: Connection, name: str, *, is_left: bool) -> None:
        """Empty a database for the next test, or drop it when somebody is in it or it cannot be emptied."""
        if not is_left and self._is_emptied(name):
            self._free = name
        else:
            admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))

    def _is_emptied(self, name: str) -> bool:
        with psycopg.connect(make_conninfo(self._dsn, dbname=name)) as connection:
            if self._is_rebuilt(connection):
                return False
            # Triggers forbid to take anything away from the audit log.
            connection.execute("set session_replication_role = replica")
            _take_away(connection, _filled(connection, self._tables) - set(self._filled))
            connection.execute(_NUMBER_ANEW)
            # The one table that has rows from the beginning and gets more.
            connection.execute("delete from audit.log where tenant <> ''")
            connection.execute(
                "select setval(pg_get_serial_sequence('audit.log', 'log_id'), (select max(log_id) from audit.log))"
            )
            if _content(connection, self._filled) != self._content:
                return False
            connection.commit()
            self._as_since = _first(connection.execute(NOW))
        return True

    def _is_rebuilt(self, connection: Connection) -> bool:
        """Whether a part of the database was made or changed since it was given out."""
        changes = [f"exists (select from {each} where xmin::text::bigint >= %(since)s)" for each in MADE_OF]
        return bool(_first(connection.execute(f"select {' or '.join(changes)}", {"since": self._as_since})))


_TABLES: LiteralString = "select schemaname || '.' || tablename from pg_tables where schemaname in ('regie', 'audit')"
_NUMBER_ANEW: LiteralString = """
    select setval((schemaname || '.' || sequencename)::regclass, start_value, false)
    from pg_sequences where last_value is not null
"""
MOST_BYTES = 256 * 1024
"""A table that has grown to this size, dead rows included, is given new files; for the others that is dearer than
taking the rows away: each has a file for its rows and one for each of its indexes."""


def _first(cursor: psycopg.Cursor[tuple[Any, ...]]) -> Any:
    row = cursor.fetchone()
    assert row is not None
    return row[0]


def _listed(tables: list[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(*table.split(".")) for table in tables)


def _filled(connection: Connection, tables: list[str]) -> set[str]:
    """Those with rows."""
    asked = sql.SQL("select {} where exists (select from {})")
    parts = [asked.format(sql.Literal(table), _listed([table])) for table in tables]
    return {name for (name,) in connection.execute(sql.SQL(" union all ").join(parts))}


def _take_away(connection: Connection, tables: set[str]) -> None:
    """All rows of some tables."""
    sizes = connection.execute(
        "select each, pg_table_size(each::regclass) from unnest(%s::text[]) each", [list(tables)]
    )
    grown = {table for table, size in sizes if size > MOST_BYTES}
    if grown:
        connection.execute(sql.SQL("truncate {} cascade").format(_listed(sorted(grown))))
    for table in tables - grown:
        connection.execute(sql.SQL("delete from {}").format(_listed([table])))


def _content(connection: Connection, tables: list[str]) -> list[Any]:
    """Every row of some tables, as text."""
    asked = sql.SQL("select {}, row::text from {} row")
    parts = [asked.format(sql.Literal(table), _listed([table])) for table in tables]
    return sorted(connection.execute(sql.SQL(" union all ").join(parts)))
