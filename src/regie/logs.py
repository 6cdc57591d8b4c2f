"""How a process writes its log: one line of JSON an event on standard error. Each process sets this up as it starts.

On a terminal people read it, so there the lines are plain text. Every line about a run names it: whoever begins to work
on a run says so with `about`, and what is logged meanwhile has it, whichever room logs it.

A log outlives runs and is read by many, so it holds no values: of an exception its class and where it came up, never
its message (which may quote a person or a row) and never local variables. Should one get in all the same, the values of
secrets that this process has seen are taken out where the bytes leave it, after everything that formats.
"""

from __future__ import annotations

import atexit
import io
import logging
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO, cast

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from regie.core.scrubbing import Scrubber

_FRAMES = 20
LONGEST_LINE = 65_536
"""Bytes that are held back for the end of a line."""

_SCRUBBER = Scrubber()
_TURN = threading.Lock()


def hide(value: str) -> None:
    """Have no line of this process say a value from now on: whoever gets hold of a secret calls it."""
    with _TURN:
        _SCRUBBER.add(value)


def hidden(text: str) -> str:
    """A text without the values that are hidden, for what leaves the process by another way than its log."""
    with _TURN:
        return _SCRUBBER.scrub(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")


class Sink(io.TextIOBase):
    """Writes whole lines to a stream, without the values that are hidden: one could be written in parts.

    Args:
        stream: Of the process, such as its standard error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._held = b""

    def write(self, text: str) -> int:
        """Take a text; what is no whole line yet waits for the rest of it."""
        with _TURN:
            self._held += text.encode("utf-8", "backslashreplace")
            end = self._held.rfind(b"\n") + 1 or (len(self._held) if len(self._held) > LONGEST_LINE else 0)
            self._pass_on(end)
        return len(text)

    def close(self) -> None:
        """Pass on what waits; the stream stays open, it is the process's."""
        with _TURN:
            self._pass_on(len(self._held))

    def flush(self) -> None:
        """Pass whole lines on, which has been done: the rest of a line may be the rest of a secret."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Whether people read it."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Of the stream, for what writes past us."""
        return self._stream.fileno()

    def _pass_on(self, end: int) -> None:
        whole, self._held = self._held[:end], self._held[end:]
        if whole:
            self._stream.write(_SCRUBBER.scrub(whole).decode("utf-8", "replace"))
            self._stream.flush()


class _Places(ExceptionDictTransformer):
    """An exception as its class and its frames."""

    def __init__(self) -> None:
        super().__init__(show_locals=False, max_frames=_FRAMES)

    def __call__(self, exc_info: ExcInfo) -> list[dict[str, Any]]:
        """The chain of exceptions, the last raised first; behind a group those that are in it."""
        return list(_told(super().__call__(exc_info)))


def _told(stacks: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for stack in stacks:
        frames = [f"{frame['filename']}:{frame['lineno']} {frame['name']}" for frame in stack["frames"]]
        yield {"kind": stack["exc_type"], "frames": frames}
        for trace in stack["exceptions"]:
            yield from _told(trace)


class _PassedOn(logging.Handler):
    """Takes what libraries log into ours, the first line of it: what follows that line shows values."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record."""
        first_line = record.getMessage().partition("\n")[0]
        structlog.get_logger(record.name).log(record.levelno, first_line, exc_info=record.exc_info)


def _indented(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The exception of a line as text, for people."""
    stacks = event.get("exception")
    if isinstance(stacks, list):
        event["exception"] = "\n".join(
            "\n    ".join([stack["kind"], *stack["frames"]]) for stack in stacks if isinstance(stack, dict)
        )
    return event


def bind(**names: str) -> None:
    """Name these on every further line of this task: what has its own task or request, such as a run in a worker."""
    structlog.contextvars.bind_contextvars(**{name: value for name, value in names.items() if value})


@contextmanager
def about(**names: str) -> Iterator[None]:
    """Name these on every line until the end of the block, and then what was named before; nothing says nothing."""
    before = structlog.contextvars.get_contextvars()
    bind(**names)
    try:
        yield
    finally:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**before)


def configure() -> None:
    """Set up the log of this process. Whatever it writes to standard error from now on goes through the sink."""
    if not isinstance(sys.stderr, Sink):
        sys.stderr = Sink(sys.stderr)
        atexit.register(sys.stderr.close)
    written: list[Processor] = (
        [_indented, structlog.dev.ConsoleRenderer()]
        if sys.stderr.isatty()
        else [structlog.processors.JSONRenderer(ensure_ascii=False, default=repr)]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(_Places()),
            *written,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", sys.stderr)),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_PassedOn()]
    root.setLevel(logging.WARNING)
