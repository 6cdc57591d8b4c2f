"""Workflows that run each other, in the files of a workspace: checked against one another wherever they lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from regie.core.errors import DefinitionError
from regie.domains import load_catalogue
from regie.workspace.loading import load_release, read_workflow

DOMAIN = "domain: parking\ntitle: Parking\nowner: team:it\nclassification: internal\n"
HEAD = "title: T\nowner: team:it\n"
PARENT = f"workflow: parking.free_place\n{HEAD}steps:\n  - run: parking.book_place\n    with: {{ place: A }}\n"
CHILD = f"workflow: parking.book_place\n{HEAD}input: {{ place: {{ type: text }} }}\nsteps:\n  - end:\n"


def workspace(folder: Path, **files: str) -> Path:
    """A workspace of one domain with these workflows."""
    workflows = folder / "domains" / "parking" / "workflows"
    workflows.mkdir(parents=True)
    (workflows.parent / "domain.yaml").write_text(DOMAIN)
    for name, text in files.items():
        (workflows / f"{name}.yaml").write_text(text)
    return folder


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_a_child_may_lie_before_or_behind_its_parent(tmp_path: Path, first: str, second: str) -> None:
    folder = workspace(tmp_path, **{first: PARENT, second: CHILD})
    release = load_release(folder, load_catalogue())
    assert {"parking.free_place", "parking.book_place"} <= release.definitions.keys()
    file = folder / "domains" / "parking" / "workflows" / f"{first}.yaml"
    assert read_workflow(file, load_catalogue()).workflow == "parking.free_place"


def test_a_child_that_changes_its_input_breaks_its_parents(tmp_path: Path) -> None:
    folder = workspace(tmp_path, parent=PARENT, child=CHILD.replace("place: {", "spot: {"))
    with pytest.raises(DefinitionError) as found:
        load_release(folder, load_catalogue())
    assert [Path(fault.file).name for fault in found.value.faults] == ["parent.yaml", "parent.yaml"]


def test_a_child_with_faults_of_its_own_is_no_fault_of_its_parent(tmp_path: Path) -> None:
    folder = workspace(tmp_path, parent=PARENT, child=CHILD.replace("type: text", "type: txet"))
    with pytest.raises(DefinitionError) as found:
        load_release(folder, load_catalogue())
    assert {Path(fault.file).name for fault in found.value.faults} == {"child.yaml"}
