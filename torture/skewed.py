"""A process of ours whose wall clock can be turned while it runs: `python -m torture.skewed LIBRARY FILE MODULE ...`.

The supervisor starts it in the place of the module, which takes over the process. The monotonic clock stays as it is:
that is what happens when somebody sets a machine's clock.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

LIBRARIES = "usr/lib/*/faketime/libfaketime.so.1"
"""Where Debian's package libfaketime puts it."""
AS_IT_IS = "+0"


def library(root: Path = Path("/")) -> Path | None:
    """The library that turns clocks; none when it is not installed."""
    return next(iter(sorted(root.glob(LIBRARIES))), None)


def set_clock(file: Path, offset: str) -> None:
    """Turn the clock that follows a file: `+400d` is four hundred days late, `-1h` an hour early, `+0` right."""
    draft = file.with_suffix(".new")
    draft.write_text(f"{offset}\n", encoding="utf-8")
    draft.replace(file)


def main() -> None:
    """Become the module, with a clock that follows the file (faketime(1): FAKETIME_TIMESTAMP_FILE)."""
    preloaded, file, *command = sys.argv[1:]
    environment = {
        **os.environ,  # noqa: TID251  what the process was started with goes on to what it becomes
        "LD_PRELOAD": preloaded,
        "FAKETIME_TIMESTAMP_FILE": file,
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    os.execve(sys.executable, [sys.executable, "-m", *command], environment)  # noqa: S606  it is the point


if __name__ == "__main__":
    main()
