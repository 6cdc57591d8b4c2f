"""In which form runs, their events and releases are written down, as one number, and who may read what.

The records are closed: a reader that met a field it does not know would have to drop it, and would write the run back
without it. So each row says in which form it was written, and whoever reads only earlier forms leaves it alone. A new
field of `RunState`, of an event or of a release is a new number: `tests/core/test_format.py` finds out.
"""

from __future__ import annotations

from regie.core.errors import Unavailable

FORMAT = 5
"""What this version writes; 3 is sealed under data keys, and domains say how long values are kept. In 4 an approval
says whom it is about; in 5 expressions know `pluck`, `trim`, `run.dry` and `run.given`.

It reads this one and every earlier one; a field that was not there has its default.
"""


def require_readable(what: str, written: int) -> None:
    """Make sure that this version knows every field of something stored.

    Raises:
        Unavailable: A newer version has written it; one that can read it does what is to be done.
    """
    if written > FORMAT:
        raise Unavailable(
            f"{what} was written by a newer version of Regie (format {written}, this one reads up to {FORMAT}).",
            hint="Bring this process up to the same version, then it goes on.",
        )
