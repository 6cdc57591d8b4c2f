"""Deploy targets as a connection names them."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from regie.core.capability import Record
from regie.core.errors import Denied, NotFound, Refused
from regie.kit.targets import entry_of, refuse_other_names


class Door(Record):
    port: int


@pytest.mark.parametrize("targets", [{}, {"other": {"port": 1}}, None, ["shop"]])
def test_a_target_that_is_not_there_is_told_with_those_that_are(targets: JsonValue) -> None:
    with pytest.raises(NotFound, match="no target 'shop'") as caught:
        entry_of({"targets": targets}, "shop", Door, "{ port: NUMBER }")
    assert caught.value.hint == f"Its targets: {'other' if isinstance(targets, dict) and targets else 'none'}"


@pytest.mark.parametrize("entry", [{}, {"port": "x"}, {"port": 1, "prot": 2}, "1", None])
def test_an_entry_that_cannot_be_used_is_told_with_how_it_is_written(entry: JsonValue) -> None:
    with pytest.raises(Denied) as caught:
        entry_of({"targets": {"shop": entry}}, "shop", Door, "{ port: NUMBER }")
    assert caught.value.hint == "Write { port: NUMBER }."


@pytest.mark.parametrize(
    ("names", "server_name"),
    [
        (["shop.example"], "SHOP.example."),
        (["xn--bcher-kva.example"], "bücher.example"),
        (["*.shop.example"], "www.shop.example"),
        (["shop.example"], ""),
        ([], "shop.example"),
    ],
)
def test_a_certificate_for_the_targets_name_is_taken(names: list[str], server_name: str) -> None:
    refuse_other_names("1a", names, server_name, "shop")


@pytest.mark.parametrize("names", [["other.example"], ["*.shop.example"], ["*.example"]])
def test_a_certificate_for_another_name_is_refused(names: list[str]) -> None:
    with pytest.raises(Refused, match="1a is not for shop") as caught:
        refuse_other_names("1a", names, "shop.example", "shop")
    assert caught.value.code == "wrong-names"
