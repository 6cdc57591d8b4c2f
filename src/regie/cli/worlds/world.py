"""What a domain brings for its demo: processes that stand for the outside, and a tenant who uses them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from regie.cli.processes import Supervisor
from regie.core.tenant import SecretRef
from regie.settings import Settings


@dataclass(frozen=True, slots=True)
class Site:
    """Where a world is made.

    Attributes:
        tenant: Name of the demo's tenant.
        sandbox_port: Where the imaginary Jira, Graph and Slack answer, each time.
    """

    settings: Settings
    supervisor: Supervisor
    tenant: str
    sandbox_port: int


@dataclass(frozen=True)
class DemoTenant:
    """The demo's tenant in a world.

    Attributes:
        connections: As in the tenant's file; `moving` are the names of those that say something else after each start.
        roles: People by role.
        settings: Of the world's domain.
        secrets: What goes into the vault.
        people: Whoever needs an account besides those with a role.
    """

    connections: dict[str, Any]
    roles: dict[str, list[str]]
    settings: dict[str, Any]
    secrets: Mapping[SecretRef, str]
    people: tuple[str, ...] = ()
    moving: frozenset[str] = field(default_factory=frozenset)


class World(ABC):
    """The imaginary outside of one domain."""

    domain: ClassVar[str]

    @abstractmethod
    async def start(self, site: Site, webhook_secret: str) -> dict[str, str]:
        """Start its processes, kept by the supervisor; their addresses, by name: `sandbox` is always one of them.

        Raises:
            InvalidInput: Something that it needs is not installed.
        """

    @abstractmethod
    async def tenant(self, addresses: Mapping[str, str], webhook_secret: str) -> DemoTenant:
        """The tenant who uses it, once it runs."""

    @abstractmethod
    def hints(self, addresses: Mapping[str, str]) -> list[str]:
        """What somebody may try in the running demo, as lines to type."""
