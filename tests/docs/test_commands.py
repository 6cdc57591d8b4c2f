"""Every command that README and the pages under docs show is run here, in the order in which a reader meets it."""

from __future__ import annotations

from collections.abc import Iterator
from filecmp import dircmp
from pathlib import Path
from shutil import copytree, rmtree

import pytest

from .clone import Clone
from .reading import ROOT, Command, Write, commands_of, name_of, pages, steps

pytestmark = pytest.mark.slow

PROVE = ".venv/bin/regie prove idempotent identity.offboard_employee"
PROOF = "docs/how-to/prove-it-to-an-auditor.md"
TORTURE = "docs/how-to/break-it-on-purpose.md"
CUSTOMER = "docs/how-to/add-a-customer.md"
WITNESS = (
    ".venv/bin/regie witness witness-folder --name witness.example "
    """--log "$(sed -n 's/^log //p' policy)" --port 8330"""
)
CERTIFICATES = "docs/how-to/renew-certificates.md"
NO_AUTHORITY = "asks an authority that is not there; tests/certificates runs the workflow at a real one"
WATCHING = "docs/how-to/watch-certificates.md"
CERTIFICATES_DEMO = "make demo-certificates"
TOLD = "a minute, and servers as root; tests/e2e/test_certificates.py tells the same story"
NOT_RUN: dict[tuple[str, str], str] = {
    ("README.md", "make test"): "this test is one of them",
    ("README.md", CERTIFICATES_DEMO): TOLD,
    (WATCHING, CERTIFICATES_DEMO): TOLD,
    ("README.md", PROVE): "half a minute; tests/e2e/test_main_job.py runs it",
    ("docs/tutorial/first-workflow.md", "make demo"): "README.md has it run, and what that left is still there",
    ("docs/tutorial/first-block.md", "make check"): "runs the tests, and this test is one of them",
    ("docs/tutorial/first-block.md", "make docs"): "test_pages.py runs what it runs",
    ("docs/tutorial/first-connector.md", "make check"): "runs the tests, and this test is one of them",
    ("docs/tutorial/first-connector.md", "make docs"): "test_pages.py runs what it runs",
    (CUSTOMER, ".venv/bin/regie doctor --online"): "asks vendors that are not there",
    (
        CUSTOMER,
        ".venv/bin/regie plan identity.offboard_employee --tenant example-north --input employee.yaml",
    ): "asks vendors that are not there",
    (PROOF, WITNESS): "runs until it is interrupted; tests/notary/test_processes.py starts one",
    (TORTURE, ".venv/bin/python -m torture.notary --seed 4711 --seconds 60"): "a minute; tests/torture/test_notary.py",
    (CERTIFICATES, ".venv/bin/regie plan certificates.renew --tenant example-east --input shop.yaml"): NO_AUTHORITY,
    (CERTIFICATES, ".venv/bin/regie start certificates.renew --tenant example-east --input shop.yaml"): NO_AUTHORITY,
    (TORTURE, "make torture"): "minutes; tests/torture has a short storm",
    (TORTURE, "make torture-long"): "twenty minutes",
    (TORTURE, ".venv/bin/python -m torture --seed 4711 --seconds 180 --logs /tmp/storm"): "three minutes",
    (TORTURE, ".venv/bin/pytest -q tests/engine/test_simulation.py"): "it is one of the tests itself",
    (TORTURE, ".venv/bin/pytest -q -s tests/engine/test_generated_definitions.py"): "it is one of the tests itself",
}
"""The commands that are not run, each with the reason."""

GIVEN = {
    "README.md": {"FILE": "employee: zoe.dubois@example.com\n"},
    "docs/how-to/deploy-certificates.md": {"proxy-key": "a private key that nobody signs in with\n"},
}
"""Files that a reader of a page is taken to have."""

ALONE = {"README.md", "docs/tutorial/first-workflow.md", "docs/tutorial/first-block.md"}
"""Pages that start what they need themselves, every command a process of its own. The others speak to an installation
that runs, and a command of theirs costs no start: there are many."""

COMMANDED = [page for page in pages() if page.parent.name != "decisions" and commands_of(page)]
READERS = [page for page in COMMANDED if name_of(page) == "README.md" or (ROOT / "docs") in page.parents]


@pytest.fixture(scope="module")
def clone() -> Iterator[Clone]:
    made = Clone()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def workspace_as_it_was(clone: Clone) -> Iterator[None]:
    """What a page puts into the workspace is gone for the next one."""
    workspace, before = clone.root / ".regie" / "workspace", clone.root / "before"
    if workspace.exists():
        copytree(workspace, before, dirs_exist_ok=True)
    yield
    if not before.exists():
        return
    if differ(dircmp(before, workspace)):
        rmtree(workspace)
        before.rename(workspace)
        clone.load()
    else:
        rmtree(before)


def differ(compared: dircmp[str]) -> bool:
    """Whether two folders hold something else."""
    here = compared.left_only or compared.right_only or compared.diff_files or compared.funny_files
    return bool(here) or any(map(differ, compared.subdirs.values()))


def shortened(command: str) -> str:
    """A command without its comment."""
    return command.partition(" #")[0].strip()


@pytest.mark.parametrize("page", READERS, ids=name_of)
def test_every_command_of_a_page_does_what_the_page_says(clone: Clone, page: Path) -> None:
    name = name_of(page)
    for path, text in GIVEN.get(name, {}).items():
        clone.write(path, text)
    if name in ALONE:
        clone.stop()
    else:
        clone.start()
    for step in steps(page):
        match step:
            case Write():
                clone.write(step.path, step.text)
            case Command() if (name, shortened(step.text)) not in NOT_RUN:
                clone.run(step, by_typist=name not in ALONE)


def test_the_list_of_commands_that_are_not_run_names_commands_that_there_are() -> None:
    shown = {(name_of(page), shortened(command.text)) for page in READERS for command in commands_of(page)}
    assert not NOT_RUN.keys() - shown
