"""Whatever is done to a bundle, or to the tables as superuser, is found, and the first bad record is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from regie.core.signed_note import SigningKey
from regie.notary.examining import faults_of_anchor
from regie.notary.keys import KeyFile
from regie_verify.checking import check
from regie_verify.notes import Unreadable

from .conftest import EVENTS, RUNS, Built, Ground
from .forging import Forgery, forged_signature, without_signature

pytestmark = pytest.mark.slow

SIZE = RUNS * EVENTS
GRANTED = 42 * EVENTS + 3
"""The record of an approval, in run 42."""
OTHER = SigningKey(bytes(32))
STRANGER = "nobody@example.com"


@dataclass(frozen=True)
class Case:
    """One way to tamper.

    Attributes:
        check: The check that finds it.
        record: The first bad record that is named; none when it is no record that is bad.
        key: Whether whoever does it has stolen the signing key.
    """

    act: Callable[[Forgery, SigningKey], None]
    check: str
    record: int | None = None


def _swap(forgery: Forgery, key: SigningKey) -> None:
    leaves = forgery.leaves
    leaves[100], leaves[500] = leaves[500], leaves[100]
    forgery.put_leaves(leaves)


def _drop(forgery: Forgery, key: SigningKey) -> None:
    leaves = forgery.leaves
    del leaves[GRANTED]
    forgery.put_leaves(leaves)


def _insert(forgery: Forgery, key: SigningKey) -> None:
    leaves = forgery.leaves
    leaves.insert(GRANTED, leaves[GRANTED].replace(b"42", b"41"))
    forgery.put_leaves(leaves)


def _cut(forgery: Forgery, key: SigningKey) -> None:
    forgery.put_leaves(forgery.leaves[:-1])


def _shorten(forgery: Forgery, key: SigningKey) -> None:
    """As if the log had never been longer: all files fit each other, signed at that size before."""
    line = (forgery.root / "checkpoints.jsonl").read_text().splitlines()[2]
    old = json.loads(line)
    forgery.rehash(forgery.leaves[: old["size"]])
    (forgery.root / "checkpoint").write_text(old["note"])
    (forgery.root / "checkpoints.jsonl").write_text("")


def _fit_hashes(forgery: Forgery, key: SigningKey) -> None:
    forgery.edit_leaf(GRANTED, '"decision":"approved"', '"decision":"refused"')
    forgery.rehash(forgery.leaves)


def _rewrite(forgery: Forgery, key: SigningKey) -> None:
    forgery.edit_leaf(GRANTED, "approved", "refusedd")
    forgery.rewrite(forgery.leaves, key)


def _resign(forgery: Forgery, key: SigningKey) -> None:
    _rewrite(forgery, OTHER)


def _drop_event(forgery: Forgery, key: SigningKey) -> None:
    leaves = forgery.leaves
    del leaves[GRANTED]
    forgery.rewrite(leaves, key)


def _drop_run_end(forgery: Forgery, key: SigningKey) -> None:
    leaves = forgery.leaves
    at = 42 * EVENTS
    forgery.rewrite(leaves[: at + 5] + leaves[at + 6 :], key)


def _backdate(forgery: Forgery, key: SigningKey) -> None:
    def change(said: dict[str, object]) -> None:
        said["at"] = "2026-11-01T00:00:00.000000Z"

    forgery.rewrite(forgery.relink(forgery.leaves, GRANTED, change), key)


def _approve_oneself(forgery: Forgery, key: SigningKey) -> None:
    def change(said: dict[str, dict[str, object]]) -> None:
        said["approval"]["requester"] = str(said["approval"]["approver"]).upper()

    forgery.rewrite(forgery.relink(forgery.leaves, GRANTED, change), key)


def _sign_for_another(forgery: Forgery, key: SigningKey) -> None:
    def change(said: dict[str, dict[str, object]]) -> None:
        said["approval"]["approver"] = STRANGER

    forgery.rewrite(forgery.relink(forgery.leaves, GRANTED, change), key)


def _other_tenant(forgery: Forgery, key: SigningKey) -> None:
    def change(said: dict[str, object]) -> None:
        said["tenant"] = "umbrella"

    forgery.rewrite(forgery.relink(forgery.leaves, GRANTED, change), key)


def _unsign(forgery: Forgery, key: SigningKey) -> None:
    file = forgery.root / "anchor.tlog-proof"
    file.write_text(without_signature(file.read_text(), "witness.example"))


def _spoil_witness(forgery: Forgery, key: SigningKey) -> None:
    file = forgery.root / "anchor.tlog-proof"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:-1], forged_signature(lines[-1])]) + "\n")


def _spoil_signature(forgery: Forgery, key: SigningKey) -> None:
    file = forgery.root / "checkpoint"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:-1], forged_signature(lines[-1])]) + "\n")


def _forge_rotation(forgery: Forgery, key: SigningKey) -> None:
    (forgery.root / "rotations").mkdir()
    name = OTHER.verifier(forgery.manifest["anchor"])
    (forgery.root / "rotations/0.leaf").write_text(f'{{"new_vkey":"{name}"}}')
    proof = (forgery.root / "anchor.tlog-proof").read_text()
    (forgery.root / "rotations/0.tlog-proof").write_text(proof)
    _resign(forgery, key)


def _put(name: str, source: str) -> Callable[[Forgery, SigningKey], None]:
    """A file that lies beside the bundle in place of one of its own."""

    def act(forgery: Forgery, key: SigningKey) -> None:
        shutil.copy(forgery.beside / source, forgery.root / name)

    return act


def _lose(name: str) -> Callable[[Forgery, SigningKey], None]:
    return lambda forgery, _: (forgery.root / name).unlink()


CASES = {
    "a word of a record": Case(lambda f, _: f.edit_leaf(GRANTED, "approved", "approvef"), "records", GRANTED),
    "a record is dropped": Case(_drop, "records", GRANTED),
    "a record is inserted": Case(_insert, "records", GRANTED),
    "two records change places": Case(_swap, "records", 100),
    "the last record is cut off": Case(_cut, "records", SIZE - 1),
    "all records are gone": Case(lambda f, _: f.put_leaves([]), "records", 0),
    "the bundle is an old one": Case(_shorten, "kept checkpoint", 210),
    "a record, and every hash fits": Case(_fit_hashes, "root", 280),
    "a history under another key": Case(_resign, "checkpoint"),
    "a history under the stolen key": Case(_rewrite, "root", 0),
    "an event of a run is left out, stolen key": Case(_drop_event, "runs", GRANTED),
    "a receipt is left out, stolen key": Case(_drop_run_end, "runs", 42 * EVENTS + 5),
    "a record is dated back, stolen key": Case(_backdate, "times", GRANTED),
    "somebody approves for himself, stolen key": Case(_approve_oneself, "four eyes", GRANTED),
    "somebody signs for another, stolen key": Case(_sign_for_another, "four eyes", GRANTED),
    "a record of another customer, stolen key": Case(_other_tenant, "records", GRANTED),
    "a hash of a record": Case(lambda f, _: f.edit_bytes("tile/0/001", 5 * 32), "records", 256 + 5),
    "a hash above": Case(lambda f, _: f.edit_bytes("tile/1/000.p/2", 40), "tiles", 256),
    "a tile is gone": Case(_lose("tile/0/001"), "tiles"),
    "the size in the checkpoint": Case(lambda f, _: f.edit("checkpoint", "\n700\n", "\n600\n"), "checkpoint"),
    "the signature of the checkpoint": Case(_spoil_signature, "checkpoint"),
    "the name of the log": Case(lambda f, _: f.edit("checkpoint", "/acme/", "/other/"), "checkpoint"),
    "an earlier checkpoint": Case(lambda f, _: f.edit("checkpoints.jsonl", "\\n70\\n", "\\n71\\n"), "checkpoint", 0),
    "what the anchor log holds": Case(lambda f, _: f.edit("anchored", "\n700\n", "\n699\n"), "anchor"),
    "the place in the anchor log": Case(lambda f, _: f.edit("anchor.tlog-proof", "index 10", "index 9"), "anchor"),
    "the witness is left out": Case(_unsign, "witnesses"),
    "the witness's signature": Case(_spoil_witness, "witnesses"),
    "a key that nobody has named": Case(_forge_rotation, "keys"),
    "the checkpoint is gone": Case(_lose("checkpoint"), "checkpoint"),
    "the anchor's proof is gone": Case(_lose("anchor.tlog-proof"), "anchor"),
    "a timestamp of something else": Case(_put("attested/0/token.tsr", "other.tsr"), "timestamps"),
    "a timestamp by somebody else": Case(_put("attested/0/token.tsr", "stranger.tsr"), "timestamps"),
    "a timestamp is spoilt": Case(lambda f, _: f.edit_bytes("attested/0/token.tsr", -10), "timestamps"),
    "a timestamp is no token": Case(_put("attested/0/token.tsr", "signing.json"), "timestamps"),
    "the timestamp is left out": Case(_lose("attested/0/token.tsr"), "timestamps"),
    "a timestamp of another checkpoint": Case(_put("attested/0/checkpoint", "bundle/checkpoint"), "timestamps"),
    "what was attested": Case(lambda f, _: f.edit("attested/0/anchored", "\n700\n", "\n699\n"), "timestamps"),
    "a receipt of something else": Case(
        lambda f, _: f.edit("attested/1/deposit.json", '"sha256": "', '"sha256": "0'), "deposits"
    ),
    "a receipt that says nothing": Case(_put("attested/1/deposit.json", "signing.json"), "deposits"),
    "the span in the manifest": Case(lambda f, _: f.remanifest(end=690), "records", 690),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_done_to_a_bundle_is_found(built: Built, exported: Path, name: str) -> None:
    case = CASES[name]
    forgery = Forgery(exported, beside=built.folder)
    case.act(forgery, KeyFile(built.folder / "signing.json").read()[-1])
    forgery.close()
    report = check(exported, built.policy, [built.kept], built.tsa)
    found = {fault.check for fault in report.faults}
    assert case.check in found, report.as_text()
    assert "files" not in found
    named = [fault.record for fault in report.faults if fault.check == case.check]
    assert case.record in named, report.as_text()
    assert not report.is_whole
    assert "ALTERED" in report.as_text()


@pytest.mark.parametrize("name", ["leaves.jsonl", "VERIFY.md", "verify.go", "policy"])
def test_a_file_that_is_not_the_listed_one_is_named(built: Built, exported: Path, name: str) -> None:
    Forgery(exported).edit_bytes(name, 7)
    (exported / "more").write_text("")
    report = check(exported, built.policy)
    messages = {fault.message for fault in report.faults if fault.check == "files"}
    assert messages == {f"{name} was changed", "more is not listed"}


def test_what_is_no_bundle_is_refused(exported: Path, tmp_path: Path) -> None:
    (exported / "manifest.json").write_text('{"format": "another"}')
    (tmp_path / "no.zip").write_text("no")
    for path in (exported, tmp_path / "no.zip", tmp_path / "nothing"):
        with pytest.raises(Unreadable):
            check(path)


RELOG = "select log_id from audit.log where tenant = 'acme'"
LIVE = {
    "a leaf is changed, hash and all": (
        (
            "update audit.leaf set leaf = replace(encode(leaf, 'escape'), 'approved', 'approvef')::bytea, "
            "leaf_hash = sha256('\\x00'::bytea || replace(encode(leaf, 'escape'), 'approved', 'approvef')::bytea) "
            "where log_id = {log} and idx = 297"
        ),
        "records",
        297,
    ),
    "a leaf without full tile is changed": (
        (
            "update audit.leaf set leaf = replace(encode(leaf, 'escape'), 'approved', 'approvef')::bytea, "
            "leaf_hash = sha256('\\x00'::bytea || replace(encode(leaf, 'escape'), 'approved', 'approvef')::bytea) "
            "where log_id = {log} and idx = 689"
        ),
        "root",
        630,
    ),
    "a leaf is deleted": ("delete from audit.leaf where log_id = {log} and idx = 297", "records", 297),
    "the last leaf is deleted": ("delete from audit.leaf where log_id = {log} and idx = 699", "tiles", 512),
    "two leaves change places": (
        """update audit.leaf l set leaf = o.leaf, leaf_hash = o.leaf_hash from audit.leaf o
           where l.log_id = {log} and o.log_id = l.log_id and l.idx in (100, 500) and o.idx = 600 - l.idx""",
        "records",
        100,
    ),
    "the log is cut off": (
        (
            "with c as (delete from audit.checkpoint where log_id = {log} and size > 210) "
            "delete from audit.leaf where log_id = {log} and idx >= 210"
        ),
        "kept checkpoint",
        210,
    ),
    "a tile is changed": (
        (
            "update audit.tile set data = set_byte(data, 160, 255 - get_byte(data, 160)) "
            "where log_id = {log} and level = 0 and n = 1"
        ),
        "records",
        261,
    ),
    "a tile is deleted": ("delete from audit.tile where log_id = {log} and level = 0 and n = 1", "tiles", 256),
    "the checkpoint is changed": (
        (
            "update audit.checkpoint set note = replace(note, E'\\n700\\n', E'\\n701\\n') "
            "where log_id = {log} and size = 700"
        ),
        "checkpoint",
        None,
    ),
    "the checkpoint says another size": (
        "update audit.checkpoint set size = 699 where log_id = {log} and size = 700",
        "checkpoint",
        None,
    ),
    "an earlier checkpoint is changed": (
        "update audit.checkpoint set note = replace(note, E'\\n70\\n', E'\\n71\\n') where log_id = {log} and size = 70",
        "checkpoint",
        0,
    ),
    "the anchor log holds something else": (
        "update audit.checkpoint set anchor_idx = 3 where log_id = {log} and size = 700",
        "anchor",
        None,
    ),
    "the witness's signature is deleted": ("delete from audit.cosignature", "witnesses", None),
    "a leaf is inserted": (
        (
            "update audit.leaf set idx = idx + 100000 where log_id = {log} and idx >= 297; "
            "update audit.leaf set idx = idx - 99999 where log_id = {log} and idx >= 100000; "
            "insert into audit.leaf (log_id, idx, entry_id, leaf, leaf_hash, at) values ({log}, 297, "
            "gen_random_uuid(), '{{}}', sha256('\\x007b7d'::bytea), now())"
        ),
        "records",
        297,
    ),
    "a leaf is dated back": (
        (
            "update audit.leaf set leaf = "
            "replace(encode(leaf, 'escape'), '2026-11-02T08:42', '2026-11-01T08:42')::bytea, "
            "leaf_hash = sha256('\\x00'::bytea || "
            "replace(encode(leaf, 'escape'), '2026-11-02T08:42', '2026-11-01T08:42')::bytea) "
            "where log_id = {log} and idx = 297"
        ),
        "records",
        297,
    ),
    "the newest checkpoint is deleted": (
        "delete from audit.checkpoint where log_id = {log} and size = 700",
        "kept checkpoint",
        630,
    ),
    "the newest checkpoint is an old one": (
        (
            "update audit.checkpoint set note = (select c.note from audit.checkpoint c where c.log_id = {log} "
            "and c.size = 630) where log_id = {log} and size = 700"
        ),
        "checkpoint",
        None,
    ),
    "the checkpoint is signed by another key": (
        (
            "update audit.checkpoint set note = overlay(note placing 'AAAAAAAAAAAA' from length(note) - 20) "
            "where log_id = {log} and size = 700"
        ),
        "checkpoint",
        None,
    ),
    "a timestamp is changed": (
        "update audit.attestation set proof = set_byte(proof, 150, 255) where kind = 'timestamp'",
        "timestamps",
        None,
    ),
    "the timestamps are deleted": ("delete from audit.attestation", "timestamps", None),
    "a timestamp is put to another checkpoint": (
        "update audit.attestation set anchor_size = 10 where kind = 'timestamp'",
        "timestamps",
        None,
    ),
    "a leaf goes to another run": (
        (
            "update audit.leaf set leaf = replace(encode(leaf, 'escape'), '2b', '2c')::bytea, "
            "leaf_hash = sha256('\\x00'::bytea || replace(encode(leaf, 'escape'), '2b', '2c')::bytea) "
            "where log_id = {log} and idx = 297"
        ),
        "records",
        297,
    ),
}


@pytest.mark.parametrize("name", LIVE)
async def test_what_a_superuser_does_to_the_tables_is_found(ground: Ground, tmp_path: Path, name: str) -> None:
    statement, found_by, record = LIVE[name]
    async with await psycopg.AsyncConnection.connect(ground.superuser_url) as superuser:
        # Nothing in the database holds a superuser up.
        await superuser.execute("set session_replication_role = replica")
        cursor = await superuser.execute(statement.format(log=f"({RELOG})").encode())
        assert cursor.rowcount > 0
    await ground.export(tmp_path / "bundle")
    kept = [ground.built.kept, ground.built.checkpoint]
    report = check(tmp_path / "bundle", ground.built.policy, kept, ground.built.tsa)
    named = [fault.record for fault in report.faults if fault.check == found_by]
    assert record in named, report.as_text()
    assert not report.is_whole


ANCHOR_LOG = "select log_id from audit.log where tenant = '' and domain = 'anchor'"


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("delete from audit.leaf where log_id = {anchor} and idx = 3", "entry 3 is missing"),
        (
            """update audit.leaf set leaf = 'x', leaf_hash = sha256('\\x0078'::bytea)
               where log_id = {anchor} and idx = 3""",
            "not those that were signed",
        ),
        ("update audit.checkpoint set anchor_idx = 3 where log_id = {log} and size = 700", "at size 700"),
        (
            """update audit.checkpoint set note = replace(note, E'\\n70\\n', E'\\n71\\n')
               where log_id = {log} and size = 70""",
            "at size 70",
        ),
        ("delete from audit.checkpoint where log_id = {log} and size = 700", "has 700 entries; 630 are left"),
        (
            """with c as (delete from audit.checkpoint where log_id = {log} and size > 210)
               delete from audit.leaf where log_id = {log} and idx >= 210""",
            "has 700 entries; 210 are left",
        ),
        ("delete from audit.checkpoint where log_id = {log}", "has 700 entries; 0 are left"),
    ],
)
async def test_what_is_done_to_the_anchor_log_is_found(ground: Ground, statement: str, word: str) -> None:
    async with ground.database.reading() as tx:
        assert await faults_of_anchor(tx) == []
    async with await psycopg.AsyncConnection.connect(ground.superuser_url) as superuser:
        await superuser.execute("set session_replication_role = replica")
        await superuser.execute(statement.format(log=f"({RELOG})", anchor=f"({ANCHOR_LOG})").encode())
    async with ground.database.reading() as tx:
        assert any(word in fault for fault in await faults_of_anchor(tx))
