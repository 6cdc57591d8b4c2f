"""The files that a page loads: our style, icon and script, and the scripts that `make setup` installs with npm.

Without scripts every page still works; only a live run has to be loaded again to show what is new, and no authenticator
can be asked.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Response

from regie.core.errors import NotFound
from regie.web.pages.looking import LOOKING

_HERE = Path(__file__).parent
_INSTALLED = _HERE / "front_end" / "node_modules"
_FILES: dict[str, tuple[Path, str]] = {
    "site.css": (_HERE / "assets" / "site.css", "text/css; charset=utf-8"),
    "authenticator.js": (_HERE / "assets" / "authenticator.js", "text/javascript; charset=utf-8"),
    "icon.svg": (_HERE / "assets" / "icon.svg", "image/svg+xml"),
    "htmx.js": (_INSTALLED / "htmx.org" / "dist" / "htmx.min.js", "text/javascript; charset=utf-8"),
    "sse.js": (_INSTALLED / "htmx-ext-sse" / "dist" / "sse.min.js", "text/javascript; charset=utf-8"),
}
SCRIPTS = ("htmx.js", "sse.js")
"""In the order in which a live page loads them."""

router = APIRouter(prefix="/assets")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served; its address changes with its contents, so a browser may keep it."""

    name: str
    content: bytes
    media_type: str

    @property
    def address(self) -> str:
        """Where a page finds it."""
        return f"/assets/{self.name}?v={hashlib.sha256(self.content).hexdigest()[:12]}"


def _read() -> dict[str, Asset]:
    return {
        name: Asset(name, file.read_bytes(), media_type)
        for name, (file, media_type) in _FILES.items()
        if file.is_file()
    }


ASSETS = _read()
"""What is there, by name."""
MAY_BE_LIVE = all(name in ASSETS for name in SCRIPTS)
"""Whether the scripts are installed."""


@router.api_route("/{name}", methods=LOOKING)
async def serve(name: str) -> Response:
    """One file, for everybody: it says nothing about anybody."""
    if name not in ASSETS:
        raise NotFound("There is nothing at this address.")
    asset = ASSETS[name]
    return Response(
        asset.content, media_type=asset.media_type, headers={"Cache-Control": "public, max-age=31536000, immutable"}
    )
