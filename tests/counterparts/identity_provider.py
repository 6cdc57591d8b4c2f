"""The certified OpenID provider `oidc-provider`, and a browser that signs in at it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from regie_sandbox.servers.process import NotInstalled, answers, free_port, require, running

FOLDER = Path(__file__).parent / "oidc"
SECRET = "the-secret-of-a-client-of-the-tests"


@dataclass(frozen=True)
class Client:
    """A program that people sign in to."""

    client_id: str
    redirect_uri: str
    more: Mapping[str, object] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        return {
            "client_id": self.client_id,
            "client_secret": SECRET,
            "redirect_uris": [self.redirect_uri],
            "require_auth_time": True,
            **self.more,
        }


@contextmanager
def serving(
    folder: Path,
    clients: Sequence[Client],
    people: Mapping[str, Mapping[str, Any]],
    *,
    id_token_lives_s: int = 300,
    is_thin: bool = False,
) -> Iterator[str]:
    """Its issuer, for as long as the block takes.

    Raises:
        NotInstalled: It is not there.
    """
    node = require("node", "nodejs")
    if not (FOLDER / "node_modules" / "oidc-provider").exists():
        raise NotInstalled(f"there is no identity provider for tests: make counterparts, or npm ci in {FOLDER}")
    port = free_port()
    told = {
        "port": port,
        "clients": [client.as_json() for client in clients],
        "people": people,
        "id_token_lives_s": id_token_lives_s,
        "is_thin": is_thin,
    }
    arguments = [node, "--no-deprecation", str(FOLDER / "provider.mjs"), json.dumps(told)]
    with running(arguments, log=folder / f"provider-{port}.log", is_ready=lambda: answers(port)):
        yield f"http://127.0.0.1:{port}"


async def sign_in_at(address: str, person: str, *, back_at: str) -> str:
    """What a browser comes back with after somebody has signed in at the provider: the address that it is sent to."""
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as http:
        answer = await http.get(address)
        for _ in range(8):
            where = answer.headers.get("Location", "")
            if where.startswith(back_at):
                return where
            if where:
                answer = await http.get(answer.url.join(where))
            else:
                assert "<form" in answer.text, answer.text
                answer = await http.post(str(answer.url), data={"person": person})
    raise AssertionError(f"the provider sends the browser round and round: {answer.status_code} {answer.url}")
