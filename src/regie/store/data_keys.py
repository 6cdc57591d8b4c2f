"""The data keys of tenants and domains as one process has them: read wrapped from the database, unwrapped, kept.

Whatever is sealed for a tenant in a domain is sealed under their newest data key. Sealing and opening need no database:
keys are read ahead (`learn`). Only what nobody can have read ahead is asked for there and then, on a connection of its
own that commits by itself: the first key of a tenant in a domain, and one that another process has made in between.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, LiteralString

import psycopg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg.rows import DictRow, dict_row

from regie.core.errors import Unavailable
from regie.store.key_encryption import KeyEncryption
from regie.store.key_file import KEY_BYTES, SealBroken
from regie.store.keys import TENANT

ENVELOPE: Final = b"\0"
"""The first byte of what is sealed under a data key; that of a key file's is the id of the key, from 1."""
HEADER_BYTES: Final = 5
"""That byte and the version of the data key, four bytes, big-endian."""
MOST_USES: Final = 2**31
"""After so many values a tenant and domain get a new data key. 2^32 are allowed (NIST SP 800-38D, 8.3): what is left
covers those that were sealed by a process and not told any more, less than `TOLD_EVERY` each time one ended."""
TOLD_EVERY: Final = 2**16
"""Values that a process seals before it tells the database of them."""
_READ: LiteralString = "select tenant, domain, version, wrapped from regie.data_key"
READ_AHEAD: Final[LiteralString] = (
    _READ
    + """ where (%(tenant)s = '' or tenant = %(tenant)s)
            and (%(all)s or made_at > clock_timestamp() - interval '10 minutes')"""
)
"""What `learn` takes: the wrapped keys of a tenant, or of all that a login sees; all of them, or those that are new."""
_READ_ONE: LiteralString = _READ + " where tenant = %(tenant)s and domain = %(domain)s"
_TIMEOUTS = "-c statement_timeout=5s -c lock_timeout=5s"
_CONNECT_WITHIN_S = 5


@dataclass(frozen=True, slots=True)
class DataKey:
    """One data key, unwrapped. `header` stands before what it seals."""

    cipher: AESGCM
    header: bytes


@dataclass(slots=True)
class _Place:
    """What is known of the keys of a tenant in a domain; `uses` counts what was sealed and not told yet."""

    wrapped: dict[int, bytes] = field(default_factory=dict)
    unwrapped: dict[int, DataKey] = field(default_factory=dict)
    newest: DataKey | None = None
    newest_version: int = 0
    uses: int = 0


