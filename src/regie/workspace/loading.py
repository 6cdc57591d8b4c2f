"""From folders to a release: `domain.yaml`, `workflows/*.yaml`, `tenants/*.yaml`, everything checked before it counts.

A workspace folder may hold `tenants/`, `domains/` and `policies/`; Regie's own domains and policies are always there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, JsonValue

from regie import domains as shipped
from regie.core.block import Catalogue
from regie.core.checking import validate_draft
from regie.core.checking_children import Workflows
from regie.core.definition import Definition
from regie.core.durations import parse_duration
from regie.core.errors import DefinitionError, Fault
from regie.core.nearest import did_you_mean
from regie.core.reading import Draft, read_draft
from regie.core.release import Release
from regie.core.source import decode, read_record, read_source
from regie.core.tenant import Domain, Tenant
from regie.workspace.policies import golden_faults, read_policies

SHIPPED = Path(shipped.__file__).parent
"""Where Regie's own domains are."""

Model = TypeVar("Model", bound=BaseModel)


@dataclass
class _Reading:
    """What has been read so far, faults included: the author hears of all of them at once."""

    domains: dict[str, Domain] = field(default_factory=dict)
    tenants: dict[str, Tenant] = field(default_factory=dict)
    definitions: dict[str, Definition] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def record(self, file: Path, model: type[Model]) -> Model | None:
        try:
            return read_record(decode(file.read_bytes(), str(file)), str(file), model)
        except DefinitionError as error:
            self.faults.extend(error.faults)
        except OSError as error:
            self.fault(file, f"cannot be read: {error.strerror}")
        return None

    def fault(self, file: Path, message: str, hint: str | None = None, *, at: tuple[str, ...] = ()) -> None:
        self.faults.append(_fault_at(file, at, message, hint))


def load_release(workspace: Path | None, catalogue: Catalogue) -> Release:
    """Read and check everything.

    Args:
        workspace: The operator's folder; none for the shipped domains alone.
        catalogue: The blocks that workflows may use.

    Raises:
        DefinitionError: With every fault of every file.
    """
    reading = _Reading()
    roots = [SHIPPED, *([workspace / "domains"] if workspace else [])]
    for root in roots:
        for file in sorted(root.glob("*/domain.yaml")):
            _read_domain(reading, file)
    if workspace:
        for file in sorted((workspace / "tenants").glob("*.yaml")):
            _read_tenant(reading, file)
    files = [file for root in roots for file in sorted(root.glob("*/workflows/*.yaml"))]
    drafts = {file: draft for file in files if (draft := _read_draft(reading, file)) is not None}
    known = _known(drafts.values())
    for file, draft in drafts.items():
        _check_workflow(reading, file, draft, catalogue, known)
    policies, faults = read_policies(workspace)
    if reading.faults or faults:
        raise DefinitionError([*reading.faults, *faults])
    release = Release(
        definitions=reading.definitions,
        domains=reading.domains,
        tenants=reading.tenants,
        blocks={name: tuple(need.name for need in block.needs) for name, block in catalogue.items()},
        policies=policies,
    )
    if faults := golden_faults(workspace, release):
        raise DefinitionError(faults)
    return release


def read_workflow(file: Path, catalogue: Catalogue, workspace: Path | None = None) -> Definition:
    """Read and check one workflow file, with the settings of its domain and the workflows in its folder.

    Raises:
        DefinitionError: With every fault of the file.
    """
    reading = _Reading()
    for root in (SHIPPED, *([workspace / "domains"] if workspace else []), file.parent.parent.parent):
        for domain in sorted(root.glob("*/domain.yaml")):
            found = _Reading().record(domain, Domain)
            if found is not None:
                reading.domains[found.domain] = found
    draft = _read_draft(reading, file)
    if draft is not None:
        beside = (_read_draft(_Reading(), other) for other in sorted(file.parent.glob("*.yaml")))
        known = _known([*(other for other in beside if other is not None), draft])
        _check_workflow(reading, file, draft, catalogue, known)
    if reading.faults:
        raise DefinitionError(reading.faults)
    return next(iter(reading.definitions.values()))


def fault_in_tenant(workspace: Path, tenant: str, at: tuple[str, ...], message: str, hint: str | None = None) -> Fault:
    """Something wrong with a part of a tenant's file, found by somebody who has only the release.

    Args:
        at: Names of the fields that lead to the part, from the outside in.
    """
    return _fault_at(workspace / "tenants" / f"{tenant}.yaml", at, f"{'.'.join(at)}: {message}", hint)


