"""What a place has answered, kept sealed in the gateway's memory for a while, so that no step has to ask for itself.

A vendor that allows ten questions a minute is asked once for a thousand steps. While it does not answer, what is known
is used on, up to a limit; what it denies or has no more is forgotten at once.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from regie.core.errors import AuthFailed, Retryable, Throttled, Unavailable
from regie.gateway.vault import NoSecret, SecretText

_log = structlog.get_logger(__name__)

AGAIN_S = 15.0
"""Seconds after a look-up in which a value that was refused, or that lacks, is not looked up once more."""
PAUSE_S = 5.0
"""Seconds for which a place is left alone that has not answered and does not say how long."""
MOST_PLACES = 4096
_NONCE_BYTES = 12

Fetch = Callable[[], Awaitable[str]]
Pick = Callable[[str], str]
"""A secret's value out of what was fetched. Raises NoSecret."""


@dataclass(slots=True)
class _Place:
    """One thing that is looked up.

    Attributes:
        sealed: Nonce and ciphertext; empty before the first answer.
        at: When it was fetched.
        left_alone: Until when it is not asked again, after a failure.
    """

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    sealed: bytes = b""
    at: float = 0.0
    left_alone: float = 0.0
    was_throttled: bool = False


class Memory:
    """Remembers answers of one backend.

    Args:
        backend: Its name, for the log.
        remember_s: Seconds for which an answer is used without asking again.
        stale_s: Seconds for which it is used while asking again fails.
        clock: Seconds that only go forward.
    """

    def __init__(
        self, backend: str, *, remember_s: float, stale_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._backend = backend
        self._remember_s = remember_s
        self._stale_s = stale_s
        self._clock = clock
        self._key = AESGCM(secrets.token_bytes(32))
        self._places: OrderedDict[str, _Place] = OrderedDict()

    async def get(self, name: str, fetch: Fetch, pick: Pick, refused: SecretText | None) -> SecretText:
        """A value out of what is remembered, or fetched now. Whoever waits for somebody else's fetch uses that one.

        Args:
            name: Of what is fetched.
            refused: See `SecretBackend`.

        Raises:
            RegieError: What `fetch` and `pick` raise.
        """
        place = self._places.setdefault(name, _Place())
        self._places.move_to_end(name)
        async with place.turn:
            known = self._open(name, place) if place.sealed else None
            age_s = self._clock() - place.at
            is_wanted = known is not None and _is_wanted(known, pick, refused)
            if known is not None and age_s < (self._remember_s if is_wanted else min(AGAIN_S, self._remember_s)):
                return SecretText(pick(known))
            try:
                known = await self._fetched(name, place, fetch)
            except Retryable as error:
                if known is None or age_s >= self._stale_s:
                    raise
                _log.warning("secret:stale", backend=self._backend, age_s=round(age_s), kind=type(error).__name__)
            return SecretText(pick(known))

    async def _fetched(self, name: str, place: _Place, fetch: Fetch) -> str:
        wait_s = place.left_alone - self._clock()
        if wait_s > 0:
            kind = Throttled if place.was_throttled else Unavailable
            raise kind(f"The backend {self._backend} is left alone for a moment.", after_s=wait_s)
        try:
            found = await fetch()
        except Retryable as error:
            place.left_alone = self._clock() + (PAUSE_S if error.after_s is None else error.after_s)
            place.was_throttled = isinstance(error, Throttled)
            raise
        except AuthFailed:
            place.sealed = b""
            raise
        nonce = secrets.token_bytes(_NONCE_BYTES)
        place.sealed = nonce + self._key.encrypt(nonce, found.encode(), name.encode())
        place.at = self._clock()
        self._make_room()
        return found

    def _open(self, name: str, place: _Place) -> str:
        return self._key.decrypt(place.sealed[:_NONCE_BYTES], place.sealed[_NONCE_BYTES:], name.encode()).decode()

    def _make_room(self) -> None:
        for name in [name for name, place in self._places.items() if not place.turn.locked()]:
            if len(self._places) <= MOST_PLACES:
                return
            del self._places[name]


def _is_wanted(known: str, pick: Pick, refused: SecretText | None) -> bool:
    """Whether what is remembered has the secret, and not the value that was turned down."""
    try:
        found = SecretText(pick(known))
    except NoSecret:
        return False
    return refused is None or not found.is_same(refused)
