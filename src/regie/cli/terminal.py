"""How the command line prints: results on standard output, progress and remarks on standard error."""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.cells import cell_len
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

GAP = 2
"""Blanks between two columns of a table."""
LONGEST_WORD = 30
"""A longer one is broken when it does not fit."""

out = Terminal(highlight=False, soft_wrap=True)
"""Results for people."""
err = Terminal(stderr=True, highlight=False, soft_wrap=True)
"""Progress and remarks."""


def say(text: str) -> None:
    """Show progress."""
    err.print(f"[dim]· {escape(text)}[/dim]")


def print_json(value: Any) -> None:
    """A result for programs: one JSON document on standard output."""
    is_escaped = codecs.lookup(sys.stdout.encoding).name != "utf-8"
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=is_escaped) + "\n")


def print_table(
    heads: Sequence[str], rows: Iterable[Sequence[object]], *, nothing: str, prose: Collection[str] | None = None
) -> None:
    """A result as a table, or a sentence when there is nothing to show.

    Args:
        prose: Heads of the columns that are told in words and fold between words where the terminal is narrow; the last
            one when nothing is said. Names, ids and times are copied: those columns keep their width, and where that is
            too much the line goes on beyond the terminal's.
    """
    cells = [[out.render_str(escape(str(cell))) for cell in row] for row in rows]
    if not cells:
        out.print(nothing, style="dim")
        return
    folded = heads[-1:] if prose is None else prose
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, head in enumerate(heads):
        column = [Text(head), *(row[number] for row in cells)]
        is_folded = head in folded
        least = max(_least(cell, is_folded=is_folded) for cell in column)
        table.add_column(head, overflow="fold", no_wrap=not is_folded, min_width=least)
    for row in cells:
        table.add_row(*row)
    least = sum(column.min_width or 0 for column in table.columns) + GAP * (len(heads) - 1)
    table.width = least if least > out.width else None
    out.print(table)


def _least(cell: Text, *, is_folded: bool) -> int:
    """How many columns of the terminal a cell needs at least."""
    if not is_folded:
        return max(map(cell_len, cell.plain.splitlines()), default=0)
    return min(max(map(cell_len, cell.plain.split()), default=0), LONGEST_WORD)


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
