"""Where it is measured: a database server of its own, a fresh database for each measurement, and its pgbench."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.workload import ALONE, OPERATOR, release
from regie.core.tenant import Quota
from regie.store import postgres_binaries, releases, walls
from regie.store.database import Database
from regie.store.migrating import migrate
from regie.store.postgres_server import PostgresServer
from regie.store.sealer import Sealer
from regie.store.walls import Login

CONNECTIONS = 20
"""As a worker process has."""
INSERT = "insert into one_row (n, text) values (1, 'the same for everybody');\n"


@dataclass(frozen=True)
class Stand:
    """A running server."""

    folder: Path
    server: PostgresServer

    @property
    def sealer(self) -> Sealer:
        """The key of every database here."""
        return Sealer.from_file(self.folder / "keys" / "sealing.json")

    def make_database(self) -> str:
        """Connection string of an empty database."""
        name = f"b{uuid.uuid4().hex}"
        with psycopg.connect(self.server.admin_dsn(), autocommit=True) as admin:
            admin.execute(sql.SQL("create database {} owner regie").format(sql.Identifier(name)))
        return make_conninfo(self.server.ensure().dsn, dbname=name)

    async def loaded(self, domains: Mapping[str, Quota] = ALONE) -> str:
        """Connection string of a database with tables and the workflows, in each of these domains.

        Of one domain it is that of its workers; of several the owner's, whose worker may work for all of them.
        """
        dsn = self.make_database()
        await migrate(dsn)
        async with Database(dsn, self.sealer) as database, database.transaction() as tx:
            await releases.put(tx, release(domains), by=OPERATOR)
        if len(domains) == 1:
            [dsn] = await walls.build(dsn, [Login(walls.Process.WORKER, "bench", *domains)])
        return dsn

    def owner_of(self, dsn: str) -> str:
        """Connection string of the owner of a database, for what only the measurement does in it."""
        return make_conninfo(self.server.ensure().dsn, dbname=str(conninfo_to_dict(dsn)["dbname"]))

    @asynccontextmanager
    async def opened(self, dsn: str) -> AsyncIterator[Database]:
        """A database as a worker process opens it."""
        async with Database(dsn, self.sealer, max_connections=CONNECTIONS, by_key=True) as database:
            yield database

    def pgbench(self, clients: int, seconds: float) -> float:
        """Transactions in a second of one inserted row each, by so many clients."""
        dsn = self.make_database()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                "create table one_row (id bigint generated always as identity primary key, n int, text text)"
            )
        script = self.folder / "insert.sql"
        script.write_text(INSERT, encoding="utf-8")
        parts = conninfo_to_dict(dsn)
        programs = self.folder / "programs"
        programs.mkdir(exist_ok=True)
        program = postgres_binaries.install(programs).program("pgbench")
        done = subprocess.run(
            [
                *(
                    program,
                    "--no-vacuum",
                    f"--file={script}",
                    f"--client={clients}",
                    f"--time={max(1, round(seconds))}",
                ),
                *(
                    f"--host={parts['host']}",
                    f"--port={parts['port']}",
                    f"--username={parts['user']}",
                    str(parts["dbname"]),
                ),
            ],
            env={"PGPASSWORD": str(parts["password"])},
            capture_output=True,
            text=True,
            check=True,
        )
        found = re.search(r"tps = ([0-9.]+)", done.stdout)
        if found is None:
            raise RuntimeError(f"pgbench said no figure: {done.stdout}")
        return float(found[1])


@contextmanager
def standing() -> Iterator[Stand]:
    """A server for the length of the block; everything of it is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="regie-bench-"))
    # Under root the server runs under another account, which must be able to enter.
    folder.chmod(0o755)
    server = PostgresServer(folder / "postgres", service_root=folder / "service")
    try:
        server.ensure()
        yield Stand(folder, server)
    finally:
        server.remove()
        shutil.rmtree(folder, ignore_errors=True)
