"""What Jira accepts in `fields` and in documents, for create, edit and comment; refuses the rest field by field."""

from collections.abc import Callable
from datetime import date
from typing import Any

from regie_sandbox import seed
from regie_sandbox.jira_requests import invalid_payload
from regie_sandbox.jira_shapes import ISSUE_TYPES, PRIORITIES, accounts
from regie_sandbox.refusals import jira
from regie_sandbox.world import World

NOT_A_DOCUMENT = "Operation value must be an Atlassian Document (see the Atlassian Document Format)"
NOT_A_STRING = "Operation value must be a string"
_UNKNOWN = "Field '{}' cannot be set. It is not on the appropriate screen, or unknown."
# developer.atlassian.com/cloud/jira/platform/apis/document/structure: what may stand directly in a document.
_BLOCK_NODES = {
    "blockquote",
    "bulletList",
    "codeBlock",
    "expand",
    "heading",
    "mediaGroup",
    "mediaSingle",
    "multiBodiedExtension",
    "orderedList",
    "panel",
    "paragraph",
    "rule",
    "table",
    "taskList",
    "decisionList",
    "blockCard",
}


def is_document(value: Any) -> bool:
    """Whether a value is an Atlassian document: version 1, block nodes at the top, text nodes with text."""
    return (
        isinstance(value, dict)
        and value.get("type") == "doc"
        and value.get("version") == 1
        and set(value) == {"type", "version", "content"}
        and isinstance(value["content"], list)
        and all(_is_node(each) and each["type"] in _BLOCK_NODES for each in value["content"])
    )


def _is_node(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return False
    if value["type"] == "text":
        return isinstance(value.get("text"), str) and value["text"] != ""
    content = value.get("content", [])
    return isinstance(content, list) and all(_is_node(each) for each in content)


class Fields:
    """Reads a `fields` object into changes of a ticket, gathering one error per field."""

    def __init__(self, world: World) -> None:
        self._accounts = accounts(world)
        self._readers: dict[str, Callable[[Any], dict[str, Any] | str]] = {
            "summary": self._summary,
            "description": self._description,
            "labels": self._labels,
            "priority": lambda value: self._named(value, PRIORITIES, "priority", "priority"),
            "reporter": lambda value: self._person(value, "reporter"),
            "assignee": lambda value: self._person(value, "assignee"),
            seed.EMPLOYEE_FIELD: lambda value: self._line(value, "employee"),
            seed.LAST_DAY_FIELD: self._last_day,
        }

    def for_create(self, given: Any) -> dict[str, Any]:
        """The changes a create asks for.

        Raises:
            Refused: 400 with one error per field.
        """
        if not isinstance(given, dict):
            raise invalid_payload()
        errors = {}
        project, issue_type = given.get("project"), given.get("issuetype")
        if project not in ({"key": seed.PROJECT_KEY}, {"id": "10000"}):
            errors["project"] = "valid project is required"
        type_change = self._named(issue_type, ISSUE_TYPES, "issue_type", "issuetype")
        if isinstance(type_change, str):
            errors["issuetype"] = "Specify a valid issue type"
            type_change = {}
        if "summary" not in given:
            errors["summary"] = "You must specify a summary of the issue."
        rest = {name: value for name, value in given.items() if name not in {"project", "issuetype"}}
        return type_change | self._read(rest, errors)

    def for_edit(self, given: Any) -> dict[str, Any]:
        """The changes an edit asks for.

        Raises:
            Refused: 400 with one error per field; a status is no field to set.
        """
        if not isinstance(given, dict):
            raise invalid_payload()
        return self._read(given, {})

    def _read(self, given: dict[str, Any], errors: dict[str, str]) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        for name, value in given.items():
            found = self._readers[name](value) if name in self._readers else _UNKNOWN.format(name)
            if isinstance(found, str):
                errors.setdefault(name, found)
            else:
                changes |= found
        if errors:
            raise jira(400, errors=errors)
        return changes

    def _summary(self, value: Any) -> dict[str, Any] | str:
        if not isinstance(value, str):
            return NOT_A_STRING
        if not value.strip():
            return "You must specify a summary of the issue."
        if "\n" in value:
            return "The summary is invalid because it contains newline characters."
        return {"summary": value} if len(value) <= 255 else "Summary can't exceed 255 characters."

    def _description(self, value: Any) -> dict[str, Any] | str:
        return {"description": value} if value is None or is_document(value) else NOT_A_DOCUMENT

    def _labels(self, value: Any) -> dict[str, Any] | str:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            return "data was not an array"
        spaced = next((each for each in value if not each or any(mark.isspace() for mark in each)), None)
        if spaced is not None:
            return f"The label '{spaced}' contains spaces which is invalid."
        return {"labels": tuple(dict.fromkeys(value))}

    def _named(self, value: Any, known: dict[str, str], attribute: str, field: str) -> dict[str, Any] | str:
        if isinstance(value, dict) and len(value) == 1:
            for name, number in known.items():
                if value in ({"name": name}, {"id": number}):
                    return {attribute: name}
        return f"The {field} selected is invalid."

    def _person(self, value: Any, attribute: str) -> dict[str, Any] | str:
        if value is None and attribute == "assignee":
            return {attribute: None}
        if not isinstance(value, dict) or set(value) not in ({"accountId"}, {"id"}):
            return "expected an object with an accountId"
        account = next(iter(value.values()))
        if attribute == "assignee" and account in (None, "-1"):
            return {attribute: None}
        if account not in self._accounts:
            return f"Account id '{account}' does not exist." if isinstance(account, str) else NOT_A_STRING
        return {attribute: account}

    def _line(self, value: Any, attribute: str) -> dict[str, Any] | str:
        return {attribute: value} if value is None or isinstance(value, str) else NOT_A_STRING

    def _last_day(self, value: Any) -> dict[str, Any] | str:
        if value is None:
            return {"last_day": None}
        if not isinstance(value, str):
            return NOT_A_STRING
        try:
            exact = date.fromisoformat(value).isoformat() == value
        except ValueError:
            exact = False
        return {"last_day": value} if exact else "Error parsing date string: " + value
