"""The command about what starts by itself as time goes."""

from __future__ import annotations

import asyncio
from typing import Any

from regie.cli.api import connected
from regie.cli.terminal import Json, moment, out, print_json, print_table, say
from regie.settings import Settings


def schedules(as_json: Json = False) -> None:
    """List what starts by schedule or by poll, the next one first. Times are UTC.

    A poll that fails is told with the reason.
    """

    async def ask() -> list[dict[str, Any]]:
        async with connected(Settings(), say) as api:
            found: list[dict[str, Any]] = (await api.get("/v1/schedules"))["items"]
            return found

    found = asyncio.run(ask())
    if as_json:
        print_json(found)
        return
    print_table(
        ("next", "last", "tenant", "workflow", "starts by"),
        (
            (moment(line["due_at"]), moment(line["last_at"]), line["tenant"], line["workflow"], line["starts_by"])
            for line in found
        ),
        nothing="Nothing starts by a schedule or a poll.",
    )
    for line in found:
        if line["failure"]:
            tries = line["failures"]
            out.print(f"The poll of {line['workflow']} for {line['tenant']} has failed {tries} times: ", end="")
            out.print(line["failure"]["message"], markup=False)
