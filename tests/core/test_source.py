"""Reading YAML: only what JSON can say, everything with its line and column, nothing that can blow up."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from regie.core.errors import DefinitionError, Fault
from regie.core.source import MAX_CHARACTERS, MAX_DEPTH, MAX_NODES, decode, read_record, read_source


def plain(text: str) -> JsonValue:
    return read_source(text, "f.yaml").root.plain()


def faults(text: str) -> list[Fault]:
    with pytest.raises(DefinitionError) as caught:
        read_source(text, "f.yaml")
    return caught.value.faults


def only(text: str) -> Fault:
    (fault,) = faults(text)
    return fault


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("NO", "NO"),
        ("yes", "yes"),
        ("on", "on"),
        ("22:30", "22:30"),
        ("012", 12),
        ("1_000", "1_000"),
        ("1.10", 1.1),
        ("2026-01-02", "2026-01-02"),
        ("2026-01-02T10:00:00Z", "2026-01-02T10:00:00Z"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0o17", 15),
        ("0x1F", 31),
        ("-5", -5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("'5'", "5"),
        ('"true"', "true"),
        ("=", "="),
        ("<<", "<<"),
    ],
)
def test_plain_values_follow_yaml_1_2(written: str, value: JsonValue) -> None:
    read = plain(f"key: {written}")
    assert read == {"key": value}
    assert isinstance(read, dict)
    assert type(read["key"]) is type(value)


def test_on_is_an_ordinary_key() -> None:
    assert plain("on: 1\nNO: 2\n22:30: 3") == {"on": 1, "NO": 2, "22:30": 3}


@pytest.mark.parametrize(
    ("text", "line", "column", "says", "hint"),
    [
        ("a: 1\nb: 2\na: 3", 3, 1, "twice, first in line 1", None),
        ("a:\n  - {x: 1, x: 2}", 2, 12, "twice", None),
        ("a: &x 1\nb: 2", 1, 4, "anchors", "quote"),
        ("a: 1\nb: *x", 2, 4, "aliases", "quote"),
        ("a: !!str 1", 1, 4, "tags", "quote"),
        ("a: ! 1", 1, 4, "tags", "quote"),
        ("!x {a: 1}", 1, 1, "tags", None),
        ("a: 1\n---\nb: 2", 2, 1, "one document", None),
        ("%YAML 1.1\n---\na: 1", 1, 1, "directives", None),
        ("a: .inf", 1, 4, "JSON", "quotes"),
        ("a: .nan", 1, 4, "JSON", "quotes"),
        ("a: 1e999", 1, 4, "JSON", None),
        ("a: 99999999999999999999", 1, 4, "JSON", None),
        ("a: 1\n5: 2", 2, 1, "must be a text", "quotes"),
        ("? [a]\n: 2", 1, 3, "must be a text", None),
        ("a: b\x07", 1, 5, "U+0007", None),
        ("a: 1\nb: c\x85d", 2, 5, "U+0085", None),
        ("a: \ud800", 1, 4, "U+D800", None),
        ("a: [1", 1, 4, "not valid YAML", None),
        ("a: 1\nb: 'c\n", 2, 4, "not valid YAML", None),
        ("t: ${{ a }}: done", 1, 12, "not valid YAML", "quotes"),
        ("t: {who: manager_of ${{ a }}}", 1, 22, "not valid YAML", "quotes"),
        ("t: [${{ a }}]", 1, 6, "not valid YAML", "quotes"),
        ("a:\n\t- 1", 2, 1, "not valid YAML", None),
    ],
)
def test_what_is_refused_and_where(text: str, line: int, column: int, says: str, hint: str | None) -> None:
    fault = only(text)
    assert (fault.file, fault.line, fault.column) == ("f.yaml", line, column)
    assert says in fault.message
    assert hint is None or hint in (fault.hint or "")


def test_every_duplicate_is_named() -> None:
    assert [fault.line for fault in faults("a: 1\na: 2\nb: 1\nb: 2\nb: 3")] == [2, 4, 5]


def test_bombs_are_refused_before_they_go_off() -> None:
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    # Of this process: how busy the machine is has nothing to do with it.
    began_s = time.process_time()
    assert "anchors" in only(laughs).message
    assert "levels" in only("[" * 100_000).message
    assert "values" in only("- 1\n" * (MAX_NODES + 1)).message
    assert "characters" in only("x" * (MAX_CHARACTERS + 1)).message
    assert time.process_time() - began_s < 2


def test_the_limits_themselves_are_allowed() -> None:
    assert plain("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    assert plain("- 1\n" * (MAX_NODES - 1)) is not None


def test_bytes_that_are_not_utf8() -> None:
    with pytest.raises(DefinitionError, match=r"f\.yaml:2:4: the file is not UTF-8"):
        decode("a: 1\né: ".encode() + b"\xff", "f.yaml")
    assert decode("é".encode(), "f.yaml") == "é"


def test_windows_line_ends_and_byte_order_mark() -> None:
    source = read_source("\ufeffa: 1\r\nb: 2\r\n", "f.yaml")
    assert source.root.plain() == {"a": 1, "b": 2}
    assert source.root.keys == {"a": (1, 1), "b": (2, 1)}


@pytest.mark.parametrize(
    ("written", "line", "column"),
    [
        ("k: one two three", 1, 8),
        ("k: 'one two three'", 1, 9),
        ('k: "one two three"', 1, 9),
        ("k: |\n  one\n  two three", 3, 3),
        ("k: >\n  one\n  two three", 3, 3),
        ("k: one\n  two three", 2, 3),
        ("k: [x, 'one two three']", 1, 13),
    ],
)
def test_a_character_of_a_text_has_a_place(written: str, line: int, column: int) -> None:
    source = read_source(written, "f.yaml")
    node = source.root.below("k", 1)
    assert isinstance(node.value, str)
    assert source.locate(node, node.value.index("two")) == (line, column)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["ab", "a", "abab", "${{", "}}", "b"]), min_size=1, max_size=8), st.sampled_from("'\"|>")
)
def test_the_nth_word_is_found_however_it_is_quoted(words: list[str], style: str) -> None:
    text = " ".join(words)
    written = f"k: {style}\n  {text}\n" if style in "|>" else f"k: {style}{text}{style}\n"
    source = read_source(written, "f.yaml")
    node = source.root.below("k")
    offset = 0
    for word in words:
        line, column = source.locate(node, offset)
        assert source.lines[line - 1].index(text) + offset == column - 1
        offset += len(word) + 1


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    word: str = ""


class Whole(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    parts: tuple[Part, ...] = ()
    by_name: dict[str, Part] = Field(default={}, alias="by-name")


def test_a_record_is_read() -> None:
    whole = read_record("title: x\nparts:\n  - {size: 3}\nby-name: {a: {size: 1, word: b}}", "w.yaml", Whole)
    assert whole == Whole.model_validate(
        {"title": "x", "parts": ({"size": 3},), "by-name": {"a": {"size": 1, "word": "b"}}}
    )


def test_every_fault_of_a_record_is_named() -> None:
    text = "titel: x\nparts:\n  - {size: '3'}\n  - {siz: 3}\n  - 5\nby-name: {a: {size: 1, word: 5}}"
    with pytest.raises(DefinitionError) as caught:
        read_record(text, "w.yaml", Whole)
    assert [(fault.line, fault.column, fault.message, fault.hint) for fault in caught.value.faults] == [
        (1, 1, "'title' is missing", None),
        (1, 1, "'titel' is not known here", "did you mean title?"),
        (3, 12, "a whole number belongs here", None),
        (4, 5, "'size' is missing", None),
        (4, 6, "'siz' is not known here", "did you mean size?"),
        (5, 5, "an object belongs here", None),
        (6, 30, "a text belongs here", "put it in quotes"),
    ]


def test_reading_is_quick() -> None:
    text = "steps:\n" + "".join(
        f"  - id: s{at}\n    uses: a.b\n    with: {{ user: '${{{{ x }}}}' }}\n" for at in range(200)
    )
    spent_s = []
    for _ in range(5):
        began_s = time.process_time()
        read_source(text, "f.yaml")
        spent_s.append(time.process_time() - began_s)
    assert min(spent_s) < 0.5, "the aim is 15 ms"


JSON: st.SearchStrategy[JsonValue] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(JSON)
def test_json_is_read_as_it_is(value: JsonValue) -> None:

    assert plain(json.dumps(value)) == value


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        plain(text)
    except DefinitionError as error:
        places = [(fault.line, fault.column) for fault in error.faults]
    else:
        places = [(1, 1)]
    assert min(places) >= (1, 1)


def test_a_list_of_thousands_of_endpoints_is_read() -> None:
    one = "- { host: h.example.com, port: 25, server_name: s.example.com, starttls: smtp }\n"
    found = plain(one * 5000)
    assert isinstance(found, list)
    assert len(found) == 5000
