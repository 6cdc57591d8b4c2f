"""Directory objects as Graph writes them, and the OData query options the imitation understands."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from regie_sandbox.people import Group, Person
from regie_sandbox.refusals import graph
from regie_sandbox.seed import object_id

# learn.microsoft.com/graph/api/user-get: what comes back without $select.
USER_DEFAULTS = (
    "businessPhones",
    "displayName",
    "givenName",
    "id",
    "jobTitle",
    "mail",
    "mobilePhone",
    "officeLocation",
    "preferredLanguage",
    "surname",
    "userPrincipalName",
)
SIGN_IN_ACTIVITY = "signInActivity"
MAX_PAGE = 999
DEFAULT_PAGE = 100


def stamp(moment: datetime | None) -> str | None:
    """A point in time as Graph writes it: UTC, whole seconds, a Z at the end."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


_USER_PROPERTIES: dict[str, Callable[[Person, datetime], Any]] = {
    "accountEnabled": lambda person, _: person.account_enabled,
    "businessPhones": lambda *_: [],
    "companyName": lambda *_: "Example Company",
    "createdDateTime": lambda person, _: stamp(person.created),
    "department": lambda person, _: person.department,
    "displayName": lambda person, _: person.display_name,
    "employeeId": lambda *_: None,
    "givenName": lambda person, _: person.given_name,
    "id": lambda person, _: person.id,
    "jobTitle": lambda person, _: person.job_title,
    "mail": lambda person, _: person.upn,
    "mobilePhone": lambda person, _: person.mobile_phone,
    "officeLocation": lambda person, _: person.office_location,
    "onPremisesSyncEnabled": lambda *_: None,
    "preferredLanguage": lambda *_: None,
    "surname": lambda person, _: person.surname,
    "usageLocation": lambda person, _: person.usage_location,
    "userPrincipalName": lambda person, _: person.upn,
    "userType": lambda *_: "Member",
    "signInSessionsValidFromDateTime": lambda person, now: stamp(person.sessions_valid_from_at(now)),
    SIGN_IN_ACTIVITY: lambda person, _: {
        "lastSignInDateTime": stamp(person.last_sign_in),
        "lastSignInRequestId": object_id("sign-in", person.upn),
        "lastNonInteractiveSignInDateTime": stamp(person.last_sign_in),
        "lastSuccessfulSignInDateTime": stamp(person.last_sign_in),
    },
}

_GROUP_PROPERTIES: dict[str, Callable[[Group], Any]] = {
    "id": lambda group: group.id,
    "createdDateTime": lambda _: "2024-01-08T09:00:00Z",
    "description": lambda group: group.description,
    "displayName": lambda group: group.display_name,
    "groupTypes": lambda group: (
        ["Unified"] * group.unified + ["DynamicMembership"] * (group.membership_rule is not None)
    ),
    "isAssignableToRole": lambda group: group.role_assignable or None,
    "mail": lambda group: f"{group.mail_nickname}@example.com" if group.unified else None,
    "mailEnabled": lambda group: group.unified,
    "mailNickname": lambda group: group.mail_nickname,
    "membershipRule": lambda group: group.membership_rule,
    "onPremisesSyncEnabled": lambda _: None,
    "securityEnabled": lambda group: not group.unified,
    "visibility": lambda _: None,
}


def options(query: Mapping[str, str], allowed: set[str]) -> dict[str, str]:
    """The OData options of a request, without their dollar sign.

    Raises:
        Refused: 400 for an option this endpoint does not have.
    """
    found = {name.removeprefix("$"): value for name, value in query.items()}
    unknown = sorted(found.keys() - allowed)
    if unknown:
        raise graph(400, "BadRequest", f"The query parameter '{unknown[0]}' is not supported.")
    return found


def selected(text: str | None, known: set[str], kind: str) -> list[str] | None:
    """The properties `$select` names, or None without one.

    Raises:
        Refused: 400 for a property the type does not have.
    """
    if text is None:
        return None
    by_name = {each.casefold(): each for each in known}
    names = []
    for name in (each.strip() for each in text.split(",")):
        if name.casefold() not in by_name:
            message = (
                "Parsing OData Select and Expand failed: Could not find a property named "
                f"'{name}' on type 'microsoft.graph.{kind}'."
            )
            raise graph(400, "BadRequest", message)
        names.append(by_name[name.casefold()])
    return names


def user_selection(text: str | None) -> list[str] | None:
    """The user properties `$select` names."""
    return selected(text, set(_USER_PROPERTIES), "user")


def group_selection(text: str | None) -> list[str] | None:
    """The group properties `$select` names."""
    return selected(text, set(_GROUP_PROPERTIES), "group")


def user(person: Person, names: list[str] | None, now: datetime) -> dict[str, Any]:
    """A person with the named properties, or with Graph's default ones."""
    return {name: _USER_PROPERTIES[name](person, now) for name in names or USER_DEFAULTS}


def group(subject: Group, names: list[str] | None) -> dict[str, Any]:
    """A group with the named properties, or with all of them."""
    return {name: _GROUP_PROPERTIES[name](subject) for name in names or _GROUP_PROPERTIES}


def directory_role(name: str, names: list[str] | None) -> dict[str, Any]:
    """A directory role; a selected property that roles lack is left out."""
    role = {
        "id": object_id("roles", name),
        "description": f"Directory role {name}",
        "displayName": name,
        "roleTemplateId": object_id("role-templates", name),
    }
    return {each: role[each] for each in names or role if each in role}


def page_size(text: str | None) -> int:
    """The number of entries `$top` asks for.

    Raises:
        Refused: 400 for anything but 1 to 999.
    """
    if text is None:
        return DEFAULT_PAGE
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_PAGE:
        raise graph(400, "Request_BadRequest", f"Invalid page size specified: '{text}'. Must be between 1 and 999.")
    return int(text)
