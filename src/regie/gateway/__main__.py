"""The gateway as a process: `python -m regie.gateway`. `regie up` starts it.

Prints one line of JSON with its address once it takes requests, and stops gracefully on SIGTERM or SIGINT.
"""

from __future__ import annotations

import json
import sys

import structlog
import uvloop

from regie import logs
from regie.core.errors import RegieError
from regie.gateway.serving import serve
from regie.settings import Settings

log = structlog.get_logger(__name__)


def _announce(address: str) -> None:
    sys.stdout.write(json.dumps({"ready": True, "address": address}) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve; exit with 1 and one line in the log when that cannot be."""
    logs.configure()
    settings = Settings()
    try:
        uvloop.run(serve(settings, port=settings.gateway_port, listening=_announce))
    except RegieError as error:
        log.critical("gateway:failed", kind=type(error).__name__, reason=error.message, hint=error.hint)
        sys.exit(1)


if __name__ == "__main__":
    main()
