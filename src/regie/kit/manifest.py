"""A connector's manifest: what it is, what a connection must configure, what the vendor allows. Data beside the code.

The gateway reads from it how to authenticate and how fast it may go; the registry tests compare it with the code.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import yaml
from pydantic import Field, HttpUrl, JsonValue, StringConstraints, model_validator

from regie.core.capability import Record
from regie.core.nearest import did_you_mean
from regie.kit.access import AccessKind
from regie.kit.inbound import InboundRule
from regie.kit.rates import RateModel

Level = Literal["bronze", "silver", "gold"]
RULES: Mapping[Level, tuple[str, ...]] = {
    "bronze": ("manifest", "permissions", "recordings", "error-mapping", "docs-link"),
    "silver": ("paging", "limits-as-data", "observe-and-plan", "re-authentication-tested", "owner"),
    "gold": ("dry-run", "undo", "nightly-live-test", "least-privilege-verified"),
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


class Credentials(Record):
    """How a connection proves who it is: names of settings and of secrets of the manifest.

    Attributes:
        of_settings: Those of its fields that name a setting.
        of_secrets: Those that name a secret.
        of_made: Those of them whose secret the gateway makes itself when it is first needed.
    """

    of_settings: ClassVar[tuple[str, ...]] = ()
    of_secrets: ClassVar[tuple[str, ...]] = ()
    of_made: ClassVar[tuple[str, ...]] = ()

    @property
    def settings(self) -> frozenset[str]:
        """The settings it needs."""
        return frozenset(getattr(self, name) for name in self.of_settings)

    @property
    def secrets(self) -> frozenset[str]:
        """The secrets it needs."""
        return frozenset(getattr(self, name) for name in self.of_secrets)

    @property
    def made(self) -> frozenset[str]:
        """The secrets that nobody has to put into the vault."""
        return frozenset(getattr(self, name) for name in self.of_made)


class Basic(Credentials):
    """HTTP basic authentication: the name of the setting with the user and of the secret with the password or token."""

    of_settings: ClassVar[tuple[str, ...]] = ("user",)
    of_secrets: ClassVar[tuple[str, ...]] = ("secret",)

    kind: Literal["basic"]
    user: str
    secret: str


class Bearer(Credentials):
    """A token that the vendor has given out for good (RFC 6750): the name of the secret that holds it."""

    of_secrets: ClassVar[tuple[str, ...]] = ("secret",)

    kind: Literal["bearer"]
    secret: str


class ClientCredentials(Credentials):
    """OAuth 2.0 client credentials (RFC 6749, 4.4): names of two settings and of a secret, and the scope itself."""

    of_settings: ClassVar[tuple[str, ...]] = ("token_url", "client_id")
    of_secrets: ClassVar[tuple[str, ...]] = ("client_secret",)

    kind: Literal["client_credentials"]
    token_url: str
    client_id: str
    client_secret: str
    scope: str


class AcmeAccount(Credentials):
    """An account at an ACME authority: each request signed with its key (RFC 8555, 6.2).

    The key is made the first time it is needed, and kept in the vault under the connection's reference.

    Attributes:
        contact: Name of the setting with the address that the authority may write to; the setting may be empty.
        account_key: Name of the secret.
    """

    of_settings: ClassVar[tuple[str, ...]] = ("contact",)
    of_secrets: ClassVar[tuple[str, ...]] = ("account_key",)
    of_made: ClassVar[tuple[str, ...]] = ("account_key",)

    kind: Literal["acme_account"]
    contact: str
    account_key: str


class AwsKeys(Credentials):
    """Credentials of AWS, and the role of the customer's account that is taken on with them.

    Attributes:
        region: Name of the setting with the region.
        access_key: Name of the setting with the access key id.
        secret_key: Name of the secret.
        role: Name of the setting with the ARN of the role; empty there means none.
        external_id: Name of the setting with the external id that the role's trust asks for; a role without is refused.
    """

    of_settings: ClassVar[tuple[str, ...]] = ("region", "access_key", "role", "external_id")
    of_secrets: ClassVar[tuple[str, ...]] = ("secret_key",)

    kind: Literal["aws_keys"]
    region: str
    access_key: str
    secret_key: str
    role: str
    external_id: str


class Tsig(Credentials):
    """A key shared with a name server (RFC 8945): names of two settings and of the secret, which is base64."""

    of_settings: ClassVar[tuple[str, ...]] = ("key_name", "algorithm")
    of_secrets: ClassVar[tuple[str, ...]] = ("secret",)

    kind: Literal["tsig"]
    key_name: str
    algorithm: str
    secret: str


class Nobody(Credentials):
    """Nothing to prove: what is looked at is open to all, or lies on the gateway's own machine."""

    kind: Literal["nobody"]


class SshKey(Credentials):
    """A private key to sign in with over SSH, and the key that the host must show.

    Where the setting with the address is empty, the host is the gateway's own machine and none of this is needed.

    Attributes:
        user: Name of the setting with the user.
        host_key: Name of the setting with the host's public key, such as `ssh-ed25519 AAAA...`.
        private_key: Name of the secret.
    """

    of_settings: ClassVar[tuple[str, ...]] = ("user", "host_key")
    of_secrets: ClassVar[tuple[str, ...]] = ("private_key",)

    kind: Literal["ssh_key"]
    user: str
    host_key: str
    private_key: str


class LookingRules(Record):
    """What a connection that looks at TLS servers goes by: names of settings.

    Attributes:
        networks: Holds the networks, as CIDR texts, that may be reached besides the public internet.
        public_roots: Says whether the authorities count that the machine trusts.
    """

    networks: str
    public_roots: str


