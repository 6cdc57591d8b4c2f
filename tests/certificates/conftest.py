"""Pebble, and a web server that shows proofs, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from regie.crashpoints import arm
from regie_sandbox.servers.authority import Authority
from regie_sandbox.servers.nginx import Nginx, nginx
from regie_sandbox.servers.pebble import Challenges, Pebble, challenges, pebble

from .stage import World


@dataclass(frozen=True)
class Outside:
    """Everything outside that renewals meet."""

    pebble: Pebble
    names: Challenges
    server: Nginx


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    """No crash point stays armed."""
    yield
    arm("")


@pytest.fixture(scope="package")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """An authority that proves names at a real web server; a twentieth of good nonces is turned down."""
    folder: Path = tmp_path_factory.mktemp("outside")
    with (
        nginx(folder, Authority().issue(["localhost"])) as server,
        challenges(folder) as names,
        pebble(folder, dns_port=names.dns_port, http_port=server.http_port) as authority,
    ):
        yield Outside(authority, names, server)


@pytest.fixture
def world(outside: Outside, tmp_path: Path) -> World:
    """A tenant with one certificate to renew."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    made = World(outside.pebble.directory, outside.pebble.trust, outside.server.webroot, shelf)
    made.entries["site"] = made.entry("shop.example.test", "www.shop.example.test")
    return made
