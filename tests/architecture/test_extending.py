"""What it costs to add a block or a connector: new files, and no edit of an old one. Done in a copy of the package."""

import re
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

import regie

pytestmark = pytest.mark.slow

SOURCE = Path(regie.__file__).parent
TESTS = Path(__file__).parent.parent

BLOCK = '''
"""Blocks about greetings."""

from regie.core.block import Context, block
from regie.core.capability import Record


class Greeting(Record):
    """Words to greet with."""

    words: str


@block("greeting.compose")
async def compose(ctx: Context, name: str) -> Greeting:
    """Compose a greeting.

    Example:
        uses: greeting.compose
        with: { name: Jan }
    """
    return Greeting(words=f"Hello {name}")
'''

BLOCK_TEST = """
import asyncio

from regie.blocks import load_catalogue


def test_it_greets() -> None:
    block = load_catalogue()["greeting.compose"]
    assert asyncio.run(block.function(None, name="Jan")).words == "Hello Jan"
"""

WORKFLOW = """
workflow: identity.greet
title: Greet somebody
owner: team:implementation
input:
  name: { type: text }
steps:
  - id: greeting
    uses: greeting.compose
    with: { name: "${{ input.name }}" }
  - if: steps.greeting.words == 'Hello Jan'
    end: greeted
"""

CONNECTOR = '''
"""Tickets of an invented vendor."""

from regie.core.capabilities import ticket
from regie.kit.connector import Connector, Read, provides


class Paper(Connector):
    """Tickets are sheets of paper."""

    @provides(ticket.READ, permissions=["sheet:read"])
    class ReadTicket(Read[ticket.TicketQuery, ticket.Ticket]):
        """Read a sheet."""

        async def read(self, want: ticket.TicketQuery) -> ticket.Ticket:
            """Read it."""
            answer = await self.session.get(f"/sheets/{want.ticket}")
            return answer.read_as(ticket.Ticket)
'''

MANIFEST = """
name: paper
title: Paper tickets
docs: https://paper.example/docs
owner: team:implementation
quality:
  level: bronze
  rules: { manifest: done, permissions: done, recordings: done, error-mapping: done, docs-link: done }
address: address
authentication: { kind: basic, user: user, secret: password }
settings:
  address: { about: Where the sheets lie., example: "https://paper.example" }
  user: { about: Who reads them., example: reader }
secrets:
  password: The reader's password.
permissions: ["sheet:read"]
limits: []
"""

RECORDING = """
address: https://paper.example
settings: { address: "https://paper.example", user: reader }
cases:
  - capability: ticket.read
    want: { ticket: P-1 }
    gives: &sheet
      key: P-1
      queue: P
      request_type: ""
      title: Hello
      status: Open
      is_done: false
      reporter: { id: r, display_name: Jan Janssen, email: jan.janssen@example.com }
      fields: {}
    exchanges:
      - request: GET /sheets/P-1
        status: 200
        body: *sheet
"""


def copy_package(folder: Path) -> Path:
    copied: Path = copytree(SOURCE, folder / "src" / "regie", ignore=ignore_patterns("__pycache__"))
    return copied


def fingerprint(package: Path) -> dict[str, bytes]:
    return {str(file.relative_to(package)): file.read_bytes() for file in package.rglob("*") if file.is_file()}


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    source = str(folder / "src")
    code = f"import sys; sys.path.insert(0, {source!r}); sys.dont_write_bytecode = True\n"
    return subprocess.run(
        [sys.executable, "-c", code + arguments[0], *arguments[1:]], capture_output=True, text=True, check=False
    )


def test_a_block_for_a_new_noun_takes_two_new_files_and_no_edited_one(tmp_path: Path) -> None:
    package = copy_package(tmp_path)
    before = fingerprint(package)
    (package / "blocks" / "greeting.py").write_text(BLOCK.lstrip())
    test = tmp_path / "test_greeting.py"
    test.write_text(BLOCK_TEST)
    workflow = tmp_path / "greet.yaml"
    workflow.write_text(WORKFLOW)

    tested = run_in(
        tmp_path, "import pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', sys.argv[1]]))", str(test)
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    validated = run_in(
        tmp_path,
        "sys.argv = ['regie', 'validate', sys.argv[1]]\nfrom regie.cli import main\nmain()",
        str(workflow),
    )
    assert validated.returncode == 0, validated.stdout + validated.stderr
    listed = run_in(tmp_path, "sys.argv = ['regie', 'blocks', '--json']\nfrom regie.cli import main\nmain()")
    assert "greeting.compose" in listed.stdout

    after = fingerprint(package)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"blocks/greeting.py"}


def test_a_connector_for_existing_capabilities_takes_four_new_files_and_no_edited_one(tmp_path: Path) -> None:
    package = copy_package(tmp_path)
    before = fingerprint(package)
    folder = package / "connectors" / "paper"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""Paper tickets."""\n')
    (folder / "connector.py").write_text(CONNECTOR.lstrip())
    (folder / "manifest.yaml").write_text(MANIFEST)

    tests = copytree(TESTS / "connectors", tmp_path / "tests" / "connectors", ignore=ignore_patterns("__pycache__"))
    (tests / "recordings" / "paper.yaml").write_text(RECORDING)

    checked = run_in(
        tmp_path,
        "import pytest\nsys.exit(pytest.main(sys.argv[1:]))",
        *("-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-k", "paper", "-o", "asyncio_mode=auto"),
        *("-o", "asyncio_default_fixture_loop_scope=function", str(tests / "test_registry.py")),
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert re.search(r"\d{2,} passed", checked.stdout), checked.stdout

    after = fingerprint(package)
    assert {name: after[name] for name in before} == before
    assert len(set(after) - set(before)) == 3, "with its recording, four"
