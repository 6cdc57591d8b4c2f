"""How a process writes its log: one line of JSON an event on standard error. Each process sets this up as it starts.

On a terminal people read it, so there the lines are plain text. Every line about a run names it: whoever begins to work
on a run says so with `about`, and what is logged meanwhile has it, whichever room logs it.

A log outlives runs and is read by many, so it holds no values: of an exception its class and where it came up, never
its message (which may quote a person or a row) and never local variables.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

_FRAMES = 20


class _Places(ExceptionDictTransformer):
    """An exception as its class and its frames."""

    def __init__(self) -> None:
        super().__init__(show_locals=False, max_frames=_FRAMES)

    def __call__(self, exc_info: ExcInfo) -> list[dict[str, Any]]:
        """The chain of exceptions, the last raised first."""
        return [
            {
                "kind": stack["exc_type"],
                "frames": [f"{frame['filename']}:{frame['lineno']} {frame['name']}" for frame in stack["frames"]],
            }
            for stack in super().__call__(exc_info)
        ]


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
    """Set up the log of this process."""
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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_PassedOn()]
    root.setLevel(logging.WARNING)
