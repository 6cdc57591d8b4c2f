"""Issues, people, comments and statuses as Jira Cloud's REST v3 writes them. Jira's routes and webhooks show these."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from regie_sandbox import seed
from regie_sandbox.tickets import STATUSES, Comment, Ticket, Transition
from regie_sandbox.world import World

ISSUE_TYPES = {"Service Request": "10010", "Task": "10011"}
PRIORITIES = {"Highest": "1", "High": "2", "Medium": "3", "Low": "4", "Lowest": "5"}
_PROJECT = {"id": "10000", "key": seed.PROJECT_KEY, "name": "IT Service Management"}
_CATEGORIES = {
    "new": {"id": 2, "key": "new", "colorName": "blue-gray", "name": "To Do"},
    "indeterminate": {"id": 4, "key": "indeterminate", "colorName": "yellow", "name": "In Progress"},
    "done": {"id": 3, "key": "done", "colorName": "green", "name": "Done"},
}

# id, name, the `schema` Jira describes it with
FIELDS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "summary": ("Summary", {"type": "string", "system": "summary"}),
    "description": ("Description", {"type": "string", "system": "description"}),
    "status": ("Status", {"type": "status", "system": "status"}),
    "issuetype": ("Issue Type", {"type": "issuetype", "system": "issuetype"}),
    "project": ("Project", {"type": "project", "system": "project"}),
    "priority": ("Priority", {"type": "priority", "system": "priority"}),
    "labels": ("Labels", {"type": "array", "items": "string", "system": "labels"}),
    "reporter": ("Reporter", {"type": "user", "system": "reporter"}),
    "creator": ("Creator", {"type": "user", "system": "creator"}),
    "assignee": ("Assignee", {"type": "user", "system": "assignee"}),
    "resolution": ("Resolution", {"type": "resolution", "system": "resolution"}),
    "resolutiondate": ("Resolved", {"type": "datetime", "system": "resolutiondate"}),
    "created": ("Created", {"type": "datetime", "system": "created"}),
    "updated": ("Updated", {"type": "datetime", "system": "updated"}),
    "comment": ("Comment", {"type": "comments-page", "system": "comment"}),
    seed.REQUEST_TYPE_FIELD: (
        "Request Type",
        {
            "type": "sd-customerrequesttype",
            "custom": "com.atlassian.servicedesk:vp-origin",
            "customId": 10010,
        },
    ),
    seed.EMPLOYEE_FIELD: (
        "Employee",
        {
            "type": "string",
            "custom": "com.atlassian.jira.plugin.system.customfieldtypes:textfield",
            "customId": 10101,
        },
    ),
    seed.LAST_DAY_FIELD: (
        "Last day",
        {
            "type": "date",
            "custom": "com.atlassian.jira.plugin.system.customfieldtypes:datepicker",
            "customId": 10102,
        },
    ),
}


def stamp(moment: datetime | None) -> str | None:
    """A point in time as Jira writes it: milliseconds and an offset without a colon."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}+0000" if moment else None


def accounts(world: World) -> dict[str, tuple[str, str, bool]]:
    """Everybody Jira knows: account id to address, display name and whether the account is active.

    An Atlassian account is not an Entra account: disabling the one leaves the other active.
    """
    known = {seed.account_id(each.upn): (each.upn, each.display_name, True) for each in world.people.values()}
    service = seed.JIRA_ACCOUNT
    return known | {seed.account_id(service.email): (service.email, service.display_name, True)}


