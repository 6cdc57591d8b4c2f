"""How commands speak to the web process: the same API that every other program uses."""

from __future__ import annotations

import asyncio
import getpass
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from rich.markup import escape
from rich.prompt import Prompt

from regie.cli.installation import Installation, Say, demo_home, real_home
from regie.cli.terminal import err, say
from regie.core.errors import Denied, InvalidInput, NotFound, RegieError, Unavailable
from regie.settings import Settings, read_or_make_token

TIMEOUT_S = 40.0
"""Longer than the longest wait that the API offers."""


class Api:
    """One signed-in talk with the web process. Answers are the API's JSON."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def get(self, path: str, **query: str | int | None) -> Any:
        """Read."""
        given = {name: value for name, value in query.items() if value is not None}
        return await self._send(self._http.build_request("GET", path, params=given))

    async def post(self, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
        """Do."""
        return await self._send(self._http.build_request("POST", path, json=body, headers=headers))

    async def every(self, path: str, most: int, **query: str | None) -> list[dict[str, Any]]:
        """The rows of a paged list, up to a number."""
        rows: list[dict[str, Any]] = []
        before: str | None = None
        while len(rows) < most:
            page = await self.get(path, limit=min(200, most - len(rows)), before=before, **query)
            rows.extend(page["items"])
            before = page.get("next")
            if not before:
                break
        return rows

    async def settled(self, run: str, *, also_waiting: bool = True) -> dict[str, Any]:
        """A run once it is over, or once it waits for people if that is enough."""
        while True:
            shown: dict[str, Any] = await self.get(f"/v1/runs/{run}/wait", for_s=20)
            if shown["is_final"] or (also_waiting and shown["is_waiting_for_people"]):
                return shown

    async def _send(self, request: httpx2.Request) -> Any:
        try:
            response = await self._http.send(request)
        except httpx2.TransportError as error:
            raise Unavailable(f"Regie does not answer at {request.url.host}:{request.url.port}.") from error
        if response.is_success:
            return response.json()
        raise _error(response)


def _error(response: httpx2.Response) -> RegieError:
    """The error a problem document (RFC 9457) describes."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        return Unavailable(f"Regie answers {response.status_code} without saying why.")
    message = str(problem.get("detail") or problem.get("title"))
    kinds: dict[int, type[RegieError]] = {
        400: InvalidInput,
        401: Denied,
        403: Denied,
        404: NotFound,
        409: Denied,
        422: InvalidInput,
        503: Unavailable,
    }
    return kinds.get(response.status_code, RegieError)(message, hint=problem.get("hint"))


@asynccontextmanager
async def running(settings: Settings, say: Say, *, is_working: bool) -> AsyncIterator[str]:
    """The web address of this installation; what does not run yet is started for as long as it is needed.

    Where there is no installation at all, the demo one is made, and said so.

    Args:
        is_working: Start workers as well. A command that only looks must not carry runs on.
    """
    settings = real_home(settings)
    state = Installation(settings, say).read_state()
    if state:
        yield state["web"]
        return
    is_demo = demo_home(settings) or not settings.home.exists()
    if not settings.home.exists():
        say(f"There is no installation in {settings.home} yet; making the demo one.")
    # Most commands find it running.
    from regie.cli.demo_world import up_demo  # noqa: PLC0415  for those that do not
    from regie.cli.running import up  # noqa: PLC0415  likewise

    # What runs for one command only is in nobody's way.
    brief = settings.model_copy(update={"port": 0, "workers": settings.workers if is_working else 0})
    async with up_demo(brief, say) if is_demo else up(brief, say) as services:
        yield services.web


@asynccontextmanager
async def connected(
    settings: Settings, say: Say, *, person: str | None = None, is_working: bool = False
) -> AsyncIterator[Api]:
    """A talk as the operator, or as a person who signs in; see `running`."""
    async with running(settings, say, is_working=is_working) as address:
        headers, auth = {}, None
        if person is None:
            headers["Authorization"] = f"Bearer {read_or_make_token(real_home(settings).operator_token_file)}"
            headers["Regie-Operator"] = re.sub(r"[^a-z0-9._-]", "-", getpass.getuser().lower())[:64]
        else:
            auth = httpx2.BasicAuth(person, password_of(settings, person))
        async with httpx2.AsyncClient(
            base_url=address, headers=headers, auth=auth, timeout=TIMEOUT_S, trust_env=False
        ) as http:
            yield Api(http)


def password_of(settings: Settings, person: str) -> str:
    """A person's password: from REGIE_PASSWORD, from this machine's sign-ins, or asked for."""
    if said := settings.password.get_secret_value():
        return said
    if settings.sign_ins_file.exists():
        try:
            kept: dict[str, str] = json.loads(settings.sign_ins_file.read_text())
        except ValueError as error:
            raise InvalidInput(f"{settings.sign_ins_file} is no JSON.", hint="Delete it, or mend it.") from error
        if person in kept:
            return kept[person]
    try:
        return Prompt.ask(f"Password of {escape(person)}", password=True, console=err)
    except EOFError as error:
        raise InvalidInput(f"The password of {person} is needed.", hint="Put it into REGIE_PASSWORD.") from error


def asked(path: str, **query: str | int | None) -> dict[str, Any]:
    """What the API answers to the operator, for commands that ask one thing."""

    async def ask() -> dict[str, Any]:
        async with connected(Settings(), say) as api:
            found: dict[str, Any] = await api.get(path, **query)
            return found

    return asyncio.run(ask())
