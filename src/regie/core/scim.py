"""Users and groups as a provisioning service tells them: SCIM 2.0 (RFC 7643, RFC 7644). Pure; the web speaks it.

Kept are the attributes that Regie has a use for; others of the standard are read and let go. Names of attributes and
operations are compared without case. What services send beside the standard is taken where it is plain what they mean:
`"False"` for false (Entra ID), an operation without a path (Okta), a name with dots as a key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from regie.core.errors import InvalidInput

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
LONGEST = 500
MOST_MEMBERS = 10_000
MOST_OPERATIONS = 1_000
LET_GO = frozenset(
    [
        "schemas",
        "id",
        "meta",
        "groups",
        "nickname",
        "profileurl",
        "title",
        "usertype",
        "preferredlanguage",
        "locale",
        "timezone",
        "password",
        "phonenumbers",
        "ims",
        "photos",
        "addresses",
        "entitlements",
        "roles",
        "x509certificates",
        "employeenumber",
        "costcenter",
        "organization",
        "division",
        "department",
        "manager",
    ]
)
"""Attributes of RFC 7643, 4 that are read and not kept; passwords above all."""
_FILTER = re.compile(r'\s*(?P<name>[\w:.$-]+)\s+eq\s+"(?P<value>(?:[^"\\]|\\["\\/])*)"\s*', re.IGNORECASE)
_PATH = re.compile(
    r'(?P<name>[a-z0-9$]+)(\[\s*(?P<key>\w+)\s+eq\s+"(?P<value>[^"]*)"\s*\])?(\.(?P<sub>\w+))?', re.IGNORECASE
)

_KIND_OF_EMAIL = re.compile(r'\btype\s+eq\s+"([^"]*)"', re.IGNORECASE)
_NO_TEXT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""What is in no name: control characters, and halves of characters, which nothing can store."""

ScimType = Literal[
    "invalidFilter", "invalidPath", "invalidValue", "invalidSyntax", "noTarget", "uniqueness", "mutability"
]


class ScimFault(InvalidInput):
    """A request that cannot be done; `scim_type` says in the standard's word why (RFC 7644, 3.12)."""

    def __init__(self, scim_type: ScimType, message: str) -> None:
        super().__init__(message)
        self.scim_type = scim_type


class User(BaseModel):
    """What is kept of a user, under the standard's names but in our spelling.

    Attributes:
        address: The e-mail address: the primary one, else the one for work, else the first, else `userName`.
    """

    model_config = ConfigDict(frozen=True)

    user_name: str
    external_id: str = ""
    display_name: str = ""
    given_name: str = ""
    family_name: str = ""
    formatted_name: str = ""
    address: str = ""
    active: bool = True

    @property
    def called(self) -> str:
        """How pages call them."""
        whole = " ".join(filter(None, (self.given_name, self.family_name)))
        return self.display_name or self.formatted_name or whole or self.user_name


class Group(BaseModel):
    """What is kept of a group; members are ids of users."""

    model_config = ConfigDict(frozen=True)

    display_name: str
    external_id: str = ""
    members: frozenset[str] = frozenset()


_USER_FIELDS = {
    "username": "user_name",
    "externalid": "external_id",
    "displayname": "display_name",
    "name.givenname": "given_name",
    "name.familyname": "family_name",
    "name.formatted": "formatted_name",
    "active": "active",
}
_NAME_PARTS = frozenset({"givenname", "familyname", "formatted"})
FILTERED = {"username": "user_name", "externalid": "external_id", "id": "id", "displayname": "display_name"}
"""What lists can be filtered by."""


def read_filter(text: str) -> tuple[str, str]:
    """Which attribute must have which value.

    Raises:
        ScimFault: It is another filter than `ATTRIBUTE eq "VALUE"`, or an attribute that is not searched by.
    """
    found = _FILTER.fullmatch(text)
    name = _short(found["name"]) if found else ""
    if not found or name not in FILTERED or _NO_TEXT.search(text):
        raise ScimFault("invalidFilter", 'Filters are userName, externalId, id or displayName eq "VALUE".')
    return FILTERED[name], re.sub(r"\\(.)", r"\1", found["value"])


