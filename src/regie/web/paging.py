"""Lists in pages, for programs and for people: which rows one shows, and where the next one begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from regie.store.keys import Cursor


class Placed(Protocol):
    """A row that knows its place in lists."""

    @property
    def cursor(self) -> Cursor:
        """Its place."""
        ...


Row = TypeVar("Row", bound=Placed)


def page_of(found: Sequence[Row], length: int) -> tuple[Sequence[Row], str | None]:
    """The rows of a page, and the `before` of what follows, none at the end.

    Args:
        found: One row more than the page is long, where there is one: whether anything follows is not guessed.
        length: How many rows the page shows at most.
    """
    shown = found[:length]
    return shown, str(shown[-1].cursor) if len(found) > length else None
