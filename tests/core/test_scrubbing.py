"""Values of secrets in bytes: generated values, in every form that leaks have had, whole and cut off."""

from __future__ import annotations

import base64
import html
import json
import random
import secrets
import string
import time
import tracemalloc
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.core.scrubbing import MASK, MOST_VALUES, PIECE, SHORTEST, SHORTEST_PART, STEP, Scrubber

LONGEST_LEAK = 11
"""Characters of a value that may be left: no fragment of twelve."""
HARD = "żółć𝕒'\"\\<&>%+/= \u202e\u00a0é"


def value(draw: random.Random) -> str:
    """A secret as vendors make them, or as people do."""
    alphabet = draw.choice(
        [
            string.ascii_letters + string.digits + "_-",
            string.hexdigits,
            string.printable[:94],
            string.ascii_letters + HARD,
        ]
    )
    return "".join(draw.choice(alphabet) for _ in range(draw.choice([8, 12, 20, 32, 40, 64, 65, 100, 160, 700])))


# Written apart from what the scrubber does: these are the leaks, not its list.
LEAKS: dict[str, Callable[[str], bytes]] = {
    "as it is": lambda v: v.encode(),
    "in a log of JSON": lambda v: json.dumps({"message": f"sent {v}!"}, ensure_ascii=False).encode(),
    "in JSON of ASCII": lambda v: json.dumps({"message": f"sent {v}!"}).encode(),
    "JSON in JSON": lambda v: json.dumps({"body": json.dumps({"password": v})}).encode(),
    "JSON in JSON, not of ASCII": lambda v: json.dumps(
        {"body": json.dumps({"password": v}, ensure_ascii=False)}, ensure_ascii=False
    ).encode(),
    "in a path": lambda v: f"GET https://api.example.com/{urllib.parse.quote(v, safe='')}/x".encode(),
    "in a query": lambda v: f"?{urllib.parse.urlencode({'key': v, 'n': 1})}".encode(),
    "on a page": lambda v: f"<td>{html.escape(v)}</td>".encode(),
    "in hexadecimal": lambda v: v.encode().hex().encode(),
    "in capital hexadecimal": lambda v: v.encode().hex().upper().encode(),
    "as Python shows a text": lambda v: f"KeyError({v!r})".encode(),
    "as Python shows a text in ASCII": lambda v: ascii({"k": v}).encode(),
    "as Python shows bytes": lambda v: f"body={v.encode()!r}".encode(),
    "as Python shows bytes, in JSON": lambda v: json.dumps({"e": f"body={v.encode()!r}"}).encode(),
    "backwards": lambda v: v[::-1].encode(),
    "in base64": lambda v: base64.b64encode(v.encode()),
    "in base64 of URLs": lambda v: base64.urlsafe_b64encode(v.encode()).rstrip(b"="),
    "as a password": lambda v: b"Basic " + base64.b64encode(f"bot@example.com:{v}".encode()),
    "among other bytes in base64": lambda v: base64.b64encode(f'{{"p":"{v}","x":1}}'.encode()),
    "in UTF-16": lambda v: v.encode("utf-16-le"),
}


def left_of(form: bytes, scrubbed: bytes, longest: int) -> list[bytes]:
    """Pieces of a form that are still there and longer than they may be."""
    size = longest + 1
    return [form[at : at + size] for at in range(len(form) - size + 1) if form[at : at + size] in scrubbed]


@pytest.mark.parametrize("name", LEAKS)
def test_generated_leaks_leave_nothing(name: str) -> None:
    draw = random.Random(4711)  # noqa: S311  the same cases each time
    values = [value(draw) for _ in range(60)]
    scrubber = Scrubber()
    for each in values:
        scrubber.add(each)
    leaks = 0
    for each in values:
        leak = LEAKS[name](each)
        around = (b"before " + leak + b" after\n", leak, leak + b"\n" + leak)
        for written in around:
            scrubbed = scrubber.scrub(written)
            assert MASK in scrubbed, (name, each)
            leaks += bool(left_of(each.encode(), scrubbed, LONGEST_LEAK))
            plain = LEAKS[name]("")
            # What is left of the form itself is no more than what stands around the value.
            leaks += len(scrubbed.replace(MASK, b"")) > len(plain) * written.count(leak) + len(written) - len(leak) * (
                written.count(leak)
            ) + 8 * written.count(leak)
    assert leaks == 0


