"""Places where the torture tests end a process, as `kill -9` would. Unarmed, a crash point does nothing.

Whoever starts a process arms it with the setting `crash_at`; the gateway, the engine, the worker and the notary pass
the points.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from regie.core.errors import InvalidInput


class CrashPoint(StrEnum):
    """Every crash point there is."""

    BEFORE_INTENT = "before-intent"
    """Gateway: the change is planned and allowed; nothing is written yet."""
    AFTER_INTENT = "after-intent"
    """Gateway: the intent is committed; the outside system has not been called."""
    AFTER_EFFECT = "after-effect"
    """Gateway: the outside system has answered; our database does not know."""
    BEFORE_RECEIPT = "before-receipt"
    """Gateway: the change was read back; the receipt is not committed."""
    AFTER_RECEIPT = "after-receipt"
    """Gateway: the receipt is committed; the worker has no answer."""
    BEFORE_COMMIT = "before-commit"
    """Engine: a step's result is known; the transaction that records it has not begun."""
    AFTER_COMMIT = "after-commit"
    """Engine: a step's result is committed; nobody has been woken."""
    IN_APPROVAL_WAIT = "in-approval-wait"
    """Engine: an approval is open and its run has just been parked."""
    IN_TIMER = "in-timer"
    """Engine: a timer is due and has been picked up; nothing has come of it yet."""
    IN_NOTARY = "in-notary"
    """Notary: leaves are out of the intake and not yet in their logs; nothing is committed."""


HOLD = "hold!"
"""Before a crash point's name: do not end there but stand still (SIGSTOP) until somebody sends SIGCONT."""


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hold() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@dataclass
class _Armed:
    name: str = ""
    passes_left: int = 0
    end: Callable[[], None] = _kill


_armed = _Armed()


def arm(spec: str, *, end: Callable[[], None] = _kill) -> None:
    """Choose where this process ends.

    Args:
        spec: `NAME`, or `NAME:N` for the Nth pass (from 1); `hold!` in front to stand still instead of ending; empty
            text disarms.
        end: What ending means; tests that share a process with what they kill raise instead.

    Raises:
        InvalidInput: There is no crash point of that name, or N is no number from 1.
    """
    name, _, count = spec.removeprefix(HOLD).partition(":")
    if spec.startswith(HOLD):
        end = _hold
    if name and name not in set(CrashPoint):
        raise InvalidInput(f"There is no crash point {name!r}.", hint="Known: " + ", ".join(CrashPoint))
    if count and not (count.isascii() and count.isdigit() and int(count) > 0):
        raise InvalidInput(f"{spec!r} does not say which pass; write NAME:N with N from 1.")
    _armed.name, _armed.passes_left, _armed.end = name, int(count or 1), end


def crashpoint(name: CrashPoint) -> None:
    """Pass a crash point: ends the process when it is armed for this pass, otherwise does nothing."""
    if _armed.name != name:
        return
    _armed.passes_left -= 1
    if _armed.passes_left == 0:
        _armed.end()
