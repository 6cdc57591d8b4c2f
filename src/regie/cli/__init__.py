"""The command line: everything an operator does. `main` is the `regie` program."""

from __future__ import annotations

import sys

from rich.console import Console

from regie.cli.program import program
from regie.core.errors import (
    AuthFailed,
    DefinitionError,
    Denied,
    InvalidInput,
    RegieError,
    Retryable,
)

EXIT_FAILED = 1
"""It was tried and did not work."""
EXIT_WRONG_INPUT = 2
"""What was given is wrong; nothing was tried."""
EXIT_DENIED = 3
"""Not allowed."""
EXIT_UNAVAILABLE = 4
"""Something needed does not answer; trying later may work."""


def main() -> None:
    """Run the program; a Regie error becomes one readable message and an exit code."""
    try:
        program()
    except RegieError as error:
        _say(error)
        sys.exit(_exit_code(error))


def _say(error: RegieError) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    if isinstance(error, DefinitionError):
        for fault in error.faults:
            console.print(str(fault), markup=False)
        count = len(error.faults)
        console.print(f"[red]{count} {'fault' if count == 1 else 'faults'}[/red]")
        return
    console.print("[red]regie:[/red] ", end="")
    console.print(error.message, markup=False)
    if error.hint:
        console.print(error.hint, style="dim", markup=False)


def _exit_code(error: RegieError) -> int:
    match error:
        case DefinitionError() | InvalidInput():
            return EXIT_WRONG_INPUT
        case Denied() | AuthFailed():
            return EXIT_DENIED
        case Retryable():
            return EXIT_UNAVAILABLE
        case _:
            return EXIT_FAILED
