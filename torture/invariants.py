"""What must hold after any storm: evidence in, violations out. Each is a fault of Regie, whatever was done to it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from regie.core import canonical
from regie.core.audit import Event
from regie.core.effect import EffectState
from regie.core.status import RunStatus
from torture.evidence import Evidence, LeafSeen, RunSeen, Wish

COVERED = "identity."
"""Capabilities whose changes need a yes in the workflow that is tortured begin with this."""
_RECEIPTS = {EffectState.RECEIVED: Event.EFFECT_RECEIVED, EffectState.UNCHANGED: Event.EFFECT_UNCHANGED}


@dataclass(frozen=True)
class Violation:
    """One thing that must not be.

    Attributes:
        rule: Name of the invariant.
        about: Run, ticket or person.
    """

    rule: str
    about: str
    what: str


Found = Iterator[tuple[str, str]]


def violations(evidence: Evidence) -> list[Violation]:
    """Check every invariant."""
    return [Violation(rule, about, what) for rule, check in RULES.items() for about, what in check(evidence)]


def _no_request_is_lost(evidence: Evidence) -> Found:
    by_ticket = Counter(run.ticket for run in evidence.runs)
    ids = {run.id for run in evidence.runs}
    for request in evidence.requests:
        if request.ticket and not by_ticket[request.ticket]:
            yield request.name, "was accepted and has no run"
        if not request.ticket and request.answered not in ids:
            yield request.name, f"was answered with run {request.answered}, which does not exist"


def _no_request_has_two_runs(evidence: Evidence) -> Found:
    known = {request.ticket for request in evidence.requests if request.ticket}
    for ticket, number in Counter(run.ticket for run in evidence.runs if run.ticket).items():
        if number > 1:
            yield ticket, f"has {number} runs"
        if ticket not in known:
            yield ticket, "has a run and was never asked for"
    answered = {request.answered for request in evidence.requests if not request.ticket}
    for run in evidence.runs:
        if not run.ticket and run.id not in answered:
            yield run.id, "has no ticket and no request that was answered with it"


def _every_run_ends(evidence: Evidence) -> Found:
    for run in evidence.runs:
        if not run.status.is_final:
            yield run.id, f"is still {run.status.value} after the calm"


def _no_effect_happens_twice(evidence: Evidence) -> Found:
    people = Counter((write.whose, write.method, write.path) for write in evidence.writes if write.about == "person")
    for (whose, method, path), number in people.items():
        if number > 1:
            yield whose, f"{method} {path} was taken {number} times"
    comments: dict[str, list[str]] = defaultdict(list)
    moves: Counter[tuple[str, str]] = Counter()
    for write in evidence.writes:
        if write.meant[0] == "ticket.comment":
            comments[write.whose].append(write.marker)
        elif write.meant[0] == "ticket.close":
            moves[write.whose, canonical.encode(dict(write.after)).decode()] += 1
    for ticket, markers in comments.items():
        if len(markers) > 1:
            yield ticket, f"has {len(markers)} comments with {len(set(markers))} markers"
        if "" in markers:
            yield ticket, "has a comment of ours without a marker"
    for (ticket, move), number in moves.items():
        if number > 1:
            yield ticket, f"was moved {number} times to {move}"


def _no_effect_without_intent(evidence: Evidence) -> Found:
    intents: dict[tuple[str, str], list[LeafSeen]] = defaultdict(list)
    for _, leaf in _leaves(evidence, Event.EFFECT_INTENDED):
        intents[leaf.capability, leaf.target_sha256].append(leaf)
    tenants = {run.tenant for run in evidence.runs}
    for write in evidence.writes:
        capability, target = write.meant
        if not capability:
            yield write.whose, f"{write.method} {write.path} is none of our requests"
            continue
        named = [intents[capability, canonical.digest(["target", tenant, target])] for tenant in tenants]
        if not any(leaf.at <= write.at for leaves in named for leaf in leaves):
            yield write.whose, f"{capability} on {target} happened without an earlier effect:intended"


def _covered_effects_are_approved(evidence: Evidence) -> Found:
    for run, leaf in _leaves(evidence, Event.EFFECT_INTENDED):
        if not leaf.capability.startswith(COVERED):
            continue
        yes = next((each for each in run.approvals if each.id == leaf.approval), None)
        if yes is None or yes.status != "approved" or yes.decided_at is None:
            yield run.id, f"{leaf.capability} was intended without a granted approval"
        elif leaf.change_sha256 not in yes.changes:
            yield run.id, f"{leaf.capability} was intended with a change that the approval does not list"
        elif yes.decided_at > leaf.at:
            yield run.id, f"{leaf.capability} was intended before the approval was granted"
        elif yes.decided_by.lower() == yes.requester.lower():
            yield run.id, f"{leaf.capability} was approved by whoever asked for it"


def _each_effect_has_one_receipt(evidence: Evidence) -> Found:
    for run in evidence.runs:
        counted = Counter((leaf.event, leaf.attempt_key) for leaf in run.leaves)
        for effect in run.effects:
            for state, event in _RECEIPTS.items():
                expected, found = int(effect.state is state), counted[event, effect.attempt_key]
                if found != expected:
                    yield run.id, f"{effect.capability} is {effect.state.value} and has {found} leaves {event.value}"
            if run.status is RunStatus.DONE and effect.state not in _RECEIPTS:
                yield run.id, f"is done, and {effect.capability} is {effect.state.value}"


def _no_receipt_without_effect(evidence: Evidence) -> Found:
    happened = {write.meant for write in evidence.writes}
    for run in evidence.runs:
        for effect in run.effects:
            if effect.state is EffectState.RECEIVED and (effect.capability, effect.target) not in happened:
                yield run.id, f"{effect.capability} on {effect.target} is received and never happened"


def _audit_chains_are_whole(evidence: Evidence) -> Found:
    for run in evidence.runs:
        for fault in run.chain_faults:
            yield run.id, fault


def _without_a_yes_nothing_changes(evidence: Evidence) -> Found:
    approved = {run.person for run in evidence.runs if run.is_approved}
    for write in evidence.writes:
        if write.about == "person" and write.whose not in approved:
            yield write.whose, f"{write.method} {write.path} happened, and nobody said yes"
    by_name = {request.ticket or request.answered: request for request in evidence.requests}
    for run in evidence.runs:
        request = by_name.get(run.ticket or run.id)
        if run.is_approved and request is not None and request.wish is not Wish.APPROVE:
            yield run.id, f"is approved, and its people wanted to {request.wish.value}"


def _what_is_done_is_done(evidence: Evidence) -> Found:
    groups = {request.person: set(request.groups) for request in evidence.requests}
    for run in evidence.runs:
        if run.status is not RunStatus.DONE or not run.is_approved:
            continue
        person = evidence.people.get(run.person)
        if person is None:
            yield run.id, f"is about {run.person!r}, whom nobody knows"
        elif person.is_enabled or person.has_live_session or person.groups & groups.get(run.person, set()):
            yield run.person, f"run {run.id} is done, and the account is {person}"


def _leaves(evidence: Evidence, event: Event) -> Iterator[tuple[RunSeen, LeafSeen]]:
    return ((run, leaf) for run in evidence.runs for leaf in run.leaves if leaf.event is event)


RULES: dict[str, Callable[[Evidence], Found]] = {
    "no accepted request is lost": _no_request_is_lost,
    "one request, one run": _no_request_has_two_runs,
    "every run ends": _every_run_ends,
    "no effect happens twice": _no_effect_happens_twice,
    "no effect without an earlier intent": _no_effect_without_intent,
    "covered effects are approved": _covered_effects_are_approved,
    "each effect has one receipt": _each_effect_has_one_receipt,
    "no receipt without an effect": _no_receipt_without_effect,
    "audit chains are whole": _audit_chains_are_whole,
    "without a yes nothing changes": _without_a_yes_nothing_changes,
    "what is done is done": _what_is_done_is_done,
}
"""Every invariant by its name."""
