"""Finding what lies in a folder of the package, so that adding a file needs no edited list. Used by every registry."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import TypeVar

Thing = TypeVar("Thing")


def module(name: str) -> ModuleType:
    """A module of ours, loaded when it is asked for.

    Raises:
        ModuleNotFoundError: There is none.
    """
    # The one place that imports by name: what is named is our own.
    return importlib.import_module(name)  # noqa: TID251


def modules(package: ModuleType) -> list[ModuleType]:
    """Every module below a package, by name."""
    found = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    return [module(info.name) for info in sorted(found, key=lambda info: info.name)]


def members(package: ModuleType, kind: type[Thing]) -> list[Thing]:
    """Every module-level value of a kind below a package, in the order of modules and definitions."""
    found: dict[int, Thing] = {}
    for each in modules(package):
        for value in vars(each).values():
            if isinstance(value, kind):
                found[id(value)] = value
    return list(found.values())
