"""The ledger of writes: what each accepted write changed, counted by the outside world itself.

It is the test oracle. It shares the world's file and transaction, so that a write is in both or in neither, and the
file's triggers refuse to change or delete an entry. A reset opens a new life and hides the older ones.
"""

import json
import sqlite3
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

System = Literal["jira", "graph", "slack", "sandbox"]
About = Literal["person", "ticket", "message"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    life INTEGER NOT NULL,
    entry TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS ledger_never_changes BEFORE UPDATE ON ledger
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS ledger_never_shrinks BEFORE DELETE ON ledger
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""


class Entry(BaseModel):
    """One write.

    `system` is whose API took it; `sandbox` means a hand on the control API, which is no effect of the client under
    test. `target` is a userPrincipalName, an issue key or a conversation. `before` and `after` hold only the fields the
    write named; a write that changed nothing is an entry too, with `changed` false.
    """

    model_config = ConfigDict(frozen=True)

    at: str
    system: System
    about: About
    method: str
    path: str
    actor: str
    target: str
    before: dict[str, Any]
    after: dict[str, Any]
    request_id: str

    @property
    def changed(self) -> bool:
        """Whether the world is different after it."""
        return self.before != self.after


class Ledger:
    """Appends and reads entries on the world's own connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.executescript(_SCHEMA)

    def append(self, life: int, entry: Entry) -> None:
        """Add one entry; the caller owns the transaction."""
        body = entry.model_dump() | {"changed": entry.changed}
        self._connection.execute(
            "INSERT INTO ledger (life, entry) VALUES (?, ?)", (life, json.dumps(body, ensure_ascii=False))
        )

    def read(self, life: int, since: int = 0) -> list[dict[str, Any]]:
        """The entries of one life with a `seq` above `since`, oldest first."""
        rows = self._connection.execute(
            "SELECT seq, entry FROM ledger WHERE life = ? AND seq > ? ORDER BY seq", (life, since)
        )
        return [{"seq": seq, **json.loads(entry)} for seq, entry in rows]
