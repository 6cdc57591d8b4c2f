"""How the other modules name what is stored: the key of a run, many rows at once, a place in a list, the channel."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Self
from uuid import UUID

import orjson
from psycopg.rows import DictRow

from regie.core.errors import InvalidInput

TENANT: Final = "regie.tenant"
"""The setting that says for which tenant a transaction was begun; see `walls`."""
READY: Final = "regie_ready"
"""Channel of hints that a run wants a worker; the payload is its domain. A hint may be lost: poll as well."""


class RunKey(NamedTuple):
    """Names one run; `run` is a UUID as text."""

    tenant: str
    domain: str
    run: str


def as_json(rows: Iterable[Mapping[str, object]]) -> str:
    """Rows as one JSON text, for `json_to_recordset`: one value to send instead of one for each column of each row."""
    return orjson.dumps(list(rows)).decode()


def as_columns(keys: Iterable[RunKey]) -> dict[str, list[str]]:
    """Keys as three arrays for `unnest`: a run is looked up by its whole key, never by its id alone."""
    whole = list(keys)
    return {
        "tenants": [key.tenant for key in whole],
        "domains": [key.domain for key in whole],
        "runs": [key.run for key in whole],
    }


LEAST_DIGITS: Final = 8
"""A beginning of an id is told apart from others by at least so many digits."""
MOST_NAMED: Final = 10
"""So many of the ids that have the same beginning are named."""


def id_span(beginning: str) -> tuple[str, str] | None:
    """The lowest and the highest id that begin so: what people copy from a list, or the whole id.

    None for what is no beginning of an id, or too short a one.
    """
    digits = beginning.replace("-", "").lower()
    if not re.fullmatch(rf"[0-9a-f]{{{LEAST_DIGITS},32}}", digits):
        return None
    return digits.ljust(32, "0"), digits.ljust(32, "f")


def the_only(beginning: str, rows: Sequence[DictRow]) -> DictRow | None:
    """The one row whose id begins so; none when there is none.

    Raises:
        InvalidInput: Several do.
    """
    if len(rows) > 1:
        ids = ", ".join(str(row["id"]) for row in rows)
        raise InvalidInput(f"Several ids begin with {beginning}.", hint=f"Name one: {ids}")
    return rows[0] if rows else None


class Cursor(NamedTuple):
    """The last row of a page: the next page holds what is older. Its text form goes into addresses of pages."""

    at: datetime
    id: str

    def __str__(self) -> str:
        return f"{self.at.isoformat()}~{self.id}"

    @classmethod
    def from_query(cls, text: str | None) -> Self | None:
        """Read the text form from an address; none for the first page.

        Raises:
            InvalidInput: The text is no cursor.
        """
        if not text:
            return None
        # A plus sign that was not escaped in an address arrives as a blank.
        text = text.replace(" ", "+")
        at, _, row = text.partition("~")
        try:
            cursor = cls(datetime.fromisoformat(at), str(UUID(row)))
        except ValueError:
            raise InvalidInput(f"{text!r} is no place in a list.", hint="Start again at the first page.") from None
        if cursor.at.tzinfo is None:
            raise InvalidInput(f"{text!r} has no time zone.", hint="Start again at the first page.")
        return cursor
