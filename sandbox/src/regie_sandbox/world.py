"""The state of the imaginary world: one SQLite file, loaded at start and written through before every answer.

Jira, Graph and the control API read its records and hand back changed copies together with the ledger entries. A
write is committed with an fsync before memory changes, so a write that was answered survives a killed process.
"""

import hashlib
import json
import secrets
import sqlite3
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from regie_sandbox import seed
from regie_sandbox.ledger import Entry, Ledger
from regie_sandbox.people import Group, Person
from regie_sandbox.rules import Rules
from regie_sandbox.tickets import Delivery, Ticket

Clock = Callable[[], datetime]
Record = Person | Group | Ticket | Delivery
Kind = TypeVar("Kind", bound=BaseModel)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
    kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, id)
);
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


def wall_clock() -> datetime:
    """The time of the machine, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - the sandbox is the outside world; this is its one clock


class World:
    """People, groups, tickets and webhook deliveries, with the ledger beside them.

    Raises:
        sqlite3.Error: when the file in `state_dir` cannot be read or written.
    """

    def __init__(self, state_dir: Path, clock: Clock = wall_clock, rules: Rules | None = None) -> None:
        state_dir.mkdir(parents=True, exist_ok=True)
        self.clock = clock
        self.rules = rules or Rules()
        # FastAPI may open the world on one thread and serve it on another; only the event loop ever uses it.
        self._connection = sqlite3.connect(state_dir / "world.sqlite3", isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        # FULL: every commit is on disk before it returns, which is what "a write answered is a write kept" needs.
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_SCHEMA)
        self._ledger = Ledger(self._connection)
        self.signing_key = self._setting("signing_key", lambda: secrets.token_hex(32)).encode()
        if not self._connection.execute("SELECT 1 FROM record LIMIT 1").fetchone():
            self.reset()
        self._load()

    def close(self) -> None:
        """Close the file; the world cannot be used afterwards."""
        self._connection.close()

    def _setting(self, name: str, default: Callable[[], str]) -> str:
        row = self._connection.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        if row is None:
            row = (default(),)
            self._connection.execute("INSERT INTO setting (name, value) VALUES (?, ?)", (name, row[0]))
        return str(row[0])

    def webhook(self) -> tuple[str | None, str | None]:
        """Where the site sends its webhooks and the secret it signs them with."""
        url, secret = json.loads(self._setting("webhook", lambda: "[null, null]"))
        return url, secret

    def set_webhook(self, url: str | None, secret: str | None) -> None:
        """Register the site's one webhook, as an administrator would."""
        self._connection.execute(
            "INSERT OR REPLACE INTO setting (name, value) VALUES ('webhook', ?)", (json.dumps([url, secret]),)
        )

    def reset(self) -> None:
        """Back to the seed, with an empty ledger; the entries of the earlier life stay in the file."""
        life = int(self._setting("life", lambda: "0")) + 1
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("DELETE FROM record")
        self._connection.execute("UPDATE setting SET value = ? WHERE name = 'life'", (str(life),))
        for record in seed.example(self.clock()):
            self._store(record)
        self._connection.execute("COMMIT")
        self._load()

    def _load(self) -> None:
        self._life = int(self._setting("life", lambda: "0"))
        self.people = {each.id: each for each in self._read(Person)}
        self._ids = {each.upn.casefold(): each.id for each in reversed(self.people.values())}
        self.groups = {each.id: each for each in self._read(Group)}
        self.tickets = {each.key: each for each in self._read(Ticket)}
        self.deliveries = {each.identifier: each for each in self._read(Delivery)}

    def _read(self, kind: type[Kind]) -> list[Kind]:
        rows = self._connection.execute("SELECT body FROM record WHERE kind = ? ORDER BY rowid", (kind.__name__,))
        return [kind.model_validate_json(body) for (body,) in rows]

    def _store(self, record: Record) -> None:
        identity = record.identifier if isinstance(record, Delivery) else record.id
        self._connection.execute(
            "INSERT INTO record (kind, id, body) VALUES (?, ?, ?) "
            "ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
            (type(record).__name__, identity, record.model_dump_json()),
        )

    def save(self, *records: Record, entries: Iterable[Entry] = ()) -> None:
        """Keep changed records and their ledger entries, in one durable transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for record in records:
                self._store(record)
            for entry in entries:
                self._ledger.append(self._life, entry)
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        for record in records:
            self._remember(record)

    def remove_group(self, group: Group, entry: Entry) -> None:
        """Forget a group, as an administrator deletes one; its members lose the membership with it."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("DELETE FROM record WHERE kind = ? AND id = ?", (Group.__name__, group.id))
        self._ledger.append(self._life, entry)
        self._connection.execute("COMMIT")
        del self.groups[group.id]

    def _remember(self, record: Record) -> None:
        match record:
            case Person():
                before = self.people.get(record.id)
                if before is not None and self._ids.get(before.upn.casefold()) == record.id:
                    del self._ids[before.upn.casefold()]
                self._ids.setdefault(record.upn.casefold(), record.id)
                self.people[record.id] = record
            case Group():
                self.groups[record.id] = record
            case Ticket():
                self.tickets[record.key] = record
            case Delivery():
                self.deliveries[record.identifier] = record

    def ledger(self, since: int = 0) -> list[dict[str, Any]]:
        """Every write of this life after `since`, oldest first."""
        return self._ledger.read(self._life, since)

    def person(self, id_or_upn: str) -> Person | None:
        """The person with this object id or userPrincipalName (case does not count), if any."""
        wanted = id_or_upn.casefold()
        return self.people.get(wanted) or self.people.get(self._ids.get(wanted, ""))

    def groups_of(self, person_id: str) -> list[Group]:
        """The groups a person is a direct member of, in a stable order."""
        return [each for each in self.groups.values() if person_id in each.members]

    def next_issue_number(self) -> int:
        """The number of the next issue of the project; numbers are never used twice within a life."""
        return 1 + max((int(key.rpartition("-")[2]) for key in self.tickets), default=0)

    def people_digest(self) -> str:
        """A sha256 over the people's side of the world once pending revocations have settled.

        Accounts, memberships and whether a session is live count; tickets and points in time do not, so equal worlds
        that were reached at different times have equal digests.
        """
        people = {}
        for person in self.people.values():
            account = person.model_dump(
                exclude={"created", "sessions_valid_from", "revocations", "last_sign_in"}, mode="json"
            )
            groups = sorted(group.id for group in self.groups_of(person.id))
            people[person.id] = account | {"groups": groups, "has_live_session": person.has_live_session}
        canonical = json.dumps(people, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()
