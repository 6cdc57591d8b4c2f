"""The seed world "example": an invented company, its directory, and every credential the world accepts.

The credentials are fixed and public on purpose, for nothing real hides behind them; `/sandbox/credentials` serves the
same values. Names, numbers and ids are invented; ids derive from names, so that they are the same in every life.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from regie_sandbox import chat
from regie_sandbox.people import Group, Person

TENANT_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
DOMAIN = "example.com"
PROJECT_KEY = "ITSM"
EMPLOYEE_FIELD = "customfield_10101"
LAST_DAY_FIELD = "customfield_10102"
REQUEST_TYPE_FIELD = "customfield_10010"
REQUEST_TYPES = {"Offboarding": "27", "Onboarding": "28", "Get IT help": "29"}
PAGED_PERSON = f"anna.visser@{DOMAIN}"
PAGED_GROUPS = 230


@dataclass(frozen=True)
class Registration:
    """An app registration with the application permissions an administrator consented to."""

    name: str
    client_id: str
    client_secret: str
    roles: tuple[str, ...]


@dataclass(frozen=True)
class ServiceAccount:
    """An Atlassian account that signs in with its e-mail address and an API token."""

    email: str
    api_token: str
    display_name: str


REGIE_APP = Registration(
    "Regie identity",
    "5f1d3c0e-8a44-4c7c-9f0b-2d6f7a1b9c35",
    "graph-secret-of-the-imaginary-world",
    (
        "AuditLog.Read.All",
        "GroupMember.ReadWrite.All",
        "User.EnableDisableAccount.All",
        "User.Read.All",
        "User.RevokeSessions.All",
    ),
)
READER_APP = Registration(
    "Directory reader",
    "91b0a7de-3f5e-4a53-8f52-5c1d2f0e6b77",
    "reader-secret-of-the-imaginary-world",
    ("User.Read.All",),
)
REGISTRATIONS = (REGIE_APP, READER_APP)
JIRA_ACCOUNT = ServiceAccount(f"regie@{DOMAIN}", "jira-token-of-the-imaginary-world", "Regie")


def object_id(kind: str, name: str) -> str:
    """The id of an invented thing: the same name always has the same id."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"https://{DOMAIN}/{kind}/{name}"))


def request_type_id(name: str) -> str:
    """The id of a request type of the desk: a number, as Jira Service Management writes it."""
    return REQUEST_TYPES.get(name) or str(1000 + uuid.UUID(object_id("request-types", name)).int % 9000)


def account_id(email: str) -> str:
    """The Atlassian account id that belongs to an address."""
    return "712020:" + object_id("atlassian", email.casefold())


# userPrincipalName without the domain, given name, surname, job title, department, manager, office
_STAFF = (
    ("sofia.almeida", "Sofia", "Almeida", "Managing Director", "Board", None, "Utrecht"),
    ("piet.devries", "Piet", "de Vries", "Head of Sales", "Sales", "sofia.almeida", "Utrecht"),
    ("mehmet.yildiz", "Mehmet", "Yıldız", "Head of Engineering", "Engineering", "sofia.almeida", "Rotterdam"),  # noqa: RUF001 - a Turkish name
    ("ingrid.larsen", "Ingrid", "Larsen", "Security Officer", "Security", "sofia.almeida", "Utrecht"),
    ("jan.janssen", "Jan", "Janssen", "Account Manager", "Sales", "piet.devries", "Utrecht"),
    ("zoe.dubois", "Zoë", "Dubois", "Account Manager", "Sales", "piet.devries", "Utrecht"),
    ("lukasz.nowak", "Łukasz", "Nowak", "Developer", "Engineering", "mehmet.yildiz", "Rotterdam"),
    ("soren.holm", "Søren", "Holm", "Developer", "Engineering", "mehmet.yildiz", "Rotterdam"),
    ("anna.visser", "Anna", "Visser", "Platform Engineer", "Engineering", "mehmet.yildiz", "Rotterdam"),
    ("nguyen.thao", "Thảo", "Nguyễn", "Office Manager", "Operations", "sofia.almeida", "Utrecht"),
    ("karel.novak", "Karel", "Novák", "Account Manager", "Sales", "piet.devries", None),
    ("elif.demir", "Elif", "Demir", "Service Desk Agent", "Operations", "nguyen.thao", "Utrecht"),
)
_LEFT_EARLIER = "karel.novak"
_SECURITY_OFFICER = "ingrid.larsen"

