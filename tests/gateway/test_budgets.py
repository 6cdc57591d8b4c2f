"""What a vendor asked us to wait is waited, by those it concerns."""

import pytest

from regie.core.errors import Throttled
from regie.gateway.budgets import UNSAID_S, Budgets

ONE = ("acme", "directory", "identity.disable_account")


def test_the_time_asked_for_is_kept_and_then_over() -> None:
    now = 100.0
    budgets = Budgets(lambda: now)
    budgets.take(ONE)
    budgets.note(ONE, Throttled("slow", after_s=30))

    now = 129.0
    with pytest.raises(Throttled) as caught:
        budgets.take(ONE)
    assert caught.value.after_s == 1
    for other in (("globex", *ONE[1:]), ("acme", "spare", ONE[2]), (*ONE[:2], "identity.list_access")):
        budgets.take(other)

    now = 130.0
    budgets.take(ONE)


def test_a_longer_wait_stands_and_an_unsaid_one_is_short() -> None:
    now = 0.0
    budgets = Budgets(lambda: now)
    budgets.note(ONE, Throttled("slow", after_s=30))
    budgets.note(ONE, Throttled("slow"))
    now = 29.0
    with pytest.raises(Throttled):
        budgets.take(ONE)

    now = 40.0
    budgets.take(ONE)
    budgets.note(ONE, Throttled("slow"))
    with pytest.raises(Throttled):
        budgets.take(ONE)
    now += UNSAID_S
    budgets.take(ONE)
