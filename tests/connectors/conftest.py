"""Recorded vendors: one YAML file per connector says, per capability, what is asked and what is answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import httpx2
import pytest
import yaml
from pydantic import BaseModel, ConfigDict, JsonValue

from regie import connectors
from regie.core.capabilities.certificate import KeptCertificate, KeyKind
from regie.kit.connector import Read, Write
from regie.kit.discovery import Found, connectors_in
from regie.kit.keys import SigningRequest
from regie.kit.session import Session

RECORDINGS = Path(__file__).parent / "recordings"
SECRET = "secret-of-the-recorded-world"

Handler = Callable[[httpx2.Request], httpx2.Response]


class Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Exchange(Closed):
    request: str
    reads: bool = False  # though it is a POST
    sent: JsonValue = None
    status: int
    headers: dict[str, str] = {}
    body: JsonValue = None
    text: str = ""

    @property
    def is_write(self) -> bool:
        return not (self.reads or self.request.startswith("GET "))

    def answer(self) -> httpx2.Response:
        content = self.text.encode() if self.body is None else json.dumps(self.body).encode()
        return httpx2.Response(self.status, headers=self.headers, content=content)


class Planned(Closed):
    target: str
    title: str
    fields: list[tuple[str, JsonValue, JsonValue]]


class Case(Closed):
    capability: str
    want: dict[str, JsonValue]
    change: Planned | None = None
    gives: JsonValue
    exchanges: list[Exchange]


class Recording(Closed):
    address: str
    settings: dict[str, JsonValue]
    cases: list[Case]


class RecordedKeys:
    """Keys of the recorded world, where every order has the same one."""

    reference_of_all = "secret://certificates/certificate-0"

    async def reference(self, order: str) -> str:
        return self.reference_of_all

    async def request(self, order: str, names: Sequence[str], kind: KeyKind) -> SigningRequest:
        return SigningRequest(self.reference_of_all, b"a signing request")

    async def keep(self, certificate: str, chain_pem: str, names: Sequence[str]) -> KeptCertificate:
        return KeptCertificate(certificate=certificate, serial="1a", names=list(names))

    async def get(self, certificate: str) -> KeptCertificate:
        names = ["shop.example.com"]
        return KeptCertificate(certificate=certificate, serial="1a", names=names, authority_key="69885b6b87468a5c5c")

    async def with_serial(self, serial: str) -> KeptCertificate | None:
        return None

    async def thumbprint(self) -> str:
        return "thumbprint"


class Recorded:
    """One connector with one recording, ready to be driven over any handler."""

    def __init__(self, found: Found, recording: Recording) -> None:
        self.found = found
        self.recording = recording
        self.opened: list[httpx2.AsyncClient] = []

    def implementation(
        self, capability: str, handler: Handler, **settings: JsonValue
    ) -> Read[Any, Any] | Write[Any, Any]:
        client = httpx2.AsyncClient(
            transport=httpx2.MockTransport(handler),
            base_url=self.recording.address,
            headers={"Authorization": f"Basic {SECRET}"},
        )
        self.opened.append(client)
        manifest = self.found.manifest
        effective = manifest.effective({**self.recording.settings, **settings})
        session = Session(client, vendor=manifest.title)
        return self.found.connector(session, effective, RecordedKeys()).implementation(capability)

    def read(self, capability: str, handler: Handler, **settings: JsonValue) -> Read[Any, Any]:
        found = self.implementation(capability, handler, **settings)
        assert isinstance(found, Read)
        return found

    def write(self, capability: str, handler: Handler, **settings: JsonValue) -> Write[Any, Any]:
        found = self.implementation(capability, handler, **settings)
        assert isinstance(found, Write)
        return found


def line_of(request: httpx2.Request, address: str) -> str:
    """A request as a recording writes it: method, path below the address, decoded query."""
    prefix = httpx2.URL(address).raw_path.rstrip(b"/")
    path, _, query = request.url.raw_path.removeprefix(prefix).partition(b"?")
    line = f"{request.method} {path.decode() or '/'}"
    return f"{line}?{unquote_plus(query.decode())}" if query else line


class Player:
    """Answers from a recording, strictly in order; an unexpected request fails the test."""

    def __init__(self, address: str, exchanges: list[Exchange]) -> None:
        self._address = address
        self._left = list(exchanges)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        line = line_of(request, self._address)
        assert self._left, f"not recorded: {line}"
        exchange = self._left.pop(0)
        assert line == exchange.request
        assert (json.loads(request.content) if request.content else None) == exchange.sent
        return exchange.answer()

    @property
    def is_finished(self) -> bool:
        return not self._left


class BrokenWrites:
    """Reads answer as recorded before the first write, which never changes; every write meets the given end."""

    def __init__(self, address: str, exchanges: list[Exchange], end: Handler) -> None:
        self._address = address
        self._end = end
        self._reads: dict[str, Exchange] = {}
        for exchange in exchanges:
            if not exchange.is_write:
                self._reads.setdefault(exchange.request, exchange)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        line = line_of(request, self._address)
        # A read that was not recorded fails the test; a write that was not is the one that is broken.
        return self._reads[line].answer() if request.method == "GET" or line in self._reads else self._end(request)


@cache
def all_connectors() -> dict[str, Found]:
    return dict(connectors_in(connectors))


@cache
def recording_of(name: str) -> Recording:
    return Recording.model_validate(yaml.safe_load((RECORDINGS / f"{name}.yaml").read_text(encoding="utf-8")))


@pytest.fixture
async def recorded() -> AsyncIterator[Callable[[str], Recorded]]:
    made: list[Recorded] = []

    def of(name: str) -> Recorded:
        made.append(Recorded(all_connectors()[name], recording_of(name)))
        return made[-1]

    yield of
    for each in made:
        for client in each.opened:
            await client.aclose()