class DataKeys:
    """Data keys of the tenants and domains that this process may see.

    Args:
        dsn: How this process reaches the database.
        encryption: Unwraps them.
    """

    def __init__(self, dsn: str, encryption: KeyEncryption) -> None:
        self._dsn = dsn
        self._encryption = encryption
        self._places: dict[tuple[str, str], _Place] = {}

    def learn(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep keys that were read, of any places; from now on the newest of each seals."""
        for row in rows:
            place = self._places.setdefault((row["tenant"], row["domain"]), _Place())
            version = int(row["version"])
            place.wrapped[version] = bytes(row["wrapped"])
            if version > place.newest_version:
                place.newest_version, place.newest = version, None

    def to_seal(self, tenant: str, domain: str) -> DataKey:
        """The key that seals now, made when there is none.

        Raises:
            SealBroken: This process may not have it.
            Unavailable: The database cannot be asked.
        """
        place = self._places.get((tenant, domain))
        if place is None or place.newest is None or place.uses >= TOLD_EVERY:
            place = self._prepared(tenant, domain)
        place.uses += 1
        # One that is prepared has a newest key.
        return place.newest  # type: ignore[return-value]

    def to_open(self, tenant: str, domain: str, version: int) -> DataKey:
        """The key of a version.

        Raises:
            SealBroken: There is none, or this process may not have it.
            Unavailable: The database cannot be asked.
        """
        place = self._places.get((tenant, domain))
        found = place and place.unwrapped.get(version)
        if found:
            return found
        if place is None or version not in place.wrapped:
            with self._asking(tenant) as connection:
                self._read(connection, tenant, domain)
        return self._unwrapped(tenant, domain, version)

    def fresh(self, tenant: str, domain: str, version: int, *, is_first: bool) -> bytes:
        """A new data key, wrapped to be stored as that version."""
        return self._encryption.wrap(
            domain, secrets.token_bytes(KEY_BYTES), _bound(tenant, domain, version), is_first=is_first
        )

    def _prepared(self, tenant: str, domain: str) -> _Place:
        """The place with a key to seal with, after asking for or making it, or telling how often it was used."""
        place = self._places.setdefault((tenant, domain), _Place())
        if place.newest_version == 0:
            with self._asking(tenant) as connection:
                self._read_or_make(connection, tenant, domain)
        elif place.uses >= TOLD_EVERY:
            with self._asking(tenant) as connection:
                self._tell(connection, tenant, domain, place)
        if place.newest is None:
            place.newest = self._unwrapped(tenant, domain, place.newest_version)
        return place

    def _tell(self, connection: psycopg.Connection[DictRow], tenant: str, domain: str, place: _Place) -> None:
        """Count what was sealed; make a new key when it was much, unless somebody else has."""
        row = connection.execute(
            """update regie.data_key set uses = uses + %(uses)s
               where tenant = %(tenant)s and domain = %(domain)s and version = %(version)s returning uses""",
            {"tenant": tenant, "domain": domain, "version": place.newest_version, "uses": place.uses},
        ).fetchone()
        if row is None:
            raise SealBroken(
                f"The data key {place.newest_version} of {tenant} in {domain} is not in the database any more.",
                hint="Was the database restored? Start this process anew.",
            )
        place.uses = 0
        if row["uses"] >= MOST_USES:
            self._make(connection, tenant, domain, place.newest_version + 1, is_first=False)
        self._read(connection, tenant, domain)

    def _read_or_make(self, connection: psycopg.Connection[DictRow], tenant: str, domain: str) -> None:
        if self._read(connection, tenant, domain):
            return
        known = connection.execute(
            "select from regie.data_key where domain = %(domain)s limit 1", {"domain": domain}
        ).fetchone()
        self._make(connection, tenant, domain, 1, is_first=known is None)
        self._read(connection, tenant, domain)

    def _make(
        self, connection: psycopg.Connection[DictRow], tenant: str, domain: str, version: int, *, is_first: bool
    ) -> None:
        """Store a new key; of several processes that do it at once one wins."""
        connection.execute(
            """insert into regie.data_key (tenant, domain, version, wrapped)
               values (%(tenant)s, %(domain)s, %(version)s, %(wrapped)s) on conflict do nothing""",
            {
                "tenant": tenant,
                "domain": domain,
                "version": version,
                "wrapped": self.fresh(tenant, domain, version, is_first=is_first),
            },
        )

    def _read(self, connection: psycopg.Connection[DictRow], tenant: str, domain: str) -> bool:
        rows = connection.execute(_READ_ONE, {"tenant": tenant, "domain": domain}).fetchall()
        self.learn(rows)
        return bool(rows)

    def _unwrapped(self, tenant: str, domain: str, version: int) -> DataKey:
        place = self._places.get((tenant, domain))
        if place is None or version not in place.wrapped:
            raise SealBroken(
                f"There is no data key {version} of {tenant} in {domain}.",
                hint="Was the database restored from an older backup?",
            )
        if version not in place.unwrapped:
            key = self._encryption.unwrap(domain, place.wrapped[version], _bound(tenant, domain, version))
            place.unwrapped[version] = DataKey(AESGCM(key), ENVELOPE + version.to_bytes(HEADER_BYTES - 1, "big"))
        return place.unwrapped[version]

    @contextmanager
    def _asking(self, tenant: str) -> Iterator[psycopg.Connection[DictRow]]:
        """A connection of its own, for whoever seals is in the middle of a transaction that may be given up.

        What it does is quick and seldom; meanwhile nothing else of this process goes on.
        """
        try:
            with psycopg.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=_CONNECT_WITHIN_S,
                options=_TIMEOUTS,
                row_factory=dict_row,
            ) as connection:
                connection.execute("select set_config(%s, %s, false)", [TENANT, tenant])
                yield connection
        except psycopg.OperationalError as error:
            raise Unavailable(f"The data keys cannot be read now ({type(error).__name__}).") from error


def _bound(tenant: str, domain: str, version: int) -> bytes:
    """What is authenticated with a wrapped key. Neither name has a bar in it."""
    return f"{tenant}|{domain}|data_key.wrapped|{version}".encode()
