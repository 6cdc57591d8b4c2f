"""Looks at the anchor log in the database, of which bundles hold only proofs. `regie audit verify` calls it."""

from __future__ import annotations

from regie.core.audit import leaf_hash
from regie.core.errors import InvalidInput
from regie.core.merkle import Edge, Span
from regie.core.signed_note import Checkpoint
from regie.store import logs
from regie.store.database import Transaction
from regie.store.logs import ANCHOR, Log

PAGE = 5_000


async def faults_of_anchor(tx: Transaction) -> list[str]:
    """What is wrong with the anchor log: leaves that were not signed, checkpoints that it lacks or that only it has."""
    anchor = await logs.find(tx, *ANCHOR)
    newest = await logs.newest(tx, anchor)
    if newest is None:
        return []
    faults, tree, held = [], Edge(), {}
    largest: dict[str, int] = {}
    for first in range(0, newest.size, PAGE):
        for idx, leaf in await logs.leaves(tx, anchor, Span(first, min(first + PAGE, newest.size))):
            if idx != tree.size:
                return [f"anchor log: entry {tree.size} is missing"]
            tree.grow([leaf_hash(leaf)])
            held[idx] = leaf_hash(leaf)
            if (told := _told(leaf)) is not None:
                largest[told.origin] = max(told.size, largest.get(told.origin, 0))
    if tree.root() != newest.root:
        faults.append("anchor log: its entries are not those that were signed")
    for log in await logs.list_logs(tx):
        if log.log_id != anchor.log_id:
            faults += await _not_held(tx, log, held)
            if log.size < (size := largest.get(log.origin, 0)):
                faults.append(
                    f"anchor log: the checkpoint of {log.origin} that it holds has {size} entries; {log.size} are left"
                )
    return faults


def _told(leaf: bytes) -> Checkpoint | None:
    """The checkpoint that a leaf of the anchor log is; none when it tells of a new key."""
    try:
        return Checkpoint.parse(leaf.decode())
    except (InvalidInput, UnicodeDecodeError):
        return None


async def _not_held(tx: Transaction, log: Log, held: dict[int, bytes]) -> list[str]:
    faults: list[str] = []
    after = 0
    while page := await logs.checkpoints(tx, log, after):
        faults += [
            f"anchor log: it does not hold the checkpoint of {log.origin} at size {each.size}"
            for each in page
            if each.anchor_idx is None or held.get(each.anchor_idx) != leaf_hash(each.body.encode())
        ]
        after = page[-1].size
    return faults
