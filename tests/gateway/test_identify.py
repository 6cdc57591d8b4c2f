"""The tokens of an installation: made once, kept, told apart, and readable by their owner only."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.core.errors import AuthFailed
from regie.gateway.identify import Callers, Unidentified, make_tokens, worker_of


def test_every_domain_and_the_web_get_a_token_and_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "tokens.json"
    first = make_tokens(path, ["identity"])
    second = make_tokens(path, ["identity", "support"])

    assert set(second) == {"web", "worker:identity", "worker:support"}
    assert second | first == second
    assert len(set(second.values())) == 3
    assert min(map(len, second.values())) >= 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_token_says_who_asks(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    tokens = make_tokens(path, ["identity"])
    callers = Callers.from_file(path)

    assert callers.identify(f"Bearer {tokens[worker_of('identity')]}").domain == "identity"
    assert callers.identify(f"bearer {tokens['web']}").domain == ""
    for token in tokens.values():
        assert token not in repr(callers) + repr(vars(callers))


@given(header=st.one_of(st.none(), st.text()))
def test_nothing_else_says_who_asks(header: str | None) -> None:
    with pytest.raises(Unidentified):
        Callers({"web": "right"}).identify(header)


@pytest.mark.parametrize("header", ["right", "Basic right", "Bearer righ", "Bearer right ", "Bearer  right"])
def test_nearly_right_is_wrong(header: str) -> None:
    with pytest.raises(Unidentified):
        Callers({"web": "right"}).identify(header)


@pytest.mark.parametrize("content", ["", "[]", '{"web": ""}', '{"web": 1}', "x"])
def test_something_else_than_tokens_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(AuthFailed, match="no token file"):
        Callers.from_file(path)


def test_a_token_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    make_tokens(path, ["identity"])
    path.chmod(0o644)
    with pytest.raises(AuthFailed, match="open to others"):
        Callers.from_file(path)
    with pytest.raises(AuthFailed, match="cannot be read"):
        Callers.from_file(tmp_path / "nowhere.json")


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: make_tokens(path, [f"d{number}"]), range(16)))

    final = json.loads(path.read_text())
    assert len(final) == 17
    assert all(final | each == final for each in made)
