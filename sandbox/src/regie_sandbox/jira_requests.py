"""Reads what a request asks of Jira: its JSON, its query parameters and the fields it wants. Refuses the rest."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import Request

from regie_sandbox.jira_shapes import FIELDS
from regie_sandbox.refusals import Refused, jira


def site_of(request: Request) -> str:
    """The root address of the imitated site, as the caller reaches it."""
    return f"{request.base_url}jira"


def invalid_payload() -> Refused:
    """The refusal of a body that is not what the operation describes."""
    return jira(400, "Invalid request payload. Refer to the REST API documentation and try again.")


async def read_json(request: Request, allowed: set[str] | None = None) -> Any:
    """The request's JSON; with `allowed`, an object with no other keys.

    Raises:
        Refused: 415 without a JSON content type, 400 for anything else that is wrong.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise jira(415, "Unsupported Media Type")
    try:
        body = json.loads(await request.body())
    except ValueError:
        raise invalid_payload() from None
    if allowed is not None and (not isinstance(body, dict) or not set(body) <= allowed):
        raise invalid_payload()
    return body


def check_query(query: Mapping[str, str], allowed: set[str]) -> None:
    """Refuse parameters the operation does not have."""
    unknown = sorted(set(query) - allowed)
    if unknown:
        raise jira(400, f"Unknown query parameter '{unknown[0]}'.")


def number(text: Any, default: int, *, at_most: int) -> int:
    """A whole number from text or JSON, cut to what the site serves at most."""
    if text is None:
        return default
    if isinstance(text, bool) or not str(text).isdecimal():
        raise invalid_payload()
    return min(int(text), at_most)


def wanted_fields(names: list[str], *, default_all: bool) -> set[str]:
    """The field ids a `fields` parameter names: ids, *all, *navigable, and ids to leave out with a minus."""
    chosen = set(FIELDS) if default_all and not [each for each in names if not each.startswith("-")] else set()
    for name in names:
        if name in {"*all", "*navigable"}:
            chosen |= set(FIELDS) - ({"comment"} if name == "*navigable" else set())
        elif name.startswith("-"):
            chosen.discard(name[1:])
        else:
            chosen.add(name)
    return chosen


def listed(text: str | None) -> list[str]:
    """The entries of a comma-separated parameter."""
    return [each.strip() for each in text.split(",") if each.strip()] if text else []
