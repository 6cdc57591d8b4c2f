"""What the web asks: may this person or program start, see, steer or decide that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from regie.core.definition import Definition
from regie.core.reach import OF_ROLE
from regie.core.starts import FormStart
from regie.core.tenant import Tenant
from regie.policy.request import Entity, Ref, Request, Value, people, person_ref

Steering = Literal["cancel", "pause", "resume", "wake", "rerun"]
Kind = Literal["person", "program", "operator"]


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks.

    Attributes:
        name: The address of a person, the id of a program's token, or under which name the operator's token is used.
        tenant: Whom it is about: the roles that its file gives to addresses count.
        roles: Those held besides, by the account or by groups: `operator` and `viewer` of where they ask, and
            `TENANT/ROLE`.
        kind: What they are.
        acts: What a program's scope allows where it asks.
        called: What a program is called in a sentence.
        is_of_tenant: A person belongs to the tenant even without these roles: by one in another of its domains, or
            because its directory has brought them.
    """

    name: str
    tenant: Tenant | None
    roles: frozenset[str] = frozenset()
    kind: Kind = "person"
    acts: frozenset[str] = frozenset()
    called: str = ""
    is_of_tenant: bool = False

    @property
    def entity(self) -> Entity:
        """Them for Cedar, with all their roles and the tenant if they belong to it."""
        if self.kind == "operator":
            return Entity(Ref("Operator", self.name), parents=frozenset({Ref("Role", "operator")}))
        if self.kind == "program":
            return Entity(Ref("Program", self.name), {"acts": self.acts})
        parents = {Ref("Role", role) for role in self.roles}
        if self.tenant is not None:
            own = self.name.casefold()
            parents |= {
                role_ref(self.tenant, role)
                for role, holders in self.tenant.roles.items()
                if own in {each.casefold() for each in holders}
            }
            here = role_ref(self.tenant, "").id
            if self.is_of_tenant or any(role.id in OF_ROLE or role.id.startswith(here) for role in parents):
                parents.add(tenant_ref(self.tenant))
        return Entity(person_ref(self.name), parents=frozenset(parents))

    @property
    def in_words(self) -> str:
        """Them in a sentence."""
        return {"person": self.name, "program": self.called or f"Token {self.name}", "operator": "The operator"}[
            self.kind
        ]


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What policies may know of the plan that an approval is about; what needs no change is no part of it.

    Attributes:
        effects: `write` and `destructive`, as far as there are such changes.
        changes: How many there are.
    """

    effects: frozenset[str] = frozenset()
    capabilities: frozenset[str] = frozenset()
    changes: int = 0


@dataclass(frozen=True, slots=True)
class Proof:
    """How sure it is that it is this person who decides.

    Attributes:
        is_confirmed: They have signed this very plan with their authenticator.
        has_authenticator: They have added one.
        is_local: Their account has a password kept here, so that nobody vouches for a second factor.
        mfa_age_s: Seconds since they have shown a second factor; none when they have not.
    """

    is_confirmed: bool = False
    has_authenticator: bool = False
    is_local: bool = False
    mfa_age_s: int | None = None

    @property
    def context(self) -> dict[str, Value]:
        """For Cedar."""
        known: dict[str, Value] = {
            "is_confirmed": self.is_confirmed,
            "has_authenticator": self.has_authenticator,
            "is_local": self.is_local,
        }
        return known if self.mfa_age_s is None else {**known, "mfa_age_s": self.mfa_age_s}


NO_PROOF = Proof()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What policies may know of a run. Addresses of people; empty where there is nobody.

    Attributes:
        program: The id of the token with which it was started.
        plan: Of the approval that it is about.
    """

    tenant: str
    domain: str
    workflow: str
    requester: str = ""
    starter: str = ""
    program: str = ""
    asked: frozenset[str] = frozenset()
    paused_by: str = ""
    plan: PlanFacts = PlanFacts()

    @property
    def entity(self) -> Entity:
        """The run for Cedar."""
        about: dict[str, Value] = {"starter": person_ref(self.starter)} if self.starter else {}
        if self.program:
            about["program"] = Ref("Program", self.program)
        if "@" in self.paused_by:
            about["paused_by"] = person_ref(self.paused_by)
        return Entity(Ref("Run", self.workflow), {**self.common, **about})

    @property
    def approval(self) -> Entity:
        """One of its approvals, of those who have been asked for it."""
        about: dict[str, Value] = {
            "effects": self.plan.effects,
            "capabilities": self.plan.capabilities,
            "changes": self.plan.changes,
        }
        return Entity(Ref("Approval", self.workflow), {**self.common, **about})

    @property
    def common(self) -> dict[str, Value]:
        """What run and approval have in common."""
        about: dict[str, Value] = {
            "tenant": self.tenant,
            "domain": self.domain,
            "workflow": self.workflow,
            "asked": people(self.asked),
        }
        return {**about, "requester": person_ref(self.requester)} if self.requester else about

    def words(self, asker: Asker, action: str) -> dict[str, str]:
        """What policies may say about it."""
        return {
            "who": asker.in_words,
            "action": action,
            "tenant": self.tenant,
            "domain": self.domain,
            "workflow": self.workflow,
            "asked": ", ".join(sorted(self.asked)),
        }


def role_ref(tenant: Tenant, role: str) -> Ref:
    """A role that a tenant's file gives."""
    return Ref("Role", f"{tenant.tenant}/{role}")


def tenant_ref(tenant: Tenant) -> Ref:
    """What those who belong to a tenant are in."""
    return Ref("Tenant", tenant.tenant)


def start(asker: Asker, tenant: Tenant, definition: Definition, *, by_form: bool) -> Request:
    """May somebody start a run?"""
    forms = definition.starts(FormStart)
    about: dict[str, Value] = {
        "tenant": tenant.tenant,
        "domain": definition.domain,
        "form_roles": frozenset(role_ref(tenant, form.role) for form in forms if form.role is not None),
    }
    if any(form.role is None for form in forms):
        about["open_to"] = tenant_ref(tenant)
    return Request(
        principal=asker.entity,
        action="start",
        resource=Entity(Ref("Workflow", definition.workflow), about),
        context={"by_form": by_form},
        words={
            "who": asker.in_words,
            "action": "start",
            "tenant": tenant.tenant,
            "domain": definition.domain,
            "workflow": definition.workflow,
        },
    )


def see(asker: Asker, run: RunFacts) -> Request:
    """May somebody see a run?"""
    return _about(asker, "view", run, run.entity)


def see_approval(asker: Asker, run: RunFacts) -> Request:
    """May somebody see an approval?"""
    return _about(asker, "view", run, run.approval)


def steer(asker: Asker, run: RunFacts, steering: Steering) -> Request:
    """May somebody do something with a run?"""
    return _about(asker, steering, run, run.entity)


def view_inputs(asker: Asker, run: RunFacts, classification: str) -> Request:
    """May somebody see what a run was given and what its steps gave?"""
    return _about(asker, "view_inputs", run, run.entity, {"classification": classification})


def decide(asker: Asker, run: RunFacts, decision: str, proof: Proof = NO_PROOF) -> Request:
    """May somebody say yes or no?"""
    return _about(asker, "decide", run, run.approval, {"decision": decision, **proof.context})


def _about(
    asker: Asker, action: str, run: RunFacts, resource: Entity, context: dict[str, Value] | None = None
) -> Request:
    return Request(
        principal=asker.entity,
        action=action,
        resource=resource,
        context=context or {},
        words=run.words(asker, action),
    )
