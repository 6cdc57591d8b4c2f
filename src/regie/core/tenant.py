"""A tenant (an isolated customer), its connections and secret references; a domain; and the grant of a step."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
)

from regie.core.classification import Classification, handling
from regie.core.durations import parse_duration
from regie.core.moments import read_zone

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,38}$")]
Address = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$")]

_REFERENCE = re.compile(
    r"^secret://(?P<domain>[a-z][a-z0-9_-]*)/(?P<name>[a-z][a-z0-9_-]*)"
    r"(?:#(?P<field>[A-Za-z0-9_][A-Za-z0-9_.-]*))?(?:@(?P<version>[A-Za-z0-9][A-Za-z0-9._-]{0,63}))?\Z"
)


def _known_zone(name: str) -> str:
    read_zone(name)
    return name


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        raise ValueError("write a network, such as 10.20.0.0/16 or 2001:db8::/32") from None


NetworkText = Annotated[str, AfterValidator(_network)]
"""A network of addresses."""


def _length_or_nothing(text: str) -> str:
    if text:
        parse_duration(text)
    return text


class Written(BaseModel):
    """A part of the operator's workspace."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SecretRef(BaseModel):
    """The address of a secret, `secret://domain/name[#field][@version]`. The value exists only inside the gateway.

    Attributes:
        version: As the place that keeps it names versions; empty for the current one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: str
    name: str
    field: str = ""
    # Left out where it is not said, so that releases from before there were versions keep their digest.
    version: str = Field(default="", exclude_if=lambda version: not version)

    @classmethod
    def parse(cls, text: object) -> object:
        """Read the written form; anything else is left for pydantic to refuse.

        Raises:
            ValueError: The text is no secret reference.
        """
        if not isinstance(text, str):
            return text
        found = _REFERENCE.match(text)
        if not found:
            raise ValueError("write secret://domain/name[#field][@version], never the secret itself")
        named = {name: value or "" for name, value in found.groupdict().items()}
        return cls(**named)

    def __str__(self) -> str:
        field = f"#{self.field}" if self.field else ""
        return f"secret://{self.domain}/{self.name}{field}" + (f"@{self.version}" if self.version else "")


WrittenSecretRef = Annotated[SecretRef, BeforeValidator(SecretRef.parse)]


class Connection(Written):
    """One tenant's configured use of a connector.

    Attributes:
        connector: Folder name of the connector.
        domains: The domains that may use it.
        settings: What the connector's manifest asks for, such as a site address.
        secrets: The secrets the manifest asks for, by the manifest's names.
        reach: Networks that it may reach besides the public internet, such as `10.20.0.0/16`.
        limits: How much the vendor allows here where that is not what the manifest says, by the manifest's buckets.
    """

    connector: str
    domains: tuple[str, ...] = Field(min_length=1)
    settings: dict[str, JsonValue] = {}
    secrets: dict[str, WrittenSecretRef] = {}
    limits: dict[str, Annotated[int, Field(ge=1)]] = {}
    # Left out where there are none, so that releases from before there were any keep their digest.
    reach: tuple[NetworkText, ...] = Field(default=(), exclude_if=lambda networks: not networks)


class GroupRole(Written):
    """A role that the members of a group hold for a tenant.

    Attributes:
        role: `operator`, `viewer`, or one of the tenant's own.
        domains: Where they are operators or viewers; in all domains of the tenant when there are none.
    """

    role: str
    domains: tuple[str, ...] = ()


class Tenant(Written):
    """An isolated customer: values and secret references, never code.

    Attributes:
        tenant: Its slug, part of every key of every row.
        roles: Who holds a role, as addresses, by role name.
        groups: Roles that people hold by their groups at the identity provider, by the group's name there.
        settings: Values for the domains' settings, by domain.
        time_zone: IANA name; where a date without a time is meant.
    """

    tenant: Slug
    title: str
    domains: tuple[str, ...] = Field(min_length=1)
    connections: dict[Slug, Connection]
    roles: dict[str, tuple[Address, ...]] = {}
    groups: dict[str, tuple[GroupRole, ...]] = {}
    settings: dict[str, dict[str, JsonValue]] = {}
    time_zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"


class Setting(Written):
    """A value a domain's workflows read as `settings.NAME` and a tenant may set."""

    about: str
    default: JsonValue


