"""Brings a database to the tables this code needs. `regie up` and the tests call it; the database checks it on opening.

Migrations are the numbered files in `migrations/`. What was applied is recorded with its digest: an applied file never
changes again, a new need gets a new file.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from regie.core.errors import InvalidInput, RegieError, Unavailable

LOCK = 7_238_415_001
"""Advisory lock under which one process at a time migrates; any number that nothing else uses."""


class MigrationRefused(RegieError):
    """The database and this code do not fit together."""


@dataclass(frozen=True)
class Migration:
    """One file: its number, its name, its bytes."""

    number: int
    name: str
    content: bytes

    @property
    def sha256(self) -> str:
        """Digest of the file, as recorded when it was applied."""
        return hashlib.sha256(self.content).hexdigest()


def shipped() -> list[Migration]:
    """The migrations of this code, in order."""
    folder = files("regie.store") / "migrations"
    found = [
        Migration(int(file.name.partition("_")[0]), file.name, file.read_bytes())
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.number)


async def migrate(dsn: str, migrations: list[Migration] | None = None) -> list[str]:
    """Apply what is missing, each file in a transaction of its own, and name what was applied.

    Several processes may call it at once; they take turns.

    Args:
        dsn: Connection string of the owner of the database.
        migrations: Other migrations than the shipped ones.

    Raises:
        MigrationRefused: An applied file has changed since, or the database is newer than this code.
        InvalidInput: The connection string cannot be read.
        Unavailable: The database does not answer.
    """
    wanted = shipped() if migrations is None else migrations
    try:
        connection = await AsyncConnection.connect(dsn, autocommit=True, connect_timeout=10)
        async with connection:
            await connection.execute("select pg_advisory_lock(%s)", [LOCK])
            await connection.execute("create schema if not exists regie")
            # No tenant: it is about the tables of the deployment.
            await connection.execute(
                "create table if not exists regie.migration (number integer primary key, name text not null, "
                "sha256 text not null, applied_at timestamptz not null default clock_timestamp())"
            )
            lacking = await _missing(connection, wanted)
            for migration in lacking:
                async with connection.transaction():
                    await connection.execute(migration.content)
                    await connection.execute(
                        "insert into regie.migration (number, name, sha256) values (%s, %s, %s)",
                        [migration.number, migration.name, migration.sha256],
                    )
            return [migration.name for migration in lacking]
    except psycopg.OperationalError as error:
        # The driver's text names hosts and roles and may quote the address, password included.
        raise Unavailable(
            f"The database cannot be reached or changed now ({reason_of(error)}).",
            hint="Does it run, and is REGIE_DATABASE_URL right?",
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise MigrationRefused(
            "The role in REGIE_DATABASE_URL may not make tables in that database.",
            hint="Give it the database: alter database NAME owner to ROLE.",
        ) from error
    except psycopg.ProgrammingError as error:
        # Without its cause, which quotes the address.
        if error.sqlstate is not None:
            raise
        raise InvalidInput(
            "REGIE_DATABASE_URL is no address of a PostgreSQL.", hint="Such as postgresql://regie:PASSWORD@HOST/regie"
        ) from None


def reason_of(error: psycopg.Error) -> str:
    """What went wrong in the driver's own word; of a refused connection also the server's."""
    return " ".join(filter(None, [type(error).__name__, error.sqlstate]))


async def check(connection: AsyncConnection[Any]) -> None:
    """Make sure that the tables are exactly those this code was written for.

    Raises:
        MigrationRefused: They are older, newer or other ones.
    """
    cursor = connection.cursor(row_factory=tuple_row)
    row = await (await cursor.execute("select to_regclass('regie.migration') is not null")).fetchone()
    lacking = await _missing(connection, shipped()) if row is not None and row[0] else shipped()
    if lacking:
        raise MigrationRefused(
            f"The database lacks {', '.join(migration.name for migration in lacking)}.", hint="Migrate it first."
        )


async def missing(connection: AsyncConnection[Any]) -> list[Migration]:
    """The migrations of this code that a database lacks; it must have been migrated before.

    Raises:
        MigrationRefused: It was migrated by another version.
    """
    return await _missing(connection, shipped())


async def _missing(connection: AsyncConnection[Any], wanted: list[Migration]) -> list[Migration]:
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute("select number, name, sha256 from regie.migration order by number")
    applied = {number: (name, sha256) for number, name, sha256 in await cursor.fetchall()}
    known = {migration.number: migration for migration in wanted}
    for number, (name, sha256) in applied.items():
        if number not in known:
            raise MigrationRefused(
                f"The database has {name}, which this version of Regie does not know.",
                hint="Install the newer version again, or restore a backup from before it.",
            )
        if known[number].sha256 != sha256:
            raise MigrationRefused(
                f"{known[number].name} was applied with other contents than it has now.",
                hint="Put the file back as it was and write a new one for the difference.",
            )
    return [migration for migration in wanted if migration.number not in applied]
