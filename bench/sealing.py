"""`python -m bench.sealing`: how many values a second are sealed and opened, under data keys and under one key file.

The key file is what everything was sealed under before there were data keys. Both are measured in turn; no database is
asked, as in a process that has its keys.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from regie.store.data_keys import DataKeys
from regie.store.key_encryption import KeyFiles
from regie.store.key_file import KeyFile
from regie.store.sealer import Sealer

T = TypeVar("T")
ROUNDS = 101
VALUES = 1_000
"""Of a round: what fits into the processor's memory, and fewer than a process seals before it tells the database."""
SIZES = (200, 1024, 8192)
"""Bytes of a value: a small output, the size others publish, the state of a long run."""
TENANTS = 50


def main() -> None:
    """Print values a second, the medians of all rounds, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        own = KeyFile.read_or_make(Path(folder) / "sealing.json")
        encryption = KeyFiles(Path(folder))
        print("bytes  what    one key file   data keys   ratio")  # noqa: T201  that is what it is for
        for size in SIZES:
            measured: dict[str, list[float]] = {}
            for _ in range(ROUNDS):
                for name, seconds in _round(own, encryption, b"x" * size).items():
                    measured.setdefault(name, []).append(VALUES / seconds)
            for what in ("seal", "open"):
                before, after = (statistics.median(measured[f"{what} {by}"]) for by in ("file", "keys"))
                print(f"{size:5}  {what}  {before:12,.0f} {after:12,.0f}   {after / before:.2f}")  # noqa: T201  the same


def _round(own: KeyFile, encryption: KeyFiles, plain: bytes) -> dict[str, float]:
    """Seconds for each way, in turn."""
    data_keys = DataKeys("", encryption)
    for number in range(TENANTS):
        wrapped = data_keys.fresh(f"tenant-{number}", "hr", 1, is_first=True)
        data_keys.learn([{"tenant": f"tenant-{number}", "domain": "hr", "version": 1, "wrapped": wrapped}])
    sealer = Sealer(own, encryption, data_keys)
    places = [
        {"tenant": f"tenant-{n % TENANTS}", "domain": "hr", "table": "step.output", "pk": "1"} for n in range(VALUES)
    ]

    def bound(place: dict[str, str]) -> bytes:
        return f"{place['tenant']}|{place['domain']}|{place['table']}|{place['pk']}".encode()

    by_file = [own.seal(plain, bound(place)) for place in places]
    by_keys = [sealer.seal(plain, **place) for place in places]
    return {
        "seal file": _timed(lambda place: own.seal(plain, bound(place)), places),
        "seal keys": _timed(lambda place: sealer.seal(plain, **place), places),
        "open file": _timed(lambda each: own.open(each[0], bound(each[1])), list(zip(by_file, places, strict=True))),
        "open keys": _timed(lambda each: sealer.open(each[0], **each[1]), list(zip(by_keys, places, strict=True))),
    }


def _timed(work: Callable[[T], object], values: Sequence[T]) -> float:
    begun = time.perf_counter()
    for value in values:
        work(value)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
