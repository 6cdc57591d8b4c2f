"""Reading a vendor's list to its end, whatever way it pages. Connectors iterate; nobody gets a part for the whole.

The other way round, `page_after` and `pages_of` give a list of ours in pages.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from pydantic import JsonValue

from regie.core.errors import Terminal
from regie.kit.session import Params, Session

MOST_PAGES = 200
"""Pages after which a list is taken for endless; with the page sizes in use that is some 20,000 entries."""


def page_after(ids: Sequence[str], cursor: str, size: int) -> tuple[list[str], str]:
    """A page of a sorted list, and the cursor of the next one: the last id of this one, empty after the last page.

    What comes and goes between two pages moves no other entry from one to the next.
    """
    following = [each for each in ids if each > cursor]
    page = following[:size]
    return page, page[-1] if len(following) > len(page) else ""


def pages_of(ids: Sequence[str], size: int) -> list[str]:
    """The cursors of all pages of a sorted list, the first one empty; of an empty list none."""
    return [ids[begin - 1] if begin else "" for begin in range(0, len(ids), size)]


async def next_links(
    session: Session,
    path: str,
    *,
    params: Params | None = None,
    items: str = "value",
    link: str = "@odata.nextLink",
    most_pages: int = MOST_PAGES,
) -> AsyncIterator[JsonValue]:
    """Every entry of a list whose pages carry the whole address of the next one (OData).

    Raises:
        NotFound: The list, or what it belongs to, does not exist.
        Terminal: The pages go in a circle, do not end, or have another shape.
        RegieError: What `Session.get` raises.
    """
    seen = set[str]()
    following: str | None = path
    while following is not None:
        if len(seen) >= most_pages:
            raise _endless(path, most_pages)
        seen.add(following)
        answer = await session.get(following, params=params)
        params = None  # the link already carries them
        page = _object(answer.json, path)
        for item in _entries(page, items, path):
            yield item
        found = page.get(link)
        if not (found is None or (isinstance(found, str) and found)) or found in seen:
            raise Terminal(f"The pages of {path} go in a circle or point nowhere")
        following = found if isinstance(found, str) else None


async def offsets(
    session: Session,
    path: str,
    *,
    items: str,
    params: Params | None = None,
    size: int = 100,
    start: str = "startAt",
    page_size: str = "maxResults",
    total: str = "total",
    most_pages: int = MOST_PAGES,
) -> AsyncIterator[JsonValue]:
    """Every entry of a list that is asked for by position (Jira's `startAt` and `maxResults`).

    Raises:
        NotFound: The list, or what it belongs to, does not exist.
        Terminal: The pages do not end, end before the announced total, or have another shape.
        RegieError: What `Session.get` raises.
    """
    position = 0
    for _ in range(most_pages):
        answer = await session.get(path, params={**(params or {}), start: position, page_size: size})
        page = _object(answer.json, path)
        found = _entries(page, items, path)
        for item in found:
            yield item
        position += len(found)
        announced = page.get(total)
        if not isinstance(announced, int):
            raise Terminal(f"The pages of {path} do not say how many entries there are")
        if position >= announced:
            return
        if not found:
            raise Terminal(f"The pages of {path} end after {position} of {announced} entries")
    raise _endless(path, most_pages)


async def cursors(
    page_after: Callable[[str], Awaitable[JsonValue]],
    path: str,
    *,
    items: str,
    cursor_in: tuple[str, str] = ("response_metadata", "next_cursor"),
    most_pages: int = MOST_PAGES,
) -> AsyncIterator[JsonValue]:
    """Every entry of a list whose pages name a cursor for the next one (Slack).

    Args:
        page_after: Reads the page that follows a cursor; the first one for an empty text.
        path: What is read, for error messages.
        cursor_in: The object in a page that holds the cursor, and its name there; the last page has none.

    Raises:
        Terminal: The pages go in a circle, do not end, or have another shape.
        RegieError: What `page_after` raises.
    """
    seen = set[str]()
    cursor = ""
    while cursor not in seen:
        if len(seen) >= most_pages:
            raise _endless(path, most_pages)
        seen.add(cursor)
        page = _object(await page_after(cursor), path)
        for item in _entries(page, items, path):
            yield item
        holder = page.get(cursor_in[0])
        found = holder.get(cursor_in[1], "") if isinstance(holder, dict) else ""
        if found == "":
            return
        if not isinstance(found, str):
            break
        cursor = found
    raise Terminal(f"The pages of {path} go in a circle or point nowhere")


def _endless(path: str, most_pages: int) -> Terminal:
    return Terminal(f"The list {path} has more than {most_pages} pages; a part of it is not taken for all of it")


def _object(body: JsonValue, path: str) -> Mapping[str, JsonValue]:
    if not isinstance(body, dict):
        raise Terminal(f"A page of {path} has a shape we do not know")
    return body


def _entries(page: Mapping[str, JsonValue], items: str, path: str) -> list[JsonValue]:
    found = page.get(items)
    if not isinstance(found, list):
        raise Terminal(f"A page of {path} has no list of entries")
    return found
