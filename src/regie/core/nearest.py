"""The nearest known word to a misspelt one, for messages about what people write."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST_SHOWN = 12


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A hint that names the nearest known word, or all of them when none is near and they are few."""
    words = sorted(known)
    # Comparing is slow: no name of ours is longer, and no list of ours that people can oversee is longer.
    near = difflib.get_close_matches(word[:100], words[:500], n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"known: {', '.join(words)}" if 0 < len(words) <= _MOST_SHOWN else None
