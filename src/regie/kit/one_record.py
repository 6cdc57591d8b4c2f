"""Setting one DNS record or taking it away: what connectors to name servers have in common."""

# ruff: noqa: D102 - arguments and docstrings of plan and gives are those of the kit's contract.

from __future__ import annotations

from typing import ClassVar

from regie.core.capabilities.dns import RecordState, RecordValue
from regie.core.effect import Repeat
from regie.core.plan import Change, NoChange
from regie.kit.connector import Seen, Write


class OneRecord(Write[RecordValue, RecordState]):
    """Have a record, or have none. What is observed says under `present` whether it is there.

    Attributes:
        has: Whether it is there afterwards.
    """

    repeat = Repeat.OBSERVABLE
    has: ClassVar[bool]

    def plan(self, want: RecordValue, seen: Seen) -> NoChange | Change:
        target = f"record:{want.kind} {want.name} {want.value}"
        if seen["present"] is self.has:
            return self.no_change(target, f"{want.name} {'has' if self.has else 'does not have'} that value")
        return self.change(target, f"{want.kind} record of {want.name}", ("present", seen["present"], self.has))

    def gives(self, want: RecordValue, seen: Seen) -> RecordState:
        return RecordState(name=want.name, kind=want.kind, value=want.value, present=bool(seen["present"]))
