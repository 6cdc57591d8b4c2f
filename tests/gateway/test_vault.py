"""The vault keeps secrets: to other processes, over restarts, and from everybody without the key."""

import copy
import json
import pickle
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regie.core.errors import AuthFailed, InvalidInput
from regie.core.tenant import SecretRef
from regie.gateway.vault import SecretText, VaultFile

TOKEN = SecretRef(domain="identity", name="graph", field="client_secret")
VALUE = "kept-for-nobody-else"


async def test_a_secret_comes_back_through_another_opening(tmp_path: Path) -> None:
    VaultFile.create(tmp_path / "vault").put("acme", TOKEN, VALUE)

    assert (await VaultFile(tmp_path / "vault").get("acme", TOKEN)).reveal() == VALUE


async def test_a_newer_value_is_found_by_a_vault_opened_before(tmp_path: Path) -> None:
    vault = VaultFile.create(tmp_path / "vault")
    VaultFile(tmp_path / "vault").put("acme", TOKEN, VALUE)
    VaultFile(tmp_path / "vault").put("acme", TOKEN, "newer")

    assert (await vault.get("acme", TOKEN)).reveal() == "newer"


async def test_a_tenant_does_not_find_another_tenants_secret(tmp_path: Path) -> None:
    vault = VaultFile.create(tmp_path / "vault")
    vault.put("acme", TOKEN, VALUE)

    with pytest.raises(AuthFailed):
        await vault.get("globex", TOKEN)


def test_names_are_listed_without_values(tmp_path: Path) -> None:
    vault = VaultFile.create(tmp_path / "vault")
    vault.put("globex", TOKEN, VALUE)
    vault.put("acme", SecretRef(domain="identity", name="jira"), VALUE)

    assert vault.names() == [("acme", "secret://identity/jira"), ("globex", "secret://identity/graph#client_secret")]


def test_an_empty_secret_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        VaultFile.create(tmp_path / "vault").put("acme", TOKEN, "")


def test_vault_and_key_are_readable_by_their_owner_only_and_hold_no_clear_value(tmp_path: Path) -> None:
    vault = VaultFile.create(tmp_path / "vault")
    vault.put("acme", TOKEN, VALUE)

    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert VALUE.encode() not in path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vault", "vault.key", "vault.lock"]


async def test_a_key_open_to_others_is_refused(tmp_path: Path) -> None:
    vault = VaultFile.create(tmp_path / "vault")
    vault.key_path.chmod(0o640)

    with pytest.raises(AuthFailed, match="open to others"):
        await vault.get("acme", TOKEN)


async def test_another_vaults_key_does_not_open_it(tmp_path: Path) -> None:
    VaultFile.create(tmp_path / "vault").put("acme", TOKEN, VALUE)
    other = VaultFile.create(tmp_path / "other")

    with pytest.raises(AuthFailed, match="does not open"):
        await VaultFile(tmp_path / "vault", other.key_path).get("acme", TOKEN)


async def test_something_else_than_a_key_is_named(tmp_path: Path) -> None:
    vault = VaultFile.create(tmp_path / "vault")
    vault.key_path.write_text("no key\n")

    with pytest.raises(AuthFailed, match="no vault key"):
        await vault.get("acme", TOKEN)


def test_a_vault_without_its_key_is_not_given_a_new_one(tmp_path: Path) -> None:
    VaultFile.create(tmp_path / "vault").key_path.unlink()

    with pytest.raises(AuthFailed, match="lost its key"):
        VaultFile.create(tmp_path / "vault")


# Without a deadline: it writes files, and how long that takes is not what it is about.
@settings(deadline=None)
@given(data=st.data())
def test_any_altered_byte_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    vault = VaultFile.create(tmp_path_factory.mktemp("altered") / "vault")
    vault.put("acme", TOKEN, VALUE)
    sealed = bytearray(vault.path.read_bytes())
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    vault.path.write_bytes(sealed)

    with pytest.raises(AuthFailed, match="does not open"):
        vault.names()


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 12])
def test_a_cut_vault_is_noticed(tmp_path: Path, content: bytes) -> None:
    vault = VaultFile.create(tmp_path / "vault")
    vault.path.write_bytes(content)

    with pytest.raises(AuthFailed, match="does not open"):
        vault.names()


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    VaultFile.create(tmp_path / "vault")

    def put(number: int) -> None:
        VaultFile(tmp_path / "vault").put("acme", SecretRef(domain="identity", name=f"n{number}"), VALUE)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(40)))

    assert len(VaultFile(tmp_path / "vault").names()) == 40


@given(value=st.text(min_size=6))
def test_a_secret_does_not_show_in_any_text_form(value: str) -> None:
    secret = SecretText(value)

    for shown in (repr(secret), str(secret), f"{secret}", f"{secret:>40}", "%s" % secret, repr([secret])):  # noqa: UP031  the old form is one of the leaks
        assert value not in shown
    assert secret.reveal() == value


def test_a_secret_is_neither_pickled_nor_copied_nor_written_as_json() -> None:
    secret = SecretText(VALUE)

    for leak in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps):
        with pytest.raises(TypeError) as caught:
            leak(secret)
        assert VALUE not in str(caught.value)
