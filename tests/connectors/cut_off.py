"""Processes that deploy and are killed before one of their calls of the host: `deploying.Site.cut_off` asks for them.

One process has everything imported and forks for each order, a line of JSON; it answers with how that one ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from regie.core.errors import Refused
from regie.kit.access import Calls
from regie_sandbox.servers.authority import Issued

from .conftest import all_connectors
from .deploying import Site


class Mortal(Calls):
    """Calls like the real ones, before one of which the process ends."""

    left = 0

    @asynccontextmanager
    async def one(self, *arguments: Any, **more: Any) -> AsyncIterator[None]:
        Mortal.left -= 1
        if Mortal.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        async with super().one(*arguments, **more):
            yield


async def deploy(order: dict[str, Any]) -> None:
    """Deploy, or die over it."""
    Mortal.left = order["at"]
    site = Site(order["connector"], 0, Path(), Path(), (), order["settings"], calls=Mortal)
    site.kept.issued = {reference: Issued(*parts) for reference, parts in order["issued"].items()}
    try:
        await site.deploy(order["certificate"])
    except Refused:
        return


def main() -> None:
    """Take orders until there are no more."""
    all_connectors()  # what is known before a fork need not be found out after it
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(deploy(json.loads(line)))
            os._exit(0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
