"""`regie witness`: watch logs of a Regie that is somebody else's, and countersign what only grows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from regie.cli.ports import free_port
from regie.cli.terminal import out
from regie.core.signed_note import VerifierKey
from regie.witness.app import make_witness
from regie.witness.memory import Memory


def witness(
    folder: Annotated[Path, typer.Argument(help="Where the witness keeps its key and what it has seen.")],
    log: Annotated[list[str], typer.Option(help="Key of a log to watch (see: regie audit keys); may be repeated.")],
    name: Annotated[str, typer.Option(help="Name of a new witness, such as witness.example.com.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
) -> None:
    """Countersign checkpoints of logs that only grow, until interrupted. For auditors, on a machine of theirs.

    Its first line is what the file of witnesses (REGIE_WITNESSES) needs to say about it.
    """
    memory = Memory(folder, name)
    watched = [VerifierKey.parse(line) for text in log for line in text.split()]
    at = port or free_port()
    with memory.alone():
        out.print(f"witness {memory.name} {memory.verifier} http://127.0.0.1:{at}", markup=False, soft_wrap=True)
        app = make_witness(memory, watched, _now_s)
        uvicorn.run(app, host="127.0.0.1", port=at, log_config=None, access_log=False, server_header=False)


def _now_s() -> int:
    # A cosignature says when the witness saw the checkpoint, by the witness's own clock.
    return int(time.time())  # noqa: TID251
