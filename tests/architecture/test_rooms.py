"""The walls that import contracts cannot see."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import regie

ROOT = Path(regie.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
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


def test_the_product_never_names_the_sandbox_as_an_import() -> None:
    for file in MODULES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith("regie_sandbox") for name in names), file
