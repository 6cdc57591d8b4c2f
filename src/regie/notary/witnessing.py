"""Asking witnesses to countersign the anchor log's checkpoints (c2sp.org/tlog-witness, add-checkpoint)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2
import structlog

from regie.core import merkle
from regie.core.errors import InvalidInput, RegieError, Unavailable
from regie.core.signed_note import KeyKind, Signature, SignedNote, VerifierKey
from regie.store.attesting import Kind, Party
from regie.store.sequencing import LogDatabase
from regie.telemetry import metrics

ANSWER_WITHIN_S = 10.0
MOST_ANSWER_BYTES = 10_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class WitnessPolicy:
    """Whom to ask, and the lines about witnesses, groups and quorum as they stand in the file."""

    urls: dict[VerifierKey, str]
    lines: tuple[str, ...]

    @classmethod
    def read(cls, file: Path | None) -> WitnessPolicy:
        """Read the file; without one nobody is asked and nobody need sign.

        Raises:
            InvalidInput: It cannot be read, or a line of it is wrong.
        """
        if file is None:
            return cls({}, ("quorum none",))
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise InvalidInput(f"The file of witnesses {file} cannot be read: {type(error).__name__}.") from error
        urls, kept = {}, []
        for line in lines:
            match line.split():
                case []:
                    continue
                case ["witness", _, vkey, *url] if len(url) < 2:
                    key = VerifierKey.parse(vkey)
                    if key.kind is not KeyKind.WITNESS:
                        raise InvalidInput(f"{file}: {vkey} is no key of a witness.")
                    if url:
                        urls[key] = url[0].rstrip("/")
                case ["group", _, _, _, *_] | ["quorum", _]:
                    pass
                case [first, *_] if first.startswith("#") or first == "log":
                    continue
                case _:
                    raise InvalidInput(
                        f"{file}: {line!r} cannot be read.", hint="Lines are: witness NAME VKEY URL, group, quorum."
                    )
            kept.append(line)
        if sum(line.startswith("quorum") for line in kept) != 1:
            raise InvalidInput(f"{file} must have one line with the quorum.", hint="Such as: quorum NAME")
        return cls(urls, tuple(kept))


class Witnesses:
    """Asks every witness of a policy.

    Args:
        http: The client to ask with.
    """

    def __init__(self, database: LogDatabase, policy: WitnessPolicy, http: httpx2.AsyncClient) -> None:
        self._database = database
        self._policy = policy
        self._http = http
        self._seen: dict[VerifierKey, int] = {}
        """Up to which size each one has followed the log."""

    async def ask(self) -> None:
        """Have the newest checkpoint of the anchor log countersigned by whoever has not done so. Failing is logged.

        Raises:
            Unavailable: The database does not answer.
        """
        async with self._database.turn() as turn:
            anchor_id, _ = await turn.anchor()
            newest = await turn.checkpoint(anchor_id)
        if newest is None:
            return
        size, note = newest
        for key, url in self._policy.urls.items():
            if self._seen.get(key) == size:
                continue
            try:
                line = await self._asked(key, url, anchor_id, size, note)
            except (RegieError, httpx2.HTTPError) as error:
                log.warning("witness:silent", witness=key.name, kind=type(error).__name__)
                metrics.count_attestation(Kind.WITNESS, "failed")
                reason = error.message if isinstance(error, RegieError) else f"No answer: {type(error).__name__}."
                async with self._database.turn() as turn:
                    await turn.attesters.failed(party_of(key), reason)
                continue
            async with self._database.turn() as turn:
                await turn.cosigned(size, key.name, str(line))
                await turn.attesters.attested(party_of(key), size)
            metrics.count_attestation(Kind.WITNESS, "done")
            self._seen[key] = size

    async def _asked(self, key: VerifierKey, url: str, anchor_id: int, size: int, note: SignedNote) -> Signature:
        old = self._seen.get(key, 0)
        for _ in range(2):
            answer = await self._http.post(
                f"{url}/add-checkpoint", content=await self._question(anchor_id, old, size, note)
            )
            if answer.status_code != 409:
                break
            # It has seen more, or less, than we remember: a witness may be restored, we may be.
            old = _size_in(answer.text, size)
        if answer.status_code != 200 or len(answer.content) > MOST_ANSWER_BYTES:
            raise Unavailable(f"The witness {key.name} answered {answer.status_code}.")
        for line in answer.text.splitlines():
            signature = Signature.parse(line)
            if key.has_signed(SignedNote(note.text, (signature,))):
                return signature
        raise Unavailable(f"The witness {key.name} answered without a cosignature of its own.")

    async def _question(self, anchor_id: int, old: int, size: int, note: SignedNote) -> str:
        async with self._database.turn() as turn:
            proof: Sequence[bytes] = await turn.consistency(anchor_id, size, merkle.consistency(old, size))
        lines = "".join(f"{base64.b64encode(each).decode()}\n" for each in proof)
        return f"old {old}\n{lines}\n{note}"


def party_of(key: VerifierKey) -> Party:
    """A witness among those who attest."""
    return Party(Kind.WITNESS, key.name)


def _size_in(text: str, most: int) -> int:
    """The size that a witness says it has seen.

    Raises:
        Unavailable: It has seen a larger log than there is, or says nothing readable.
    """
    digits = text.strip()
    if not digits.isascii() or not digits.isdigit() or int(digits) > most:
        raise Unavailable("A witness has seen another log than this one.")
    return int(digits)