def _fault_at(file: Path, at: tuple[str, ...], message: str, hint: str | None) -> Fault:
    if not at:
        return Fault(str(file), 1, 1, message, hint)
    source = read_source(file.read_text(encoding="utf-8"), str(file))
    return source.fault_at_key(source.root.below(*at[:-1]), at[-1], message, hint=hint)


def _read_domain(reading: _Reading, file: Path) -> None:
    domain = reading.record(file, Domain)
    if domain is None:
        return
    if domain.domain != file.parent.name:
        reading.fault(file, f"the domain {domain.domain} lies in a folder named {file.parent.name}", "Rename one.")
    if domain.domain in reading.domains:
        reading.fault(file, f"there is a domain {domain.domain} already", "Choose another name.")
    reading.domains[domain.domain] = domain


def _read_tenant(reading: _Reading, file: Path) -> None:
    tenant = reading.record(file, Tenant)
    if tenant is None:
        return
    if tenant.tenant != file.stem:
        reading.fault(file, f"the tenant {tenant.tenant} lies in a file named {file.name}", "Rename one.")
    for name in tenant.domains:
        if name not in reading.domains:
            hint = did_you_mean(name, reading.domains)
            reading.fault(file, f"there is no domain {name}", hint, at=("domains",))
    for name, chosen in tenant.settings.items():
        _check_settings(reading, file, name, chosen)
    for name, connection in tenant.connections.items():
        for domain in connection.domains:
            if domain not in tenant.domains:
                hint = did_you_mean(domain, tenant.domains)
                at = ("connections", name, "domains")
                reading.fault(file, f"the tenant does not have the domain {domain}", hint, at=at)
    for name, held in tenant.groups.items():
        for domain in (domain for each in held for domain in each.domains):
            if domain not in tenant.domains:
                hint = did_you_mean(domain, tenant.domains)
                reading.fault(file, f"the tenant does not have the domain {domain}", hint, at=("groups", name))
    reading.tenants[tenant.tenant] = tenant


def _check_settings(reading: _Reading, file: Path, domain: str, chosen: dict[str, JsonValue]) -> None:
    """A tenant's values for a domain: names that the domain has, values like its defaults."""
    known = reading.domains[domain].settings if domain in reading.domains else {}
    for name, value in chosen.items():
        at = ("settings", domain, name)
        if name not in known:
            reading.fault(file, f"the domain {domain} has no setting {name}", did_you_mean(name, known), at=at)
        elif not _is_like(value, known[name].default):
            default = json.dumps(known[name].default, ensure_ascii=False)
            reading.fault(file, f"the setting {name} must be like its default {default}", at=at)


def _is_like(value: JsonValue, default: JsonValue) -> bool:
    """Whether a value may stand for a default: of the same type, and a duration where that is one."""
    if type(value) is not type(default):
        return default is None
    if not isinstance(value, str) or not isinstance(default, str):
        return True
    return _is_duration(value) or not _is_duration(default)


def _is_duration(text: str) -> bool:
    try:
        parse_duration(text)
    except ValueError:
        return False
    return True


def _read_draft(reading: _Reading, file: Path) -> Draft | None:
    """A workflow file as far as it can be read; none, and the reason among the faults, when it cannot be at all."""
    try:
        return read_draft(decode(file.read_bytes(), str(file)), str(file))
    except DefinitionError as error:
        reading.faults.extend(error.faults)
    except OSError as error:
        reading.fault(file, f"cannot be read: {error.strerror}")
    return None


def _known(drafts: Iterable[Draft]) -> Workflows:
    """Which workflows there are to be run as children; of one with faults nothing but its name is certain."""
    return {draft.definition.workflow: None if draft.faults else draft.definition for draft in drafts}


def _check_workflow(reading: _Reading, file: Path, draft: Draft, catalogue: Catalogue, known: Workflows) -> None:
    domain = reading.domains.get(file.parent.parent.name)
    settings = {name: setting.default for name, setting in domain.settings.items()} if domain else {}
    try:
        definition = validate_draft(draft, catalogue, settings, workflows=known)
    except DefinitionError as error:
        reading.faults.extend(error.faults)
        return
    if domain is not None and definition.domain != domain.domain:
        reading.fault(
            file,
            f"the workflow {definition.workflow} lies in the domain {domain.domain}",
            f"Name it {domain.domain}.{definition.workflow.partition('.')[2]} or move it.",
        )
    if definition.workflow in reading.definitions:
        reading.fault(file, f"there is a workflow {definition.workflow} already", "Choose another name.")
    reading.definitions[definition.workflow] = definition
