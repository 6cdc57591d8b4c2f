"""What all pages have in common: headers, errors in words, nothing from elsewhere, blocks and workflows from code."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import JsonValue

from regie.core.errors import Unavailable
from regie.domains import load_catalogue
from regie.web.limits import LARGEST_BODY
from regie.web.pages import wording
from regie.web.pages.outline import outline

from .conftest import ORIGIN, Browser
from .stage import ANA, OFFBOARD, OLGA, Stage

PAGES = ("/", "/runs", "/approvals", "/blocks", "/workflows", f"/workflows/{OFFBOARD}", "/nothing")
CATALOGUE = load_catalogue()


class Parts(HTMLParser):
    """What a page asks a browser to load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loaded += [given[name] or "" for name in ("src", "href", "action") if name in given]
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        self.inline += [tag] if tag == "style" or (tag == "script" and "src" not in given) else []
        self.ids += [given["id"] or ""] if "id" in given else []


@pytest.mark.slow
async def test_pages_load_nothing_from_elsewhere_and_nothing_inline(stage: Stage, browser: Browser) -> None:
    key = await stage.start()
    approval = await stage.ask(key, ANA)
    await browser.sign_in(OLGA)
    for path in (*PAGES, f"/runs/{key.run}", f"/runs/{key.run}/values", f"/approvals/{approval}"):
        answer = await browser.open(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"
        parts = Parts(answer.text)
        assert [each for each in parts.loaded if not each.startswith(("/", "#"))] == [], path
        assert parts.inline == [], path
        assert len(parts.ids) == len(set(parts.ids)), path
        assert '<html lang="en">' in answer.text
        assert answer.text.count("<h1") == 1, path
        for address in parts.loaded:
            if address.startswith("/assets/"):
                asset = await browser.open(address)
                assert asset.status_code == 200
                assert "immutable" in asset.headers["Cache-Control"]


@pytest.mark.slow
async def test_errors_are_said_in_words(stage: Stage, browser: Browser, app: FastAPI) -> None:
    await browser.sign_in(ANA)

    @app.get("/breaks")
    async def breaks() -> None:
        raise RuntimeError("a detail that nobody may see")

    @app.get("/away")
    async def away() -> None:
        raise Unavailable("The database does not answer.", after_s=7)

    for path, status, words in (
        ("/nothing", 404, "Nothing is here"),
        ("/runs/x", 404, "There is no such run."),
        ("/workflows", 403, "needs `look`"),
        ("/runs?status=odd", 422, "That cannot be used"),
        ("/breaks", 500, "Something went wrong here"),
        ("/away", 503, "The database does not answer."),
    ):
        answer = await browser.open(path)
        assert answer.status_code == status
        assert answer.headers["Content-Type"].startswith("text/html")
        assert words in answer.text, path
        assert "nobody may see" not in answer.text
    assert (await browser.open("/away")).headers["Retry-After"] == "7"
    large = await browser.http.post("/sign-in", content=b"x" * (LARGEST_BODY + 1), headers={"Origin": ORIGIN})
    assert large.status_code == 413
    assert "That is too much" in large.text
    assert (await browser.http.delete("/runs")).status_code == 405
    api = await browser.open("/v1/nothing")
    assert api.headers["Content-Type"] == "application/problem+json"


@pytest.mark.slow
async def test_every_block_is_in_the_catalogue(stage: Stage, browser: Browser) -> None:
    await browser.sign_in(ANA)
    shown = (await browser.open("/blocks")).text
    ids = Parts(shown).ids
    for name, block in CATALOGUE.items():
        assert ids.count(name) == 1
        part = shown.split(f'id="{name}"')[1].split("</article>")[0]
        assert block.summary.replace("`", "") in html.unescape(re.sub(r"<[^>]+>", "", part))
        assert block.effect in part
        for field in (*block.arguments.model_fields, *block.gives.model_fields):
            assert f"<code>{field}</code>" in part, (name, field)
    assert "one of deny" in shown


@pytest.mark.slow
async def test_workflows_are_shown_as_written_and_as_an_outline(stage: Stage, browser: Browser) -> None:
    await browser.sign_in(OLGA)
    assert f'href="/workflows/{OFFBOARD}"' in (await browser.open("/workflows")).text
    shown = (await browser.open(f"/workflows/{OFFBOARD}")).text
    assert re.search(r"Show people a plan.*Switch an account off", shown, re.DOTALL)
    async with stage.database.reading() as tx:
        rows = await tx.rows("select digest from regie.release", {})
    pinned = await browser.open(f"/workflows/{OFFBOARD}?release={rows[0]['digest']}")
    assert pinned.status_code == 200
    for missing in ("/workflows/identity.nothing", f"/workflows/{OFFBOARD}?release={'0' * 64}"):
        assert (await browser.open(missing)).status_code == 404


@pytest.mark.slow
async def test_assets_are_only_those_that_are_named(stage: Stage, browser: Browser) -> None:
    for path in ("/assets/", "/assets/nothing.js", "/assets/..%2Fapp.py", "/assets/package.json"):
        answer = await browser.open(path)
        assert answer.status_code == 404
        assert isinstance(answer, httpx2.Response)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.00 s"), (0.314, "0.31 s"), (59.6, "1 min 0 s"), (42, "42 s"), (3_725, "1 h 2 min"), (90_000, "1 d 1 h")],
)
def test_lengths_of_time(seconds: float, words: str) -> None:
    assert wording.length(seconds) == words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`a` is <b>`c`</b>", "<code>a</code> is &lt;b&gt;<code>c</code>&lt;/b&gt;"),
        ("`<i>`", "<code>&lt;i&gt;</code>"),
        ("it`s <i>", "it`s &lt;i&gt;"),
        ("", ""),
    ],
)
def test_backticks_are_code_and_nothing_else_is(text: str, shown: str) -> None:
    assert wording.prose(text) == shown


def test_addresses_are_masked_wherever_they_stand() -> None:
    text = "Jan (jan.janssen@example.com) and An <a@b.example.org>"
    assert wording.masked(text) == "Jan (j•••@example.com) and An <a•••@b.example.org>"


def test_an_outline_has_names_and_kinds_and_no_values() -> None:
    value: JsonValue = {
        "user": "jan.janssen@example.com",
        "note": "hush",
        "count": 3,
        "is_on": True,
        "nothing": None,
        "groups": [{"id": "g1", "name": "hush"}, {"id": "g2"}],
        "deep": {"a": {"b": {"c": "hush"}}},
        "empty": {},
    }
    lines = dict(outline(value, is_plain=False))
    assert lines["user"] == "j•••@example.com"
    assert lines["note"] == "text, 4 characters"
    assert lines["groups"] == "list of 2, each with id, name"
    assert "hush" not in str(lines)
    assert "jan" not in str(lines)
    assert dict(outline(value, is_plain=True))["user"] == "jan.janssen@example.com"
    assert len(outline(dict.fromkeys(map(str, range(1000))), is_plain=True)) == 41