class StartRate(Written):
    """So many runs in so many seconds; written `60 per 1m`."""

    runs: int = Field(ge=1, le=100_000)
    per_s: float = Field(gt=0)

    @classmethod
    def parse(cls, text: object) -> object:
        """Read the written form; anything else is left for pydantic to refuse.

        Raises:
            ValueError: The text is no such rate.
        """
        if not isinstance(text, str):
            return text
        number, _, length = text.partition(" per ")
        if not number.strip().isdecimal():
            raise ValueError("write how many runs in which length of time, such as 60 per 1m")
        return cls(runs=int(number), per_s=parse_duration(length.strip()))


class Quota(Written):
    """How much a domain may run, over all workers. What is not given is not bounded.

    Attributes:
        runs: So many runs of the domain are in hands at the same time; a run that waits for people or time is in none.
        per_tenant: So many of each tenant.
        waiting: With so many runs waiting to begin, the domain takes no more from people and programs; what outside
            systems announce is taken all the same, for it would be lost.
        start_rate: So many runs begin in a length of time, children aside; what is started beyond that begins later.
    """

    runs: int | None = Field(default=None, ge=1)
    per_tenant: int | None = Field(default=None, ge=1)
    waiting: int | None = Field(default=None, ge=1)
    start_rate: Annotated[StartRate, BeforeValidator(StartRate.parse)] | None = None


Tone = Literal["quiet", "good", "run", "wait", "bad"]
"""How a state is coloured on pages."""


class RecordState(Written):
    """One state of records, for people."""

    state: str
    title: str
    tone: Tone = "quiet"


class RecordField(Written):
    """One field of a record's value, for people.

    Attributes:
        at_a_glance: Whether it is shown in the list itself, and not only under "More".
    """

    field: str
    title: str
    at_a_glance: bool = False


class RecordKind(Written):
    """A kind of records that a domain keeps and that people may look at.

    Attributes:
        due: What being due means, for people.
        fields: Which fields of a record's value are shown, in this order.
        begins: The field that holds when the time until it is due began, if one does.
        states: The states there are, the most pressing first.
        seen_by: Roles of the tenant that may look at its records; operators always may.
    """

    title: str
    about: str = ""
    due: str = "Due"
    fields: tuple[RecordField, ...] = ()
    begins: str = ""
    states: tuple[RecordState, ...] = ()
    seen_by: tuple[str, ...] = ()

    def state(self, name: str) -> RecordState:
        """A state by name; one that is not declared is shown as it is called."""
        found = next((each for each in self.states if each.state == name), None)
        return found or RecordState(state=name, title=name or "without a state")


Priority = Literal["high", "normal", "low"]
"""Whose calls a vendor gets first when there is not room for all."""


class Domain(Written):
    """A business area with one owner: `domain.yaml` of its folder.

    Attributes:
        quota: How much of it may run.
        classification: How sensitive its data are; what follows from it is in `classification`.
        keep_values: How long inputs and outputs of its runs are kept after their end, such as `30d`; as its class says
            when it is empty.
        priority: Of its calls to vendors: a lower one leaves a reserve of each rate budget to the higher ones.
        records: The kinds of records that people may look at.
    """

    domain: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,38}$")]
    title: str
    owner: str
    classification: Classification
    keep_values: Annotated[str, AfterValidator(_length_or_nothing)] = ""
    settings: dict[str, Setting] = {}
    quota: Quota = Quota()
    priority: Priority = "normal"
    records: dict[str, RecordKind] = {}

    @property
    def values_kept_s(self) -> int:
        """Seconds for which inputs and outputs of its runs are kept after their end."""
        return int(parse_duration(self.keep_values)) if self.keep_values else handling(self.classification).kept_s

    def settings_of(self, tenant: Tenant) -> dict[str, JsonValue]:
        """The domain's settings with the tenant's values in place of the defaults."""
        chosen = tenant.settings.get(self.domain, {})
        return {name: chosen.get(name, setting.default) for name, setting in self.settings.items()}


class Grant(Written):
    """What one step of one pinned run may do. Looked up by the gateway, never handed in by a worker.

    Attributes:
        place: Where the step stands in the run, loop item included.
        intent: The ticket that asked for the run, or the run itself: what effect keys are made of.
        capabilities: Names of the capabilities its block needs.
        dry: A dry run: plan, never apply.
    """

    tenant: str
    domain: str
    run: str
    workflow: str
    place: str
    intent: str
    capabilities: frozenset[str]
    dry: bool
