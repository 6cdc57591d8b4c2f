"""What holds for every address, read from the routes: nothing is done without a form of ours, browsers keep to ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute

from regie.store.api_tokens import PREFIX
from regie.web.pages.errors import is_page

from .conftest import ORIGIN, People

pytestmark = pytest.mark.slow

FILLED = {"run": "0" * 8, "tenant": "acme", "workflow": "identity.offboard_employee", "domain": "identity"}
OPEN = {"/sign-in", "/sign-in/provider", "/sign-in/answer", "/sign-out/provider", "/health", "/assets/{name}"}
"""Where one need not have signed in."""


def each_address(people: People, *methods: str) -> Iterator[tuple[str, str, str]]:
    """Method, address with something in each place, and the address as the route has it."""
    routes: list[APIRoute] = people.app.state.every_route
    for route in routes:
        filled = route.path
        for name in route.param_convertors:
            filled = filled.replace(f"{{{name}}}", FILLED.get(name, "1")).replace(f"{{{name}:path}}", "1")
        for method in sorted(set(route.methods or ()) & set(methods)):
            yield method, filled, route.path


async def test_nothing_is_done_without_a_form_of_ours(people: People) -> None:
    await people.sign_in("wang")
    count = 0
    for method, address, path in each_address(people, "POST"):
        if path.startswith("/v1/inbound/"):
            continue
        count += 1
        for headers in ({"Origin": "https://evil.example.com"}, {"Origin": ORIGIN}, {}):
            answer = await people.http.request(method, address, data={"csrf": "0" * 64}, headers=headers)
            expected = 403 if is_page({"path": address}) else 401
            assert answer.status_code == expected, (method, address, headers, answer.text)
    assert count >= 15


async def test_no_page_and_no_answer_is_anybodys(people: People) -> None:
    for method, address, path in each_address(people, "GET", "HEAD"):
        answer = await people.http.request(method, address)
        if path in OPEN:
            assert answer.status_code < 500 or path == "/health", address
        elif path == "/runs/{run}/changes":
            assert answer.headers["Content-Type"].startswith("text/event-stream"), "which says that one has signed out"
        elif is_page({"path": address}):
            assert (answer.status_code, answer.headers["Location"].partition("?")[0]) == (303, "/sign-in"), address
        else:
            assert answer.status_code == 401, address


async def test_browsers_are_told_to_keep_to_what_is_ours(people: People) -> None:
    await people.sign_in("wang")
    for method, address, path in each_address(people, "GET"):
        if path == "/runs/{run}/changes":
            continue
        headers = (await people.http.request(method, address)).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy, address
        assert "frame-ancestors 'none'" in policy, address
        assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "http:", "https:"} & set(policy.split()), address
        assert headers["X-Content-Type-Options"] == "nosniff", address
        assert headers["Referrer-Policy"] in {"no-referrer", "same-origin"}, address
        assert headers["Strict-Transport-Security"].startswith("max-age="), address
        assert "Server" not in headers, address


async def test_a_token_in_an_address_opens_nothing(people: People) -> None:
    for name in ("token", "access_token", "authorization"):
        answer = await people.http.get("/v1/runs", params={name: f"{PREFIX}000000000000_x"})
        assert answer.status_code == 401
