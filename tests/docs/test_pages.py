"""What the pages say holds: links lead somewhere, workflows validate, every setting is explained, nothing is stale."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from regie.core.checking import validate
from regie.core.errors import DefinitionError, Fault
from regie.core.source import read_record
from regie.core.tenant import Domain, Tenant
from regie.domains import load_catalogue
from regie.settings import Settings
from regie.workspace.loading import SHIPPED

from .reading import ROOT, Fence, fences, name_of, pages

LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SETTING = re.compile(r"\bREGIE_(?!SECRET__)[A-Z_]*[A-Z]\b")
"""REGIE_SECRET__... are secrets of tenants."""
DOMAIN = read_record((SHIPPED / "identity" / "domain.yaml").read_text(), "domain.yaml", Domain)
SETTINGS = {name: each.default for name, each in DOMAIN.settings.items()} | {"answers_within": "8h"}
"""Those of the shipped domain, and those of the domain that CONTRIBUTING.md invents."""
FAULTS = {
    "docs/tutorial/first-workflow.md": 2,  # planted, so that the reader sees what is said about them
    # It uses the block that the page has its reader write: whoever has done so finds it faultless.
    "docs/tutorial/first-block.md": 0 if "date.add_days" in load_catalogue() else 1,
}
"""How many faults the workflow of a page has here; those of other pages have none."""

each_page = pytest.mark.parametrize("page", pages(), ids=name_of)


def of_kind(word: str) -> list[tuple[Path, Fence]]:
    """The fences that hold a whole file which begins with a word."""
    return [
        (page, fence)
        for page in pages()
        for fence in fences(page)
        if fence.language == "yaml" and fence.body.startswith(f"{word}:")
    ]


def anchors(page: Path) -> set[str]:
    """The addresses within a page, as GitHub makes them from headings."""
    found = HEADING.finditer(FENCED.sub("", page.read_text(encoding="utf-8")))
    kept = [re.sub(r"[^\w\- ]", "", each["text"].lower()).replace(" ", "-") for each in found]
    return set(kept)


def faults_of(fence: Fence, name: str) -> list[Fault]:
    try:
        validate(fence.body, name, load_catalogue(), SETTINGS)
    except DefinitionError as error:
        return error.faults
    return []


@each_page
def test_links_lead_to_a_page_and_a_heading_that_there_are(page: Path) -> None:
    for found in LINK.finditer(FENCED.sub("", page.read_text(encoding="utf-8"))):
        target, _, heading = found["target"].partition("#")
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        other = (page.parent / target).resolve() if target else page
        assert other.exists(), f"{name_of(page)}: {found['target']}"
        assert not heading or heading in anchors(other), f"{name_of(page)}: {found['target']}"


def test_there_are_workflows_to_check() -> None:
    assert len(of_kind("workflow")) >= 4


@pytest.mark.parametrize(
    ("page", "fence"), of_kind("workflow"), ids=lambda each: name_of(each) if isinstance(each, Path) else str(each.line)
)
def test_every_whole_workflow_validates(page: Path, fence: Fence) -> None:
    name = name_of(page)
    assert len(faults_of(fence, f"{name}+{fence.line}")) == FAULTS.get(name, 0)


@pytest.mark.parametrize(
    ("page", "fence"),
    [*of_kind("tenant"), *of_kind("domain")],
    ids=lambda each: name_of(each) if isinstance(each, Path) else str(each.line),
)
def test_every_whole_tenant_and_domain_can_be_read(page: Path, fence: Fence) -> None:
    model = Tenant if fence.body.startswith("tenant:") else Domain
    read_record(fence.body, f"{name_of(page)}+{fence.line}", model)


def test_every_setting_is_explained_and_no_other_is_named() -> None:
    known = {f"REGIE_{name.upper()}" for name in Settings.model_fields}
    reference = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    assert known <= set(SETTING.findall(reference))
    for page in pages():
        assert set(SETTING.findall(page.read_text(encoding="utf-8"))) <= known, name_of(page)


def test_the_pages_that_follow_from_the_code_are_fresh() -> None:
    checked = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_page_that_is_not_fresh_is_found(tmp_path: Path) -> None:
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        (tmp_path / page.name).write_text(page.read_text(encoding="utf-8") + "\nby hand\n", encoding="utf-8")
    checked = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 1
    assert "errors.md is out of date. Run: make docs" in checked.stdout


def test_every_page_can_be_found_from_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = {(ROOT / "docs" / found["target"].partition("#")[0]).resolve() for found in LINK.finditer(index)}
    lacking = {page for page in pages() if (ROOT / "docs") in page.parents} - linked - {ROOT / "docs" / "README.md"}
    assert not lacking
