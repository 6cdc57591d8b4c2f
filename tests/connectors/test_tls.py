"""The connector for TLS servers and certificate files, over real servers and folders."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from pydantic import JsonValue

from regie.connectors.tls.connector import FILES_OF_A_PAGE
from regie.connectors.tls.connector import Tls as Connector
from regie.core.capabilities import certificate, tls
from regie.core.capability import Capability
from regie.core.errors import AuthFailed, InvalidInput
from regie.kit.access import Calls
from regie.kit.connector import Read
from regie.kit.keys import Material
from regie.kit.local_host import LocalHost
from regie.kit.network import Network
from regie.kit.reaching import Dialler
from regie.kit.tls.certificates import parse
from regie.kit.tls.handshake import Client, Limits
from regie.kit.tls.looking import Tls
from regie.kit.tls.scanning import Bounds, Scanner
from regie.kit.tls.trust import Roots
from regie_sandbox.authority import BORN, Wanted, issue
from tests.counterparts.here import HERE
from tests.counterparts.tls import context, serving

NOW = BORN + timedelta(days=100)
ROOT = issue(Wanted("Root", is_authority=True))
MIDDLE = issue(Wanted("Middle", is_authority=True), ROOT)
LEAF = issue(Wanted("leaf", ("www.example.test",)), MIDDLE)
EXPIRED = issue(Wanted("expired", ("old.example.test",), lifetime=timedelta(days=10)), MIDDLE)


async def nothing_is_written(material: Material) -> bytes:
    raise AssertionError(material)


class Guarded(LocalHost):
    """A host on which some files may not be read."""

    async def _read(self, path: str) -> bytes | None:
        if Path(path).name == "h.pem":
            raise AuthFailed(f"{path} may not be read")
        return await super()._read(path)


def access(folder: Path, bounds: Bounds | None = None) -> Tls:
    calls = Calls("TLS servers")
    client = Client(Dialler([ip_network("127.0.0.0/8")]), Limits(connect_s=4, handshake_s=4))
    host = Guarded(
        network=Network(calls, HERE), calls=calls, resolve=nothing_is_written, folders=[str(folder)], commands={}
    )
    return Tls(Scanner(client, Roots([parse(ROOT.der)]), lambda: NOW, None), calls, host, bounds)


async def read(capability: Capability[Any, Any], way: Tls, *, listed: JsonValue = None, **want: JsonValue) -> Any:
    implementation = Connector(way, {"endpoints": listed}).implementation(capability.name)
    assert isinstance(implementation, Read)
    return await implementation.read(capability.wants.model_validate(want))


async def test_an_endpoint_is_looked_at(tmp_path: Path) -> None:
    async with serving(context(tmp_path, LEAF, MIDDLE)) as port:
        gives = await read(tls.INSPECT, access(tmp_path), host="127.0.0.1", port=port, server_name="www.example.test")
    assert isinstance(gives, tls.Inspection)
    assert (gives.reached, gives.findings, gives.names) == (True, [], ["www.example.test"])
    assert [each.subject for each in gives.chain] == ["CN=leaf", "CN=Middle"]
    assert gives.serial == f"{LEAF.certificate.serial_number:x}"


async def test_an_endpoint_that_cannot_be_reached_is_no_error(tmp_path: Path) -> None:
    gives = await read(tls.INSPECT, access(tmp_path), host="127.0.0.1", port=1, connection="here")
    assert isinstance(gives, tls.Inspection)
    assert (gives.reached, [each.cause for each in gives.findings]) == (False, ["refused"])


async def test_a_page_is_summed_up_in_its_order(tmp_path: Path) -> None:
    async with serving(context(tmp_path, LEAF, MIDDLE)) as port, serving(None) as silent:
        names = ["b.example.test", "www.example.test", "a.example.test", "www.example.test"]
        wanted: list[JsonValue] = [{"host": "127.0.0.1", "port": port, "server_name": name} for name in names]
        wanted += [{"host": "127.0.0.1", "port": silent}, {"host": "not a name"}]
        gives = await read(tls.INSPECT_MANY, access(tmp_path), endpoints=wanted)
    assert isinstance(gives, tls.Summaries)
    assert [" ".join(each.findings) for each in gives.endpoints] == [
        "name_mismatch",
        "",
        "name_mismatch",
        "",
        "unreachable:timeout",
        "unreachable:name",
    ]
    assert gives.troubled == 4


async def test_a_page_ends_in_time(tmp_path: Path) -> None:
    async with serving(None) as silent:
        wanted: list[JsonValue] = [
            {"host": "127.0.0.1", "port": silent, "server_name": f"s{number}.example.test"}
            for number in range(tls.MOST_ENDPOINTS)
        ]
        began = asyncio.get_running_loop().time()
        way = access(tmp_path, Bounds(endpoints=4, seconds=0.5))
        gives = await read(tls.INSPECT_MANY, way, endpoints=wanted)
    assert asyncio.get_running_loop().time() - began < 5
    assert {each for one in gives.endpoints for each in one.findings} == {"not_inspected:deadline"}
    # A page fits into the state of a run.
    assert len(gives.model_dump_json()) < 400 * tls.MOST_ENDPOINTS


async def test_a_list_of_thousands_comes_in_pages(tmp_path: Path) -> None:
    listed: list[JsonValue] = [
        {"host": "127.0.0.1", "port": number + 1} for number in range(2 * tls.MOST_ENDPOINTS + 1)
    ]
    seen, cursor = [], ""
    while True:
        page = await read(tls.INSPECT_LISTED, access(tmp_path), listed=listed, cursor=cursor)
        seen += [each.port for each in page.endpoints]
        cursor = page.cursor
        if not cursor:
            break
    assert seen == [number + 1 for number in range(len(listed))]
    assert await read(tls.INSPECT_LISTED, access(tmp_path), listed=[]) == tls.ListedSummaries(endpoints=[], troubled=0)


@pytest.mark.parametrize(("number", "cursors"), [(0, []), (200, [""]), (201, ["", "200"]), (450, ["", "200", "400"])])
async def test_where_the_pages_of_a_list_begin(tmp_path: Path, number: int, cursors: list[str]) -> None:
    listed: list[JsonValue] = [{"host": "192.0.2.1"}] * number
    assert await read(tls.LIST_PAGES, access(tmp_path), listed=listed) == tls.Pages(cursors=cursors, endpoints=number)


@pytest.mark.parametrize("cursor", ["x", "-1", "1e3", "9" * 20, "١"])
async def test_what_is_no_cursor_is_refused(tmp_path: Path, cursor: str) -> None:
    with pytest.raises(InvalidInput):
        await read(tls.INSPECT_LISTED, access(tmp_path), listed=[], cursor=cursor)


@pytest.mark.parametrize("wrong", ["www.example.com", {"host": ""}, {"host": "a", "port": 0}, {"hots": "a"}, None])
async def test_an_entry_that_cannot_be_read_is_named(tmp_path: Path, wrong: JsonValue) -> None:
    with pytest.raises(InvalidInput, match="number 1"):
        await read(tls.INSPECT_LISTED, access(tmp_path), listed=[{"host": "127.0.0.1"}, wrong])


def fill(folder: Path) -> None:
    (folder / "a.pem").write_bytes(LEAF.key_pem + LEAF.pem + MIDDLE.pem)
    (folder / "b.crt").write_bytes(EXPIRED.der)
    (folder / "c.P7B").write_bytes(pkcs7.serialize_certificates([LEAF.certificate, MIDDLE.certificate], Encoding.DER))
    (folder / "d.pem").write_bytes(LEAF.key_pem)
    (folder / "e.pem").write_bytes(ROOT.pem + MIDDLE.pem)
    (folder / "f.txt").write_bytes(LEAF.pem)
    (folder / "g.pem").symlink_to("/etc/hosts")
    (folder / "h.pem").write_bytes(LEAF.pem)
    Path(os.fsdecode(os.fsencode(folder) + b"/i\xe9.pem")).write_bytes(LEAF.pem + MIDDLE.pem)


async def test_certificate_files_are_looked_at(tmp_path: Path) -> None:
    fill(tmp_path)
    gives = await read(tls.INSPECT_FILES, access(tmp_path))
    assert isinstance(gives, tls.FilePage)
    told = {
        Path(each.path).name: (len(each.certificates), " ".join(str(finding.code) for finding in each.findings))
        for each in gives.files
    }
    assert told == {
        "a.pem": (2, ""),
        "b.crt": (1, "expired chain_incomplete"),
        "c.P7B": (2, ""),
        "d.pem": (0, "unreadable"),
        "e.pem": (2, ""),
        "g.pem": (0, "unreadable"),
        "h.pem": (0, "unreadable"),
        "i\\xe9.pem": (2, ""),
    }
    assert "PRIVATE" not in gives.model_dump_json()


async def test_certificate_files_are_a_source_like_any_other(tmp_path: Path) -> None:
    fill(tmp_path)
    gives = await read(certificate.LIST, access(tmp_path))
    assert isinstance(gives, certificate.Inventory)
    assert gives == certificate.Inventory.model_validate_json(gives.model_dump_json())
    assert {Path(each.id).name: (each.state, " ".join(each.findings)) for each in gives.certificates} == {
        "a.pem": ("imported", ""),
        "b.crt": ("imported", "expired chain_incomplete"),
        "c.P7B": ("imported", ""),
        "d.pem": ("unreadable", "unreadable"),
        "e.pem": ("imported", ""),
        "g.pem": ("unreadable", "unreadable"),
        "h.pem": ("unreadable", "unreadable:forbidden"),
        "i\\xe9.pem": ("imported", ""),
    }
    first = gives.certificates[0]
    assert (first.names, first.issuer, first.key) == (["www.example.test"], "Middle", "ec-p256")
    assert (first.not_before, first.not_after) == (
        LEAF.certificate.not_valid_before_utc,
        LEAF.certificate.not_valid_after_utc,
    )


@pytest.mark.parametrize("count", [0, 1, FILES_OF_A_PAGE, FILES_OF_A_PAGE + 1, 3 * FILES_OF_A_PAGE - 1])
async def test_many_files_come_in_pages(tmp_path: Path, count: int) -> None:
    for number in range(count):
        (tmp_path / f"{number:04}.pem").write_bytes(LEAF.pem)
    there = sorted(str(tmp_path / f"{number:04}.pem") for number in range(count))
    seen: list[str] = []
    cursor, pages = "", 0
    while True:
        page = await read(tls.INSPECT_FILES, access(tmp_path), cursor=cursor)
        seen += [each.path for each in page.files]
        cursor, pages = page.cursor, pages + 1
        if not cursor:
            break
    assert seen == there
    listed = await read(certificate.LIST_PAGES, access(tmp_path))
    assert (listed.certificates, len(listed.cursors)) == (count, -(-count // FILES_OF_A_PAGE))
    each = [await read(certificate.LIST, access(tmp_path), cursor=cursor) for cursor in listed.cursors]
    assert [found.id for page in each for found in page.certificates] == there
    assert [page.cursor for page in each] == [*listed.cursors[1:], ""][: len(each)]
    assert pages == max(1, -(-count // FILES_OF_A_PAGE))


async def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert await read(tls.INSPECT_FILES, access(tmp_path / "none")) == tls.FilePage(files=[])
