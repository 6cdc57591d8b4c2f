"""What provisioning services send: examples of RFC 7643 and 7644, what Entra ID and Okta make of them, and rubbish."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regie.core import scim
from regie.core.scim import (
    Group,
    ScimFault,
    User,
    address_of,
    patch_group,
    patch_user,
    read_filter,
    read_group,
    read_user,
)

BARBARA = {
    "schemas": [scim.USER, scim.ENTERPRISE],
    "userName": "bjensen@example.com",
    "externalId": "701984",
    "name": {
        "formatted": "Ms. Barbara J Jensen, III",
        "familyName": "Jensen",
        "givenName": "Barbara",
        "middleName": "Jane",
    },
    "displayName": "Babs Jensen",
    "emails": [
        {"value": "babs@jensen.example.org", "type": "home"},
        {"value": "bjensen@example.com", "type": "work", "primary": True},
    ],
    "addresses": [{"type": "work", "locality": "Hollywood", "primary": True}],
    "phoneNumbers": [{"value": "555-555-5555", "type": "work"}],
    "userType": "Employee",
    "active": True,
    "password": "t1meMa$heen",
    scim.ENTERPRISE: {"employeeNumber": "701984", "manager": {"value": "26118915", "displayName": "John Smith"}},
}
"""The full representation of RFC 7643, 8.2 and 8.3, shortened."""


HOME, WORK = {"value": "h@x.org"}, {"value": "w@x.org"}


def patch(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [scim.PATCH], "Operations": list(operations)}


def test_the_standards_user_is_read_and_its_password_let_go() -> None:
    user = read_user(BARBARA)
    assert user == User(
        user_name="bjensen@example.com",
        external_id="701984",
        display_name="Babs Jensen",
        given_name="Barbara",
        family_name="Jensen",
        formatted_name="Ms. Barbara J Jensen, III",
        address="bjensen@example.com",
    )
    assert "t1meMa$heen" not in repr(user)


@pytest.mark.parametrize(
    ("operation", "changed"),
    [
        # RFC 7644, 3.5.2
        ({"op": "replace", "path": "displayName", "value": "Zoë"}, {"display_name": "Zoë"}),
        ({"op": "remove", "path": "displayName"}, {"display_name": ""}),
        ({"op": "replace", "value": {"displayName": "Zoë", "active": False}}, {"display_name": "Zoë", "active": False}),
        ({"op": "add", "path": "name.familyName", "value": "Ünal"}, {"family_name": "Ünal"}),
        ({"op": "add", "path": "name", "value": {"givenName": "王"}}, {"given_name": "王"}),
        # Entra ID: capitals, booleans as text, dotted keys, addresses by a filter in the path, an extension
        ({"op": "Replace", "path": "active", "value": "False"}, {"active": False}),
        ({"op": "Add", "value": {"name.givenName": "Zoë"}}, {"given_name": "Zoë"}),
        ({"op": "Replace", "path": 'emails[type eq "work"].value', "value": "z@x.org"}, {"address": "z@x.org"}),
        # Another one of theirs is not the one that they are known by.
        ({"op": "Replace", "path": 'emails[type eq "home"].value', "value": "h@x.org"}, {}),
        ({"op": "Remove", "path": 'emails[type eq "home"]'}, {}),
        ({"op": "Add", "path": f"{scim.ENTERPRISE}:department", "value": "SOC"}, {}),
        ({"op": "Replace", "path": f"{scim.USER}:userName", "value": "b@x.org"}, {"user_name": "b@x.org"}),
        ({"op": "Add", "path": "title", "value": "Analyst"}, {}),
        # Okta: no path, an id along with it
        ({"op": "replace", "value": {"id": "1", "active": False}}, {"active": False}),
        # the primary one, else the one for work, else the first
        ({"op": "replace", "path": "emails", "value": [HOME, {**WORK, "type": "work"}]}, {"address": "w@x.org"}),
        ({"op": "replace", "path": "emails", "value": [HOME, {**WORK, "primary": "True"}]}, {"address": "w@x.org"}),
        ({"op": "replace", "path": "emails", "value": [HOME, WORK]}, {"address": "h@x.org"}),
    ],
)  # fmt: skip
def test_operations_on_a_user(operation: dict[str, Any], changed: dict[str, Any]) -> None:
    before = read_user(BARBARA)
    assert patch_user(before, patch(operation)) == before.model_copy(update=changed)


@pytest.mark.parametrize(
    ("operation", "scim_type"),
    [
        ({"op": "move", "path": "displayName", "value": "x"}, "invalidSyntax"),
        ({"op": "remove"}, "noTarget"),
        ({"op": "replace", "path": "shoeSize", "value": "42"}, "invalidPath"),
        ({"op": "replace", "path": "active", "value": "maybe"}, "invalidValue"),
        ({"op": "replace", "path": "displayName", "value": 3}, "invalidValue"),
        ({"op": "replace", "path": "displayName", "value": "x" * 501}, "invalidValue"),
        ({"op": "replace", "path": "displayName", "value": "half \ud800"}, "invalidValue"),
        ({"op": "replace", "path": "displayName"}, "invalidValue"),
        ({"op": "remove", "path": "userName"}, "invalidValue"),
        ({"op": "replace", "value": "x"}, "invalidValue"),
    ],
)
def test_operations_that_cannot_be(operation: dict[str, Any], scim_type: str) -> None:
    with pytest.raises(ScimFault) as caught:
        patch_user(read_user(BARBARA), patch(operation))
    assert caught.value.scim_type == scim_type


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ({"op": "add", "path": "members", "value": [{"display": "Babs", "value": "c"}]}, "abc"),
        ({"op": "Add", "path": "members", "value": [{"value": "a"}, {"value": "c"}]}, "abc"),
        ({"op": "remove", "path": "members"}, ""),
        ({"op": "remove", "path": 'members[value eq "a"]'}, "b"),
        ({"op": "Remove", "path": "members", "value": [{"value": "a"}, {"value": "z"}]}, "b"),
        ({"op": "replace", "path": "members", "value": [{"value": "z"}]}, "z"),
        ({"op": "replace", "path": "members", "value": []}, ""),
        ({"op": "replace", "value": {"id": "1", "displayName": "SOC"}}, "ab"),
    ],
)
def test_operations_on_a_group(operation: dict[str, Any], members: str) -> None:
    before = Group(display_name="SOC", members=frozenset("ab"))
    assert patch_group(before, patch(operation)).members == frozenset(members)


def test_a_member_is_named_by_text() -> None:
    for op in ("add", "remove"):
        operation = {"op": op, "path": 'members[value eq "\ud800"]', "value": [{"value": "a"}]}
        with pytest.raises(ScimFault) as caught:
            patch_group(Group(display_name="SOC"), patch(operation))
        assert caught.value.scim_type == "invalidValue"


def test_filters() -> None:
    assert read_filter('userName eq "bjensen@example.com"') == ("user_name", "bjensen@example.com")
    assert read_filter(f'{scim.USER}:userName Eq "x"') == ("user_name", "x")
    assert read_filter('externalId eq "a \\"b\\" \\\\"') == ("external_id", 'a "b" \\')
    for wrong in (
        "userName",
        'userName sw "x"',
        'userName eq "x" and active eq true',
        'title eq "x"',
        'id eq "a"b"',
        'id eq "\0"',
    ):
        with pytest.raises(ScimFault) as caught:
            read_filter(wrong)
        assert caught.value.scim_type == "invalidFilter"


def test_a_user_needs_a_name_and_an_address() -> None:
    assert address_of(read_user({"USERNAME": "Zoë@Example.com"})) == "zoë@example.com"
    for wrong in ({}, {"userName": "zoe"}, {"userName": "z", "emails": [{"value": "not one"}]}, {"userName": "a b@c"}):
        with pytest.raises(ScimFault):
            read_user(wrong)
    with pytest.raises(ScimFault):
        read_group({"externalId": "x"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["op", "path", "value", "Operations", "emails", "members", "name", "active", "userName", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
PATHS = st.sampled_from(
    [
        "members",
        'members[value eq "a"]',
        'members[value eq "\ud800"]',
        "emails",
        "name",
        "active",
        "",
        "urn:x:y",
        "[",
        "a.b.c",
    ]
)


@given(
    st.dictionaries(st.text(max_size=6), JSON, max_size=4), st.sampled_from(["add", "remove", "REPLACE"]), PATHS, JSON
)
def test_whatever_comes_is_taken_or_refused(body: dict[str, Any], op: str, path: str, value: Any) -> None:
    operations = patch({"op": op, "path": path, "value": value})
    group, user = Group(display_name="x"), read_user(BARBARA)
    for attempt in (
        lambda: read_user(body),
        lambda: read_group(body),
        lambda: patch_user(user, operations),
        lambda: patch_group(group, operations),
        lambda: patch_user(user, body),
    ):
        with suppress(ScimFault):
            attempt()
