"""`regie top`: how the domains do, drawn anew every second until somebody has seen enough."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from regie.cli.api import connected
from regie.cli.terminal import Json, moment, out, print_json, say
from regie.core.errors import Unavailable
from regie.settings import Settings

EVERY_S = 1.0
"""Between two looks."""
HOUR_S = 3600.0
NOW = ("domain", "queued", "running", "waiting", "oldest wait", "promised time")
LATELY = ("domain", "ended", "an hour", "failed", "good", "run", "queue", "promised time")
WORKERS = ("worker", "domains", "since (UTC)", "seen")
NUMBERS = frozenset({"queued", "running", "waiting", "oldest wait", "ended", "an hour", "failed", "good"})
"""Columns that stand to the right."""


def top(
    window_min: Annotated[
        int, typer.Option("--window", min=1, max=44_640, help="How far back, in minutes, for what has ended.")
    ] = 60,
    is_once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    as_json: Json = False,
) -> None:
    """Show workers, domains and the queue, live. `q` or Ctrl-C ends it."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_top(window_min * 60, is_live=out.is_terminal and not is_once and not as_json, as_json=as_json))


async def _top(window_s: int, *, is_live: bool, as_json: bool) -> None:
    async with connected(Settings(), say) as api:
        shown = await api.get("/v1/figures", window_s=window_s)
        if as_json:
            print_json(shown)
            return
        if not is_live:
            out.print(picture(shown))
            return
        # Keys count from the first picture on.
        async with _seconds() as seconds:
            with Live(picture(shown), console=out, screen=True, auto_refresh=False) as live:
                async for _ in seconds:
                    note = ""
                    try:
                        shown = await api.get("/v1/figures", window_s=window_s)
                    except Unavailable as error:
                        note = f"{error.message} This is how it was."
                    live.update(picture(shown, note), refresh=True)


@contextlib.asynccontextmanager
async def _seconds() -> AsyncIterator[AsyncIterator[None]]:
    """Ticks until somebody presses q or Ctrl-C."""
    enough = asyncio.Event()

    async def ticks() -> AsyncIterator[None]:
        while not enough.is_set():
            yield
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(enough.wait(), EVERY_S)

    if not sys.stdin.isatty():
        yield ticks()
        return

    def pressed() -> None:
        # The end of the input, such as a closed window, is enough as well.
        if sys.stdin.read(1) in {"q", "Q", ""}:
            enough.set()

    def interrupted() -> None:
        enough.set()
        # A second one does not wait for an answer that is on its way.
        loop.remove_signal_handler(signal.SIGINT)

    loop = asyncio.get_running_loop()
    with _each_key():
        loop.add_reader(sys.stdin, pressed)
        loop.add_signal_handler(signal.SIGINT, interrupted)
        try:
            yield ticks()
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            loop.remove_reader(sys.stdin)


@contextlib.contextmanager
def _each_key() -> Iterator[None]:
    """Have the terminal hand over each key at once and show none, and be as it was afterwards."""
    before = termios.tcgetattr(sys.stdin)
    # What was typed already is kept.
    tty.setcbreak(sys.stdin, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def picture(shown: dict[str, Any], note: str = "") -> Group:
    """The figures as tables that fit into 80 columns."""
    hours = shown["window_s"] / HOUR_S
    parts: list[Any] = [f"[bold]Regie[/bold]  {moment(shown['at'])} UTC"]
    if shown["domains"]:
        parts += ["", _table(NOW, (_now(each) for each in shown["domains"]))]
        parts += ["", f"[bold]Ended in the last {hours:g} h[/bold]  (run, queue: half / 95 %)"]
        parts += [_table(LATELY, (_lately(each) for each in shown["domains"]))]
    else:
        parts += ["", "[dim]Nothing has run.[/dim]"]
    workers = (
        (each["name"], ", ".join(each["domains"]), moment(each["since"]), moment(each["beat_at"])[11:])
        for each in shown["workers"]
    )
    parts += ["", _table(WORKERS, workers) if shown["workers"] else "[red]No worker runs: nothing moves.[/red]"]
    if note:
        parts += ["", f"[yellow]{escape(note)}[/yellow]"]
    return Group(*parts)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, justify="right" if head in NUMBERS else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def _now(each: dict[str, Any]) -> tuple[str, ...]:
    sla = each["sla"]
    going = {"late": sla["going_late"], "at risk": sla["going_at_risk"], "in time": sla["going_on_time"]}
    return (
        each["domain"],
        str(each["queued"]),
        str(each["running"]),
        str(each["waiting"]),
        _short(each["oldest_wait_s"]),
        _counts(going),
    )


def _lately(each: dict[str, Any]) -> tuple[str, ...]:
    ended: dict[str, int] = each["ended"]
    return (
        each["domain"],
        str(sum(ended.values())),
        f"{each['per_hour']:.1f}",
        str(ended.get("failed", 0)),
        "-" if each["success"] is None else f"{each['success']:.1%}",
        _spread(each["took"]),
        _spread(each["step_queued"]),
        _counts({"late": each["sla"]["late"], "on time": each["sla"]["on_time"]}),
    )


def _counts(by_word: dict[str, int]) -> str:
    return ", ".join(f"{number} {word}" for word, number in by_word.items() if number) or "-"


def _spread(times: dict[str, float] | None) -> str:
    return "-" if times is None else f"{_short(times['p50_s'])} / {_short(times['p95_s'])}"


def _short(seconds: float) -> str:
    """A length of time in one number."""
    for unit_s, unit in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s")):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.1f} {unit}"
    return f"{seconds * 1000:.0f} ms"
