"""Serves the imaginary world on 127.0.0.1: `python -m regie_sandbox --port 0 --state DIR`.

Prints one line of JSON with its address once it answers, and stops gracefully on SIGTERM or SIGINT.
"""

import argparse
import json
import logging
import socket
import sys
from pathlib import Path

import uvicorn

from regie_sandbox.app import make_app


class AnnouncingServer(uvicorn.Server):
    """Says where it listens as soon as it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, then print the address."""
        await super().startup(sockets)
        if self.started and sockets:
            port = sockets[0].getsockname()[1]
            sys.stdout.write(json.dumps({"address": f"http://127.0.0.1:{port}"}) + "\n")
            sys.stdout.flush()


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m regie_sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--state", type=Path, required=True, help="directory of the world and its ledger")
    parser.add_argument("--webhook-url", help="where new issues are announced")
    parser.add_argument("--webhook-secret", help="what webhooks are signed with")
    parser.add_argument("--interactivity-url", help="where it is told which button of the chat somebody pressed")
    given = parser.parse_args()
    # A connection that is cut on purpose ends in an exception; the server's log of it would only frighten.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    app = make_app(
        given.state,
        webhook_url=given.webhook_url,
        webhook_secret=given.webhook_secret,
        interactivity_url=given.interactivity_url,
    )
    listening = socket.create_server(("127.0.0.1", given.port))
    # Each connection inherits it: without it the second packet of an answer waits 40 ms for the first's receipt.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # As vendors do: whoever asks gives an idle connection up first.
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2, timeout_keep_alive=65)
    with listening:
        AnnouncingServer(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
