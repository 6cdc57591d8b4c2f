"""One turn of the notary: leaves out of the intake, into their logs, a signed checkpoint for each, all into the anchor.

A turn is one transaction. What a process remembers of a log is only its edge, which it can read again; so it may be
killed at any moment, and a turn whose outcome nobody knows is simply followed by the next.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from pydantic import JsonValue

from regie import crashpoints
from regie.core.audit import Actor, Circumstances, Event, Fact, Position, encode_leaf, written
from regie.core.errors import AuditBroken, AuthFailed
from regie.core.merkle import Edge
from regie.core.signed_note import Checkpoint, SignedNote, SigningKey
from regie.crashpoints import CrashPoint
from regie.notary.keys import KeyFile
from regie.store.sequencing import AT_ONCE, Grown, LogDatabase, Standing, Taken, Turn

BOTH_SIGN = timedelta(days=30)
"""How long the key before still signs beside a new one, so that whoever knows only the old one has time to learn."""
NONCE_BYTES = 16
NOTARY = Actor(type="notary", id="notary")


@dataclass(frozen=True)
class Sequenced:
    """What a turn did: leaves taken in, logs that grew, and whether more may be waiting.

    Attributes:
        delay_s: How long the leaf had waited that waited longest, until the turn was over.
        took_s: How long the turn took.
    """

    leaves: int = 0
    logs: int = 0
    is_full: bool = False
    delay_s: float = 0.0
    took_s: float = 0.0


class Sequencer:
    """Takes turns.

    Args:
        database: Under the notary's role.
        keys: Made when there is none and nothing has been signed yet.
    """

    def __init__(self, database: LogDatabase, keys: KeyFile) -> None:
        self._database = database
        self._keys = keys
        self._edges: dict[int, Edge] = {}

    async def step(self, limit: int = AT_ONCE) -> Sequenced:
        """Take one turn.

        Raises:
            Unavailable: The database does not answer; nothing is lost, and the next turn goes on.
            AuthFailed: The signing key is gone or cannot be used.
            AuditBroken: A log is not what was signed; leaves stay in the intake.
        """
        began_s = time.monotonic()
        try:
            async with self._database.turn() as turn:
                now = await turn.now()
                signers, news = await self._signers(turn, now)
                taken = await turn.take(limit)
                grown = await self._grow(turn, taken, news, signers, now) if taken or news else []
                if grown:
                    crashpoints.crashpoint(CrashPoint.IN_NOTARY)
                    await turn.write([log for log, _ in grown])
        except BaseException:
            self._edges.clear()
            raise
        self._edges.update({log.log_id: edge for log, edge in grown})
        took_s = time.monotonic() - began_s
        # A leaf may have been written after the turn began.
        waited_s = max((max(0.0, (now - leaf.at).total_seconds()) for leaf in taken), default=0.0)
        return Sequenced(len(taken), max(0, len(grown) - 1), len(taken) == limit, waited_s + took_s, took_s)

    async def _grow(
        self,
        turn: Turn,
        taken: Sequence[Taken],
        news: Sequence[bytes],
        signers: Sequence[SigningKey],
        now: datetime,
    ) -> list[tuple[Grown, Edge]]:
        """Put leaves into their logs, and those logs' checkpoints and news of the notary into the anchor log."""
        anchor_id, _ = await turn.anchor()
        by_log: dict[int, list[Taken]] = defaultdict(list)
        for leaf in taken:
            by_log[leaf.log_id].append(leaf)
        found = await turn.logs([*by_log, anchor_id])
        anchor = found[anchor_id]
        held: list[Taken] = [_own(anchor_id, leaf, now) for leaf in news]
        grown = []
        for log_id, leaves in by_log.items():
            log, edge = await self._grown(turn, found[log_id], leaves, signers, anchor.size + len(held))
            held.append(_own(anchor_id, log.checkpoint.body.encode(), now))
            grown.append((log, edge))
        grown.append(await self._grown(turn, anchor, held, signers, None))
        return grown

    async def _grown(
        self,
        turn: Turn,
        log: Standing,
        leaves: Sequence[Taken],
        signers: Sequence[SigningKey],
        anchor_idx: int | None,
    ) -> tuple[Grown, Edge]:
        known = self._edges.get(log.log_id)
        edge = known.copy() if known and known.size == log.size else await turn.edge(log.log_id, log.size)
        if log.leaves != log.size or edge.root() != log.root:
            raise AuditBroken(
                f"The log {log.origin} is not what was signed: nothing is signed any more.",
                hint="Find what was changed: regie audit verify. Restore it from a backup.",
            )
        tiles = edge.grow(leaf.hash for leaf in leaves)
        checkpoint = Checkpoint(log.origin, edge.size, edge.root())
        lines = [key.sign(checkpoint.body, log.origin) for key in signers]
        note = SignedNote(checkpoint.body).with_signatures(*lines)
        return Grown(log.log_id, log.size, leaves, tiles, checkpoint, note, anchor_idx), edge

    async def _signers(self, turn: Turn, now: datetime) -> tuple[list[SigningKey], list[bytes]]:
        """Who signs now, the current key first, and leaves that tell of keys that have come since the last turn."""
        known = await turn.keys()
        if not known and not self._keys.exists():
            self._keys.add()
        ring = self._keys.read()
        last = max((at for at, key in enumerate(ring) if key.public in known), default=-1)
        if known and last < 0:
            raise AuthFailed(
                "None of the keys in the notary's key file has signed this database's logs.",
                hint="Restore the key file that belongs to it.",
            )
        news: list[bytes] = []
        if not known:
            await turn.add_key(ring[-1].public, 0)
            return [ring[-1]], news
        if ring[last + 1 :]:
            anchor_id, anchor_name = await turn.anchor()
            size = (await turn.logs([anchor_id]))[anchor_id].size
            for at, (old, key) in enumerate(itertools.pairwise(ring[last:]), start=size):
                news.append(_rotation(old, key, anchor_name, at, now))
                await turn.add_key(key.public, at)
                known[key.public] = (at, now)
        return _signing_now(ring, known, now), news


def _signing_now(
    ring: Sequence[SigningKey], known: dict[bytes, tuple[int, datetime]], now: datetime
) -> list[SigningKey]:
    """The current key, and those before it whose successor is still young."""
    signing = [ring[-1]]
    for key, successor in zip(ring[-2::-1], ring[:0:-1], strict=True):
        if key.public in known and now - known[successor.public][1] < BOTH_SIGN:
            signing.append(key)
    return signing


def _rotation(old: SigningKey, new: SigningKey, anchor: str, size: int, now: datetime) -> bytes:
    """The leaf of the anchor log in which the old key's last act is to name the new one."""
    detail: dict[str, JsonValue] = {
        "old_vkey": str(old.verifier(anchor)),
        "new_vkey": str(new.verifier(anchor)),
        "from_size": size,
    }
    fact = Fact(event=Event.LOG_KEY_ROTATED, actor=NOTARY, detail=detail)
    circumstances = Circumstances(at=written(now), tenant="", domain="")
    return encode_leaf(fact, circumstances, Position(str(uuid4()), secrets.token_hex(NONCE_BYTES)))


def _own(log_id: int, leaf: bytes, at: datetime) -> Taken:
    return Taken(log_id, str(uuid4()), None, None, leaf, at)
