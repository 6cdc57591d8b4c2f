"""A town in the database of the module, and the logins of the processes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from regie.store.postgres_server import PostgresServer
from tests.conftest import Admin, login

from .town import settle


@pytest.fixture(scope="module")
def town_url(
    postgres_server: PostgresServer, postgres_admin: Admin, database_template: str, database_logins: dict[str, str]
) -> Iterator[str]:
    """Connection string of the owner of a database with the town in it, shared by the tests of a module."""
    name = f"town{uuid.uuid4().hex}"
    copy = sql.SQL("create database {} template {} owner regie")
    postgres_admin.execute(copy.format(sql.Identifier(name), sql.Identifier(database_template)))
    url = make_conninfo(postgres_server.ensure().dsn, dbname=name)
    with psycopg.connect(url) as owner:
        settle(owner)
    yield url
    postgres_admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def owner(town_url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(town_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def town_login(town_url: str, database_logins: dict[str, str], postgres_admin: Admin) -> Callable[[str], str]:
    """The connection string of a process to the town, such as that of `worker-hr`."""
    return lambda process: login(postgres_admin, database_logins[process], town_url)
