"""Secrets that an orchestrator hands to the gateway: as files, or in its environment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from regie.core.errors import AuthFailed, Unavailable
from regie.core.tenant import SecretRef
from regie.gateway.vault import NoSecret, SecretText

LARGEST = 1_048_576
"""Bytes of a file; Kubernetes allows a secret of that size as a whole."""


class MountedFiles:
    """Files, read for each use, so that a new value counts as soon as it is mounted.

    Args:
        folder: FOLDER/TENANT/DOMAIN/NAME is a secret, or a folder with a file for each of its fields.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def get(
        self,
        tenant: str,
        reference: SecretRef,
        refused: SecretText | None = None,  # noqa: ARG002  what is mounted is always the newest
    ) -> SecretText:
        """The value of a tenant's secret, without a last line break; see `SecretBackend`."""
        if reference.version:
            raise NoSecret(f"The secret {reference} of {tenant} is a file, and files have no versions.")
        path = self._folder / tenant / reference.domain / reference.name
        return await asyncio.to_thread(self._read, path / reference.field if reference.field else path)

    def _read(self, path: Path) -> SecretText:
        if not self._folder.is_dir():
            raise Unavailable(f"The folder {self._folder} is not mounted.")
        try:
            with path.open("rb") as file:
                content = file.read(LARGEST + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NoSecret(f"There is no file {path}.") from None
        except PermissionError:
            raise AuthFailed(f"The gateway may not read {path}.") from None
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror}.") from None
        try:
            value = content.decode().removesuffix("\n")
        except UnicodeDecodeError:
            raise AuthFailed(f"{path} is not UTF-8.") from None
        if not value or len(content) > LARGEST:
            raise NoSecret(f"{path} is {'empty' if not value else f'larger than {LARGEST} bytes'}.")
        return SecretText(value)


class InEnvironment:
    """Variables of the gateway's process. They are what it was started with: a new value needs a new start.

    Args:
        variable: The value of a variable, by the part of its name behind `REGIE_SECRET__`; empty when there is none.
    """

    def __init__(self, variable: Callable[[str], str]) -> None:
        self._variable = variable

    async def get(
        self,
        tenant: str,
        reference: SecretRef,
        refused: SecretText | None = None,  # noqa: ARG002  there is no other one
    ) -> SecretText:
        """The value of a tenant's secret; see `SecretBackend`."""
        if reference.version:
            raise NoSecret(f"The secret {reference} of {tenant} is a variable, and variables have no versions.")
        parts = [tenant, reference.domain, reference.name, *filter(None, [reference.field])]
        named = [_upper(part) for part in parts]
        if any("__" in part or part.startswith("_") or part.endswith("_") for part in named):
            # Else one domain's variable could be read as another's.
            raise NoSecret(f"No variable can be called after {reference}: one of its parts begins, ends or parts in _.")
        name = "__".join(named)
        value = self._variable(name)
        if not value:
            raise NoSecret(f"The gateway has no variable REGIE_SECRET__{name}.")
        return SecretText(value)


def _upper(part: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in part.upper())
