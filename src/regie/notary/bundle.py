"""Writes what an auditor needs to check a log without us: a folder or a zip file. `regie audit export` calls it.

Personal data is in it as far as records hold any: it is for those who may read that tenant's log.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import IO, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from regie.core import canonical, merkle
from regie.core.audit import written
from regie.core.errors import InvalidInput
from regie.core.merkle import HEIGHT, WIDTH, Span, TilePlace
from regie.core.signed_note import KeyKind, VerifierKey
from regie.store import attesting, logs, subjects
from regie.store.attesting import Kind
from regie.store.database import Transaction
from regie.store.logs import ANCHOR, Log, Signed

FORMAT = "regie-audit-bundle/1"
ATTESTED_AS = {Kind.TIMESTAMP: "token.tsr", Kind.DEPOSIT: "deposit.json"}
"""The file with what a party has given."""
PAGE = 5_000
"""Records, or tiles, read at once."""


class Sink(Protocol):
    """Where files of a bundle go."""

    def open(self, name: str) -> IO[bytes]:
        """Begin a file."""


@dataclass(frozen=True)
class Exported:
    """What a bundle holds: the log's name and size, the records in it, and how many of all witnesses have seen."""

    origin: str
    size: int
    span: Span
    checkpoint: str
    witnessed: int


class Summed:
    """A sink that remembers the digest of every file."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.sums: dict[str, str] = {}

    @contextmanager
    def file(self, name: str) -> Iterator[_Digested]:
        """Write a file in parts."""
        with self._sink.open(name) as opened:
            digested = _Digested(opened)
            yield digested
        self.sums[name] = digested.digest.hexdigest()

    def put(self, name: str, content: str | bytes) -> None:
        """Write a file."""
        with self.file(name) as opened:
            opened.write(content.encode() if isinstance(content, str) else content)


class _Digested:
    def __init__(self, opened: IO[bytes]) -> None:
        self._opened = opened
        self.digest = hashlib.sha256()

    def write(self, content: bytes) -> None:
        self._opened.write(content)
        self.digest.update(content)


class FolderSink:
    """Files in a folder that is made for them."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, name: str) -> IO[bytes]:
        """Begin a file."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        return path.open("wb")


class ZipSink:
    """Files in an archive."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def open(self, name: str) -> IO[bytes]:
        """Begin a file."""
        return self._archive.open(name, "w", force_zip64=True)


