"""Blocks that wait for people."""

from __future__ import annotations

from regie.core.approval import APPROVE, ApprovalArguments, ApprovalOutcome
from regie.core.block import interpreted

approve = interpreted(
    APPROVE,
    arguments=ApprovalArguments,
    gives=ApprovalOutcome,
    doc="""
    Show people a plan and wait for a yes.

    The people asked see, field by field, what the steps named under `covers` would change, and sign exactly that. Each
    rung of `ask` is given its time (`within`), is reminded (`remind`), and on silence the next rung is asked as well.
    Whoever asked for the run is never asked, nor are those whom it is `about`. After the last rung silence is a no. The
    result is data: only a `decision` of `approved` means yes; the others are `refused` and `timeout`. `who` is
    `user:ADDRESS`, `role:NAME` (the tenant says who holds it) or `manager_of ADDRESS`.

    Example:
        uses: people.approve
        with:
          question: Close the account of Jan Janssen?
          covers: [close]
          ask:
            - { who: manager_of jan.janssen@example.com, within: 8h, remind: 2h }
            - { who: "role:security-officer", within: 4h }
          otherwise: deny
    """,
)