def read_user(body: Mapping[str, Any]) -> User:
    """A whole user (POST, PUT).

    Raises:
        ScimFault: A value cannot be used.
    """
    return _checked(_with_user_values(User(user_name=""), body))


def read_group(body: Mapping[str, Any]) -> Group:
    """A whole group (POST, PUT).

    Raises:
        ScimFault: A value cannot be used.
    """
    group = Group(display_name="")
    for key, value in body.items():
        group = _changed_group(group, "replace", key, value)
    return _named(group)


def patch_user(user: User, body: Mapping[str, Any]) -> User:
    """A user after the operations of a PATCH, all of them or none (RFC 7644, 3.5.2).

    Raises:
        ScimFault: An operation cannot be done.
    """
    for op, path, value in _operations(body):
        if not path:
            user = _with_user_values(user, _object(value))
        else:
            user = _with_user_value(user, path, "" if op == "remove" else value, is_removed=op == "remove")
    return _checked(user)


def patch_group(group: Group, body: Mapping[str, Any]) -> Group:
    """A group after the operations of a PATCH, all of them or none.

    Raises:
        ScimFault: An operation cannot be done.
    """
    for op, path, value in _operations(body):
        if not path:
            for key, each in _object(value).items():
                group = _changed_group(group, op, key, each)
        else:
            group = _changed_group(group, op, path, value)
    return _named(group)


