"""Proofs in a web server's folder, shown by a real nginx."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from regie.connectors.webroot.connector import Webroot
from regie.core.capabilities import certificate
from regie.core.errors import InvalidInput, NotFound
from regie.core.plan import Change, NoChange, Receipt
from regie.kit.access import Calls
from regie.kit.connector import Write
from regie.kit.keys import Material
from regie.kit.local_host import LocalHost
from regie.kit.network import Network
from regie_sandbox.servers.authority import Authority
from regie_sandbox.servers.nginx import Nginx, nginx
from tests.counterparts.here import HERE

pytestmark = pytest.mark.slow

PROOF = certificate.Publication(name="shop.example.test", path="/.well-known/acme-challenge/abc", content="abc.def")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    folder: Path = tmp_path_factory.mktemp("nginx")
    with nginx(folder, Authority().issue(["localhost"])) as started:
        yield started


def write(folder: Path, capability: str) -> Write[Any, Any]:
    async def resolve(_: Material) -> bytes:
        raise AssertionError

    calls = Calls("nginx")
    host = LocalHost(network=Network(calls, HERE), calls=calls, resolve=resolve, folders=[str(folder)], commands={})
    found = Webroot(host, {"folder": str(folder)}).implementation(capability)
    assert isinstance(found, Write)
    return found


async def bring_about(made: Write[Any, Any], want: certificate.Publication) -> Change | NoChange:
    planned = made.plan(want, await made.observe(want, ""))
    if isinstance(planned, Change):
        receipt = await made.apply(want, planned, "")
        assert isinstance(receipt, Receipt)
        assert isinstance(made.plan(want, await made.confirm(want, receipt, "")), NoChange)
    return planned


def shown(server: Nginx) -> tuple[int, str]:
    answer = httpx2.get(f"http://127.0.0.1:{server.http_port}{PROOF.path}", trust_env=False)
    return answer.status_code, answer.text


async def test_a_proof_is_shown_until_it_is_withdrawn_and_a_repeat_changes_nothing(server: Nginx) -> None:
    publish = write(server.webroot, "certificate.publish_proof")
    withdraw = write(server.webroot, "certificate.withdraw_proof")
    assert isinstance(await bring_about(publish, PROOF), Change)
    assert isinstance(await bring_about(publish, PROOF), NoChange)
    assert shown(server) == (200, "abc.def")
    assert isinstance(await bring_about(withdraw, PROOF), Change)
    assert isinstance(await bring_about(withdraw, PROOF), NoChange)
    assert shown(server)[0] == 404


@pytest.mark.parametrize("path", ["/etc/passwd", "/.well-known/acme-challenge/../../x", "/.well-known/acme-challenge/"])
async def test_only_proofs_are_written(server: Nginx, path: str) -> None:
    with pytest.raises(InvalidInput):
        await write(server.webroot, "certificate.publish_proof").observe(PROOF.model_copy(update={"path": path}), "")


async def test_a_folder_that_was_not_prepared_is_told(tmp_path: Path) -> None:
    publish = write(tmp_path, "certificate.publish_proof")
    change = publish.plan(PROOF, await publish.observe(PROOF, ""))
    assert isinstance(change, Change)
    with pytest.raises(NotFound):
        await publish.apply(PROOF, change, "")
