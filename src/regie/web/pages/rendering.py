"""Makes pages from templates, and gives every page its headers. All other modules of this room call it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from regie.web.pages import wording
from regie.web.pages.assets import ASSETS, MAY_BE_LIVE, SCRIPTS
from regie.web.pages.visitor import Visitor

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    # With `no-referrer` a browser would send `Origin: null` with our own forms, which tells nothing.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""On every page."""

_environment = Environment(
    loader=PackageLoader("regie.web.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(
    outcome=wording.outcome,
    moment=wording.moment,
    length=wording.length,
    value=wording.value,
    counted=wording.counted,
    masked=wording.masked,
    clipped=wording.clipped,
    first_sentence=wording.first_sentence,
    pretty=wording.pretty,
    prose=wording.prose,
)
_environment.globals.update(
    asset=lambda name: ASSETS[name].address,
    scripts=[ASSETS[name].address for name in SCRIPTS if name in ASSETS],
    may_be_live=MAY_BE_LIVE,
)


def fragment(template: str, **values: Any) -> str:
    """A part of a page."""
    return _environment.get_template(template).render(values)


def page(
    template: str,
    visitor: Visitor | None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> HTMLResponse:
    """A whole page, for a visitor or for nobody we know."""
    html = _environment.get_template(template).render(values, visitor=visitor)
    return HTMLResponse(html, status, headers={**HEADERS, **(headers or {})})
