"""The walls that import contracts cannot see."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import regie

ROOT = Path(regie.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
ROW = re.compile(r"^\| `(\w+)(?:/\*)?` \| [^|]* \| ([^|]*) \| [^|]* \|$", re.MULTILINE)
ROWS: list[tuple[str, str]] = ROW.findall((ROOT.parent.parent / "ARCHITECTURE.md").read_text(encoding="utf-8"))
"""Of the table of rooms: each with what it may import."""
BUCKETS = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "base", "shared", "misc"}


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT.parent))


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_every_module_says_what_it_is_for(file: Path) -> None:
    doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert doc, f"{file} has no docstring"


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_no_room_is_a_bucket(file: Path) -> None:
    assert not BUCKETS & {part.removesuffix(".py") for part in file.relative_to(ROOT).parts}


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_nothing_is_imported_late_without_a_reason(file: Path) -> None:
    """Imports inside functions hide what a module needs; each says beside it for whom it is worth that."""
    text = file.read_text(encoding="utf-8")
    tree, lines = ast.parse(text), text.splitlines()
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    late = [
        node.lineno
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
        and not re.search(r"# noqa: PLC0415  \w", lines[node.lineno - 1])
    ]
    assert not late, f"{file} imports inside a function at lines {late}"


def test_import_contracts_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"0 broken", done.stdout)


def test_a_worker_loads_neither_connectors_nor_the_gateway() -> None:
    """Run, not read: what the worker process really has in memory after its imports."""
    code = (
        "import sys, regie.worker.__main__;"
        "print([name for name in sys.modules if name.startswith(('regie.connectors', 'regie.gateway.', 'regie.kit'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def imported_by(file: Path) -> set[str]:
    """What a module imports, each name as far as it may name a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def packages_of(files: Iterable[Path]) -> set[str]:
    """The packages that modules import, by their first name."""
    return {name.partition(".")[0] for file in files for name in imported_by(file)}


def room_of(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def test_the_table_of_rooms_names_every_room() -> None:
    assert sorted(room for room, _ in ROWS) == sorted({room_of(file) for file in MODULES} - {"__init__"})


@pytest.mark.parametrize(("room", "cell"), [row for row in ROWS if not row[1].startswith(("everything", "as "))])
def test_the_table_of_rooms_names_the_rooms_that_each_imports(room: str, cell: str) -> None:
    names = {name for file in MODULES if room_of(file) == room for name in imported_by(file)}
    others = {name.split(".")[1] for name in names if name.startswith("regie.")} - {room}
    assert set(re.findall(r"`(\w+)`", cell)) == others


def test_the_product_never_names_the_sandbox_as_an_import() -> None:
    assert "regie_sandbox" not in packages_of(MODULES)


def test_what_the_product_imports_it_asks_for_itself() -> None:
    """Not only through somebody else, who may do without it one day."""
    project = tomllib.loads((ROOT.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked_for = {_plain(re.split(r"[\[<>=]", each)[0]) for each in project["dependencies"]}
    brought_by = packages_distributions()
    foreign = packages_of(MODULES) - sys.stdlib_module_names - {"regie"}
    lacking = {name for name in foreign if not {_plain(each) for each in brought_by[name]} & asked_for}
    assert not lacking


def _plain(distribution: str) -> str:
    return distribution.lower().replace("_", "-")
