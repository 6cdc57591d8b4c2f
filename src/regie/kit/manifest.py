"""A connector's manifest: what it is, what a connection must configure, what the vendor allows. Data beside the code.

The gateway reads from it how to authenticate and how fast it may go; the registry tests compare it with the code.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, HttpUrl, JsonValue, StringConstraints, model_validator

from regie.core.capability import Record
from regie.kit.inbound import InboundRule
from regie.kit.rates import RateModel

Level = Literal["bronze", "silver", "gold"]
RULES: Mapping[Level, tuple[str, ...]] = {
    "bronze": ("manifest", "permissions", "recordings", "error-mapping", "docs-link"),
    "silver": ("paging", "limits-as-data", "observe-and-plan", "re-authentication-tested", "owner"),
    "gold": ("dry-run", "compensation", "nightly-live-test", "least-privilege-verified"),
}
"""The quality scale: each level asks for its own rules and those of the levels before it."""

RuleState = Annotated[str, StringConstraints(pattern=r"^(done|exempt: \S.*)$")]


class Quality(Record):
    """How far a connector has come; each rule is `done` or `exempt: reason`."""

    level: Level
    rules: dict[str, RuleState]


class Setting(Record):
    """A value a connection configures. Its example also says which kind of value it is."""

    about: str
    required: bool = True
    default: JsonValue = None
    example: JsonValue


class Basic(Record):
    """HTTP basic authentication: the name of the setting with the user and of the secret with the password or token."""

    kind: Literal["basic"]
    user: str
    secret: str


class Bearer(Record):
    """A token that the vendor has given out for good (RFC 6750): the name of the secret that holds it."""

    kind: Literal["bearer"]
    secret: str


class ClientCredentials(Record):
    """OAuth 2.0 client credentials (RFC 6749, 4.4): names of two settings and of a secret, and the scope itself."""

    kind: Literal["client_credentials"]
    token_url: str
    client_id: str
    client_secret: str
    scope: str


class Manifest(RateModel):
    """What `manifest.yaml` says.

    Attributes:
        name: Folder name of the connector.
        title: The vendor's product, for people.
        docs: The vendor's documentation of the API.
        address: Name of the setting that holds the base address.
        secrets: What each secret is, by name.
        permissions: Everything a connection's account needs for all capabilities; equals what the code declares.
        limits, endpoints, reason_header, priority_header: How fast it may be asked; see `rates`.
        probe: A path that is read to see whether a connection answers and its credentials count; 404 is an answer.
    """

    name: str
    title: str
    docs: HttpUrl
    owner: str
    quality: Quality
    address: str
    authentication: Annotated[Basic | Bearer | ClientCredentials, Field(discriminator="kind")]
    settings: dict[str, Setting]
    secrets: dict[str, str]
    permissions: tuple[str, ...]
    inbound: InboundRule | None = None
    probe: str = ""

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        for limit in self.limits:
            if unknown := sorted(set(limit.by) - set(self.settings)):
                raise ValueError(f"limit {limit.bucket} is shared by {', '.join(unknown)}, which is no setting")
        return self

    def effective(self, settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """A connection's settings with the defaults filled in."""
        return {name: settings.get(name, setting.default) for name, setting in self.settings.items()}

    def faults(self, settings: Mapping[str, JsonValue], secrets: Collection[str]) -> list[str]:
        """What is wrong with a connection that uses this connector, as sentences; empty when nothing is."""
        found = [
            *_name_faults("setting", settings, self.settings, {n for n, s in self.settings.items() if s.required}),
            *_name_faults("secret", secrets, self.secrets, set(self.secrets)),
        ]
        for name, value in settings.items():
            known = self.settings.get(name)
            if known is not None and type(value) is not type(known.example):
                found.append(f"setting {name} of {self.name} is not like its example {known.example!r}")
        return found


def _name_faults(kind: str, given: Collection[str], known: Collection[str], required: set[str]) -> list[str]:
    """Missing and unknown names, with the nearest known one."""
    found = [f"{kind} {name} is missing" for name in sorted(required - set(given))]
    for name in sorted(set(given) - set(known)):
        near = difflib.get_close_matches(name, known, 1)
        found.append(f"there is no {kind} {name}" + (f", did you mean {near[0]}?" if near else ""))
    return found


def load_manifest(file: Path) -> Manifest:
    """Read a manifest from the file beside the connector.

    Raises:
        pydantic.ValidationError: It does not have the shape of a manifest; a fault of the connector's author.
        yaml.YAMLError: It is no YAML.
    """
    return Manifest.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
