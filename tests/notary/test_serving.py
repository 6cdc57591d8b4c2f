"""What the API tells of a log is enough to check it: tiles and entries lead to the root of the checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from regie.core.merkle import EMPTY_ROOT, WIDTH, TilePlace, tile_number, tile_path
from regie.core.signed_note import Checkpoint, SignedNote
from regie.notary.sequencing import Sequencer
from regie.store.database import Database
from regie.web.app import make_web
from tests.web.stage import TOKEN, FakeGateway

from .conftest import Write

TOLD = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def http(web_database: Database) -> AsyncIterator[httpx2.AsyncClient]:
    app = make_web(web_database, FakeGateway(), operator_token=TOKEN)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://web", headers=TOLD) as client:
        yield client


def root(hashes: list[bytes]) -> bytes:
    """The root of a tree over leaf hashes, as RFC 6962, 2.1 defines it."""
    if len(hashes) < 2:
        return hashes[0] if hashes else EMPTY_ROOT
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + root(hashes[:half]) + root(hashes[half:])).digest()


async def log_of(http: httpx2.AsyncClient, tenant: str, domain: str) -> dict[str, Any]:
    listed = (await http.get("/v1/logs")).raise_for_status().json()["items"]
    [log] = [log for log in listed if (log["tenant"], log["domain"]) == (tenant, domain)]
    return dict(log)


async def read(http: httpx2.AsyncClient, address: str) -> bytes:
    return (await http.get(address)).raise_for_status().content


def parts(size: int, level: int) -> list[str]:
    """The paths of all tiles of a level, of a tree of that size."""
    count = size >> 8 * level
    full = [tile_path(TilePlace(level, n), WIDTH) for n in range(count // WIDTH)]
    return [*full, *([tile_path(TilePlace(level, count // WIDTH), count % WIDTH)] if count % WIDTH else [])]


def entries_in(bundle: bytes) -> list[bytes]:
    found = []
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        found.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    return found


@pytest.mark.slow
async def test_tiles_and_entries_lead_to_the_root_of_the_checkpoint(
    http: httpx2.AsyncClient, sequencer: Sequencer, write: Write
) -> None:
    for count in (300, 250):
        await write(count)
        while (await sequencer.step()).leaves:
            pass
    log = await log_of(http, "acme", "identity")
    address = log["address"]
    note = SignedNote.parse((await read(http, f"{address}/checkpoint")).decode())
    signed = Checkpoint.parse(note.text)
    assert (signed.origin, signed.size) == (log["origin"], log["size"]) == (log["origin"], 550)

    hashes = b"".join([await read(http, f"{address}/{path}") for path in parts(550, 0)])
    leaves = [hashes[at : at + 32] for at in range(0, len(hashes), 32)]
    assert root(leaves) == signed.root
    bundles = [path.replace("tile/0/", "tile/entries/") for path in parts(550, 0)]
    entries = [entry for path in bundles for entry in entries_in(await read(http, f"{address}/{path}"))]
    assert [hashlib.sha256(b"\x00" + entry).digest() for entry in entries] == leaves
    above = await read(http, f"{address}/{parts(550, 1)[0]}")
    assert above == root(leaves[:256]) + root(leaves[256:512])
    # A tree that was smaller once is still there for whoever kept its checkpoint.
    assert await read(http, f"{address}/tile/0/001.p/44") == b"".join(leaves[256:300])


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        *("tile/0/000", "tile/0/000.p/9", "tile/0/001", "tile/1/000.p/1", "tile/0/000.p/0", "tile/0/0"),
        *("tile/0/x000/000", "tile/0/..", "tile/entries/000", "tile/entries/000.p/9"),
    ],
)
async def test_a_tile_that_is_not_there_is_not_found(
    http: httpx2.AsyncClient, sequencer: Sequencer, write: Write, path: str
) -> None:
    await write(8)
    await sequencer.step()
    log = await log_of(http, "acme", "identity")
    answer = await http.get(f"{log['address']}/{path}")
    assert answer.status_code == 404
    assert (await http.get(f"/v1/logs/4711/{path}")).status_code == 404


@pytest.mark.slow
async def test_only_operators_read_the_logs(http: httpx2.AsyncClient) -> None:
    for path in ("", "/1/checkpoint", "/1/tile/0/000", "/1/tile/entries/000"):
        assert (await http.get(f"/v1/logs{path}", headers={"Authorization": "Bearer no"})).status_code == 401


@pytest.mark.parametrize("n", [0, 5, 255, 999, 1_000, 70_000, 1_234_067, 10**9])
@pytest.mark.parametrize("width", [1, 200, WIDTH])
def test_the_path_of_a_tile_leads_back_to_it(n: int, width: int) -> None:
    path = tile_path(TilePlace(3, n), width).removeprefix("tile/3/")
    assert tile_number(path) == (n, width)


def test_the_path_of_the_specification() -> None:
    assert tile_path(TilePlace(0, 1_234_067), WIDTH) == "tile/0/x001/x234/067"
