"""`regie secret`: where a secret is put, whether all are where they should be, and what is never shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from regie.settings import child_environment, gateway_environment, secret_variable

from .stage import SECRETS, TENANT, regie

CANARY = "canary-41f6a0"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An installation with a workspace, in which an orchestrator mounts the secrets of one customer."""
    home = tmp_path / "home"
    tenants = home / "workspace" / "tenants"
    tenants.mkdir(parents=True)
    home.chmod(0o700)
    for tenant in ("acme", "other"):
        (tenants / f"{tenant}.yaml").write_text(yaml.safe_dump({**TENANT, "tenant": tenant}))
    mounted = tmp_path / "mounted" / "acme" / "identity"
    mounted.mkdir(parents=True)
    (mounted / "jira-token").write_text(CANARY)
    written = {
        "backends": {"mounted": {"kind": "files", "folder": str(tmp_path / "mounted")}},
        "serving": [{"tenants": ["acme"], "backend": "mounted"}],
    }
    (home / "secrets.yaml").write_text(yaml.safe_dump(written))
    return home


@pytest.mark.slow
def test_every_secret_is_looked_up_where_it_is_kept_and_none_is_shown(home: Path) -> None:
    done = regie(home, "secret", "put", SECRETS["api_token"], "--tenant", "other", stdin=CANARY)
    assert done.returncode == 0, done.stderr

    done = regie(home, "secret", "check", "--json")

    assert done.returncode == 1
    found = {(each["tenant"], each["secret"]): (each["kept_in"], each["found"]) for each in json.loads(done.stdout)}
    assert found == {
        ("acme", SECRETS["api_token"]): ("mounted", "kept"),
        ("acme", SECRETS["webhook"]): ("mounted", "missing"),
        ("other", SECRETS["api_token"]): ("vault", "kept"),
        ("other", SECRETS["webhook"]): ("vault", "missing"),
    }
    assert CANARY not in done.stdout + done.stderr


@pytest.mark.slow
def test_what_the_vault_would_never_be_asked_for_is_not_put_there(home: Path) -> None:
    done = regie(home, "secret", "put", SECRETS["api_token"], "--tenant", "acme", stdin=CANARY)
    assert done.returncode == 2
    assert "looked up in mounted" in done.stderr


@pytest.mark.slow
def test_a_wrong_file_is_told_with_its_line(home: Path) -> None:
    (home / "secrets.yaml").write_text("serving:\n  - { backend: vualt }\n")
    done = regie(home, "secret", "check")
    assert done.returncode == 2
    assert "secrets.yaml:2:" in done.stderr
    assert "did you mean vault" in done.stderr


def test_only_a_gateway_inherits_variables_with_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIE_SECRET__ACME__IDENTITY__TOKEN", CANARY)
    assert secret_variable("ACME__IDENTITY__TOKEN") == CANARY
    assert CANARY not in child_environment(home="x").values()
    assert CANARY in gateway_environment(home="x").values()
