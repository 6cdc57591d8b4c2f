"""The shipped policies: a golden table, and that no line of them is idle."""

from pathlib import Path

import pytest

from regie.core.source import read_record
from regie.policy import golden, steps
from regie.policy.cedar import Policies, shipped
from regie.policy.golden import Table
from regie.policy.statements import statements
from regie.policy.steps import StepFacts

from .stage import release

FILE = Path(__file__).parent / "decisions.yaml"
TABLE = read_record(FILE.read_text(), str(FILE), Table)
OURS = Policies(shipped())
FOREIGN = StepFacts(
    tenant="acme", domain="identity", workflow="identity.offboard", place="say", at="say", needs=frozenset({"a.b"})
)


def test_they_decide_as_the_table_says() -> None:
    assert [each.fault for each in golden.check(TABLE, OURS, release()) if each.fault] == []


def test_a_step_asks_for_nothing_of_another_tenant() -> None:
    asked = steps.ask(FOREIGN, "call", "a.b")
    foreign = {**asked.resource.attributes, "tenant": "globex"}
    moved = type(asked)(
        principal=asked.principal,
        action="call",
        resource=type(asked.resource)(asked.resource.ref, foreign),
        context=asked.context,
        words=asked.words,
    )
    assert OURS.decide(asked).is_allowed
    assert OURS.decide(moved).policies == ("another_tenants_step",)


# A step of another tenant is asked for above; no golden line can speak of one.
@pytest.mark.parametrize("gone", sorted({each.id for each in OURS.known.values()} - {"another_tenants_step"}))
def test_without_any_of_them_the_table_is_wrong(gone: str) -> None:
    left = {
        name: "\n".join(each.text for each in statements(text) if f'@id("{gone}")' not in each.text)
        for name, text in shipped().items()
    }
    assert any(each.fault for each in golden.check(TABLE, Policies(left), release()))
