"""The part of JQL the imitation understands: conditions joined by AND, and an ORDER BY. Search asks it."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from regie_sandbox import seed
from regie_sandbox.refusals import Refused, jira
from regie_sandbox.tickets import STATUSES, Ticket

_CATEGORY_NAMES = {"new": "To Do", "indeterminate": "In Progress", "done": "Done"}

_VALUES: dict[str, Callable[[Ticket], tuple[str, ...]]] = {
    "project": lambda ticket: (ticket.project,),
    "key": lambda ticket: (ticket.key,),
    "issuekey": lambda ticket: (ticket.key,),
    "id": lambda ticket: (ticket.id,),
    "status": lambda ticket: (ticket.status, STATUSES[ticket.status].id),
    "statuscategory": lambda ticket: (
        STATUSES[ticket.status].category,
        _CATEGORY_NAMES[STATUSES[ticket.status].category],
    ),
    "labels": lambda ticket: ticket.labels,
    "reporter": lambda ticket: (ticket.reporter,),
    "assignee": lambda ticket: (ticket.assignee,) if ticket.assignee else (),
    "issuetype": lambda ticket: (ticket.issue_type,),
}
_TEXTS: dict[str, Callable[[Ticket], str | None]] = {
    "summary": lambda ticket: ticket.summary,
    "employee": lambda ticket: ticket.employee,
    f"cf[{seed.EMPLOYEE_FIELD.partition('_')[2]}]": lambda ticket: ticket.employee,
}
_TIMES: dict[str, Callable[[Ticket], datetime]] = {
    "created": lambda ticket: ticket.created,
    "updated": lambda ticket: ticket.updated,
}
_PROPERTY = re.compile(r"issue\.property\[([^\]]+)\]\.(\w+)")
_CONDITION = re.compile(
    r"""\s*(?P<field>"[^"]+"|issue\.property\[[^\]]+\]\.\w+|[\w.\[\]]+)\s*
        (?P<op>!=|>=|<=|=|~|>|<|not\s+in\b|in\b)\s*
        (?P<value>\((?:[^()"']|"[^"]*"|'[^']*')*\)|"[^"]*"|'[^']*'|[^\s()"']+)\s*$""",
    re.VERBOSE | re.IGNORECASE,
)
_ORDER = re.compile(r"\border\s+by\b(.*)$", re.IGNORECASE | re.DOTALL)
_SORTS: dict[str, Callable[[Ticket], Any]] = {
    "created": lambda ticket: ticket.created,
    "updated": lambda ticket: ticket.updated,
    "key": lambda ticket: int(ticket.id),
    "id": lambda ticket: int(ticket.id),
}

Test = Callable[[Ticket], bool]


def _refused(text: str) -> Refused:
    return jira(400, f"Error in the JQL Query: {text}")


def _split(text: str) -> list[str]:
    """The conditions between the ANDs that stand outside quotes."""
    parts = re.findall(r"""(?:[^"']|"[^"]*"|'[^']*')+?(?:\band\b|$)""", text, re.IGNORECASE | re.DOTALL)
    return [re.sub(r"\band\b\s*$", "", each, flags=re.IGNORECASE) for each in parts if each.strip()]


def _values(text: str) -> list[str]:
    found = re.findall(r""""([^"]*)"|'([^']*)'|([^\s,()"']+)""", text)
    return ["".join(each).casefold() for each in found]


def _test(condition: str) -> Test:
    found = _CONDITION.match(condition)
    if found is None:
        raise _refused(f"cannot read '{condition.strip()}'.")
    field = found["field"].strip('"')
    name, operator, wanted = field.casefold(), re.sub(r"\s+", " ", found["op"].lower()), _values(found["value"])
    if (of_property := _PROPERTY.fullmatch(field)) and operator == "=":
        key, path = of_property.groups()
        return lambda ticket: _property(ticket, key, path) in wanted
    if name in _VALUES and operator in {"=", "!=", "in", "not in"}:
        negated = operator in {"!=", "not in"}
        read = _VALUES[name]
        return lambda ticket: any(each.casefold() in wanted for each in read(ticket)) != negated
    if name in _TEXTS and operator in {"~", "="}:
        text = _TEXTS[name]
        return lambda ticket: all(each in (text(ticket) or "").casefold() for each in wanted)
    if name in _TIMES and operator in {">=", ">", "<=", "<"}:
        return _time_test(_TIMES[name], operator, wanted[0])
    if name in _VALUES or name in _TEXTS or name in _TIMES:
        raise jira(400, f"The operator '{operator}' is not supported by the '{field}' field.")
    raise jira(400, f"Field '{field}' does not exist or you do not have permission to view it.")


def _property(ticket: Ticket, key: str, path: str) -> str | None:
    value = ticket.properties.get(key)
    found = value.get(path) if isinstance(value, dict) else None
    return None if found is None else str(found).casefold()


def _time_test(read: Callable[[Ticket], datetime], operator: str, text: str) -> Test:
    try:
        moment = datetime.fromisoformat(text.replace("/", "-"))
    except ValueError:
        raise jira(400, f"Date value '{text}' is invalid. Valid formats include: 'yyyy/MM/dd HH:mm'.") from None
    if operator.startswith(">"):
        return lambda ticket: read(ticket) >= moment.replace(tzinfo=read(ticket).tzinfo)
    return lambda ticket: read(ticket) <= moment.replace(tzinfo=read(ticket).tzinfo)


def search(jql: str, tickets: list[Ticket]) -> list[Ticket]:
    """The tickets a query finds, in its order (newest first without one).

    Raises:
        Refused: 400 for a query without a restriction, an unknown field or anything this part of JQL does not have.
    """
    order = _ORDER.search(jql)
    conditions = _split(jql[: order.start()] if order else jql)
    if not conditions:
        raise jira(400, "Unbounded JQL queries are not allowed here. Please add a search restriction to your query.")
    tests = [_test(each) for each in conditions]
    found = [ticket for ticket in tickets if all(test(ticket) for test in tests)]
    sorts = [each.split() for each in order[1].split(",")] if order else [["created", "desc"]]
    for words in reversed(sorts):
        direction = words[1].casefold() if len(words) == 2 else "asc"
        if not 1 <= len(words) <= 2 or words[0].casefold() not in _SORTS or direction not in {"asc", "desc"}:
            raise _refused(f"cannot order by '{' '.join(words)}'.")
        found.sort(key=_SORTS[words[0].casefold()], reverse=direction == "desc")
    return found
