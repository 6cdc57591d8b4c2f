"""A process that deploys and is killed before one of its calls of the host: `deploying.Site.cut_off` starts it."""

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
from tests.counterparts.authority import Issued

from .deploying import Site

ORDER = json.load(sys.stdin)
left = int(ORDER["at"])


def paced(one: Any) -> Any:
    """A call like the real one, before which the process may end."""

    @asynccontextmanager
    async def called(self: Calls, *arguments: Any, **more: Any) -> AsyncIterator[None]:
        global left  # noqa: PLW0603  this process does one thing
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        async with one(self, *arguments, **more):
            yield

    return called


async def main() -> None:
    """Deploy."""
    site = Site(ORDER["connector"], 0, Path(), Path(), (), ORDER["settings"])
    site.kept.issued = {reference: Issued(*parts) for reference, parts in ORDER["issued"].items()}
    setattr(Calls, "one", paced(Calls.one))  # noqa: B010  a method, and every way to the host goes through it
    try:
        await site.deploy(ORDER["certificate"])
    except Refused:
        return


asyncio.run(main())
