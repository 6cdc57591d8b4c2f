"""What is sealed under a key file opens only with what it was bound to, unaltered, with a key of that file."""

import concurrent.futures
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.store.key_file import KeyFile, SealBroken

FILE = KeyFile({1: bytes(32), 2: bytes(range(32))}, current=2)
BOUND = b"acme|identity|run.state|1"


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_opens_what_it_sealed(plain: bytes, bound: bytes) -> None:
    assert FILE.open(FILE.seal(plain, bound), bound) == plain


@given(st.binary(max_size=20))
def test_opens_nothing_bound_to_something_else(other: bytes) -> None:
    sealed = FILE.seal(b"state", BOUND)
    if other != BOUND:
        with pytest.raises(SealBroken):
            FILE.open(sealed, other)


@given(st.data())
def test_notices_a_flipped_bit(data: st.DataObject) -> None:
    sealed = bytearray(FILE.seal(b"state", BOUND))
    at = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[at // 8] ^= 1 << (at % 8)
    with pytest.raises(SealBroken):
        FILE.open(bytes(sealed), BOUND)


@given(st.binary(max_size=12))
def test_refuses_what_is_too_short(sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        FILE.open(sealed, BOUND)


def test_never_seals_the_same_twice() -> None:
    assert FILE.seal(b"same", BOUND) != FILE.seal(b"same", BOUND)


def test_an_old_key_still_opens() -> None:
    old = KeyFile({1: bytes(32)}, current=1).seal(b"state", BOUND)
    assert FILE.open(old, BOUND) == b"state"


def test_a_new_key_file_is_private_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "sealing.json"
    sealed = KeyFile.read_or_make(path).seal(b"state", BOUND)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["sealing.json"]
    assert KeyFile.read(path).open(sealed, BOUND) == b"state"


def test_simultaneous_first_uses_get_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "sealing.json"
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        files = list(threads.map(lambda _: KeyFile.read_or_make(path), range(16)))
    sealed = files[0].seal(b"state", BOUND)
    assert {file.open(sealed, BOUND) for file in files} == {b"state"}


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sealing.json"
    KeyFile.read_or_make(path)
    path.chmod(0o640)
    with pytest.raises(SealBroken, match="Others may read") as caught:
        KeyFile.read_or_make(path)
    assert caught.value.hint == f"chmod 600 {path}"


def test_a_lost_key_file_is_not_made_anew_by_reading(tmp_path: Path) -> None:
    with pytest.raises(SealBroken, match="no key file"):
        KeyFile.read(tmp_path / "domain-hr.json")
    assert list(tmp_path.iterdir()) == []


_KEY = "A" * 43 + "="


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"current": 1, "keys": {}}',
        '{"current": 1, "keys": {"1": "AAAA"}}',
        f'{{"current": 0, "keys": {{"0": "{_KEY}"}}}}',
        f'{{"current": 1, "keys": {{"1": "{_KEY}", "256": "{_KEY}"}}}}',
    ],
)
def test_a_broken_key_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sealing.json"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(SealBroken):
        KeyFile.read_or_make(path)
