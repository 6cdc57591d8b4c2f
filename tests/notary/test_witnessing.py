"""A witness signs what continues, and nothing else; the notary keeps its signatures."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from regie.core import merkle
from regie.core.audit import leaf_hash
from regie.core.errors import InvalidInput
from regie.core.merkle import Edge
from regie.core.signed_note import Checkpoint, Signature, SignedNote, SigningKey
from regie.notary.sequencing import Sequencer
from regie.notary.witnessing import Witnesses, WitnessPolicy
from regie.store import logs
from regie.store.database import Database
from regie.store.logs import ANCHOR
from regie.store.sequencing import LogDatabase
from regie.witness.app import make_witness
from regie.witness.memory import Memory

from .conftest import Write

ORIGIN = "audit.example/anchor"
KEY = SigningKey(bytes(32))
LEAVES = [leaf_hash(bytes([number])) for number in range(20)]
NOW_S = 1_800_000_000


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "witness", "witness.example")


@pytest.fixture
async def http(memory: Memory) -> AsyncIterator[httpx2.AsyncClient]:
    app = make_witness(memory, [KEY.verifier(ORIGIN)], lambda: NOW_S)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://witness") as client:
        yield client


def root(leaves: list[bytes]) -> bytes:
    edge = Edge()
    edge.grow(leaves)
    return edge.root()


def question(
    old: int, size: int, leaves: list[bytes] = LEAVES, *, key: SigningKey = KEY, origin: str = ORIGIN, proven: int = -1
) -> str:
    body = Checkpoint(origin, size, root(leaves[:size])).body
    tiles = {merkle.TilePlace(0, 0): leaves}
    spans = merkle.consistency(old if proven < 0 else proven, size)
    proof = "".join(f"{base64.b64encode(merkle.span_hash(span, tiles.__getitem__)).decode()}\n" for span in spans)
    return f"old {old}\n{proof}\n{SignedNote(body).with_signatures(key.sign(body, origin))}"


async def ask(http: httpx2.AsyncClient, text: str) -> httpx2.Response:
    return await http.post("/add-checkpoint", content=text)


async def test_a_log_that_grows_is_signed_each_time(http: httpx2.AsyncClient, memory: Memory) -> None:
    for old, size in [(0, 3), (3, 7), (7, 7), (7, 20)]:
        answer = await ask(http, question(old, size))
        assert answer.status_code == 200
        body = Checkpoint(ORIGIN, size, root(LEAVES[:size])).body
        assert memory.verifier.has_signed(SignedNote(body, (Signature.parse(answer.text.strip()),)))
        assert int.from_bytes(Signature.parse(answer.text.strip()).value[:8], "big") == NOW_S


async def test_a_log_that_was_changed_is_not_signed(http: httpx2.AsyncClient, memory: Memory) -> None:
    assert (await ask(http, question(0, 7))).status_code == 200
    forked = [*LEAVES[:3], LEAVES[0], *LEAVES[4:]]
    for text, status in [
        (question(7, 12, forked), 422),
        (question(7, 12, proven=5), 422),
        (question(7, 7, forked), 409),
        (question(0, 5), 409),
        (question(3, 12), 409),
    ]:
        answer = await ask(http, text)
        assert answer.status_code == status
        if status == 409:
            assert (answer.text, answer.headers["content-type"]) == ("7\n", "text/x.tlog.size")
    assert memory.seen(ORIGIN) == Checkpoint(ORIGIN, 7, root(LEAVES[:7]))


async def test_strangers_and_nonsense_are_answered(http: httpx2.AsyncClient) -> None:
    for text, status in [
        (question(0, 3, origin="audit.other/anchor"), 404),
        (question(0, 3, key=SigningKey(bytes(31) + b"1")), 403),
        (question(9, 3), 400),
        ("", 400),
        ("old -1\n\n", 400),
        (question(0, 3).replace("old 0", "old x"), 400),
        (question(3, 7).replace("old 3\n", "old 3\n!\n"), 400),
        ("x" * 100_000, 413),
    ]:
        assert (await ask(http, text)).status_code == status, text[:40]


async def test_a_witness_started_again_remembers(tmp_path: Path, memory: Memory, http: httpx2.AsyncClient) -> None:
    await ask(http, question(0, 7))
    again = Memory(tmp_path / "witness")
    assert again.verifier == memory.verifier
    assert again.seen(ORIGIN) == memory.seen(ORIGIN)
    with pytest.raises(InvalidInput):
        Memory(tmp_path / "witness", "other.example")
    with again.alone(), pytest.raises(InvalidInput), memory.alone():
        pass


@pytest.mark.slow
async def test_the_notary_has_its_anchor_signed_and_finds_its_way_back(
    *, database: Database, log_database: LogDatabase, sequencer: Sequencer, memory: Memory, write: Write, tmp_path: Path
) -> None:
    await write(1)
    await sequencer.step()
    async with database.reading() as tx:
        anchor = await logs.find(tx, *ANCHOR)
        [(public, _)] = await logs.signing_keys(tx)
    key = KEY.verifier(anchor.origin).__class__(anchor.origin, KEY.verifier(anchor.origin).kind, public)
    app = make_witness(memory, [key], lambda: NOW_S)
    policy = tmp_path / "witnesses"
    policy.write_text(f"# ours\nwitness w1 {memory.verifier} http://witness/\nquorum w1\n")
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as http:
        for _ in range(3):
            await Witnesses(log_database, WitnessPolicy.read(policy), http).ask()
            await write(1)
            await sequencer.step()
    async with database.reading() as tx:
        assert await logs.newest_cosigned(tx) == 3
        for size in (1, 2, 3):
            [(name, line)] = (await logs.cosignatures(tx, size)).items()
            checkpoint = await logs.at_size(tx, anchor, size)
            assert checkpoint is not None
            assert name == "witness.example"
            assert memory.verifier.has_signed(checkpoint.note.with_signatures(Signature.parse(line.strip())))


@pytest.mark.parametrize(
    "text",
    ["", "quorum a\nquorum b\n", "witness w\nquorum w\n", "witness w nonsense\nquorum w\n", "what\nquorum none\n"],
)
def test_a_wrong_file_of_witnesses_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "witnesses"
    file.write_text(text)
    with pytest.raises(InvalidInput):
        WitnessPolicy.read(file)
