"""How fast a vendor may be asked, as data: which requests count towards which limit, and how much each of them costs.

A manifest holds these; the gateway's rate budgets read from them what a request has to pay before it is sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from typing import Literal, Protocol, Self

from pydantic import Field, HttpUrl, JsonValue, model_validator

from regie.core.capability import Record

Method = Literal["GET", "POST", "PATCH", "PUT", "DELETE"]

ELSEWHERE = "elsewhere"
"""The endpoint of every request that fits no template: they count together, which is on the safe side."""
SPARE = 0.1
"""Part of a limit that may be used at once after a rest; the remainder comes evenly."""
LATE = 0.1
"""Part of a window by which requests may bunch up on their way: they are sent evenly and arrive as they like."""
LATE_MOST_S = 1.0

_VARIABLE = re.compile(r"\{([a-z_]+)\}")
_OWN = ("method", "endpoint")
_GIVEN = ("body.", "query.")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request that is about to be sent.

    Attributes:
        path: Relative to the vendor's address, quoted, without its query.
    """

    method: Method
    path: str
    query: Mapping[str, str]
    body: JsonValue


class Pace(Protocol):
    """Keeps the requests of one connection within what its vendor allows."""

    async def enter(self, request: Outgoing) -> Mapping[str, str]:
        """Wait for a place; further headers to send.

        Raises:
            BudgetSpent: There will be none soon; nothing was sent.
        """
        ...

    async def heard(self, request: Outgoing, status: int, headers: Mapping[str, str]) -> None:
        """Take in what an answer tells about the vendor's limits. Names of headers are in lower case."""
        ...


class Cost(Record):
    """What one request costs.

    Attributes:
        units: What one costs for which nothing else is said.
        endpoints: Other costs, by template, or by method and template: `GET /users`.
        adds: Added when the query has this parameter.
        adds_below: Added when the number in this parameter is below the first of the two: the second.
        adds_each: Added for each one that the number in this parameter asks for.
        least: No request costs less.
    """

    units: float = Field(default=1.0, gt=0)
    endpoints: dict[str, float] = {}
    adds: dict[str, float] = {}
    adds_below: dict[str, tuple[int, float]] = {}
    adds_each: dict[str, float] = {}
    least: float = 1.0

    def of(self, request: Outgoing, endpoint: str) -> float:
        """The cost of a request to an endpoint."""
        cost = self.endpoints.get(f"{request.method} {endpoint}", self.endpoints.get(endpoint, self.units))
        cost += sum(units for name, units in self.adds.items() if name in request.query)
        for name, (bound, units) in self.adds_below.items():
            cost += units if (asked := _number(request.query.get(name))) is not None and asked < bound else 0
        for name, units in self.adds_each.items():
            cost += units * (_number(request.query.get(name)) or 0)
        return max(self.least, cost)


class Limit(Record):
    """How much the vendor allows.

    Attributes:
        bucket: Its name within the connector.
        about: What is counted together, for people.
        calls: So many calls (or points) ...
        per_s: ... in so many seconds.
        scope: Who shares it, for people.
        by: Names of the settings that tell who shares it: all connections with the same values do, whoever's they are.
        per: Counted by itself for each of these: `method`, `endpoint`, a variable of the endpoint's template, or
            `body.NAME` and `query.NAME`. A request without it is not counted.
        methods: Which methods count; all when none is named.
        endpoints: Which templates count; all when none is named.
        unless: Not counted when the body or query has a value for one of these, `body.NAME` or `query.NAME`.
        refills: The vendor counts in this way itself: all calls at once after a rest, the remainder evenly.
        only_with: Counts only for connections that sign in so.
        cost: What a request costs; one call when nothing is said.
        reason: What the vendor's header of reasons says when this limit was met.
        remaining: The header with how much is left.
        used_share: The header with the part that is used, 1 being all.
        source: The vendor's page.
        read_on: When somebody last read it there.
    """

    bucket: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    about: str
    calls: int = Field(gt=0)
    per_s: float = Field(gt=0)
    scope: str
    by: tuple[str, ...]
    per: tuple[str, ...] = ()
    methods: tuple[Method, ...] = ()
    endpoints: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    refills: bool = False
    only_with: tuple[str, ...] = ()
    cost: Cost = Cost()
    reason: str = ""
    remaining: str = ""
    used_share: str = ""
    source: HttpUrl
    read_on: date

    @property
    def at_once(self) -> float:
        """How much may be used at once after a rest."""
        return float(self.calls) if self.refills else max(1.0, self.calls * SPARE)

    @property
    def each_s(self) -> float:
        """How much comes back in a second.

        Together they keep every window: whatever is sent in `per_s` seconds, and what arrives late from before, is at
        most `at_once` and what came back meanwhile, and that is `calls`.
        """
        if self.refills:
            return self.calls / self.per_s
        return max(self.calls - self.at_once, 1.0) / (self.per_s + min(LATE_MOST_S, self.per_s * LATE))

    def counts(self, request: Outgoing, endpoint: str) -> bool:
        """Whether a request to an endpoint counts."""
        return (not self.methods or request.method in self.methods) and (
            not self.endpoints or endpoint in self.endpoints
        )