@contextmanager
def sink(path: Path) -> Iterator[Sink]:
    """A new folder, or a zip file when the name ends so. Only its owner may read it.

    Raises:
        InvalidInput: There is something already, or it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".zip":
            path.touch(mode=0o600, exist_ok=False)
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                yield ZipSink(archive)
        else:
            path.mkdir(mode=0o700)
            yield FolderSink(path)
    except FileExistsError as error:
        raise InvalidInput(f"{path} exists already.", hint="Take another name; what was exported stays.") from error
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}.") from error


async def export(
    tx: Transaction,
    log: Log,
    into: Sink,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    witness_lines: Sequence[str] = ("quorum none",),
    with_people: bool = False,
) -> Exported:
    """Write the bundle of one log.

    Args:
        log: As the same transaction found it.
        since, until: Only records written from, and before; all when nothing is said.
        witness_lines: What the policy says about witnesses.
        with_people: Say who the people in the records are, of whom that is still kept.

    Raises:
        InvalidInput: Nothing of this log has been signed yet.
    """
    newest = await logs.newest(tx, log)
    if newest is None:
        raise InvalidInput(f"Nothing of {log.origin} has been signed yet.", hint="The notary does so within seconds.")
    out = Summed(into)
    keys = await logs.signing_keys(tx)
    anchor = await logs.find(tx, *ANCHOR)
    span = await logs.span_of(tx, log, since, until)
    manifest = {
        "format": FORMAT,
        "origin": log.origin,
        "anchor": anchor.origin,
        "tenant": log.tenant,
        "domain": log.domain,
        "first": span.first,
        "end": span.end,
        "size": newest.size,
        "since": written(since) if since else "",
        "until": written(until) if until else "",
    }
    out.put("manifest.json", json.dumps(manifest, indent=2) + "\n")
    out.put("checkpoint", newest.raw)
    await _leaves(tx, log, span, out)
    if with_people:
        await _people(tx, log, span, out)
    await _checkpoints(tx, log, newest, out)
    await _tiles(tx, log, newest.size, out)
    witnessed = await _anchor(tx, log, anchor, out)
    await _attestations(tx, log, anchor, out)
    await _rotations(tx, anchor, keys, out)
    _keys(log, anchor, keys, witness_lines, out)
    _explain(log, newest, span, out)
    sums = "".join(f"{digest}  {name}\n" for name, digest in sorted(out.sums.items()))
    out.put("sha256sums", sums)
    return Exported(log.origin, newest.size, span, newest.raw, witnessed)


async def _leaves(tx: Transaction, log: Log, span: Span, out: Summed) -> None:
    """The records, one a line; an empty line where one should be and is not."""
    with out.file("leaves.jsonl") as file:
        expected = span.first
        for first in range(span.first, span.end, PAGE):
            page = Span(first, min(first + PAGE, span.end))
            for idx, leaf in await logs.leaves(tx, log, page):
                file.write(b"\n" * (idx - expected) + leaf + b"\n")
                expected = idx + 1
        file.write(b"\n" * (span.end - expected))


async def _people(tx: Transaction, log: Log, span: Span, out: Summed) -> None:
    """Salt and value of each commitment in the records, or that the person was erased."""
    with out.file("people.jsonl") as file:
        told: set[str] = set()
        for first in range(span.first, span.end, PAGE):
            page = await logs.leaves(tx, log, Span(first, min(first + PAGE, span.end)))
            for each in await subjects.disclosed(tx, log.tenant, log.domain, [leaf for _, leaf in page]):
                if each.subject not in told:
                    told.add(each.subject)
                    said = {"salt": each.salt, "value": each.value} if each.salt else {"erased": True}
                    file.write(canonical.encode({"subject": each.subject, **said}) + b"\n")


async def _checkpoints(tx: Transaction, log: Log, newest: Signed, out: Summed) -> None:
    """All checkpoints before the newest."""
    with out.file("checkpoints.jsonl") as file:
        after = 0
        while page := await logs.checkpoints(tx, log, after):
            for each in page:
                if each.size != newest.size:
                    file.write(json.dumps({"size": each.size, "note": each.raw}).encode() + b"\n")
            after = page[-1].size


async def _tiles(tx: Transaction, log: Log, size: int, out: Summed) -> None:
    level = 0
    while count := size >> HEIGHT * level:
        for n in range((count + WIDTH - 1) // WIDTH):
            place = TilePlace(level, n)
            [data] = await logs.tiles_of_tree(tx.connection, log.log_id, size, [place])
            out.put(merkle.tile_path(place, merkle.tile_width(place, size)), data)
        level += 1


async def _anchor(tx: Transaction, log: Log, anchor: Log, out: Summed) -> int:
    """The newest checkpoint of the log that witnesses have seen, else the newest, and that the anchor log holds it.

    Returns:
        Up to which size of the log witnesses have seen it.
    """
    size = await logs.newest_cosigned(tx) or anchor.size
    held = await logs.newest(tx, log, anchored_below=size)
    if held is None:
        size = anchor.size
        held = await logs.newest(tx, log, anchored_below=size)
    over = await logs.at_size(tx, anchor, size)
    if held is None or held.anchor_idx is None or over is None:
        raise InvalidInput(f"The anchor log does not hold {log.origin}.", hint="Its tables were changed by hand.")
    lines = await logs.cosignatures(tx, size)
    out.put("anchored", held.body)
    out.put("anchor.tlog-proof", await _proof(tx, anchor, held.anchor_idx, over, "".join(lines.values())))
    return held.size if lines else 0


async def _attestations(tx: Transaction, log: Log, anchor: Log, out: Summed) -> None:
    """What authorities and buckets have attested: a checkpoint of the anchor log, and one of this log that it holds."""
    for number, each in enumerate(await attesting.covering(tx, log)):
        over = await logs.at_size(tx, anchor, each.anchor_size)
        held = await logs.newest(tx, log, anchored_below=each.anchor_size)
        if over is None or held is None or held.anchor_idx is None:
            raise InvalidInput("What was attested is not in the anchor log.", hint="Its tables were changed by hand.")
        folder = f"attested/{number}"
        out.put(f"{folder}/checkpoint", over.raw)
        out.put(f"{folder}/anchored", held.body)
        out.put(f"{folder}/anchor.tlog-proof", await _proof(tx, anchor, held.anchor_idx, over))
        out.put(f"{folder}/{ATTESTED_AS[each.party.kind]}", each.proof)


async def _proof(tx: Transaction, anchor: Log, index: int, over: Signed, cosignatures: str = "") -> str:
    """A proof of inclusion (c2sp.org/tlog-proof)."""
    hashes = await logs.proof(tx.connection, anchor.log_id, over.size, merkle.inclusion(index, over.size))
    path = "".join(f"{base64.b64encode(each).decode()}\n" for each in hashes)
    return f"c2sp.org/tlog-proof@v1\nindex {index}\n{path}\n{over.raw}{cosignatures}"


async def _rotations(tx: Transaction, anchor: Log, keys: Sequence[tuple[bytes, int]], out: Summed) -> None:
    """For each key after the first: the record that names it, under a checkpoint that the key before has signed."""
    for number, (_, from_size) in enumerate(keys[1:]):
        over = (await logs.checkpoints(tx, anchor, from_size, 1))[0]
        [(_, leaf)] = await logs.leaves(tx, anchor, Span(from_size, from_size + 1))
        out.put(f"rotations/{number}.leaf", leaf)
        out.put(f"rotations/{number}.tlog-proof", await _proof(tx, anchor, from_size, over))


def _keys(log: Log, anchor: Log, keys: Sequence[tuple[bytes, int]], witness_lines: Sequence[str], out: Summed) -> None:
    newest = keys[-1][0]
    out.put("log.vkey", f"{VerifierKey(log.origin, KeyKind.LOG, newest)}\n")
    out.put("anchor.vkey", f"{VerifierKey(anchor.origin, KeyKind.LOG, newest)}\n")
    public = Ed25519PublicKey.from_public_bytes(newest)
    out.put("log.pem", public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    out.put("policy", policy(anchor.origin, [key for key, _ in keys], witness_lines))


def policy(anchor_origin: str, keys: Sequence[bytes], witness_lines: Sequence[str]) -> str:
    """What to trust, for an auditor to keep: keys of the anchor log, which sign the other logs under their names."""
    logs_ = [f"log {VerifierKey(anchor_origin, KeyKind.LOG, key)}" for key in keys]
    return "\n".join([*logs_, *witness_lines]) + "\n"


def _explain(log: Log, newest: Signed, span: Span, out: Summed) -> None:
    here = files("regie.notary")
    program = (here / "verify.go").read_bytes()
    out.put("verify.mjs", (here / "verify.mjs").read_bytes())
    page = (here / "VERIFY.md").read_text(encoding="utf-8")
    out.put("verify.go", program)
    lines = program.count(b"\n")
    out.put("VERIFY.md", page.format(origin=log.origin, size=newest.size, go_lines=lines, **span._asdict()))
