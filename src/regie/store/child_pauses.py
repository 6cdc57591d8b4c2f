"""Children that are paused and resumed with their parent, in the transaction in which the parent takes that in.

Beside a child's own pause: who has paused a child by itself finds it paused when the parent goes on.
"""

from __future__ import annotations

from pydantic import JsonValue

from regie.core.audit import Actor, Event, Fact
from regie.core.run_events import EVENT, Paused, Resumed
from regie.store import audit, inbox
from regie.store.database import Transaction
from regie.store.keys import RunKey


async def steer_with_parent(tx: Transaction, key: RunKey, event: Paused | Resumed, *, by: Actor) -> None:
    """Pause or resume a child with its parent, `event.parent`. One that is over, or stands so already, stays as it is.

    Args:
        tx: Within.
        key: The child.
        event: What it is told.
        by: For the child's log: the worker that moved the parent, in whose log it says who wanted it.
    """
    row = await tx.row(
        """select ended_at from regie.run
           where tenant = %(tenant)s and domain = %(domain)s and id = %(run)s for no key update""",
        key._asdict(),
    )
    if row is None or row["ended_at"] is not None:
        return
    is_pause = isinstance(event, Paused)
    before = await inbox.pauses(tx, key, with_parent=True)
    if is_pause == bool(len(before) % 2):
        return
    word, number = inbox.PAUSE if is_pause else inbox.RESUME, len(before) // 2 + 1
    await inbox.deliver(tx, key, f"{word}:{inbox.WITH_PARENT}:{number}", EVENT.dump_json(event).decode())
    about: dict[str, JsonValue] = {"parent": {"run": event.parent}}
    told = Event.RUN_PAUSED if is_pause else Event.RUN_RESUMED
    await audit.append(tx, key, [Fact(event=told, actor=by, detail=about)])


async def pause_with_parent(tx: Transaction, key: RunKey) -> Paused | None:
    """What a run is held up with its parent by, whether a worker has taken it in or not; None when it is not."""
    found = await inbox.pauses(tx, key, with_parent=True)
    return Paused.model_validate_json(found[-1].payload_json) if len(found) % 2 else None
