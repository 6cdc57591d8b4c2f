"""Which of a tenant's connections serves a question: the only one, or the one that is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regie import connectors
from regie.core.errors import Denied
from regie.core.tenant import Connection
from regie.gateway.backends.secrets import Secrets
from regie.gateway.budgets import Budgets
from regie.gateway.connections import Connections
from regie.gateway.keeping import missing_secrets
from regie.gateway.vault import VaultFile
from regie.kit.discovery import connectors_in
from regie.settings import Settings
from regie.store.database import Database

from .stage import release_of

pytestmark = pytest.mark.slow

SHOW = "certificate.publish_proof"


def folder(path: str, *domains: str) -> Connection:
    return Connection(connector="webroot", domains=domains, settings={"folder": path})


ONE = release_of({"one": folder("/srv/one", "identity")})
TWO = release_of({"one": folder("/srv/one", "identity"), "other": folder("/srv/other", "identity", "support")})


@pytest.fixture
async def connections(database: Database, tmp_path: Path) -> AsyncIterator[Connections]:
    vault = VaultFile.create(tmp_path / "vault")
    made = Connections(Secrets(vault), connectors_in(connectors), Budgets(database), database)
    yield made
    await made.aclose()


async def test_the_only_one_need_not_be_named(connections: Connections) -> None:
    assert connections.serving(ONE, "acme", "identity", SHOW).connection == "one"
    assert connections.serving(ONE, "acme", "identity", SHOW, through="one").connection == "one"


async def test_of_several_one_is_named(connections: Connections) -> None:
    with pytest.raises(Denied, match="More than one"):
        connections.serving(TWO, "acme", "identity", SHOW)
    assert connections.serving(TWO, "acme", "identity", SHOW, through="other").connection == "other"
    assert connections.serving(TWO, "acme", "support", SHOW).connection == "other"


@pytest.mark.parametrize("named", ["one", "nothing", "../other"])
async def test_a_name_does_not_reach_into_another_domain(connections: Connections, named: str) -> None:
    with pytest.raises(Denied, match="does not serve"):
        connections.serving(TWO, "acme", "support", SHOW, through=named)


def test_a_secret_that_is_made_when_it_is_needed_does_not_lack(tmp_path: Path) -> None:
    authority = Connection.model_validate(
        {
            "connector": "acme",
            "domains": ["identity"],
            "settings": {"directory": "https://acme.example.com/directory"},
            "secrets": {"account_key": "secret://identity/acme-account"},
        }
    )
    assert missing_secrets(Settings(home=tmp_path), release_of({"authority": authority})) == []