class HostRules(Record):
    """What a connection may touch on a host.

    Attributes:
        folders: Names of the settings that hold folders (a text, or a list of them).
        commands: Argument vectors by name. `{SETTING}` in an argument stands for a setting's text.
        sockets: Names of the settings that hold the path of a socket; it is spoken to under that name.
    """

    folders: tuple[str, ...]
    commands: dict[str, tuple[str, ...]] = {}
    sockets: tuple[str, ...] = ()


Authentication = Annotated[
    Basic | Bearer | ClientCredentials | AcmeAccount | AwsKeys | Tsig | SshKey | Nobody, Field(discriminator="kind")
]
_FITTING: Mapping[AccessKind, frozenset[str]] = {
    "http": frozenset({"basic", "bearer", "client_credentials", "acme_account", "nobody"}),
    "aws": frozenset({"aws_keys"}),
    "dns": frozenset({"tsig", "nobody"}),
    "host": frozenset({"nobody", "ssh_key"}),
    "network": frozenset({"nobody"}),
    "tls": frozenset({"nobody", "ssh_key"}),
}
"""Which ways of proving who one is a kind of access has."""


class Manifest(RateModel):
    """What `manifest.yaml` says.

    Attributes:
        name: Folder name of the connector.
        title: The vendor's product, for people.
        docs: The vendor's documentation of the API.
        access: How the vendor is reached; see `access`.
        address: Name of the setting that holds the address: a URL for http, `HOST:PORT` for dns, for aws a URL in place
            of the vendor's own (the setting may be empty), for host and the files of tls `HOST:PORT` of an SSH server
            (empty: this machine). Without meaning for network.
        host: What may be touched, for access `host` and `tls`.
        looking: Where TLS servers may be looked at, for access `tls`.
        trusts: Name of the setting with the authorities, in PEM, that vouch for an http address in place of the public
            ones, or for TLS servers besides them; the setting may be empty.
        secrets: What each secret is, by name.
        permissions: Everything a connection's account needs for all capabilities; equals what the code declares.
        permissions_are: What the vendor calls them, for people.
        limits, endpoints, reason_header, priority_header: How fast it may be asked; see `rates`.
        probe: A path that is read to see whether a connection answers and its credentials count; 404 is an answer.
    """

    name: str
    title: str
    docs: HttpUrl
    owner: str
    quality: Quality
    access: AccessKind = "http"
    address: str = ""
    authentication: Authentication
    host: HostRules | None = None
    looking: LookingRules | None = None
    trusts: str = ""
    settings: dict[str, Setting]
    secrets: dict[str, str]
    permissions: tuple[str, ...]
    permissions_are: str = "permissions"
    inbound: InboundRule | None = None
    probe: str = ""

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        for limit in self.limits:
            if unknown := sorted(set(limit.by) - set(self.settings)):
                raise ValueError(f"limit {limit.bucket} is shared by {', '.join(unknown)}, which is no setting")
        return self

    @model_validator(mode="after")
    def _access_fits(self) -> Self:
        if self.authentication.kind not in _FITTING[self.access]:
            raise ValueError(f"access {self.access} cannot be authenticated by {self.authentication.kind}")
        if self.access in {"http", "aws", "dns"} and not self.address:
            raise ValueError(f"access {self.access} needs the name of the setting with its address")
        if isinstance(self.authentication, SshKey) and not self.address:
            raise ValueError("an SSH key needs the name of the setting with the host's address")
        if (self.access in {"host", "tls"}) != (self.host is not None):
            raise ValueError("access host and tls, and only they, say under `host` what may be touched")
        if (self.access == "tls") != (self.looking is not None):
            raise ValueError("access tls and only that says under `looking` where to look")
        return self

    def effective(self, settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """A connection's settings with the defaults filled in."""
        return {name: settings.get(name, setting.default) for name, setting in self.settings.items()}

    def _spared(self, settings: Mapping[str, JsonValue]) -> frozenset[str]:
        """The secrets that a connection does not need, since nobody is signed in to."""
        is_here = isinstance(self.authentication, SshKey) and not settings.get(self.address)
        return self.authentication.secrets if is_here else frozenset()

    def faults(self, settings: Mapping[str, JsonValue], secrets: Collection[str]) -> list[str]:
        """What is wrong with a connection that uses this connector, as sentences; empty when nothing is."""
        found = [
            *_name_faults("setting", settings, self.settings, {n for n, s in self.settings.items() if s.required}),
            *_name_faults("secret", secrets, self.secrets, set(self.secrets) - self._spared(settings)),
        ]
        if isinstance(self.authentication, SshKey) and settings.get(self.address):
            needed = sorted(name for name in self.authentication.settings if not settings.get(name))
            found += [f"setting {name} is missing, for a host with an address is signed in to" for name in needed]
        for name, value in settings.items():
            known = self.settings.get(name)
            if known is not None and type(value) is not type(known.example):
                found.append(f"setting {name} of {self.name} is not like its example {known.example!r}")
        return found


def _name_faults(kind: str, given: Collection[str], known: Collection[str], required: set[str]) -> list[str]:
    """Missing and unknown names, with the nearest known one."""
    found = [f"{kind} {name} is missing" for name in sorted(required - set(given))]
    for name in sorted(set(given) - set(known)):
        hint = did_you_mean(name, known)
        found.append(f"there is no {kind} {name}" + (f", {hint}" if hint else ""))
    return found


def load_manifest(file: Path) -> Manifest:
    """Read a manifest from the file beside the connector.

    Raises:
        pydantic.ValidationError: It does not have the shape of a manifest; a fault of the connector's author.
        yaml.YAMLError: It is no YAML.
    """
    return Manifest.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
