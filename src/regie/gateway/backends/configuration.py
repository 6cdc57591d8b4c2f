"""Which backend keeps whose secrets: the installation's `secrets.yaml`, checked as a whole before anything is opened.

It belongs to the installation and not to the workspace: who writes workflows and tenants does not choose whom the
gateway trusts with credentials.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from regie.core.durations import parse_duration
from regie.core.errors import DefinitionError, Fault
from regie.core.located import Source
from regie.core.nearest import did_you_mean
from regie.core.source import decode, read_record, read_source
from regie.core.tenant import NetworkText, Slug

VAULT = "vault"
"""Name of the encrypted file, which is always there and serves whom nobody else does."""


def _seconds(written: object) -> object:
    return parse_duration(written) if isinstance(written, str) else written


Duration = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=86_400)]
"""Seconds; written `5m`."""


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Remembered(_Written):
    """What the places that are asked over the network have in common.

    Attributes:
        remember: How long a value is used before it is looked up again.
        stale: How old a value may get while the place does not answer or asks us to slow down.
        reach: Networks that may be reached besides the public internet, such as that of a VPC endpoint.
    """

    remember: Duration = 300.0
    stale: Duration = 3600.0
    reach: tuple[NetworkText, ...] = ()

    @property
    def networks(self) -> list[IPv4Network | IPv6Network]:
        """The same, read."""
        return [ip_network(each) for each in self.reach]


class _OfAws(Remembered):
    """Where in AWS, and as whom.

    Attributes:
        access_key: Id of the key that asks; without one the gateway's machine has a role of its own.
        secret_key: File with the secret access key, which nobody else may read.
        role, external_id: A role that is taken on first, and the external id that it asks for.
        endpoint: In place of AWS's own address.
        prefix: What the names of all secrets begin with.
    """

    region: str
    access_key: str = ""
    secret_key: Path | None = None
    role: str = ""
    external_id: str = ""
    endpoint: str = ""
    prefix: Annotated[str, Field(pattern=r"^([A-Za-z0-9_.-]+/)*$")] = "regie/"


class AwsSecretsManager(_OfAws):
    """AWS Secrets Manager: a secret PREFIX + TENANT/DOMAIN/NAME."""

    kind: Literal["aws_secrets_manager"]


class AwsParameterStore(_OfAws):
    """AWS Systems Manager Parameter Store: a parameter /PREFIX + TENANT/DOMAIN/NAME."""

    kind: Literal["aws_parameter_store"]


class Keeper(Remembered):
    """Keeper Secrets Manager: a record with the title TENANT/DOMAIN/NAME.

    Attributes:
        device: File with the configuration of one client device, as Keeper hands it out; nobody else may read it.
    """

    kind: Literal["keeper"]
    device: Path


class Files(_Written):
    """Files that an orchestrator mounts: FOLDER/TENANT/DOMAIN/NAME, or a folder of that name with a file a field."""

    kind: Literal["files"]
    folder: Path


class Environment(_Written):
    """The gateway's environment: `REGIE_SECRET__TENANT__DOMAIN__NAME`, and `__FIELD` behind it where there is one."""

    kind: Literal["environment"]


Backend = Annotated[AwsSecretsManager | AwsParameterStore | Keeper | Files | Environment, Field(discriminator="kind")]


class Serving(_Written):
    """For whom a backend is asked. What is left out is not looked at."""

    tenants: tuple[Slug, ...] = ()
    domains: tuple[str, ...] = ()
    backend: str

    def covers(self, tenant: str, domain: str) -> bool:
        """Whether it is for a tenant's secrets of a domain."""
        return (not self.tenants or tenant in self.tenants) and (not self.domains or domain in self.domains)

    def hides(self, later: Serving) -> bool:
        """Whether nothing is left for a later one."""
        return (not self.tenants or (bool(later.tenants) and {*later.tenants} <= {*self.tenants})) and (
            not self.domains or (bool(later.domains) and {*later.domains} <= {*self.domains})
        )


class Configuration(_Written):
    """The file. The first line of `serving` that fits counts; where none does, the vault."""

    backends: dict[Slug, Backend] = {}
    serving: tuple[Serving, ...] = ()

    def place(self, tenant: str, domain: str) -> str:
        """Name of the backend that keeps a tenant's secrets of a domain."""
        return next((each.backend for each in self.serving if each.covers(tenant, domain)), VAULT)


def read(file: Path | None) -> Configuration:
    """Read the configuration; the vault serves everybody where there is no file.

    Raises:
        DefinitionError: Something in it is wrong; names every fault with file and line.
    """
    if file is None or not file.exists():
        return Configuration()
    try:
        text = decode(file.read_bytes(), str(file))
    except OSError as error:
        raise DefinitionError([Fault(str(file), 1, 1, f"the file cannot be read: {error.strerror}")]) from error
    found = read_record(text, str(file), Configuration)
    if faults := _faults(found, read_source(text, str(file)), file.parent):
        raise DefinitionError(faults)
    placed = {
        name: backend.model_copy(update={part: file.parent / path for part, path in _paths(backend).items()})
        for name, backend in found.backends.items()
    }
    return found.model_copy(update={"backends": placed})


def _paths(backend: BaseModel) -> dict[str, Path]:
    return {name: value for name, value in backend if isinstance(value, Path)}


def _faults(found: Configuration, source: Source, folder: Path) -> list[Fault]:
    """What the fields say together."""
    faults = []
    for name, backend in found.backends.items():
        place = source.root.below("backends", name)
        if name == VAULT:
            hint = "give it another name; the vault needs no line here"
            message = f"{VAULT!r} is the encrypted file"
            faults.append(source.fault_at_key(source.root.below("backends"), name, message, hint=hint))
        for part, path in _paths(backend).items():
            if part != "folder" and (message := _unreadable(folder / path)):
                faults.append(source.fault(place.below(part), message))
        if isinstance(backend, _OfAws) and bool(backend.access_key) != bool(backend.secret_key):
            faults.append(source.fault(place, "access_key and secret_key come together", hint="or leave out both"))
        if isinstance(backend, _OfAws) and bool(backend.role) != bool(backend.external_id):
            faults.append(source.fault(place, "role and external_id come together", hint="or leave out both"))
        if isinstance(backend, Remembered) and backend.stale < backend.remember:
            faults.append(source.fault(place, "stale is shorter than remember"))
    return faults + _faults_of_serving(found, source)


def _faults_of_serving(found: Configuration, source: Source) -> list[Fault]:
    """Lines that name what is not there, lines that never count, and backends that no line names."""
    faults = []
    known = {*found.backends, VAULT}
    for number, each in enumerate(found.serving):
        place = source.root.below("serving", number)
        if each.backend not in known:
            hint = did_you_mean(each.backend, known) or None
            faults.append(source.fault(place.below("backend"), f"there is no backend {each.backend!r}", hint=hint))
        before = next((at for at, earlier in enumerate(found.serving[:number]) if earlier.hides(each)), None)
        if before is not None:
            line = source.root.below("serving", before).line
            faults.append(source.fault(place, f"it never counts: line {line} fits all of it before", hint="swap them"))
    idle = sorted(set(found.backends) - {each.backend for each in found.serving} - {VAULT})
    place = source.root.below("backends")
    return faults + [
        source.fault_at_key(place, each, f"{each!r} serves nobody", hint="name it in serving") for each in idle
    ]


def _unreadable(path: Path) -> str:
    """Why a file of ours cannot be used; empty when it can."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return f"{path} is open to others: chmod 600 it" if mode & 0o077 else ""