@dataclass(frozen=True, slots=True)
class Charge:
    """What one request has to pay to one budget.

    Attributes:
        of: The values by which the budget is told from others of the same limit.
    """

    limit: Limit
    of: tuple[str, ...]
    cost: float


class RateModel(Record):
    """What a vendor allows, and how its requests and answers are read for that.

    Attributes:
        endpoints: Templates of paths relative to the address, such as `/users/{user}`; the first that fits counts.
        reason_header: The header that names the limit that was met.
        priority_header: The header by which a request says how urgent it is: `high`, `normal` or `low`.
    """

    limits: tuple[Limit, ...]
    endpoints: tuple[str, ...] = ()
    reason_header: str = ""
    priority_header: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        variables = {name for template in self.endpoints for name in _VARIABLE.findall(template)}
        names = [limit.bucket for limit in self.limits]
        if len(set(names)) < len(names):
            raise ValueError("two limits have the same bucket")
        for limit in self.limits:
            costs = {name.rpartition(" ")[2] for name in limit.cost.endpoints}
            if unknown := sorted({*limit.endpoints, *costs} - {*self.endpoints}):
                raise ValueError(f"limit {limit.bucket} names {', '.join(unknown)}, which is no endpoint")
            for name in (*limit.per, *limit.unless):
                if name not in {*_OWN, *variables} and not name.startswith(_GIVEN):
                    raise ValueError(f"limit {limit.bucket} speaks of {name}, which no request has")
        return self

    def allowing(self, calls: Mapping[str, int]) -> Self:
        """The same for somebody whom the vendor allows other numbers of calls, by bucket."""
        if not calls:
            return self
        limits = [each.model_copy(update={"calls": calls.get(each.bucket, each.calls)}) for each in self.limits]
        return self.model_copy(update={"limits": tuple(limits)})

    def endpoint_of(self, path: str) -> tuple[str, Mapping[str, str]]:
        """The template that a path fits, with the values of its variables."""
        for template, pattern in self._patterns:
            if found := pattern.fullmatch(path):
                return template, found.groupdict()
        return ELSEWHERE, {}

    def charges(self, request: Outgoing, settings: Mapping[str, JsonValue], signs_in: str) -> list[Charge]:
        """What a request has to pay.

        Args:
            settings: Of the connection, defaults included.
            signs_in: The kind of the connector's authentication.
        """
        endpoint, variables = self.endpoint_of(request.path)
        found = []
        for limit in self.limits:
            if not limit.counts(request, endpoint) or (limit.only_with and signs_in not in limit.only_with):
                continue
            parts = [_part(name, request, endpoint, variables) for name in limit.per]
            is_waived = any(_part(name, request, endpoint, variables) for name in limit.unless)
            if None not in parts and not is_waived:
                of = (*(str(settings.get(name, "")) for name in limit.by), *(part or "" for part in parts))
                found.append(Charge(limit, of, limit.cost.of(request, endpoint)))
        return found

    @cached_property
    def _patterns(self) -> list[tuple[str, re.Pattern[str]]]:
        return [(template, _pattern(template)) for template in self.endpoints]


@lru_cache(maxsize=1000)
def _pattern(template: str) -> re.Pattern[str]:
    parts = _VARIABLE.split(template)
    return re.compile("".join(re.escape(part) if n % 2 == 0 else f"(?P<{part}>[^/]+)" for n, part in enumerate(parts)))


def _part(name: str, request: Outgoing, endpoint: str, variables: Mapping[str, str]) -> str | None:
    """One of the values that a limit is counted by; none when the request has no such value."""
    match name.partition("."):
        case ("method", "", _):
            return request.method
        case ("endpoint", "", _):
            return endpoint
        case ("query", ".", parameter):
            return request.query.get(parameter)
        case ("body", ".", field):
            value = request.body.get(field) if isinstance(request.body, dict) else None
            return None if value is None else str(value)
        case _:
            value = variables.get(name)
            # The same thing, however somebody wrote it.
            return None if value is None else value.lower()


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else None
