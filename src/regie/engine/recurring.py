"""Which schedules and polls a release has, and one of them by its key. The worker starts them, the web lists them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from regie.core.definition import Definition
from regie.core.release import Release
from regie.core.starts import PollStart, ScheduleStart
from regie.store.schedules import StartKey

Recurring = TypeVar("Recurring", ScheduleStart, PollStart)


def all_of(release: Release, domains: Sequence[str], kind: type[Recurring]) -> Iterator[tuple[StartKey, Recurring]]:
    """Every start of a kind in some domains, once for each tenant that has the domain."""
    for workflow, definition in sorted(release.definitions.items()):
        if definition.domain not in domains:
            continue
        for start in definition.starts(kind):
            for slug, tenant in sorted(release.tenants.items()):
                if definition.domain in tenant.domains:
                    yield StartKey(slug, definition.domain, workflow, start.identity), start


def one_of(release: Release, key: StartKey, kind: type[Recurring]) -> tuple[Definition, Recurring] | None:
    """One start by its key; none when the release does not have it for that tenant."""
    definition = release.definitions.get(key.workflow)
    tenant = release.tenants.get(key.tenant)
    if definition is None or tenant is None or definition.domain not in tenant.domains:
        return None
    found = [start for start in definition.starts(kind) if start.identity == key.start]
    return (definition, found[0]) if found and definition.domain == key.domain else None
