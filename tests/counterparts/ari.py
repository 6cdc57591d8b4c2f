"""Renewal information (RFC 9773), which this Pebble does not have: put between us and it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import datetime

import httpx2

from .between import Between

PATH = "/renewal-info"


@dataclass
class Ari(Between):
    """A transport to a Pebble that has learnt when its certificates should be renewed.

    Attributes:
        windows: By the authority's name of a certificate.
        replaced: What orders said they replace; an authority refuses to have one replaced twice.
    """

    windows: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if path.startswith(PATH):
            return self._window(request, path.removeprefix(f"{PATH}/"))
        replaces = _replaces(request)
        if replaces in self.replaced:
            content = {"type": "urn:ietf:params:acme:error:alreadyReplaced"}
            return httpx2.Response(409, json=content, request=request)
        response = await super().handle_async_request(request)
        if replaces and response.is_success:
            self.replaced.append(replaces)
        if path == "/dir":
            place = str(request.url.copy_with(path=PATH))
            return httpx2.Response(200, json={**response.json(), "renewalInfo": place}, request=request)
        return response

    def _window(self, request: httpx2.Request, named: str) -> httpx2.Response:
        if named not in self.windows:
            return httpx2.Response(404, request=request)
        start, end = self.windows[named]
        window = {"start": start.isoformat(), "end": end.isoformat()}
        return httpx2.Response(
            200,
            json={"suggestedWindow": window, "explanationURL": "https://authority.example.test/why"},
            headers={"Retry-After": "21600"},
            request=request,
        )


def _replaces(request: httpx2.Request) -> str:
    """What a signed order says it replaces; empty for everything else."""
    try:
        payload = json.loads(request.content)["payload"]
        found = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(found.get("replaces", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
