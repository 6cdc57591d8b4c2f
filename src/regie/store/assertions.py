"""What people have signed with their authenticators, beside the approvals that it decided. The web keeps it."""

from regie.core.assertion import Assertion
from regie.store.database import Transaction
from regie.store.keys import RunKey


async def keep(tx: Transaction, key: RunKey, assertion: Assertion) -> None:
    """Keep what was signed, beside the approval that it decides."""
    approval = assertion.agreement.approval
    content = tx.sealer.seal(assertion.model_dump_json().encode(), **_address(key.tenant, key.domain, approval))
    await tx.change(
        """insert into regie.assertion (tenant, domain, approval, sha256, content)
           values (%(tenant)s, %(domain)s, %(approval)s, %(sha256)s, %(content)s)""",
        {
            "tenant": key.tenant,
            "domain": key.domain,
            "approval": approval,
            "sha256": assertion.sha256,
            "content": content,
        },
    )


async def assertion_of(tx: Transaction, key: RunKey, approval: str) -> Assertion | None:
    """What was signed when this approval was decided; none if nothing was."""
    row = await tx.row(
        """select content from regie.assertion
           where tenant = %(tenant)s and domain = %(domain)s and approval = %(approval)s""",
        {"tenant": key.tenant, "domain": key.domain, "approval": approval},
    )
    if row is None:
        return None
    return Assertion.model_validate_json(tx.sealer.open(row["content"], **_address(key.tenant, key.domain, approval)))


def _address(tenant: str, domain: str, approval: str) -> dict[str, str]:
    return {"tenant": tenant, "domain": domain, "table": "assertion.content", "pk": approval}
