"""`regie refuse`: what a person sees before they answer."""

from __future__ import annotations

import pytest

from regie.store import accounts

from .stage import OPERATOR, Stage

pytestmark = pytest.mark.slow

ANA, PASSWORD = "ana.approver@example.com", "een lang wachtwoord"


@pytest.mark.usefixtures("answering")
async def test_a_question_without_a_plan_promises_nothing(stage: Stage) -> None:
    approval = await stage.ask(ANA)
    async with stage.database.transaction() as tx:
        await accounts.add(tx, address=ANA, display_name="Ana", password=PASSWORD, roles=(), by=OPERATOR)
    refused = await stage.regie("refuse", approval, "--as", ANA, password=PASSWORD)
    assert refused.returncode == 0, refused.stderr
    assert "No plan: what the run changes afterwards is not bound to the answer." in refused.stderr
