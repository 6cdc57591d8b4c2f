"""Driving an implementation by hand, as the gateway does: observe, plan, apply, ask again, confirm."""

from __future__ import annotations

import json
from typing import Any

from regie.core.capability import Record
from regie.core.plan import Change, NoChange, Pending
from regie.kit.connector import Connector, Read, Write

MARKER = "regie-0123456789abcdef0123"
MOST_TIMES = 50


def write_of(connector: Connector, capability: str) -> Write[Any, Any]:
    """The implementation of something that writes."""
    found = connector.implementation(capability)
    assert isinstance(found, Write)
    return found


def read_of(connector: Connector, capability: str) -> Read[Any, Any]:
    """The implementation of something that reads."""
    found = connector.implementation(capability)
    assert isinstance(found, Read)
    return found


async def planned(connector: Connector, capability: str, want: Record) -> Change | NoChange:
    """What would change."""
    write = write_of(connector, capability)
    return write.plan(want, await write.observe(want, MARKER))


async def bring_about(connector: Connector, capability: str, want: Record) -> Any:
    """Make a change and check that it shows; what it gives, and whether something was changed."""
    write = write_of(connector, capability)
    seen = await write.observe(want, MARKER)
    change = write.plan(want, seen)
    if isinstance(change, NoChange):
        return write.gives(want, seen), False
    foreseen = write.gives(want, write.foreseen(change, seen))
    receipt = await write.apply(want, change, MARKER)
    for _ in range(MOST_TIMES):
        if not isinstance(receipt, Pending):
            break
        assert receipt.again_after_s > 0
        receipt = await write.resume(want, json.loads(json.dumps(receipt.handle)))
    assert not isinstance(receipt, Pending), "it does not end"
    confirmed = await write.confirm(want, receipt, MARKER)
    assert isinstance(write.plan(want, confirmed), NoChange)
    assert type(foreseen) is type(write.gives(want, confirmed))
    return write.gives(want, confirmed), True
