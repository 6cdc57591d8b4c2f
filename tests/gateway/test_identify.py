"""The tokens of an installation: told apart, found when they are new, and used only while they are private."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.gateway.identify import Callers, Unidentified, tokens_of, worker_of
from regie.settings import Settings, read_or_make_token


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def test_a_token_says_who_asks(settings: Settings) -> None:
    worker = read_or_make_token(settings.worker_token_file("identity"))
    web = read_or_make_token(settings.web_token_file)
    read_or_make_token(settings.operator_token_file)
    callers = Callers(lambda: tokens_of(settings))

    assert callers.identify(f"Bearer {worker}").domain == "identity"
    assert callers.identify(f"bearer {web}").name == "web"
    assert callers.identify(f"bearer {web}").domain == ""
    for token in (worker, web):
        assert token not in repr(callers) + repr(callers._known)


def test_the_operators_token_is_not_for_the_gateway(settings: Settings) -> None:
    operator = read_or_make_token(settings.operator_token_file)
    with pytest.raises(Unidentified):
        Callers(lambda: tokens_of(settings)).identify(f"Bearer {operator}")


def test_a_domain_that_came_later_is_let_in_and_one_that_went_is_not_found_again(settings: Settings) -> None:
    callers = Callers(lambda: tokens_of(settings))
    later = read_or_make_token(settings.worker_token_file("vulnerabilities"))
    assert callers.identify(f"Bearer {later}").domain == "vulnerabilities"

    settings.worker_token_file("vulnerabilities").unlink()
    with pytest.raises(Unidentified):
        Callers(lambda: tokens_of(settings)).identify(f"Bearer {later}")


def test_a_token_file_that_others_may_read_lets_nobody_in(settings: Settings) -> None:
    token = read_or_make_token(settings.worker_token_file("identity"))
    settings.worker_token_file("identity").chmod(0o644)
    with pytest.raises(Unidentified):
        Callers(lambda: tokens_of(settings)).identify(f"Bearer {token}")


@given(header=st.one_of(st.none(), st.text(), st.text().map("Bearer {}".format)))
def test_nothing_else_says_who_asks(header: str | None) -> None:
    with pytest.raises(Unidentified):
        Callers(lambda: {"web": "right-and-long", worker_of("x"): ""}).identify(header)


@pytest.mark.parametrize("header", ["right", "Basic right", "Bearer righ", "Bearer right ", "Bearer  right", "Bearer"])
def test_nearly_right_is_wrong(header: str) -> None:
    with pytest.raises(Unidentified):
        Callers(lambda: {"web": "right"}).identify(header)
