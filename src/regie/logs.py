"""How a process writes its log: one line of JSON an event on standard error. Each process sets this up as it starts.

A log outlives runs and is read by many, so it holds no values: of an exception its class and where it came up, never
its message (which may quote a person or a row) and never local variables.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import ExcInfo

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


def configure() -> None:
    """Set up the log of this process."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(_Places()),
            structlog.processors.JSONRenderer(ensure_ascii=False, default=repr),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_PassedOn()]
    root.setLevel(logging.WARNING)
