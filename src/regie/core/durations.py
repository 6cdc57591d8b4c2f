"""Lengths of time as people write them: `90s`, `15m`, `8h`, `2d`, `1w`, `1h30m`.

Read by the reader, the checker and, where a setting holds one, the interpreter.
"""

from __future__ import annotations

import re

_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_FORM = re.compile("".join(rf"(?:(?P<{unit}>[0-9]{{1,6}}){unit})?" for unit in _SECONDS))
LONGEST_S = 3_650 * 86_400
"""Ten years: what is due later than that is a slip of the pen, and far later than that no calendar can tell."""


def in_words(seconds: float) -> str:
    """A length of time of whole seconds as people write it, such as `1h30m`: the reverse of `parse_duration`."""
    left, parts = round(seconds), []
    for unit, size in _SECONDS.items():
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def parse_duration(text: str) -> float:
    """Seconds that a written length of time stands for.

    Args:
        text: Whole numbers with the units w, d, h, m, s, the largest first, such as `1h30m`.

    Raises:
        ValueError: The text has another form, means no time at all, or more than ten years.
    """
    found = _FORM.fullmatch(text)
    seconds = sum(int(number) * _SECONDS[unit] for unit, number in found.groupdict("0").items()) if found else 0
    if seconds == 0:
        raise ValueError(f"{text!r} is not a length of time: write it like 90s, 15m, 8h, 2d, 1w or 1h30m")
    if seconds > LONGEST_S:
        raise ValueError(f"{text!r} is longer than 10 years")
    return float(seconds)
