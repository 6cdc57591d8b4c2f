"""`python -m bench.policies`: how long a decision of the shipped policies takes, in milliseconds.

A question that was asked before is answered from memory, so both are told: questions that are all different, and one
asked again and again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable

from regie.policy import steps
from regie.policy.cedar import Policies, shipped
from regie.policy.request import Request
from regie.policy.steps import StepFacts

CAPABILITIES = tuple(f"identity.capability_{number}" for number in range(12))


def question(number: int) -> Request:
    """What the gateway asks about a change of a step; each number's is another one."""
    facts = StepFacts(
        tenant=f"customer-{number % 200}",
        domain="identity",
        workflow="identity.offboard_employee",
        place=f"close/{number}",
        at=f"close/{number}",
        needs=frozenset(CAPABILITIES[: 1 + number % len(CAPABILITIES)]),
        undone="",
        is_dry=False,
        is_approval=False,
        is_around=False,
    )
    return steps.ask(facts, "apply", CAPABILITIES[number % 3], may_plan=True, has_changed=False, is_own_ticket=True)


def timed(policies: Policies, asked: Iterable[Request]) -> dict[str, float]:
    """Half of the decisions, and 95 and 99 of 100, took at most that many milliseconds."""
    took = []
    for each in asked:
        began_s = time.perf_counter()
        policies.decide(each)
        took.append((time.perf_counter() - began_s) * 1000)
    took.sort()
    return {f"p{part}_ms": round(took[len(took) * part // 100], 3) for part in (50, 95, 99)}


def main() -> None:
    """Measure and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.policies", description=__doc__)
    parser.add_argument("--decisions", type=int, default=10_000, help="of each kind (default: 10,000)")
    given = parser.parse_args()
    policies = Policies(shipped())
    questions = [question(number) for number in range(given.decisions)]
    figures = {
        "all different": timed(policies, questions),
        "asked before": timed(policies, [questions[-1]] * given.decisions),
    }
    sys.stdout.write(json.dumps({"decisions": given.decisions, **figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
