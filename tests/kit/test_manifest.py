"""A manifest says what a connection must configure; discovery finds the folders."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import ValidationError

from regie.kit.discovery import connectors_in
from regie.kit.manifest import load_manifest

MANIFEST = """
name: {name}
title: Lamp
docs: https://lamp.example.com/docs
owner: team:house
quality: {{level: bronze, rules: {{manifest: done, recordings: "exempt: no lamp at hand"}}}}
address: site
authentication: {{kind: basic, user: user, secret: token}}
settings:
  site: {{about: Where the lamp is., example: https://lamp.example.com}}
  user: {{about: Who switches., example: jan.janssen@example.com}}
  rooms: {{about: Its rooms., required: false, default: [], example: [attic]}}
secrets: {{token: The lamp's token.}}
permissions: ["lamp:switch"]
limits: []
"""
CONNECTOR = '''"""A lamp."""

from regie.kit.connector import Connector


class Lamp(Connector):
    """A lamp."""
'''


@pytest.fixture
def package(tmp_path: Path) -> Iterator[ModuleType]:
    module = ModuleType("lamps_for_a_test")
    module.__path__ = [str(tmp_path)]
    sys.modules[module.__name__] = module
    yield module
    for name in [each for each in sys.modules if each.startswith(module.__name__)]:
        del sys.modules[name]


def add(folder: Path, name: str, code: str = CONNECTOR, manifest: str = MANIFEST) -> Path:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("")
    (folder / name / "connector.py").write_text(code)
    file = folder / name / "manifest.yaml"
    file.write_text(manifest.format(name=name))
    return file


def test_a_new_folder_is_found_without_an_edited_file(package: ModuleType, tmp_path: Path) -> None:
    add(tmp_path, "oil_lamp")
    add(tmp_path, "desk_lamp")
    found = connectors_in(package)
    assert list(found) == ["desk_lamp", "oil_lamp"]
    assert found["oil_lamp"].connector.__name__ == "Lamp"
    assert found["oil_lamp"].manifest.name == "oil_lamp"


def test_a_folder_without_a_connector_is_not_passed_over(package: ModuleType, tmp_path: Path) -> None:
    add(tmp_path, "lamp")
    (tmp_path / "lamp" / "connector.py").unlink()
    with pytest.raises(TypeError, match="instead of one"):
        connectors_in(package)


@pytest.mark.parametrize("code", ['"""Nothing."""\n', CONNECTOR + "\n\nclass Second(Connector):\n    pass\n"])
def test_a_folder_is_one_connector(package: ModuleType, tmp_path: Path, code: str) -> None:
    add(tmp_path, "lamp", code)
    with pytest.raises(TypeError, match="instead of one"):
        connectors_in(package)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("level: bronze", "level: iron"),
        ("exempt: no lamp at hand", "exempt:"),
        ("kind: basic", "kind: trust"),
        ("owner: team:house", ""),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path: Path, right: str, wrong: str) -> None:
    file = add(tmp_path, "lamp", manifest=MANIFEST.replace(right, wrong))
    with pytest.raises(ValidationError):
        load_manifest(file)


def test_a_connection_is_compared_with_the_manifest(tmp_path: Path) -> None:
    manifest = load_manifest(add(tmp_path, "lamp"))
    right = {"site": "https://lamp.example.com", "user": "zoe.dubois@example.com"}
    assert manifest.faults(right, ["token"]) == []
    assert manifest.effective(right) == {**right, "rooms": []}
    faults = manifest.faults({"siet": "https://lamp.example.com", "user": ["a"], "rooms": ["attic"]}, ["tokn"])
    assert faults == [
        "setting site is missing",
        "there is no setting siet, did you mean site?",
        "secret token is missing",
        "there is no secret tokn, did you mean token?",
        "setting user of lamp is not like its example 'jan.janssen@example.com'",
    ]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("access: dns\nauthentication: {kind: basic, user: user, secret: token}\naddress: site", "authenticated"),
        ("access: aws\nauthentication: {kind: nobody}\naddress: site", "authenticated"),
        ("access: dns\nauthentication: {kind: nobody}", "address"),
        ("authentication: {kind: nobody}", "address"),
        ("access: host\nauthentication: {kind: nobody}", "host"),
        ("access: network\nauthentication: {kind: nobody}\nhost: {folders: [site]}", "host"),
        ("access: carrier-pigeon\nauthentication: {kind: nobody}", "access"),
    ],
)
def test_access_and_authentication_fit(tmp_path: Path, wrong: str, why: str) -> None:
    file = tmp_path / "manifest.yaml"
    kept = [line for line in MANIFEST.format(name="lamp").splitlines() if not line.startswith(("address", "authent"))]
    file.write_text("\n".join([*kept, wrong]))
    with pytest.raises(ValidationError, match=why):
        load_manifest(file)


def test_what_a_connection_proves_itself_with_is_named(tmp_path: Path) -> None:
    file = tmp_path / "manifest.yaml"
    file.write_text(MANIFEST.format(name="lamp"))
    how = load_manifest(file).authentication
    assert [set(each) for each in (how.settings, how.secrets, how.made)] == [{"user"}, {"token"}, set()]
