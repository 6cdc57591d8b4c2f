"""What somebody may do through the web, and where. Pure; the web asks it for every request, the CLI makes scopes.

A *scope* allows some acts in one tenant and domain, or in all of them; a caller's *reach* is all of its scopes. What an
account may see because it was asked or has asked itself is no matter of reach.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, model_validator

from regie.core.errors import InvalidInput
from regie.core.release import Release

OPERATOR = "operator"
"""The role that allows every act."""
VIEWER = "viewer"
"""The role that allows looking, and nothing else."""


class Act(StrEnum):
    """What a scope can allow. Deciding about an approval is none: that needs a person who was asked."""

    LOOK = "look"
    """See runs, approvals, records and figures; personal values masked on pages."""
    VALUES = "values"
    """See in full what runs were given and what they gave."""
    START = "start"
    """Start runs, and repeat them from a step on."""
    STEER = "steer"
    """Cancel, pause, resume and wake runs."""
    TELL = "tell"
    """Tell events from outside."""
    PROVISION = "provision"
    """Bring and remove people and groups of a tenant (SCIM)."""


OF_ROLE: dict[str, frozenset[Act]] = {OPERATOR: frozenset(Act), VIEWER: frozenset({Act.LOOK})}
"""The acts of the roles that are about the web. Any other role is a tenant's own and says who is asked."""


class Scope(BaseModel):
    """Some acts in one place.

    Attributes:
        tenant, domain: Empty for all of them.
        workflows: Only with these; all of the domain when there are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str = ""
    domain: str = ""
    acts: frozenset[Act]
    workflows: frozenset[str] = frozenset()

    @model_validator(mode="after")
    def _is_sensible(self) -> Scope:
        strangers = [name for name in sorted(self.workflows) if name.partition(".")[0] != self.domain]
        if strangers:
            raise ValueError(f"{', '.join(strangers)} is no workflow of the domain {self.domain or '(none)'}")
        if self.workflows and Act.TELL in self.acts:
            raise ValueError("an event may start any workflow, so `tell` cannot be limited to some")
        return self

    def allows(self, act: Act, tenant: str, domain: str, workflow: str = "") -> bool:
        """Whether this act is allowed there.

        Args:
            workflow: What it is about; empty when it is about the domain as a whole.
        """
        return (
            act in self.acts
            and self.tenant in {"", tenant}
            and self.domain in {"", domain}
            and (not self.workflows or workflow in self.workflows)
        )

    def in_words(self) -> str:
        """For people."""
        acts = ", ".join(act for act in Act if act in self.acts) or "nothing"
        return f"{acts} in {place_in_words(self.tenant, self.domain, ', '.join(sorted(self.workflows)))}"


class Reach(BaseModel):
    """All scopes of one caller."""

    model_config = ConfigDict(frozen=True)

    scopes: tuple[Scope, ...] = ()

    @property
    def is_everything(self) -> bool:
        """Whether every act is allowed everywhere."""
        return any(
            not scope.tenant and not scope.domain and not scope.workflows and scope.acts == frozenset(Act)
            for scope in self.scopes
        )

    def allows(self, act: Act, tenant: str, domain: str, workflow: str = "") -> bool:
        """Whether this act is allowed there; see `Scope.allows`."""
        return any(scope.allows(act, tenant, domain, workflow) for scope in self.scopes)

    def within(self, other: Reach) -> Reach:
        """What is left of this reach when it may not go beyond another: scopes keep the acts that the other covers."""
        kept = []
        for scope in self.scopes:
            acts = frozenset(
                act
                for act in scope.acts
                if all(other.allows(act, scope.tenant, scope.domain, name) for name in (scope.workflows or {""}))
            )
            kept.append(scope.model_copy(update={"acts": acts}))
        return Reach(scopes=tuple(kept))

    def places(self, act: Act) -> tuple[tuple[str, str, str], ...]:
        """Tenant, domain and workflow where this act is allowed; empty stands for all."""
        return tuple(
            sorted(
                {
                    (scope.tenant, scope.domain, workflow)
                    for scope in self.scopes
                    if act in scope.acts
                    for workflow in (scope.workflows or {""})
                }
            )
        )

    def in_words(self) -> str:
        """For people."""
        return "; ".join(scope.in_words() for scope in self.scopes) or "nothing"


EVERYTHING = Reach(scopes=(Scope(acts=frozenset(Act)),))
"""Of the operator's token, and of accounts with the role operator."""
NOTHING = Reach()


def require_known(scope: Scope, release: Release) -> None:
    """Make sure that a scope names what a release has, before somebody relies on it.

    Raises:
        InvalidInput: It names a tenant, a domain of that tenant, or a workflow that there is not.
    """
    domains = release.tenant(scope.tenant).domains if scope.tenant else tuple(sorted(release.domains))
    if scope.domain and scope.domain not in domains:
        whose = f"The tenant {scope.tenant} has" if scope.tenant else "There is"
        raise InvalidInput(f"{whose} no domain {scope.domain!r}.", hint="Known: " + ", ".join(domains))
    for workflow in sorted(scope.workflows):
        release.definition(workflow)


def place_in_words(tenant: str, domain: str, workflow: str = "") -> str:
    """A place for people."""
    where = f"tenant {tenant}" if tenant else "every tenant"
    where += f", domain {domain}" if domain else ", every domain"
    return f"{where}, workflow {workflow}" if workflow else where
