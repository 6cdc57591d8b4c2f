"""What is sealed opens only where it was sealed, with the key it was sealed with, unaltered."""

import concurrent.futures
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.store.sealer import SealBroken, Sealer

SEALER = Sealer({1: bytes(32), 2: bytes(range(32))}, current=2)
ADDRESS = {"tenant": "acme", "domain": "identity", "table": "run.state", "pk": "1"}


@given(st.binary(max_size=200))
def test_opens_what_it_sealed(plain: bytes) -> None:
    assert SEALER.open(SEALER.seal(plain, **ADDRESS), **ADDRESS) == plain


@given(st.sampled_from(sorted(ADDRESS)), st.text(max_size=5))
def test_opens_nowhere_else(part: str, other: str) -> None:
    sealed = SEALER.seal(b"state", **ADDRESS)
    if other != ADDRESS[part]:
        with pytest.raises(SealBroken):
            SEALER.open(sealed, **{**ADDRESS, part: other})


@given(st.data())
def test_notices_a_flipped_bit(data: st.DataObject) -> None:
    sealed = bytearray(SEALER.seal(b"state", **ADDRESS))
    at = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[at // 8] ^= 1 << (at % 8)
    with pytest.raises(SealBroken):
        SEALER.open(bytes(sealed), **ADDRESS)


@given(st.binary(max_size=12))
def test_refuses_what_is_too_short(sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        SEALER.open(sealed, **ADDRESS)


def test_never_seals_the_same_twice() -> None:
    assert SEALER.seal(b"same", **ADDRESS) != SEALER.seal(b"same", **ADDRESS)


def test_an_old_key_still_opens() -> None:
    old = Sealer({1: bytes(32)}, current=1).seal(b"state", **ADDRESS)
    assert SEALER.open(old, **ADDRESS) == b"state"


def test_a_new_key_file_is_private_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "sealing.json"
    sealed = Sealer.from_file(path).seal(b"state", **ADDRESS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["sealing.json"]
    assert Sealer.from_file(path).open(sealed, **ADDRESS) == b"state"


def test_simultaneous_first_uses_get_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "sealing.json"
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        sealers = list(threads.map(lambda _: Sealer.from_file(path), range(16)))
    sealed = sealers[0].seal(b"state", **ADDRESS)
    assert {sealer.open(sealed, **ADDRESS) for sealer in sealers} == {b"state"}


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sealing.json"
    Sealer.from_file(path)
    path.chmod(0o640)
    with pytest.raises(SealBroken, match="chmod 600"):
        Sealer.from_file(path)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"current": 1, "keys": {}}', '{"current": 1, "keys": {"1": "AAAA"}}']
)
def test_a_broken_key_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sealing.json"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(SealBroken):
        Sealer.from_file(path)
