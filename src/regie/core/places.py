"""Places of steps: in a definition, in a run with loop indices, and those that no definition writes."""

from __future__ import annotations

from regie.core.definition import UNDO

START = "start"
"""Place of the step that reads the ticket before the first written step. Not a legal step id."""
ANSWER = "answer"
"""Place of the step that tells the ticket what is wrong with its input. Not a legal step id."""
LIMIT = "run-limit"
"""Place, with the number of the time, at which a run asks for more changes than its limit. Not a legal step id."""


def written_place(place: str) -> str:
    """The place in the definition of a place in a run: the same without loop indices (`close/1[3]` -> `close/1`)."""
    return place.partition("[")[0] if place.endswith("]") else place


def undo_place(place: str) -> str:
    """Where the step stands that takes a step of a run back (`close/1[3]` -> `close/1/undo[3]`)."""
    written = written_place(place)
    return f"{written}{UNDO}{place[len(written) :]}"


def undone_place(place: str) -> str | None:
    """Which step of a run is taken back at a place; none when the place is no such one."""
    written = written_place(place)
    return written.removesuffix(UNDO) + place[len(written) :] if written.endswith(UNDO) else None
