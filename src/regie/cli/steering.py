"""Commands that steer a run: cancel, pause, resume, wake, repeat from a step."""

from __future__ import annotations

import asyncio
import uuid
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer

from regie.cli.api import connected
from regie.cli.runs import RunId
from regie.cli.terminal import Json, out, print_json, say
from regie.settings import Settings


class Under(StrEnum):
    """The release of a run that repeats another."""

    SAME = "same"
    CURRENT = "current"


def cancel(
    run: RunId,
    reason: Annotated[str, typer.Option(help="Why; the ticket is told so.")] = "",
    as_json: Json = False,
) -> None:
    """Cancel a run: it begins nothing new. What has been changed stays changed.

    Work that is out is awaited, what waits for people or time ends at once, and the ticket is told.
    """
    shown = _post(run, "cancel", {"reason": reason})
    _say(shown, as_json, f"Run {shown['id']}: {shown['status']}, will be {shown['ends_as']}")


def pause(
    run: RunId,
    reason: Annotated[str, typer.Option(help="Why; whoever looks at the run sees it.")] = "",
    as_json: Json = False,
) -> None:
    """Pause a run: it begins nothing new until it is resumed.

    Work that is out comes back and is recorded; answers and times that come meanwhile take effect then.
    """
    shown = _post(run, "pause", {"reason": reason})
    _say(shown, as_json, f"Run {shown['id']}: {shown['status']}, paused by {shown['by']}")


def resume(
    run: RunId, reason: Annotated[str, typer.Option(help="Why it may go on.")] = "", as_json: Json = False
) -> None:
    """Let a paused run go on where it stood."""
    shown = _post(run, "resume", {"reason": reason})
    how = f"still paused with its parent by {shown['by']}" if shown["is_paused"] else "goes on"
    _say(shown, as_json, f"Run {shown['id']}: {shown['status']}, {how}")


def wake(run: RunId, as_json: Json = False) -> None:
    """Make a run ready again that was set aside or that nothing would wake; `regie doctor` names such runs.

    Mend the cause first: a run whose cause stands is set aside again.
    """
    shown = _post(run, "wake", {})
    _say(shown, as_json, f"Run {shown['id']}: {shown['status']}, ready for a worker")


def rerun(
    run: RunId,
    from_step: Annotated[str, typer.Option("--from", help="Step of the top level that is done again first.")],
    release: Annotated[Under, typer.Option(help="As it was when that run started, or as it is now.")] = Under.SAME,
    key: Annotated[
        str, typer.Option(help="The same key never starts a second run; a new one each time otherwise.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Repeat a run that is over from a step on, as a new run.

    What the steps before it gave is kept and not done again; people are asked again about what is done again.
    """
    body = {"from": from_step, "release": release.value}
    shown = _post(run, "rerun", body, {"Idempotency-Key": key or str(uuid.uuid4())})
    again = "" if shown["is_new"] else " (started before)"
    _say(shown, as_json, f"Run {shown['id']}: {shown['status']}, repeats {shown['rerun_of']} from {from_step}{again}")


def _post(run: str, act: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        async with connected(Settings(), say) as api:
            said: dict[str, Any] = await api.post(f"/v1/runs/{quote(run, safe='')}/{act}", body, headers)
            return said

    return asyncio.run(ask())


def _say(shown: dict[str, Any], as_json: bool, words: str) -> None:  # noqa: FBT001  it is what the option was
    if as_json:
        print_json(shown)
    else:
        out.print(words, markup=False)
