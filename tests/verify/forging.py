"""What somebody does to a bundle who wants it to say something else; always with fresh digests of all files."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from regie.core import merkle
from regie.core.audit import leaf_hash
from regie.core.merkle import Edge, tile_path
from regie.core.signed_note import Checkpoint, SignedNote, SigningKey
from regie.store.logs import hashes_in


class Forgery:
    """A bundle in the hands of somebody who may write files, and perhaps holds a signing key."""

    def __init__(self, root: Path, beside: Path | None = None) -> None:
        self.root = root
        self.beside = beside or root
        self.manifest: dict[str, Any] = json.loads((root / "manifest.json").read_text())

    @property
    def leaves(self) -> list[bytes]:
        return (self.root / "leaves.jsonl").read_bytes().split(b"\n")[:-1]

    def put_leaves(self, leaves: list[bytes]) -> None:
        (self.root / "leaves.jsonl").write_bytes(b"".join(leaf + b"\n" for leaf in leaves))

    def edit(self, name: str, old: str, new: str, count: int = 1) -> None:
        file = self.root / name
        text = file.read_text()
        assert old in text, f"{old!r} is not in {name}"
        file.write_text(text.replace(old, new, count))

    def edit_leaf(self, at: int, old: str, new: str) -> None:
        leaves = self.leaves
        assert old.encode() in leaves[at]
        leaves[at] = leaves[at].replace(old.encode(), new.encode())
        self.put_leaves(leaves)

    def edit_bytes(self, name: str, at: int) -> None:
        """Turn one bit."""
        content = bytearray((self.root / name).read_bytes())
        content[at] ^= 1
        (self.root / name).write_bytes(content)

    def remanifest(self, **fields: object) -> None:
        self.manifest.update(fields)
        (self.root / "manifest.json").write_text(json.dumps(self.manifest))

    def rehash(self, leaves: list[bytes]) -> Checkpoint:
        """Make every file but the signed ones fit other records."""
        edge, hashes = Edge(), [leaf_hash(leaf) for leaf in leaves]
        full = dict(edge.grow(hashes))
        shutil.rmtree(self.root / "tile")
        unfinished = {place: b"".join(edge.levels[place.level]) for place in merkle.unfinished(len(leaves))}
        for place, data in {**full, **unfinished}.items():
            if data:
                self._put(tile_path(place, len(hashes_in(data))), data)
        self.put_leaves(leaves)
        self.remanifest(first=0, end=len(leaves), size=len(leaves))
        return Checkpoint(self.manifest["origin"], len(leaves), edge.root())

    def rewrite(self, leaves: list[bytes], key: SigningKey, *, with_anchor: bool = True) -> None:
        """A whole new history under a signing key: records, tiles, checkpoint and an anchor log of its own."""
        checkpoint = self.rehash(leaves)
        (self.root / "checkpoint").write_text(_signed(checkpoint, key))
        (self.root / "checkpoints.jsonl").write_text("")
        if with_anchor:
            self.anchor(checkpoint, key)

    def anchor(self, checkpoint: Checkpoint, key: SigningKey, cosignatures: str = "") -> None:
        """An anchor log with nothing but that checkpoint."""
        (self.root / "anchored").write_text(checkpoint.body)
        over = Checkpoint(self.manifest["anchor"], 1, leaf_hash(checkpoint.body.encode()))
        text = f"c2sp.org/tlog-proof@v1\nindex 0\n\n{_signed(over, key)}{cosignatures}"
        (self.root / "anchor.tlog-proof").write_text(text)

    def relink(self, leaves: list[bytes], first: int, change: Callable[[dict[str, Any]], None]) -> list[bytes]:
        """Change a record and every later one of its run so that their chain fits."""
        said = [json.loads(leaf) for leaf in leaves]
        run, done = said[first]["run"], list(leaves)
        change(said[first])
        done[first] = _encoded(said[first])
        head = leaf_hash(done[first]).hex()
        for at in range(first + 1, len(leaves)):
            if said[at].get("run") == run:
                said[at]["run_prev"] = head
                done[at] = _encoded(said[at])
                head = leaf_hash(done[at]).hex()
        return done

    def close(self) -> None:
        """Make the list of digests fit."""
        names = sorted(str(file.relative_to(self.root)) for file in self.root.rglob("*") if file.is_file())
        (self.root / "sha256sums").write_text(
            "".join(
                f"{hashlib.sha256((self.root / name).read_bytes()).hexdigest()}  {name}\n"
                for name in names
                if name != "sha256sums"
            )
        )

    def _put(self, name: str, data: bytes) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def _signed(checkpoint: Checkpoint, key: SigningKey) -> str:
    return str(SignedNote(checkpoint.body).with_signatures(key.sign(checkpoint.body, checkpoint.origin)))


def _encoded(said: dict[str, Any]) -> bytes:
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def without_signature(proof: str, name: str) -> str:
    """A note without the line of somebody."""
    return "".join(line for line in proof.splitlines(keepends=True) if f" {name} " not in line)


def forged_signature(line: str) -> str:
    """A signature line with one bit turned."""
    head, _, encoded = line.rpartition(" ")
    raw = bytearray(base64.b64decode(encoded))
    raw[-1] ^= 1
    return f"{head} {base64.b64encode(raw).decode()}"
