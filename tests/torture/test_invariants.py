"""The examiner: a good story has no violation, and each fault that is planted into it is found and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from regie.core import canonical
from regie.core.audit import Event
from regie.core.effect import EffectState
from regie.core.status import RunStatus
from torture.evidence import ApprovalSeen, EffectSeen, Evidence, LeafSeen, PersonSeen, Request, RunSeen, Wish, Write
from torture.invariants import RULES, violations

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LEAVER, STAYER = "p00001@example.com", "p00002@example.com"
DISABLE, COMMENT = "identity.disable_account", "ticket.comment"
MARK = "regie-0123456789abcdef0123"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def leaf(event: Event, seconds: float, capability: str, target: str, key: str, *, approval: str = "") -> LeafSeen:
    digest = canonical.digest(["target", "example", target])
    return LeafSeen(event, at(seconds), capability, digest, "the change" if approval else "", key, approval)


def comment_leaves(ticket: str) -> tuple[LeafSeen, ...]:
    target = f"ticket:{ticket}"
    return (
        leaf(Event.EFFECT_INTENDED, 5, COMMENT, target, f"say {ticket}"),
        leaf(Event.EFFECT_RECEIVED, 7, COMMENT, target, f"say {ticket}"),
    )


def said(seq: int, ticket: str) -> Write:
    body = {"comment": str(seq), "body": {"text": f"It is done. {MARK}"}}
    return Write(seq, at(6), "ticket", ticket, "POST", f"/jira/rest/api/3/issue/{ticket}/comment", body)


SAY = EffectSeen("say ITSM-1", COMMENT, "ticket:ITSM-1", EffectState.RECEIVED)
YES = ApprovalSeen(
    "yes", "approved", "elif.demir@example.com", "piet.devries@example.com", at(1), frozenset({"the change"})
)
APPROVED = RunSeen(
    id="run-1",
    tenant="example",
    ticket="ITSM-1",
    person=LEAVER,
    status=RunStatus.DONE,
    leaves=(
        leaf(Event.EFFECT_INTENDED, 2, DISABLE, "user:id-1", "close", approval="yes"),
        leaf(Event.EFFECT_RECEIVED, 4, DISABLE, "user:id-1", "close"),
        *comment_leaves("ITSM-1"),
    ),
    effects=(EffectSeen("close", DISABLE, "user:id-1", EffectState.RECEIVED), SAY),
    approvals=(YES,),
)
REFUSED = RunSeen(
    id="run-2",
    tenant="example",
    ticket="ITSM-2",
    person=STAYER,
    status=RunStatus.REFUSED,
    leaves=comment_leaves("ITSM-2"),
    effects=(EffectSeen("say ITSM-2", COMMENT, "ticket:ITSM-2", EffectState.RECEIVED),),
    approvals=(replace(YES, id="no", status="refused"),),
)
DISABLED = Write(1, at(3), "person", LEAVER, "PATCH", "/graph/v1.0/users/id-1", {"accountEnabled": False})
GOOD = Evidence(
    requests=(
        Request("ITSM-1", "ITSM-1", LEAVER, "id-1", ("group-1",), Wish.APPROVE),
        Request("ITSM-2", "ITSM-2", STAYER, "id-2", (), Wish.REFUSE),
    ),
    runs=(APPROVED, REFUSED),
    writes=(DISABLED, said(2, "ITSM-1"), said(3, "ITSM-2")),
    people={
        LEAVER: PersonSeen(is_enabled=False, has_live_session=False, groups=frozenset()),
        STAYER: PersonSeen(is_enabled=True, has_live_session=True, groups=frozenset()),
    },
)


def with_runs(*runs: RunSeen) -> Evidence:
    return replace(GOOD, runs=runs)


def with_write(*more: Write) -> Evidence:
    return replace(GOOD, writes=(*GOOD.writes, *more))


def without_leaves(run: RunSeen, event: Event) -> RunSeen:
    return replace(run, leaves=tuple(each for each in run.leaves if each.event is not event))


def approved_as(**other: Any) -> Evidence:
    return with_runs(replace(APPROVED, approvals=(replace(YES, **other),)), REFUSED)


PLANTED: dict[str, list[Callable[[], Evidence]]] = {
    "no accepted request is lost": [
        lambda: with_runs(APPROVED),
        lambda: replace(
            GOOD, requests=(*GOOD.requests, Request("key", "", STAYER, "id-2", (), Wish.REFUSE, answered="run-9"))
        ),
    ],
    "one request, one run": [
        lambda: with_runs(APPROVED, REFUSED, replace(REFUSED, id="run-3")),
        lambda: with_runs(APPROVED, REFUSED, replace(REFUSED, id="run-3", ticket="ITSM-9")),
        lambda: with_runs(APPROVED, REFUSED, replace(REFUSED, id="run-3", ticket="")),
    ],
    "every run ends": [lambda: with_runs(APPROVED, replace(REFUSED, status=RunStatus.WAITING))],
    "no effect happens twice": [
        lambda: with_write(replace(DISABLED, seq=9, at=at(8))),
        lambda: with_write(said(9, "ITSM-1")),
        lambda: replace(GOOD, writes=(DISABLED, said(2, "ITSM-1"), replace(said(3, "ITSM-2"), after={"body": "Bye."}))),
    ],
    "no effect without an earlier intent": [
        lambda: with_runs(without_leaves(APPROVED, Event.EFFECT_INTENDED), REFUSED),
        lambda: replace(GOOD, writes=(replace(DISABLED, at=at(1.5)), *GOOD.writes[1:])),
        lambda: with_write(replace(DISABLED, method="DELETE")),
    ],
    "covered effects are approved": [
        lambda: approved_as(id="another"),
        lambda: approved_as(status="timeout"),
        lambda: approved_as(changes=frozenset({"another change"})),
        lambda: approved_as(decided_at=at(2.5)),
        lambda: approved_as(decided_by="Elif.Demir@example.com"),
    ],
    "each effect has one receipt": [
        lambda: with_runs(without_leaves(APPROVED, Event.EFFECT_RECEIVED), REFUSED),
        lambda: with_runs(replace(APPROVED, leaves=(*APPROVED.leaves, APPROVED.leaves[1])), REFUSED),
        lambda: with_runs(
            replace(APPROVED, effects=(replace(APPROVED.effects[0], state=EffectState.UNKNOWN), SAY)), REFUSED
        ),
    ],
    "no receipt without an effect": [lambda: replace(GOOD, writes=GOOD.writes[1:])],
    "audit chains are whole": [lambda: with_runs(replace(APPROVED, chain_faults=("leaf 2 is gone",)), REFUSED)],
    "without a yes nothing changes": [
        lambda: with_write(replace(DISABLED, whose=STAYER, path="/graph/v1.0/users/id-2")),
        lambda: replace(GOOD, requests=(replace(GOOD.requests[0], wish=Wish.SILENT), GOOD.requests[1])),
    ],
    "what is done is done": [
        lambda: replace(GOOD, people={**GOOD.people, LEAVER: replace(GOOD.people[LEAVER], is_enabled=True)}),
        lambda: replace(GOOD, people={**GOOD.people, LEAVER: replace(GOOD.people[LEAVER], has_live_session=True)}),
        lambda: replace(
            GOOD, people={**GOOD.people, LEAVER: replace(GOOD.people[LEAVER], groups=frozenset({"group-1"}))}
        ),
        lambda: replace(GOOD, people={STAYER: GOOD.people[STAYER]}),
    ],
}


def test_a_good_story_has_no_violation() -> None:
    assert violations(GOOD) == []


def test_every_rule_has_planted_faults() -> None:
    assert PLANTED.keys() == RULES.keys()


@pytest.mark.parametrize(
    ("rule", "number"), [(rule, n) for rule, faults in PLANTED.items() for n in range(len(faults))]
)
def test_a_planted_fault_is_found(rule: str, number: int) -> None:
    found = violations(PLANTED[rule][number]())
    assert rule in {violation.rule for violation in found}


def test_a_group_that_the_person_had_not_been_in_at_first_is_nobodys_fault() -> None:
    person = replace(GOOD.people[LEAVER], groups=frozenset({"All of Engineering"}))
    assert violations(replace(GOOD, people={**GOOD.people, LEAVER: person})) == []
