"""Where a run stands, and where one of its steps does."""

from __future__ import annotations

from enum import StrEnum


class StepStatus(StrEnum):
    """Where one step of a run stands; a step that has not begun has no state."""

    RUNNING = "running"
    """Work is out, or children are."""
    WAITING = "waiting"
    """For a timer or a person; nothing is held meanwhile."""
    HANDLING = "handling"
    """It failed and its `on-error` steps are at work."""
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    """The run was cancelled, or stopped as a whole, before it came to its own end."""

    @property
    def is_final(self) -> bool:
        """Whether nothing changes it any more."""
        return self not in (StepStatus.RUNNING, StepStatus.WAITING, StepStatus.HANDLING)


class RunStatus(StrEnum):
    """Where a run stands. `refused` is an orderly end in which some approval did not say yes.

    A run that is being cancelled is `running` or `waiting` until the last work that was out is back; one that is
    paused is `paused`, also while work that was out has not come back.
    """

    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the run is over."""
        return self not in (RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED)
