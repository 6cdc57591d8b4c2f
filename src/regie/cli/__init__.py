"""The command line: everything an operator does. `main` is the `regie` program."""

from __future__ import annotations

import io
import sys
from typing import NoReturn

from pydantic import ValidationError
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
from regie.settings import Settings

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
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Standard error does so by itself.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        program()
    except RegieError as error:
        _stop(error)
    except ValidationError as error:
        # The settings are read where a command needs them; any other record that does not fit is a fault of ours.
        if error.title != Settings.__name__:
            raise
        _stop(_wrong_settings(error))
    except OSError as error:
        # A full disk, a folder of somebody else: the machine says why.
        what = f"{error.filename}: " if error.filename else ""
        _stop(RegieError(f"{what}{error.strerror or type(error).__name__}."))


def _stop(error: RegieError) -> NoReturn:
    _say(error)
    sys.exit(_exit_code(error))


def _wrong_settings(error: ValidationError) -> InvalidInput:
    """Which settings cannot be used and why. Their values are not repeated: one of them is a password."""
    wrong = [f"REGIE_{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors()]
    return InvalidInput(f"A setting cannot be used. {'; '.join(wrong)}.")


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
