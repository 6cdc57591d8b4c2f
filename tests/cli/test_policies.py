"""`regie policy test` and `regie policy explain`."""

import json

import pytest

from .stage import WORKFLOW, Stage

pytestmark = pytest.mark.slow

QUESTION = f"decisions:\n  - {{ who: operator, action: start, tenant: acme, workflow: {WORKFLOW}, expect: %s }}\n"


async def test_golden_tables_are_asked(stage: Stage) -> None:
    folder = stage.installation.settings.workspace_folder / "policies"
    folder.mkdir()
    (folder / "decisions.yaml").write_text(QUESTION % "allow")
    good = await stage.regie("policy", "test", "--json")
    assert good.returncode == 0, good.stderr
    [line] = json.loads(good.stdout)["decisions"]
    assert line["found"]["policies"] == ["operators_start_runs"]
    (folder / "decisions.yaml").write_text(QUESTION % "deny")
    bad = await stage.regie("policy", "explain", "operator", "view", WORKFLOW)
    assert bad.returncode == 2
    assert "decisions.yaml:2:" in bad.stderr
    assert "expected deny, found allow by operators_start_runs" in " ".join(bad.stderr.split())


async def test_a_decision_is_explained(stage: Stage) -> None:
    denied = await stage.regie(
        "policy", "explain", "person:ingrid.larsen@example.com", "decide", WORKFLOW,
        "--asked", "ingrid.larsen@example.com", "--requester", "Ingrid.Larsen@example.com",
    )  # fmt: skip
    assert denied.returncode == 3
    assert "deny by four_eyes" in denied.stdout
    assert "asked for this run and cannot approve it" in denied.stdout
