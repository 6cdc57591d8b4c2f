"""The witness's HTTP side: `POST /add-checkpoint` (c2sp.org/tlog-witness)."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import NamedTuple

from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse

from regie.core import merkle
from regie.core.errors import InvalidInput
from regie.core.signed_note import Checkpoint, SignedNote, VerifierKey
from regie.witness.memory import Memory

MOST_BYTES = 64 * 1024
MOST_PROOF_LINES = 63
HASH_BYTES = 32


class Asked(NamedTuple):
    """A question: the size the asker believes we have seen, why the log continues it, the checkpoint to sign."""

    old: int
    proof: Sequence[bytes]
    note: SignedNote
    checkpoint: Checkpoint

    @classmethod
    def parse(cls, text: str) -> Asked:
        """Read a question.

        Raises:
            InvalidInput: It is none.
        """
        head, gap, note = text.partition("\n\n")
        first, *lines = head.split("\n")
        word, _, old = first.partition(" ")
        if not gap or word != "old" or len(lines) > MOST_PROOF_LINES or not old.isascii() or not old.isdigit():
            raise InvalidInput("This is no question to a witness: old SIZE, a proof, an empty line, a checkpoint.")
        try:
            proof = [base64.b64decode(line, validate=True) for line in lines]
        except ValueError:
            raise InvalidInput("A line of the proof is no hash.") from None
        signed = SignedNote.parse(note)
        asked = cls(int(old), proof, signed, Checkpoint.parse(signed.text))
        if any(len(each) != HASH_BYTES for each in proof) or asked.old > asked.checkpoint.size:
            raise InvalidInput("The proof or the old size cannot be right.")
        return asked


def make_witness(memory: Memory, logs: Sequence[VerifierKey], now_s: Callable[[], int]) -> FastAPI:
    """Build the witness.

    Args:
        memory: Its folder.
        logs: Keys of the logs that it watches.
        now_s: Seconds since 1970.
    """
    app = FastAPI(title="Regie witness", openapi_url=None, docs_url=None, redoc_url=None)
    one_at_a_time = threading.Lock()

    @app.post("/add-checkpoint")
    async def add_checkpoint(request: Request) -> PlainTextResponse:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                return _told(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "That is too long for a checkpoint.")
        try:
            asked = Asked.parse(body.decode())
        except (InvalidInput, UnicodeDecodeError) as error:
            return _told(HTTPStatus.BAD_REQUEST, str(error))
        # What was seen, is compared and is kept must be one thing, or two questions at once could take it back.
        with one_at_a_time:
            return _answer(memory, logs, asked, now_s)

    return app


def _answer(memory: Memory, logs: Sequence[VerifierKey], asked: Asked, now_s: Callable[[], int]) -> PlainTextResponse:
    checkpoint = asked.checkpoint
    keys = [key for key in logs if key.name == checkpoint.origin]
    if not keys:
        return _told(HTTPStatus.NOT_FOUND, "This log is not watched here.")
    if not any(key.has_signed(asked.note) for key in keys):
        return _told(HTTPStatus.FORBIDDEN, "No key that is known here has signed this.")
    seen = memory.seen(checkpoint.origin) or Checkpoint(checkpoint.origin, 0, merkle.EMPTY_ROOT)
    if asked.old != seen.size:
        return _seen(seen.size)
    if seen.size == checkpoint.size and seen.root != checkpoint.root:
        return _seen(seen.size)
    if not merkle.continues(seen.size, seen.root, checkpoint.size, checkpoint.root, asked.proof):
        return _told(HTTPStatus.UNPROCESSABLE_ENTITY, "The proof does not show that the log continues what was seen.")
    memory.keep(checkpoint)
    return _told(HTTPStatus.OK, str(memory.key.cosign(asked.note.text, memory.name, now_s())))


def _seen(size: int) -> PlainTextResponse:
    return PlainTextResponse(f"{size}\n", HTTPStatus.CONFLICT, headers={"Content-Type": "text/x.tlog.size"})


def _told(status: HTTPStatus, text: str) -> PlainTextResponse:
    return PlainTextResponse(text, status)
