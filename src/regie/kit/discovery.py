"""Finds the connectors: every folder of a package is one. The gateway calls it at start, so do the registry tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from regie import discovery
from regie.kit.connector import Connector
from regie.kit.manifest import Manifest, load_manifest


@dataclass(frozen=True, slots=True)
class Found:
    """One connector: its folder name, its class and its manifest."""

    name: str
    connector: type[Connector]
    manifest: Manifest


def connectors_in(package: ModuleType) -> Mapping[str, Found]:
    """Every connector of a package, by folder name, sorted.

    Raises:
        TypeError: A folder's `connector.py` does not define exactly one connector.
        pydantic.ValidationError: A manifest does not have the shape of one.
    """
    prefix = f"{package.__name__}."
    modules = {module.__name__.removeprefix(prefix): module for module in discovery.modules(package)}
    found: dict[str, Found] = {}
    for name in sorted({path.partition(".")[0] for path in modules}):
        module = modules.get(f"{name}.connector")
        own = [
            each
            for each in (vars(module).values() if module else ())
            if isinstance(each, type) and issubclass(each, Connector) and each.__module__ == f"{prefix}{name}.connector"
        ]
        if len(own) != 1 or module is None or module.__file__ is None:
            raise TypeError(f"{prefix}{name}.connector defines {len(own)} connectors instead of one")
        found[name] = Found(name, own[0], load_manifest(Path(module.__file__).parent / "manifest.yaml"))
    return found
