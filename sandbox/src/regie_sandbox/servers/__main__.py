"""Serves the company's servers on 127.0.0.1: `python -m regie_sandbox.servers --port 0 --state DIR`.

Prints one line of JSON with the address of the hand above them once all of them answer, and stops them on SIGTERM or
SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from pathlib import Path

import uvicorn

from regie_sandbox.__main__ import AnnouncingServer
from regie_sandbox.servers.app import make_app
from regie_sandbox.servers.company import company
from regie_sandbox.servers.process import DidNotStart, NotInstalled


async def serve(listening: socket.socket, state: Path) -> None:
    """Serve until told to stop."""
    async with company(state) as made:
        config = uvicorn.Config(make_app(made), log_config=None, access_log=False, timeout_graceful_shutdown=2)
        await AnnouncingServer(config).serve(sockets=[listening])


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m regie_sandbox.servers", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--state", type=Path, required=True, help="directory of everything they serve and keep")
    given = parser.parse_args()
    with socket.create_server(("127.0.0.1", given.port)) as listening:
        try:
            asyncio.run(serve(listening, given.state))
        except (NotInstalled, DidNotStart) as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
