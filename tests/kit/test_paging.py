"""Lists are read to their end or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from regie.core.errors import Terminal
from regie.kit.paging import next_links, offsets
from regie.kit.session import Session

Handler = Callable[[httpx2.Request], httpx2.Response]


def session(handler: Handler) -> Session:
    transport = httpx2.MockTransport(handler)
    return Session(httpx2.AsyncClient(transport=transport, base_url="https://vendor.example.com/v1"), vendor="Vendor")


async def collect(entries: AsyncIterator[JsonValue]) -> list[JsonValue]:
    return [entry async for entry in entries]


def linked(entries: list[int], size: int) -> Handler:
    def handler(request: httpx2.Request) -> httpx2.Response:
        assert request.url.params["$top"] == str(size)
        start = int(request.url.params.get("from", 0))
        page: dict[str, object] = {"value": entries[start : start + size]}
        if start + size < len(entries):
            page["@odata.nextLink"] = f"https://vendor.example.com/v1/things?$top={size}&from={start + size}"
        return httpx2.Response(200, json=page)

    return handler


def positioned(entries: list[int]) -> Handler:
    def handler(request: httpx2.Request) -> httpx2.Response:
        start, size = int(request.url.params["startAt"]), int(request.url.params["maxResults"])
        page = {"items": entries[start : start + size], "total": len(entries)}
        return httpx2.Response(200, json=page)

    return handler


@given(entries=st.lists(st.integers(), max_size=40), size=st.integers(1, 9))
async def test_every_entry_comes_once_and_in_order(entries: list[int], size: int) -> None:
    by_link = next_links(session(linked(entries, size)), "/things", params={"$top": size})
    assert await collect(by_link) == entries
    by_position = offsets(session(positioned(entries)), "/things", items="items", size=size)
    assert await collect(by_position) == entries


async def test_pages_in_a_circle_are_noticed() -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        other = "b" if request.url.path.endswith("a") else "a"
        return httpx2.Response(200, json={"value": [1], "@odata.nextLink": f"https://vendor.example.com/v1/{other}"})

    with pytest.raises(Terminal, match="circle"):
        await collect(next_links(session(handler), "https://vendor.example.com/v1/a"))


async def test_a_list_without_end_is_given_up() -> None:
    asked = 0

    def handler(request: httpx2.Request) -> httpx2.Response:
        nonlocal asked
        asked += 1
        link = f"https://vendor.example.com/v1/things?page={asked}"
        return httpx2.Response(200, json={"value": [asked], "items": [asked], "total": 10**9, "@odata.nextLink": link})

    with pytest.raises(Terminal, match="more than 7 pages"):
        await collect(next_links(session(handler), "/things", most_pages=7))
    with pytest.raises(Terminal, match="more than 5 pages"):
        await collect(offsets(session(handler), "/things", items="items", most_pages=5))
    assert asked == 12


@pytest.mark.parametrize(
    "page",
    [[], {"value": {}}, {"value": [], "@odata.nextLink": 7}, {"value": [], "@odata.nextLink": ""}, "text", None],
)
async def test_a_strange_linked_page(page: JsonValue) -> None:
    with pytest.raises(Terminal):
        await collect(next_links(session(lambda _: httpx2.Response(200, json=page)), "/things"))


@pytest.mark.parametrize("page", [{"items": [], "total": 3}, {"items": [1]}, {"total": 0}, {"items": 1, "total": 0}])
async def test_a_strange_positioned_page(page: JsonValue) -> None:
    with pytest.raises(Terminal):
        await collect(offsets(session(lambda _: httpx2.Response(200, json=page)), "/things", items="items"))


async def test_the_next_page_is_not_fetched_from_another_host() -> None:
    page = {"value": [1], "@odata.nextLink": "https://evil.example.net/v1/things"}
    with pytest.raises(Terminal, match="another host"):
        await collect(next_links(session(lambda _: httpx2.Response(200, json=page)), "/things"))
