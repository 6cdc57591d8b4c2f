"""The table says what is tested, and what it says is tested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "reference" / "bad-input.md"
CELLS = 5


def rows() -> list[list[str]]:
    """The cells of every row of the tables, without their heads."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def shown() -> set[str]:
    """The rows that tests show: marked `row("...")`, or named by the id of a parameter here."""
    found: set[str] = set()
    for file in sorted((TESTS / "bad_input").glob("test_*.py")):
        found |= set(re.findall(r'(?:\brow\(|\bid=)"([a-z0-9]+(?:-[a-z0-9]+)+)"', file.read_text(encoding="utf-8")))
    for file in sorted([*(TESTS / "pages").glob("**/*.py"), *(TESTS / "starts").glob("*.py")]):
        found |= set(re.findall(r'\brow\("([a-z0-9-]+)"', file.read_text(encoding="utf-8")))
    return found


def test_every_row_has_a_test_and_every_test_a_row() -> None:
    named = {cells[0].strip("`") for cells in rows()}
    assert named - shown() == set(), "rows without a test"
    assert shown() - named == set(), "tests without a row"


def test_no_row_is_there_twice() -> None:
    names = [cells[0] for cells in rows()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("cells", rows(), ids=lambda cells: cells[0].strip("`"))
def test_a_row_says_all(cells: list[str]) -> None:
    assert len(cells) == CELLS
    assert all(cells)
