"""Who asks, and what they may do where. `identify.py` and the pages find out who it is, every route asks the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from regie.core.audit import Actor
from regie.core.reach import EVERYTHING, NOTHING, OF_ROLE, OPERATOR, Act, Reach, Scope, place_in_words
from regie.core.tenant import Tenant
from regie.store.accounts import Account
from regie.store.provisioning import NOT_PROVISIONED, Provisioned
from regie.store.sight import Sight
from regie.web.problems import OutOfReach


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks.

    Attributes:
        actor: How the audit log calls them.
        address: Of the account signed in with; empty for a token, which is nobody in person.
        reach: What they may do where.
        roles: Tenant and role of what they hold by their groups.
        brought_by: The tenant whose directory has brought them; empty when none has.
        named: What refusals call them.
        mfa_age_s: Seconds since they have shown a second factor in this session; none when they have not.
        is_local: They sign in with a password kept here.
    """

    actor: Actor
    address: str
    reach: Reach
    roles: frozenset[tuple[str, str]] = frozenset()
    named: str = "This account"
    mfa_age_s: float | None = None
    is_local: bool = False
    brought_by: str = ""

    @property
    def is_operator(self) -> bool:
        """Whether they may do everything everywhere."""
        return self.reach.is_everything

    @property
    def sight(self) -> Sight:
        """Which runs of all they see in lists."""
        return Sight(person=self.address, places=self.reach.places(Act.LOOK))

    def is_person(self, address: str) -> bool:
        """Whether that is this caller's address."""
        return bool(self.address) and self.address.casefold() == address.casefold()

    def holds(self, role: str, tenant: Tenant) -> bool:
        """Whether they hold a role of a tenant: named in its file, or by a group of theirs."""
        return (tenant.tenant, role) in self.roles or any(self.is_person(who) for who in tenant.roles.get(role, ()))

    def belongs_to(self, tenant: str) -> bool:
        """Whether they are a tenant's by account, groups or directory; roles that its file gives to addresses aside."""
        where = {"", tenant}
        return (
            self.brought_by == tenant
            or any(slug == tenant for slug, _ in self.roles)
            or any(slug in where for slug, *_ in self.reach.places(Act.LOOK))
        )

    def may(self, act: Act, tenant: str, domain: str, workflow: str = "") -> bool:
        """Whether they may do this there; see `Scope.allows`."""
        return self.reach.allows(act, tenant, domain, workflow)

    def require(self, act: Act, tenant: str, domain: str, workflow: str = "") -> None:
        """Make sure that they may do this there.

        Raises:
            OutOfReach: They may not; says what is missing and what there is. Whether the place exists is not told.
        """
        if not self.may(act, tenant, domain, workflow):
            raise self.out_of_reach(act, tenant, domain, workflow)

    def out_of_reach(self, act: Act, tenant: str, domain: str, workflow: str = "") -> OutOfReach:
        """What they are told when they may not."""
        return OutOfReach(
            f"This needs `{act}` in {place_in_words(tenant, domain, workflow)}.",
            missing={"act": act, "tenant": tenant, "domain": domain, "workflow": workflow},
            hint=f"{self.named} has {self.reach.in_words()}.",
        )

    def require_operator(self) -> None:
        """Make sure that they may do everything everywhere.

        Raises:
            OutOfReach: They may not.
        """
        if not self.is_operator:
            raise OutOfReach(
                "This needs every act in every tenant and domain.",
                missing={"act": ", ".join(Act)},
                hint=f"{self.named} has {self.reach.in_words()}.",
            )

    def require_somewhere(self, act: Act) -> None:
        """Make sure that they may do this in some place at least; what they get is then of those places only.

        Raises:
            OutOfReach: They may do it nowhere.
        """
        if not self.reach.places(act):
            raise OutOfReach(
                f"This needs `{act}` in some tenant and domain.",
                missing={"act": act},
                hint=f"{self.named} has {self.reach.in_words()}.",
            )


def caller_of(
    account: Account,
    tenants: Mapping[str, Tenant],
    operator_group: str = "",
    provisioned: Provisioned = NOT_PROVISIONED,
) -> Caller:
    """Whoever has signed in with an account.

    Args:
        tenants: Of the current release: their files say what groups may.
        provisioned: What provisioning services have brought of them.
        operator_group: Whose members may do everything everywhere; empty for no group.
    """
    actor = Actor(type="person", id=account.address)
    if OPERATOR in account.roles or (operator_group and operator_group in account.groups):
        return Caller(actor, account.address, EVERYTHING, is_local=account.is_local)
    held = [
        (tenant, each)
        for tenant in tenants.values()
        for group in {*account.groups, *(provisioned.groups if provisioned.tenant == tenant.tenant else ())}
        for each in tenant.groups.get(group, ())
    ]
    scopes = tuple(
        Scope(tenant=tenant.tenant, domain=domain, acts=OF_ROLE[each.role])
        for tenant, each in held
        if each.role in OF_ROLE
        for domain in each.domains or tenant.domains
    )
    roles = frozenset((tenant.tenant, each.role) for tenant, each in held if each.role not in OF_ROLE)
    reach = Reach(scopes=scopes) if scopes else NOTHING
    return Caller(actor, account.address, reach, roles, is_local=account.is_local, brought_by=provisioned.tenant)