_ASSIGNED_GROUPS = {
    "Sales Team": ("piet.devries", "jan.janssen", "zoe.dubois"),
    "CRM Users": ("piet.devries", "jan.janssen", "zoe.dubois", "elif.demir"),
    "VPN Users": ("jan.janssen", "lukasz.nowak", "soren.holm", "anna.visser"),
    "Engineering": ("mehmet.yildiz", "lukasz.nowak", "soren.holm", "anna.visser"),
    "Service Desk": ("nguyen.thao", "elif.demir"),
}
_DYNAMIC_GROUP = ("All of Engineering", ("mehmet.yildiz", "lukasz.nowak", "soren.holm", "anna.visser"))
_ROLE_GROUP = ("Tier 0 Administrators", ("ingrid.larsen",))


def _upn(local_part: str) -> str:
    return f"{local_part}@{DOMAIN}"


def person_id(upn: str) -> str:
    """The directory's object id of a seeded person."""
    return object_id("people", upn)


def _members(local_parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(person_id(_upn(each)) for each in local_parts)


def example(now: datetime) -> Iterator[Person | Group]:
    """The people and groups of the example company; everybody at work signed in within the last hours before `now`."""
    joined = datetime(2024, 1, 8, 9, 0, tzinfo=UTC)
    for number, (name, given, surname, title, department, manager, office) in enumerate(_STAFF):
        has_left = name == _LEFT_EARLIER
        yield Person(
            id=person_id(_upn(name)),
            upn=_upn(name),
            display_name=f"{given} {surname}",
            given_name=given,
            surname=surname,
            job_title=title,
            department=department,
            manager_id=person_id(_upn(manager)) if manager else None,
            office_location=office,
            mobile_phone=f"+31 6 555 01{number:02d}",
            account_enabled=not has_left,
            directory_roles=("Global Administrator",) if name == _SECURITY_OFFICER else (),
            created=joined + timedelta(days=number),
            sessions_valid_from=now - timedelta(days=30) if has_left else joined + timedelta(days=number),
            last_sign_in=now - (timedelta(days=31) if has_left else timedelta(hours=1, minutes=number)),
        )
    yield from _groups()


def _groups() -> Iterator[Group]:
    for name, members in _ASSIGNED_GROUPS.items():
        nickname = name.lower().replace(" ", "-")
        yield Group(
            id=object_id("groups", name),
            display_name=name,
            description=f"Assigned by hand: {name}",
            mail_nickname=nickname,
            unified=name == "Sales Team",
            members=_members(members),
        )
    name, members = _DYNAMIC_GROUP
    yield Group(
        id=object_id("groups", name),
        display_name=name,
        description="Everybody whose department is Engineering",
        mail_nickname="all-engineering",
        membership_rule='(user.department -eq "Engineering")',
        members=_members(members),
    )
    name, members = _ROLE_GROUP
    yield Group(
        id=object_id("groups", name),
        display_name=name,
        description="May hold directory roles",
        mail_nickname="tier-0",
        role_assignable=True,
        members=_members(members),
    )
    for number in range(1, PAGED_GROUPS + 1):
        name = f"Repository {number:03d}"
        yield Group(
            id=object_id("groups", name),
            display_name=name,
            description="Access to one repository",
            mail_nickname=f"repository-{number:03d}",
            members=(person_id(PAGED_PERSON),),
        )


def credentials() -> dict[str, Any]:
    """Everything a client needs to sign in, as `/sandbox/credentials` serves it."""
    return {
        "jira": {
            "email": JIRA_ACCOUNT.email,
            "api_token": JIRA_ACCOUNT.api_token,
            "project": PROJECT_KEY,
            "fields": {"employee": EMPLOYEE_FIELD, "last_day": LAST_DAY_FIELD, "request_type": REQUEST_TYPE_FIELD},
        },
        "graph": {
            "tenant_id": TENANT_ID,
            "client_id": REGIE_APP.client_id,
            "client_secret": REGIE_APP.client_secret,
            "roles": list(REGIE_APP.roles),
        },
        "graph_reader": {
            "tenant_id": TENANT_ID,
            "client_id": READER_APP.client_id,
            "client_secret": READER_APP.client_secret,
            "roles": list(READER_APP.roles),
        },
        "slack": {
            "workspace": chat.TEAM,
            "app": chat.REGIE_APP.id,
            "bot_token": chat.REGIE_APP.bot_token,
            "signing_secret": chat.REGIE_APP.signing_secret,
            "channels": {each.name: each.id for each in chat.CHANNELS},
        },
    }
