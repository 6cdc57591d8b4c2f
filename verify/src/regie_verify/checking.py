"""All checks of one bundle, in the order in which one rests on the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.x509 import Certificate

from regie_verify.attested import Said, authorities, read_deposit, read_token
from regie_verify.bundle import Bundle
from regie_verify.notes import Checkpoint, Key, Note, Proof, Unreadable
from regie_verify.policy import Policy
from regie_verify.records import Records
from regie_verify.report import Report
from regie_verify.tree import GrowingTree, leaf_hash, root_of_proof, root_over

HASH_BYTES = 32
WIDTH = 256
MOST_SHOWN = 3
PEOPLE = "people.jsonl"


def check(path: Path, policy: str | None = None, kept: Sequence[str] = (), tsa: bytes | None = None) -> Report:
    """Check a bundle.

    Args:
        path: Folder or zip file.
        policy: The text of the policy that the auditor trusts; that of the bundle when none is given.
        kept: Checkpoints that the auditor has kept from earlier.
        tsa: Certificates of the timestamp authority that the auditor trusts, PEM; its timestamps must then be there.

    Raises:
        Unreadable: It is no bundle, or the policy or a kept checkpoint cannot be read.
    """
    bundle = Bundle(path)
    own = None if policy is None else Policy.read(policy)
    roots = authorities(tsa) if tsa is not None else []
    return _Check(bundle, own, [Note.read(each) for each in kept], roots).run()


class _Check:
    def __init__(self, bundle: Bundle, own: Policy | None, kept: Sequence[Note], roots: Sequence[Certificate]) -> None:
        self.bundle = bundle
        self.roots_of_tsa = roots
        self.kept = kept
        self.report = Report(bundle.origin, bundle.size, bundle.first, bundle.end)
        self.report.trust = (
            "those of the policy that was given"
            if own
            else "those in the bundle; compare `policy` with what you were given"
        )
        self.policy = own or Policy()
        self.is_own = own is not None
        self.keys: list[Key] = []
        self.roots: dict[int, bytes] = {}
        """The roots that the hashes of the bundle have, at the sizes that are asked for."""
        self.wanted: list[tuple[str, Checkpoint]] = []

    def run(self) -> Report:
        self._try("files", self._files)
        self._try("keys", self._keys)
        self._try("checkpoint", self._checkpoints)
        self._try("anchor", self._anchor)
        self._try("timestamps", self._timestamps)
        self._try("deposits", self._deposits)
        self._try("kept checkpoint", self._kept)
        hashes: list[bytes] = []
        self._try("tiles", lambda: self._tiles(hashes))
        self._try("root", lambda: self._roots(hashes))
        self._try("records", lambda: self._records(hashes))
        if PEOPLE in self.bundle.names:
            self._try("people", self._people)
        return self.report

    def _try(self, check: str, step: Callable[[], str]) -> None:
        try:
            self.report.checks[check] = step()
        except Unreadable as error:
            self.report.checks[check] = "cannot be read"
            self.report.blame(check, str(error))

    def _files(self) -> str:
        for wrong in self.bundle.files_that_differ():
            self.report.blame("files", wrong)
        return f"{len(self.bundle.names)} files are as listed"

    def _keys(self) -> str:
        """The trusted keys, and those that they have named as their successors."""
        if not self.is_own:
            self.policy = Policy.read(self.bundle.text("policy"))
        self.keys = [key for key in self.policy.logs if key.name == self.bundle.anchor]
        if not self.keys:
            raise Unreadable(f"the policy trusts no key of {self.bundle.anchor}")
        number = 0
        while f"rotations/{number}.leaf" in self.bundle.names:
            leaf = self.bundle.content(f"rotations/{number}.leaf")
            proof = Proof.read(self.bundle.text(f"rotations/{number}.tlog-proof"))
            new = Key.read(str(_field(leaf, "new_vkey")))
            if not self._is_held(leaf, proof) or new.name != self.bundle.anchor:
                self.report.blame("keys", f"nobody who is trusted has named the key {new.key_id.hex()}")
            elif new not in self.keys:
                self.keys.append(new)
            else:
                # The newest stands last.
                self.keys.append(self.keys.pop(self.keys.index(new)))
            number += 1
        return f"{len(self.keys)} trusted, {number} of them named by the one before"

    def _people(self) -> str:
        """Who is named belongs to the commitment that stands in the records."""
        named = erased = 0
        for line in self.bundle.lines(PEOPLE):
            subject = _field(line, "subject")
            if b'"erased":true' in line:
                erased += 1
                continue
            try:
                salt = bytes.fromhex(str(_field(line, "salt")))
            except ValueError:
                raise Unreadable(f"the salt of {subject} cannot be read") from None
            value = json.dumps(_field(line, "value"), ensure_ascii=False, separators=(",", ":")).encode()
            if subject != "person:" + hashlib.sha256(b"pii-commit/v1\0" + salt + value).hexdigest():
                self.report.blame("people", f"who is named for {subject} is not whom the records mean")
            named += 1
        return f"{named} named as committed to, {erased} erased"

    def _is_held(self, leaf: bytes, proof: Proof) -> bool:
        """Whether the anchor log holds a leaf, under a signed checkpoint."""
        checkpoint = Checkpoint.read(proof.note.text)
        return (
            checkpoint.origin == self.bundle.anchor
            and proof.note.is_signed_by(self.keys, self.bundle.anchor)
            and root_of_proof(proof.index, checkpoint.size, leaf_hash(leaf), proof.hashes) == checkpoint.root
        )

    def _checkpoints(self) -> str:
        note = Note.read(self.bundle.text("checkpoint"))
        newest = Checkpoint.read(note.text)
        self.report.root = newest.root.hex()
        if newest.origin != self.bundle.origin or newest.size != self.bundle.size:
            self.report.blame("checkpoint", "the checkpoint is of another log, or of another size than the bundle")
        if not note.is_signed_by(self.keys[-1:], self.bundle.origin):
            self.report.blame("checkpoint", "the newest key has not signed the checkpoint")
        self.wanted.append(("the checkpoint", newest))
        before = 0
        count = 0
        for line in self.bundle.lines("checkpoints.jsonl"):
            earlier_note = Note.read(str(_field(line, "note")))
            earlier = Checkpoint.read(earlier_note.text)
            if earlier.origin != self.bundle.origin or not earlier_note.is_signed_by(self.keys, self.bundle.origin):
                self.report.blame("checkpoint", f"the checkpoint of size {earlier.size} is not signed", before)
            if not before < earlier.size <= self.bundle.size:
                self.report.blame("checkpoint", f"the checkpoint of size {earlier.size} is out of order")
            before = earlier.size
            count += 1
            self.wanted.append((f"the checkpoint of size {earlier.size}", earlier))
        return f"signed, and {count} earlier ones"

    def _anchor(self) -> str:
        """The anchor log holds a checkpoint of this log, and enough witnesses have seen it."""
        body = self.bundle.text("anchored")
        proof = Proof.read(self.bundle.text("anchor.tlog-proof"))
        anchored = Checkpoint.read(body)
        if anchored.origin != self.bundle.origin or anchored.size > self.bundle.size:
            self.report.blame("anchor", "what the anchor log holds is of another log, or newer than the bundle")
        elif not self._is_held(body.encode(), proof):
            self.report.blame("anchor", "the anchor log does not hold the checkpoint, or its own is not signed")
        self.wanted.append(("what the anchor log holds", anchored))
        if not self.policy.is_met(proof.note):
            self.report.blame("witnesses", "too few witnesses have signed the anchor log's checkpoint")
        seen = sorted(name for name, key in self.policy.witnesses.items() if proof.note.signed_at(key) is not None)
        self.report.witnessed = anchored.size if seen else 0
        self.report.checks["witnesses"] = (
            f"{', '.join(seen)} for the first {anchored.size:,} records" if seen else "none is asked for"
        )
        return f"holds the checkpoint of size {anchored.size:,}"

    def _timestamps(self) -> str:
        """An authority has said when this log had so many records."""
        found = self._attested("token.tsr", lambda token, over: read_token(token, over, self.roots_of_tsa))
        if not found and self.roots_of_tsa:
            self.report.blame("timestamps", "there is none, though an authority was named")
        if found and not self.roots_of_tsa:
            return f"{'; '.join(found)} (name the authority with --tsa to have its signature checked)"
        return "; ".join(found) or "there are none"

    def _deposits(self) -> str:
        """Copies that nobody can take back; whether they are there is for who may read the bucket."""
        return "; ".join(self._attested("deposit.json", read_deposit)) or "there are none"

    def _attested(self, name: str, read: Callable[[bytes, bytes], Said]) -> list[str]:
        """What was said in files of that name, in words, as far as it holds."""
        check = {"token.tsr": "timestamps", "deposit.json": "deposits"}[name]
        words, number = [], 0
        while f"attested/{number}/checkpoint" in self.bundle.names:
            folder = f"attested/{number}"
            number += 1
            if f"{folder}/{name}" not in self.bundle.names:
                continue
            over = self.bundle.content(f"{folder}/checkpoint")
            body = self.bundle.text(f"{folder}/anchored")
            proof = Proof.read(self.bundle.text(f"{folder}/anchor.tlog-proof"))
            anchored = Checkpoint.read(body)
            said = read(self.bundle.content(f"{folder}/{name}"), over)
            if said.wrong:
                self.report.blame(check, f"{folder}: {said.wrong}")
            elif (
                proof.note.text != Note.read(self.bundle.text(f"{folder}/checkpoint")).text
                or anchored.origin != self.bundle.origin
                or anchored.size > self.bundle.size
                or not self._is_held(body.encode(), proof)
            ):
                self.report.blame(check, f"{folder}: the anchor log of that time does not hold this log")
            else:
                self.wanted.append((f"what was attested in {folder}", anchored))
                words.append(f"{said.words} for the first {anchored.size:,} records")
        return words

    def _kept(self) -> str:
        for note in self.kept:
            kept = Checkpoint.read(note.text)
            if kept.origin != self.bundle.origin or not note.is_signed_by(self.keys, self.bundle.origin):
                self.report.blame(
                    "kept checkpoint", "the kept checkpoint is of another log, or not signed by a trusted key"
                )
            elif kept.size > self.bundle.size:
                message = f"the log once had {kept.size:,} records; the bundle says {self.bundle.size:,}"
                self.report.blame("kept checkpoint", message, self.bundle.size)
            else:
                self.wanted.append(("the kept checkpoint", kept))
        return f"{len(self.kept)} continued" if self.kept else "none was given"

    def _tiles(self, hashes: list[bytes]) -> str:
        """Read the leaf hashes, and compare the tiles above with them."""
        level, row = 0, self._level(0, self.bundle.size)
        hashes += row
        while len(row) >= WIDTH:
            level += 1
            below = row
            row = self._level(level, self.bundle.size >> 8 * level)
            for at, value in enumerate(row):
                if root_over(below[at * WIDTH : (at + 1) * WIDTH]) != value:
                    first = at << 8 * level
                    message = f"the hash over records {first} to {first + (1 << 8 * level) - 1} is not theirs"
                    self.report.blame("tiles", message, first)
        return f"{level + 1} levels fit together"

    def _level(self, level: int, count: int) -> list[bytes]:
        row: list[bytes] = []
        for n in range((count + WIDTH - 1) // WIDTH):
            width = min(WIDTH, count - n * WIDTH)
            name = tile_name(level, n, width)
            data = self.bundle.content(name)
            if len(data) != width * HASH_BYTES:
                first = (n * WIDTH) << 8 * level
                self.report.blame("tiles", f"{name} has {len(data) // HASH_BYTES} hashes, not {width}", first)
                data = data[: width * HASH_BYTES].ljust(width * HASH_BYTES, b"\0")
            row += [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
        return row

    def _roots(self, hashes: list[bytes]) -> str:
        """Compare checkpoints with the hashes they are about, smallest first: records before the first fault hold."""
        tree, good = GrowingTree(), 0
        for what, checkpoint in sorted(self.wanted, key=lambda each: each[1].size):
            if checkpoint.size > len(hashes):
                continue
            for value in hashes[tree.size : checkpoint.size]:
                tree.add(value)
            if tree.root() == checkpoint.root:
                good = checkpoint.size
                continue
            where = f"records {good} to {checkpoint.size - 1}" if good < checkpoint.size else "the records before it"
            self.report.blame("root", f"{what} is not over these records: look at {where}", min(good, checkpoint.size))
            if len([fault for fault in self.report.faults if fault.check == "root"]) >= MOST_SHOWN:
                break
        return f"{len(self.wanted)} checkpoints are over these records"

    def _records(self, hashes: list[bytes]) -> str:
        manifest = self.bundle.json("manifest.json")
        where = (str(manifest.get("tenant", "")), str(manifest.get("domain", "")))
        records = Records(self.report, where, begins=self.bundle.first == 0)
        at = self.bundle.first
        for raw in self.bundle.lines("leaves.jsonl"):
            if at >= self.bundle.end:
                self.report.blame(
                    "records", f"there are more records than the {self.bundle.end - self.bundle.first}", at
                )
                break
            digest = leaf_hash(raw)
            if not raw:
                self.report.blame("records", f"record {at} is missing", at)
            elif at < len(hashes) and digest != hashes[at]:
                self.report.blame("records", f"record {at} is not what was logged: {_about(raw)}", at)
            if raw:
                records.read(at, raw, digest.hex())
            at += 1
        if at < self.bundle.end:
            self.report.blame("records", f"records {at} to {self.bundle.end - 1} are missing", at)
        records.end()
        self.report.checks["runs"] = f"{records.runs:,} without gaps"
        self.report.checks["four eyes"] = f"{records.decisions:,} decisions by somebody else than who asked"
        self.report.checks["times"] = "go forward"
        return f"{records.count:,} are what was logged"


def tile_name(level: int, n: int, width: int) -> str:
    """The path of a tile (c2sp.org/tlog-tiles)."""
    digits = f"{n:03d}" if n < 1000 else ""
    if not digits:
        groups = []
        rest = n
        while rest:
            groups.append(f"{rest % 1000:03d}")
            rest //= 1000
        digits = "/".join([*(f"x{group}" for group in groups[:0:-1]), groups[0]])
    return f"tile/{level}/{digits}" + ("" if width == WIDTH else f".p/{width}")


def _field(line: bytes, name: str) -> object:
    try:
        return json.loads(line)[name]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unreadable(f"a line without {name!r} cannot be read") from None


def _about(raw: bytes) -> str:
    """Which record that is, in its own words."""
    try:
        said = json.loads(raw)
        run = f", entry {said['run_seq']} of run {said['run']}" if said.get("run") else ""
        return f"{said['event']} at {said['at']}{run}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return "it cannot be read"
