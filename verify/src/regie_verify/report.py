"""What was found, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

MOST_FAULTS = 100
"""More than that of a kind nobody reads."""


@dataclass(frozen=True)
class Fault:
    """Something that does not hold. `record` is the place in the log where it begins to show; none when nowhere."""

    check: str
    message: str
    record: int | None = None


@dataclass
class Report:
    """The answer about one bundle.

    Attributes:
        checks: What was examined, in words, by name of the check.
        trust: Where the keys came from.
        witnessed: Up to which record enough witnesses have seen the log.
    """

    origin: str = ""
    size: int = 0
    first: int = 0
    end: int = 0
    root: str = ""
    trust: str = ""
    witnessed: int = 0
    checks: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether everything holds."""
        return not self.faults

    @property
    def first_bad_record(self) -> int | None:
        """The first record of the log that something is wrong with."""
        return min((fault.record for fault in self.faults if fault.record is not None), default=None)

    def blame(self, check: str, message: str, record: int | None = None) -> None:
        """Note a fault."""
        if sum(fault.check == check for fault in self.faults) < MOST_FAULTS:
            self.faults.append(Fault(check, message, record))

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"ok": self.is_whole, "first_bad_record": self.first_bad_record, **asdict(self)}

    def as_text(self) -> str:
        """For people."""
        lines = [f"{self.origin}: {self.end - self.first:,} of {self.size:,} records, root {self.root}"]
        blamed = {fault.check for fault in self.faults}
        for check, words in self.checks.items():
            lines.append(f"  {'WRONG' if check in blamed else 'ok':6}{check}: {words}")
        lines += [f"  ! {fault.check}: {fault.message}" for fault in self.faults]
        lines.append(f"  keys: {self.trust}")
        if self.is_whole:
            lines.append("Everything holds.")
        elif self.first_bad_record is None:
            lines.append("ALTERED.")
        else:
            lines.append(f"ALTERED. The first bad record is {self.first_bad_record}.")
        return "\n".join(lines)
