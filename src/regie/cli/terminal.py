"""How the command line prints: results on standard output, progress and remarks on standard error."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from regie.store.keys import LEAST_DIGITS

_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move the cursor, colour or turn round what follows, and what no terminal can be sent."""


class Terminal(Console):
    """A console that shows what outside systems send and does not obey it: a name must not hide a line of a plan."""

    def render_str(self, text: str, **how: Any) -> Text:
        """A text as it is shown."""
        return super().render_str(_STEERING.sub("\N{REPLACEMENT CHARACTER}", text), **how)


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
"""What every command takes whose answer a script would read."""

out = Terminal(highlight=False, soft_wrap=True)
"""Results for people."""
err = Terminal(stderr=True, highlight=False, soft_wrap=True)
"""Progress and remarks."""


def say(text: str) -> None:
    """Show progress."""
    err.print(f"[dim]· {escape(text)}[/dim]")


def print_json(value: Any) -> None:
    """A result for programs: one JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, nothing: str) -> None:
    """A result as a table, or a sentence when there is nothing to show."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, head in enumerate(heads):
        # What stands last is told in words and may be broken; names, ids and times may not, they are copied.
        table.add_column(head, overflow="fold", no_wrap=number < len(heads) - 1)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    if table.row_count:
        out.print(table)
    else:
        out.print(nothing, style="dim")


def short(identifier: str) -> str:
    """As much of an id as people need: commands take the beginning of one."""
    return identifier[:LEAST_DIGITS]


def moment(text: str | None) -> str:
    """An RFC 3339 time in UTC to the second, for people."""
    return "" if not text else text[:19].replace("T", " ")


def outcome_style(outcome: str) -> str:
    """The colour that an outcome is shown in."""
    return {
        "done": "green",
        "approved": "green",
        "failed": "red",
        "refused": "yellow",
        "timeout": "yellow",
        "cancelled": "yellow",
        "paused": "yellow",
        "waiting": "cyan",
        "running": "cyan",
    }.get(outcome, "default")
