"""A release: one immutable, digested load of definitions, domains and tenants. Runs in flight keep theirs."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

from pydantic import BaseModel, ConfigDict

from regie.core import canonical
from regie.core.definition import Definition
from regie.core.errors import InvalidInput
from regie.core.tenant import Domain, Tenant


class Release(BaseModel):
    """Everything a run can refer to, as loaded at one moment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    definitions: dict[str, Definition]
    domains: dict[str, Domain]
    tenants: dict[str, Tenant]
    blocks: dict[str, tuple[str, ...]]
    """The capabilities each block needs, by block name: what grants are derived from."""
    policies: dict[str, str] = {}
    """The texts of all policies that count, by file name. None at all: it was loaded before there were any."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the whole release: its name."""
        return canonical.digest(self.model_dump(mode="json"))

    def definition(self, workflow: str, *, known: Collection[str] = ()) -> Definition:
        """The definition of that workflow.

        Args:
            known: Names that whoever asks may be told when there is none: not everybody may know all that there are.

        Raises:
            InvalidInput: There is none in this release.
        """
        if workflow not in self.definitions:
            raise InvalidInput(f"There is no workflow {workflow!r}.", hint=_naming(known))
        return self.definitions[workflow]

    def tenant(self, slug: str, *, known: Collection[str] = ()) -> Tenant:
        """The tenant of that slug.

        Args:
            known: As for `definition`.

        Raises:
            InvalidInput: There is none in this release.
        """
        if slug not in self.tenants:
            raise InvalidInput(f"There is no tenant {slug!r}.", hint=_naming(known))
        return self.tenants[slug]


def _naming(known: Collection[str]) -> str | None:
    return "Known: " + ", ".join(sorted(known)) if known else None
