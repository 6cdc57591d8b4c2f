"""A small release to ask policies about."""

from regie.core.definition import Definition, InputField, InputType, Kind, Step
from regie.core.release import Release
from regie.core.starts import FormStart
from regie.core.tenant import Domain, Tenant


def step(place: str, uses: str, **parts: object) -> Step:
    return Step.model_validate(
        {"place": place, "id": place, "kind": Kind.USES, "uses": uses, "line": 1, "column": 1, **parts}
    )


OFFBOARD = Definition(
    workflow="identity.offboard",
    title="Offboard",
    owner="team:implementation",
    start=(FormStart(who="role:service-desk"),),
    input=(InputField(name="who", type=InputType.EMAIL),),
    steps=(
        step("ask", "people.approve", arguments={"covers": ["close"]}),
        step("close", "identity.disable_account", undo="identity.enable_account"),
        step("say", "ticket.comment"),
    ),
)
REPORT = OFFBOARD.model_copy(
    update={"workflow": "support.report", "start": (FormStart(who="everyone"),), "steps": OFFBOARD.steps[2:]}
)


def release(**policies: str) -> Release:
    """Two workflows in two domains, two tenants; one of them says who its service desk is."""
    domains = {
        name: Domain(domain=name, title=name, owner="team:implementation", classification="personal")
        for name in ("identity", "support")
    }
    return Release(
        definitions={each.workflow: each for each in (OFFBOARD, REPORT)},
        domains=domains,
        tenants={
            slug: Tenant(
                tenant=slug,
                title=slug,
                domains=("identity", "support"),
                connections={},
                roles={"service-desk": ("desk@example.com",)} if slug == "acme" else {},
            )
            for slug in ("acme", "globex")
        },
        blocks={
            "people.approve": (),
            "identity.disable_account": ("identity.disable_account",),
            "identity.enable_account": ("identity.enable_account",),
            "ticket.comment": ("ticket.comment",),
        },
        policies=policies,
    )
