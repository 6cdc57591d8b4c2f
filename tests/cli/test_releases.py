"""`regie release load`: a changed workspace becomes current, a faulty one changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regie.core.audit import Event
from regie.store import releases
from tests.leaves import read_outside

from .stage import TENANT, Stage, regie

pytestmark = pytest.mark.slow


async def current(stage: Stage) -> str:
    async with stage.database.reading() as tx:
        return (await releases.history(tx, limit=1))[0].digest


async def test_what_changed_is_loaded_and_said(stage: Stage) -> None:
    before = await current(stage)
    stage.write_tenant(title="Acme & Sons", roles={"security-officer": ["eva@example.com"]})
    done = await stage.regie("release", "load")
    assert done.returncode == 0, done.stderr
    assert "changed  tenant acme: title, roles" in done.stdout
    after = await current(stage)
    assert after != before
    assert after[:12] in done.stdout
    async with stage.database.reading() as tx:
        loaded = [leaf for leaf in await read_outside(tx, "acme", "identity") if leaf.event is Event.RELEASE_LOADED]
    assert {leaf.fields["release"] for leaf in loaded} == {before, after}


async def test_the_same_workspace_again_changes_nothing(stage: Stage) -> None:
    done = await stage.regie("release", "load", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "release": await current(stage),
        "is_new": False,
        "changes": [],
        "new_domains": [],
    }


async def test_a_check_says_and_does_not(stage: Stage) -> None:
    before = await current(stage)
    stage.write_tenant(title="Acme & Sons")
    done = await stage.regie("release", "load", "--check")
    assert done.returncode == 0
    assert "changed  tenant acme: title" in done.stdout
    assert "would be" in done.stdout
    assert await current(stage) == before


async def test_a_new_domain_is_named_and_needs_no_new_start(stage: Stage) -> None:
    folder = stage.installation.settings.workspace_folder / "domains" / "parking"
    folder.mkdir(parents=True)
    (folder / "domain.yaml").write_text("domain: parking\ntitle: Parking\nowner: team:it\nclassification: internal\n")
    done = await stage.regie("release", "load")
    assert done.returncode == 0, done.stderr
    assert "new      domain parking" in done.stdout
    assert "New: parking." in done.stdout
    assert "regie down" not in done.stdout


@pytest.mark.parametrize(
    ("parts", "line", "says"),
    [
        ({"titel": "Acme"}, "titel: Acme", "'titel' is not known here (did you mean title?)"),
        (
            {"connections": {"jira": {**TENANT["connections"]["jira"], "connector": "jria"}}},
            "  jira:",
            "connections.jira: there is no connector jria (did you mean jira?)",
        ),
    ],
)
async def test_a_faulty_workspace_leaves_the_old_release(
    stage: Stage, parts: dict[str, Any], line: str, says: str
) -> None:
    before = await current(stage)
    stage.write_tenant(**parts)
    done = await stage.regie("release", "load")
    number = stage.tenant_file.read_text(encoding="utf-8").splitlines().index(line) + 1
    assert done.returncode == 2
    assert f"{stage.tenant_file}:{number}:" in done.stderr
    assert says in done.stderr
    assert await current(stage) == before


def test_where_nothing_runs_nothing_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "home" / "workspace" / "tenants" / "acme.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(TENANT))
    done = regie(tmp_path / "home", "release", "load")
    assert done.returncode == 4
    assert "Nothing runs" in done.stderr
