"""What a workflow needs to be allowed at vendors, derived: its steps need capabilities, connectors say what these need.

Nothing is sent, and nobody is asked: what is printed here is what an administrator is to allow, and no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from regie import connectors as connector_folders
from regie.core.approval import APPROVE
from regie.core.capabilities import identity
from regie.core.capabilities.record import SERVED_HERE
from regie.core.definition import Definition
from regie.core.needs import AROUND, needs_at
from regie.core.release import Release
from regie.core.starts import POLL_PLACE, PollStart
from regie.kit.connector import provided
from regie.kit.discovery import Found, connectors_in

MANAGER_OF = "manager_of"
"""What a rung of a ladder begins with that asks somebody's manager."""
IAM_VERSION = "2012-10-17"
"""Of the language of IAM policies: docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_version.html"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What one step needs for one capability through one connection.

    Attributes:
        uses: The block; empty for what happens around the steps.
        connection, connector: Who serves it; both empty when nobody does for this tenant.
        permissions: In the vendor's words, sorted.
    """

    workflow: str
    place: str
    uses: str
    capability: str
    connection: str = ""
    connector: str = ""
    permissions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a workflow needs of one connection.

    Attributes:
        title: The vendor.
        permissions_are: What the vendor calls them.
        policy: The IAM policy, for a connection to AWS: one statement for each step.
    """

    connection: str
    connector: str
    title: str
    permissions_are: str
    permissions: tuple[str, ...]
    policy: dict[str, JsonValue] | None = None


def needed_by(
    release: Release, workflow: str, tenant: str, connectors: Mapping[str, Found] | None = None
) -> list[Needed]:
    """What each step of a workflow and of the workflows that it runs needs, in written order.

    Args:
        connectors: By folder name; all that there are when nothing is said.

    Raises:
        InvalidInput: There is no such workflow or tenant.
    """
    known = connectors_in(connector_folders) if connectors is None else connectors
    found: list[Needed] = []
    waiting, seen = [workflow], set[str]()
    while waiting:
        definition = release.definition(waiting.pop(0), known=release.definitions)
        if definition.workflow in seen:
            continue
        seen.add(definition.workflow)
        for place, uses, capability in _asked(definition, release):
            served = list(_served(release, tenant, definition.domain, capability, known))
            if not served and place in AROUND:
                continue
            for connection, connector, permissions in served or [("", "", ())]:
                found.append(
                    Needed(
                        workflow=definition.workflow,
                        place=place,
                        uses=uses,
                        capability=capability,
                        connection=connection,
                        connector=connector,
                        permissions=permissions,
                    )
                )
        waiting += [step.run.workflow for top in definition.steps for step in top.walk() if step.run is not None]
    return found


def allowances(needed: list[Needed], connectors: Mapping[str, Found] | None = None) -> list[Allowance]:
    """The same by connection: what an administrator of each outside system is to allow.

    Args:
        connectors: By folder name; all that there are when nothing is said.
    """
    known = connectors_in(connector_folders) if connectors is None else connectors
    parts: dict[str, list[Needed]] = {}
    for each in needed:
        if each.connection:
            parts.setdefault(each.connection, []).append(each)
    return [
        Allowance(
            connection=connection,
            connector=own[0].connector,
            title=known[own[0].connector].manifest.title,
            permissions_are=known[own[0].connector].manifest.permissions_are,
            permissions=tuple(sorted({permission for each in own for permission in each.permissions})),
            policy=_iam_policy(own) if known[own[0].connector].manifest.access == "aws" else None,
        )
        for connection, own in sorted(parts.items())
    ]


def _asked(definition: Definition, release: Release) -> Iterator[tuple[str, str, str]]:
    """Place, block and capability of everything that a run of a workflow may ask the outside for."""
    for start in definition.starts(PollStart):
        yield from ((POLL_PLACE, start.uses, name) for name in sorted(release.blocks.get(start.uses, ())))
    for place in AROUND:
        yield from ((place, "", name) for name in sorted(AROUND[place]))
    for place, step in definition.by_place.items():
        if step.uses == APPROVE:
            # What it plans is listed where it is done; of its own it looks for managers.
            names = {identity.FIND_MANAGER.name} if MANAGER_OF in step.model_dump_json(include={"arguments"}) else set()
        else:
            names = set(needs_at(definition, release.blocks, _one_of(definition, place)).capabilities)
        yield from ((place, step.uses or "", name) for name in sorted(names - SERVED_HERE))


def _one_of(definition: Definition, place: str) -> str:
    """A place of a run for a written one: the first item of each loop that it stands in."""
    step = definition.by_place[place]
    loops = len(definition.loops[place]) + (1 if step.for_each else 0)
    return f"{place}[{'.'.join('0' * loops)}]" if loops else place


def _served(
    release: Release, tenant: str, domain: str, capability: str, known: Mapping[str, Found]
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for name, connection in sorted(release.tenant(tenant, known=release.tenants).connections.items()):
        found = known.get(connection.connector)
        offer = provided(found.connector).get(capability) if found and domain in connection.domains else None
        if offer is not None:
            yield name, connection.connector, tuple(sorted(offer.permissions))


def _iam_policy(needed: list[Needed]) -> dict[str, JsonValue]:
    """One statement for each step. Which resources it may touch is for the account's owner to say."""
    by_step: dict[tuple[str, str], set[str]] = {}
    for each in needed:
        by_step.setdefault((each.workflow, each.place), set()).update(each.permissions)
    statements: list[JsonValue] = []
    for (workflow, place), actions in by_step.items():
        named: list[JsonValue] = [*sorted(actions)]
        statements.append({"Sid": _sid(workflow, place), "Effect": "Allow", "Action": named, "Resource": "*"})
    return {"Version": IAM_VERSION, "Statement": statements}


def _sid(workflow: str, place: str) -> str:
    """A statement's id: letters and digits alone."""
    words = "".join(char if char.isascii() and char.isalnum() else " " for char in f"{workflow} {place}").split()
    return "".join(word[:1].upper() + word[1:] for word in words)