class Shapes:
    """Writes records for one site; `site` is its root address, without a slash at the end."""

    def __init__(self, world: World, site: str) -> None:
        self._world = world
        self._api = f"{site}/rest/api/3"

    def user(self, account_id: str | None) -> dict[str, Any] | None:
        """A person as others see them, or None for nobody."""
        if account_id is None:
            return None
        email, name, active = accounts(self._world)[account_id]
        return {
            "self": f"{self._api}/user?accountId={account_id}",
            "accountId": account_id,
            "emailAddress": None if email in self._world.rules.jira_hidden_addresses else email,
            "avatarUrls": {},
            "displayName": name,
            "active": active,
            "timeZone": "Europe/Amsterdam",
            "accountType": "atlassian",
        }

    def status(self, name: str) -> dict[str, Any]:
        """A status with its category."""
        status = STATUSES[name]
        category = _CATEGORIES[status.category]
        return {
            "self": f"{self._api}/status/{status.id}",
            "description": "",
            "iconUrl": "",
            "name": status.name,
            "id": status.id,
            "statusCategory": {"self": f"{self._api}/statuscategory/{category['id']}", **category},
        }

    def transition(self, transition: Transition) -> dict[str, Any]:
        """One arrow of the workflow."""
        return {
            "id": transition.id,
            "name": transition.name,
            "to": self.status(transition.target),
            "hasScreen": False,
            "isGlobal": False,
            "isInitial": False,
            "isAvailable": True,
            "isConditional": False,
            "isLooped": False,
        }

    def comment(self, ticket: Ticket, comment: Comment) -> dict[str, Any]:
        """One comment."""
        author = self.user(comment.author)
        return {
            "self": f"{self._api}/issue/{ticket.id}/comment/{comment.id}",
            "id": comment.id,
            "author": author,
            "body": comment.body,
            "updateAuthor": author,
            "created": stamp(comment.created),
            "updated": stamp(comment.created),
            "jsdPublic": comment.public,
        }

    def field(self, name: str) -> dict[str, Any]:
        """One entry of the list of fields."""
        title, schema = FIELDS[name]
        is_custom = name.startswith("customfield_")
        return {
            "id": name,
            "key": name,
            "name": title,
            "custom": is_custom,
            "orderable": name not in {"created", "updated", "creator", "status"},
            "navigable": True,
            "searchable": True,
            "clauseNames": [f"cf[{name.partition('_')[2]}]", title] if is_custom else [name],
            "schema": schema,
        }

    def created(self, ticket: Ticket) -> dict[str, Any]:
        """What a create answers."""
        return {"id": ticket.id, "key": ticket.key, "self": f"{self._api}/issue/{ticket.id}"}

    def issue(self, ticket: Ticket, wanted: set[str] | None = None) -> dict[str, Any]:
        """An issue with the wanted fields, or with all of them."""
        writers = self._field_writers(ticket)
        names = [name for name in FIELDS if wanted is None or name in wanted]
        return {"expand": "names,schema", **self.created(ticket), "fields": {name: writers[name]() for name in names}}

    def _field_writers(self, ticket: Ticket) -> dict[str, Callable[[], Any]]:
        api, resolved = self._api, ticket.resolved
        return {
            "summary": lambda: ticket.summary,
            "description": lambda: ticket.description,
            "status": lambda: self.status(ticket.status),
            "issuetype": lambda: {
                "self": f"{api}/issuetype/{ISSUE_TYPES[ticket.issue_type]}",
                "id": ISSUE_TYPES[ticket.issue_type],
                "name": ticket.issue_type,
                "subtask": False,
            },
            "project": lambda: {
                "self": f"{api}/project/10000",
                **_PROJECT,
                "projectTypeKey": "service_desk",
                "simplified": False,
            },
            "priority": lambda: {"id": PRIORITIES[ticket.priority], "name": ticket.priority},
            "labels": lambda: list(ticket.labels),
            "reporter": lambda: self.user(ticket.reporter),
            "creator": lambda: self.user(ticket.creator),
            "assignee": lambda: self.user(ticket.assignee),
            "resolution": lambda: {"id": "10000", "name": ticket.status} if resolved else None,
            "resolutiondate": lambda: stamp(resolved),
            "created": lambda: stamp(ticket.created),
            "updated": lambda: stamp(ticket.updated),
            "comment": lambda: {
                "comments": [self.comment(ticket, each) for each in ticket.comments],
                "self": f"{api}/issue/{ticket.id}/comment",
                "maxResults": len(ticket.comments),
                "total": len(ticket.comments),
                "startAt": 0,
            },
            seed.REQUEST_TYPE_FIELD: lambda: self._request_type(ticket),
            seed.EMPLOYEE_FIELD: lambda: ticket.employee,
            seed.LAST_DAY_FIELD: lambda: ticket.last_day,
        }

    def _request_type(self, ticket: Ticket) -> dict[str, Any] | None:
        """The customer request type field as Jira Service Management fills it; empty on issues not from the portal."""
        if ticket.request_type is None:
            return None
        site = self._api.removesuffix("/rest/api/3")
        number = seed.request_type_id(ticket.request_type)
        return {
            "_links": {
                "jiraRest": f"{self._api}/issue/{ticket.id}",
                "web": f"{site}/servicedesk/customer/portal/1/{ticket.key}",
                "agent": f"{site}/browse/{ticket.key}",
                "self": f"{site}/rest/servicedeskapi/request/{ticket.id}",
            },
            "requestType": {
                "_expands": ["field"],
                "id": number,
                "_links": {"self": f"{site}/rest/servicedeskapi/servicedesk/1/requesttype/{number}"},
                "name": ticket.request_type,
                "description": "",
                "helpText": "",
                "issueTypeId": ISSUE_TYPES["Service Request"],
                "serviceDeskId": "1",
                "portalId": "1",
                "groupIds": ["1"],
            },
            "currentStatus": {
                "status": ticket.status,
                "statusCategory": STATUSES[ticket.status].category.upper(),
                "statusDate": {"iso8601": stamp(ticket.updated), "epochMillis": int(ticket.updated.timestamp() * 1000)},
            },
        }
