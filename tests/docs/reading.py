"""The pages as their readers see them: fences, the commands in them, the files that they tell a reader to make."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PREFIXES = ("make ", "regie ", "curl ", "sed ", ".venv/bin/")
"""A line of a fence that begins with one of these is a command; what else is shown there, a person does by hand."""
NO_COMMANDS_IN = {"yaml", "python", "ini", "sql"}

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"\bfile\s+`(?P<path>[^`]+)`[^`]*:\s*\Z")
_EXIT_CODE = re.compile(r"# exit code (?P<code>\d+)$")


@dataclass(frozen=True)
class Write:
    """The page tells its reader to make a file."""

    path: str
    text: str


@dataclass(frozen=True)
class Command:
    """The page tells its reader to run something. What it shows of the output stands in `shows`."""

    line: int
    text: str
    exit_code: int = 0
    shows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fence:
    """One fence: the number of its first line, and the paragraph above it."""

    line: int
    language: str
    body: str
    before: str


def pages() -> list[Path]:
    """Every page that people read."""
    folders = [
        ROOT,
        *(ROOT / "docs" / each for each in ("", "decisions", "explanation", "how-to", "reference", "tutorial")),
    ]
    return [page for folder in folders for page in sorted(folder.glob("*.md"))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def fences(page: Path) -> list[Fence]:
    """The fences of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Fence(
            text.count("\n", 0, found.start()) + 2,
            found["language"],
            found["body"],
            text[: found.start()].rstrip().rpartition("\n\n")[2],
        )
        for found in _FENCE.finditer(text)
    ]


def steps(page: Path) -> list[Write | Command]:
    """What a reader does who follows a page from top to bottom."""
    found: list[Write | Command] = []
    for fence in fences(page):
        made = _FILE.search(fence.before)
        if made:
            found.append(Write(made["path"], fence.body))
        elif fence.language not in NO_COMMANDS_IN:
            commands = _commands(fence)
            last = found[-1] if found else None
            if not commands and fence.language == "text" and isinstance(last, Command) and fence.before.endswith("```"):
                found[-1] = Command(last.line, last.text, last.exit_code, tuple(filter(None, fence.body.splitlines())))
            found += commands
    return found


def commands_of(page: Path) -> list[Command]:
    return [each for each in steps(page) if isinstance(each, Command)]


def _commands(fence: Fence) -> list[Command]:
    """The commands of a fence. One goes on over a backslash, and over an open quote."""
    found: list[Command] = []
    lines = fence.body.splitlines()
    number = 0
    while number < len(lines):
        first = number
        text = lines[number]
        number += 1
        if not text.startswith(PREFIXES):
            continue
        while number < len(lines) and not _is_whole(text):
            text += "\n" + lines[number]
            number += 1
        code = _EXIT_CODE.search(text)
        found.append(Command(fence.line + first, text, int(code["code"]) if code else 0))
    return found


def _is_whole(text: str) -> bool:
    if text.endswith("\\"):
        return False
    try:
        shlex.split(text)
    except ValueError:
        return False
    return True
