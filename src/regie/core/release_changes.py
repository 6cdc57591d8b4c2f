"""What differs between two releases, in words: what `regie release load` and `regie doctor` say. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from regie.core.release import Release


def changes_between(before: Release | None, after: Release) -> list[str]:
    """One line for each workflow, domain, tenant and file of policies that is new, changed or gone, by kind and name.

    Args:
        before: The release that is current; none when there has been none yet.
    """
    found: list[str] = []
    pairs: tuple[tuple[str, Mapping[str, BaseModel], Mapping[str, BaseModel]], ...] = (
        ("workflow", before.definitions if before else {}, after.definitions),
        ("domain", before.domains if before else {}, after.domains),
        ("tenant", before.tenants if before else {}, after.tenants),
    )
    for kind, old, new in pairs:
        for name in sorted({*old, *new}):
            if name not in old:
                found.append(f"new      {kind} {name}")
            elif name not in new:
                found.append(f"gone     {kind} {name}")
            elif old[name] != new[name]:
                found.append(f"changed  {kind} {name}: {', '.join(_parts(old[name], new[name]))}")
    if before is not None and before.blocks != after.blocks:
        names = {name for name in {*before.blocks, *after.blocks} if before.blocks.get(name) != after.blocks.get(name)}
        found.append(f"changed  blocks: {', '.join(sorted(names))}")
    found += _policies_between(before.policies, after.policies) if before is not None else []
    return found


def _policies_between(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    words = {(True, True): "changed ", (True, False): "gone    ", (False, True): "new     "}
    return [
        f"{words[name in before, name in after]} policies {name}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _parts(old: BaseModel, new: BaseModel) -> list[str]:
    """Names of the fields that differ; their values may be long, and are in the operator's own repository."""
    return [name for name in type(new).model_fields if getattr(old, name) != getattr(new, name)]