def _operations(body: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    given = next((value for key, value in body.items() if key.lower() == "operations"), None)
    if not isinstance(given, list) or not 0 < len(given) <= MOST_OPERATIONS:
        raise ScimFault("invalidSyntax", f"A PATCH has 1 to {MOST_OPERATIONS} Operations.")
    found = []
    for each in given:
        operation = {key.lower(): value for key, value in _object(each).items()}
        op, path = str(operation.get("op", "")).lower(), operation.get("path") or ""
        if op not in {"add", "replace", "remove"} or not isinstance(path, str):
            raise ScimFault("invalidSyntax", "An operation is add, replace or remove, with a path that is text.")
        if op == "remove" and not path:
            raise ScimFault("noTarget", "A remove says by its path what is removed.")
        if op != "remove" and "value" not in operation:
            raise ScimFault("invalidValue", f"An {op} needs a value.")
        found.append((op, path, operation.get("value")))
    return found


def _with_user_values(user: User, given: Mapping[str, Any]) -> User:
    for key, value in given.items():
        user = _with_user_value(user, key, value)
    return user


def _with_user_value(user: User, path: str, value: Any, *, is_removed: bool = False) -> User:
    name = _short(path)
    if _is_let_go(name, path):
        return user
    if name in _USER_FIELDS:
        field = _USER_FIELDS[name]
        if is_removed:
            return user.model_copy(update={field: True if field == "active" else ""})
        return user.model_copy(update={field: _truth(value) if field == "active" else _text(path, value)})
    if name == "name":
        parts = {} if is_removed else {key.lower(): each for key, each in _object(value).items()}
        for part in _NAME_PARTS & (set(parts) if not is_removed else _NAME_PARTS):
            user = _with_user_value(user, f"name.{part}", parts.get(part) or "")
        return user
    if name.partition("[")[0].partition(".")[0] == "emails":
        return user.model_copy(update={"address": "" if is_removed else _address(path, value)})
    if name.startswith("name."):
        return user
    raise ScimFault("invalidPath", f"There is no attribute {path[:60]!r}.")


def _is_let_go(name: str, path: str) -> bool:
    """What is not kept; and any other address of theirs than the one for work, which they are known by."""
    kind = _KIND_OF_EMAIL.search(path)
    return (
        name.partition(".")[0].partition("[")[0] in LET_GO
        or path.lower().startswith(ENTERPRISE.lower())
        or (kind is not None and kind[1].lower() != "work")
    )


def _address(path: str, value: Any) -> str:
    """The address that counts: of a list, or the one that a path such as `emails[type eq "work"].value` means."""
    if isinstance(value, str):
        return _text(path, value)
    given = [_object(each) for each in (value if isinstance(value, list) else [value])]
    ranked = sorted(
        ({key.lower(): part for key, part in each.items()} for each in given),
        key=lambda each: (not _truth(each.get("primary") or False), str(each.get("type", "")).lower() != "work"),
    )
    return _text(path, ranked[0].get("value") or "") if ranked else ""


def _changed_group(group: Group, op: str, path: str, value: Any) -> Group:
    found = _PATH.fullmatch(_short(path))
    name = found["name"] if found else ""
    if name in {"displayname", "externalid"}:
        field = "display_name" if name == "displayname" else "external_id"
        return group.model_copy(update={field: "" if op == "remove" else _text(path, value)})
    if name == "members" and found:
        chosen = frozenset({_text("members", found["value"])} if found["value"] is not None else _ids(value))
        kept = group.members
        if op == "add":
            kept |= chosen
        elif op == "replace":
            kept = chosen
        else:
            kept = kept - chosen if chosen or value else frozenset()
        if len(kept) > MOST_MEMBERS:
            raise ScimFault("invalidValue", f"A group has at most {MOST_MEMBERS} members.")
        return group.model_copy(update={"members": kept})
    if name in LET_GO or _short(path).startswith("urn:"):
        return group
    raise ScimFault("invalidPath", f"There is no attribute {path[:60]!r}.")


def _ids(value: Any) -> set[str]:
    given = value if isinstance(value, list) else [] if value is None else [value]
    return {_text("members", _object(each).get("value", "")) for each in given}


def _short(path: str) -> str:
    """The name of an attribute in lower case without the schema that it is of."""
    plain = path.strip()
    for schema in (USER, GROUP):
        if plain.lower().startswith(schema.lower() + ":"):
            plain = plain[len(schema) + 1 :]
    name, bracket, rest = plain.partition("[")
    # What is compared with keeps its case.
    return name.lower() + bracket + rest


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ScimFault("invalidValue", "An object was expected.")
    return value


def _text(path: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > LONGEST or _NO_TEXT.search(value):
        raise ScimFault("invalidValue", f"{path[:60]!r} must be text of at most {LONGEST} characters.")
    return value.strip()


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise ScimFault("invalidValue", "active and primary are true or false.")


def _checked(user: User) -> User:
    if not user.user_name:
        raise ScimFault("invalidValue", "A user has a userName.")
    address = (user.address or user.user_name).casefold()
    name, at, host = address.partition("@")
    if not (name and at and host) or any(letter.isspace() for letter in address) or len(address) > 254:
        raise ScimFault("invalidValue", "A user has an e-mail address: in emails, or as userName.")
    return user


def _named(group: Group) -> Group:
    if not group.display_name:
        raise ScimFault("invalidValue", "A group has a displayName.")
    return group


def address_of(user: User) -> str:
    """Under which address somebody is known here."""
    return (user.address or user.user_name).casefold()


def page_of(start: int, count: int, most: int) -> tuple[int, int]:
    """From where and how many a list goes, as the standard reads such numbers (RFC 7644, 3.4.2.4): offset and limit."""
    return max(start, 1) - 1, min(max(count, 0), most)


def shown(document: Mapping[str, Any], attributes: Sequence[str], excluded: Sequence[str]) -> dict[str, Any]:
    """A resource with the attributes that were asked for (RFC 7644, 3.9); `id` and `schemas` always go along."""
    wanted = {_short(name).partition(".")[0] for name in attributes}
    unwanted = {_short(name).partition(".")[0] for name in excluded}
    always = {"id", "schemas"}
    return {
        key: value
        for key, value in document.items()
        if key.lower() in always or (key.lower() not in unwanted and (not wanted or key.lower() in wanted))
    }
