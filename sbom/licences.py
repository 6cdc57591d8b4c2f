"""Under which licence each package comes, and which licences the product cannot have."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from license_expression import (  # type: ignore[import-untyped]  # it has no types
    ExpressionError,
    ExpressionParseError,
    LicenseSymbol,
    get_spdx_licensing,
)

REFUSED = ("GPL-", "AGPL-", "BUSL-", "SSPL-", "CC-BY-NC", "Elastic-", "LicenseRef-")
"""What a product that is sold to be run by others cannot be linked with. LGPL is not among them: Regie imports such
packages as they come, and whoever runs it may replace them."""

READ: dict[str, str] = {
    "cedarpy": "Apache-2.0",
    "colorama": "BSD-3-Clause",
    "cronsim": "BSD-3-Clause",
    "httpx2-jsfetch": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "markdown-it-py": "MIT",
    "mdurl": "MIT",
    "protobuf": "BSD-3-Clause",
    "pyasn1-modules": "BSD-2-Clause",
    "pyopenssl": "Apache-2.0",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
    "rfc3161-client": "Apache-2.0",
    "s3transfer": "Apache-2.0",
    "shellingham": "ISC",
    "uvloop": "Apache-2.0 OR MIT",
}
"""Of packages that do not say it in SPDX's words (spdx.org/licenses), or are only for other systems: as their own
licence files have it. A name that is not needed here is a mistake, which a test finds."""

_SPDX = get_spdx_licensing()


class Unknown(Exception):
    """Nobody has said under which licence a package comes."""


def licence_of(package: str) -> str:
    """The licence of a Python package, as an SPDX expression.

    Raises:
        Unknown: Its metadata does not say, and nobody has read its licence.
    """
    if package in READ:
        return READ[package]
    if said := declared(package):
        return said
    raise Unknown(f"{package}: read its licence and add it to sbom/licences.py")


def declared(package: str) -> str:
    """What a package that is installed says itself; empty when that is no SPDX expression."""
    try:
        about = distribution(package).metadata
    except PackageNotFoundError:
        return ""
    said = next((about[name] for name in ("License-Expression", "License") if name in about), "")
    return said if is_spdx(said) else ""


def is_spdx(expression: str) -> bool:
    """Whether a text is an expression of known licences."""
    try:
        return bool(expression) and _SPDX.parse(expression, validate=True, strict=True) is not None
    except (ExpressionError, ExpressionParseError):
        return False


def may_be_used(expression: str) -> bool:
    """Whether one may choose to be bound by nothing that is refused."""
    return bool(_allowed(_SPDX.parse(expression)))


def _allowed(part: Any) -> bool:
    if isinstance(part, LicenseSymbol) or not hasattr(part, "args"):
        return not str(part).startswith(REFUSED)
    if not part.args:
        # "... WITH exception" counts by its licence.
        return not str(part).startswith(REFUSED)
    choose = any if part.operator.strip() == "OR" else all
    return choose(_allowed(each) for each in part.args)
