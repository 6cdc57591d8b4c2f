"""A release: one immutable, digested load of definitions, domains and tenants. Runs in flight keep theirs."""

from __future__ import annotations

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

    def definition(self, workflow: str) -> Definition:
        """The definition of that workflow.

        Raises:
            InvalidInput: There is none in this release.
        """
        if workflow not in self.definitions:
            raise InvalidInput(
                f"There is no workflow {workflow!r}.", hint="Known: " + ", ".join(sorted(self.definitions))
            )
        return self.definitions[workflow]

    def tenant(self, slug: str) -> Tenant:
        """The tenant of that slug.

        Raises:
            InvalidInput: There is none in this release.
        """
        if slug not in self.tenants:
            raise InvalidInput(f"There is no tenant {slug!r}.", hint="Known: " + ", ".join(sorted(self.tenants)))
        return self.tenants[slug]