@pytest.mark.parametrize("name", ["as it is", "in JSON of ASCII", "as Python shows a text", "as Python shows bytes"])
def test_what_is_cut_off_leaves_no_more_than_a_few_characters(name: str) -> None:
    draw = random.Random(4712)  # noqa: S311  the same cases each time
    for _ in range(150):
        each = "".join(
            draw.choice(string.ascii_letters + string.digits) for _ in range(draw.randint(SHORTEST_PART, 160))
        )
        scrubber = Scrubber()
        scrubber.add(each)
        leak = LEAKS[name](each)
        start = leak.index(each[:8].encode())
        length = draw.randint(SHORTEST_PART, len(each))
        for cut in (leak[: start + length], leak[start + len(each) - length :]):
            scrubbed = scrubber.scrub(cut)
            assert left_of(each.encode(), scrubbed, STEP + 3) == [], (each, cut, scrubbed)


@given(st.text(min_size=SHORTEST, max_size=200), st.text(max_size=20), st.text(max_size=20))
def test_any_text_is_found_as_it_is(text: str, before: str, after: str) -> None:
    scrubber = Scrubber()
    scrubber.add(text)
    lines = [line for line in text.splitlines() if len(line) >= SHORTEST]
    scrubbed = scrubber.scrub(f"{before}{text}{after}".encode())
    for line in lines:
        assert line.encode() not in scrubbed.replace(MASK, b"")


@given(st.binary(max_size=400))
def test_what_holds_no_secret_stays_as_it_is(written: bytes) -> None:
    scrubber = Scrubber()
    scrubber.add("correct horse battery staple")
    assert scrubber.scrub(written) == written or b"horse" in written


def test_a_private_key_is_found_line_by_line() -> None:
    draw = random.Random(4713)  # noqa: S311  the same case each time
    lines = ["".join(draw.choice(string.ascii_letters + string.digits + "+/") for _ in range(64)) for _ in range(26)]
    pem = "\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----", ""])
    scrubber = Scrubber()
    scrubber.add(pem)
    for leak in (pem.encode(), json.dumps({"key": pem}).encode(), repr(pem).encode(), base64.b64encode(pem.encode())):
        scrubbed = scrubber.scrub(leak)
        assert [line for line in lines if left_of(line.encode(), scrubbed, LONGEST_LEAK)] == []
    assert scrubber.scrub(lines[7].encode()) == MASK


@pytest.mark.parametrize("short", ["", "secret", "a\nb\nc", "1234567"])
def test_what_is_short_is_left_alone(short: str) -> None:
    scrubber = Scrubber()
    scrubber.add(short)
    assert scrubber.scrub(f"x {short} y".encode()) == f"x {short} y".encode()


def test_the_latest_values_are_known_and_the_number_is_bounded() -> None:
    scrubber = Scrubber()
    values = [secrets.token_hex(12) for _ in range(MOST_VALUES + 30)]
    for each in values:
        scrubber.add(each)
    assert {scrubber.scrub(each.encode()) for each in values[30:]} == {MASK}
    assert [scrubber.scrub(each.encode()) for each in values[:30]] == [each.encode() for each in values[:30]]


def test_long_values_that_come_and_go_take_little_room_and_no_line_is_held_up() -> None:
    draw = random.Random(4715)  # noqa: S311  the same case each time
    scrubber, slowest_s = Scrubber(), 0.0
    tracemalloc.start()
    try:
        for _ in range(100):
            scrubber.add("".join(draw.choice(string.ascii_letters + string.digits) for _ in range(800)))
            began_s = time.process_time()
            scrubber.scrub(b"x" * 700)
            slowest_s = max(slowest_s, time.process_time() - began_s)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # An automaton of all their parts took some 750 MB, and half a second after each of them.
    assert most < 100e6
    assert slowest_s < 0.1


def test_hundreds_of_secrets_cost_a_line_little() -> None:
    draw = random.Random(4714)  # noqa: S311  the same case each time
    scrubber = Scrubber()
    for _ in range(200):
        scrubber.add("".join(draw.choice(string.ascii_letters) for _ in range(40)))
    line = json.dumps({"event": "step:finished", "note": "x" * 700}).encode()
    scrubber.scrub(line)
    began_s = time.process_time()
    for _ in range(500):
        scrubber.scrub(line)
    # A search through 4,000 patterns one by one makes 77.
    assert time.process_time() - began_s < 1.0
    assert PIECE > SHORTEST_PART
