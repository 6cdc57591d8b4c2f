"""The bill of materials: everything that is installed, under licences that the product can have, the same each time."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from sbom import licences
from sbom.__main__ import PINNED, ROOT, bill
from sbom.licences import Unknown, declared, is_spdx, licence_of, may_be_used

LOCKED = (ROOT / "requirements.lock").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def listed() -> dict[str, Any]:
    found: dict[str, Any] = {each["purl"]: each for each in json.loads(bill())["components"]}
    return found


def test_every_package_of_the_locks_is_listed_with_its_digests(listed: dict[str, Any]) -> None:
    pins = set(re.findall(r"^([\w.-]+)==([\w.+!-]+)", LOCKED, re.MULTILINE))
    assert len(pins) > 60
    assert {(name, version) for name, version, _ in PINNED.findall(LOCKED)} == pins
    assert {f"pkg:pypi/{name}@{version}" for name, version in pins} <= listed.keys()
    assert sum(purl.startswith("pkg:npm/htmx") for purl in listed) == 2
    digests = [each["hashes"] for part in listed.values() for each in part["externalReferences"]]
    assert sum(map(len, digests)) == LOCKED.count("--hash=sha256:") + 2
    assert all(digests)


def test_nothing_is_under_a_licence_that_the_product_cannot_have(listed: dict[str, Any]) -> None:
    said = {purl: _licence(each) for purl, each in listed.items()}
    assert [purl for purl, licence in said.items() if not is_spdx(licence)] == []
    assert [purl for purl, licence in said.items() if not may_be_used(licence)] == []


def _licence(component: dict[str, Any]) -> str:
    [one] = component["licenses"]
    return str(one.get("expression") or one["license"]["id"])


@pytest.mark.parametrize(
    ("expression", "is_allowed"),
    [
        ("MIT", True),
        ("LGPL-3.0-only", True),
        ("EPL-2.0 OR GPL-2.0-or-later", True),
        ("GPL-2.0-or-later", False),
        ("GPL-3.0-only AND MIT", False),
        ("MIT AND (Apache-2.0 OR AGPL-3.0-only)", True),
        ("(MIT AND AGPL-3.0-only) OR GPL-2.0-only", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("BUSL-1.1", False),
        ("SSPL-1.0", False),
    ],
)
def test_one_may_choose_where_there_is_a_choice(expression: str, is_allowed: bool) -> None:  # noqa: FBT001  a column
    assert may_be_used(expression) is is_allowed


def test_what_somebody_has_read_is_needed_and_known() -> None:
    pinned = {name for name, *_ in PINNED.findall(LOCKED)}
    assert licences.READ.keys() <= pinned
    assert [name for name in licences.READ if declared(name)] == [], "it says so itself by now"
    assert all(is_spdx(licence) for licence in licences.READ.values())


def test_a_package_whose_licence_nobody_knows_stops_it() -> None:
    with pytest.raises(Unknown, match="read its licence"):
        licence_of("a-package-that-is-not-there")


def test_the_same_locks_give_the_same_bytes() -> None:
    assert bill() == bill()
    assert "timestamp" not in bill()
