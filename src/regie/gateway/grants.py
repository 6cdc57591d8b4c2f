"""What one step of one run may do. A worker names its step and cannot widen this.

Every question passes here first: is the run still the asker's, what does its pinned release say about the step. Then
the policies of the current release decide: what is forbidden today is forbidden to runs of yesterday too.
An undo needs no approval, and may only take back what the effect ledger says this very run has changed there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from pydantic import JsonValue

from regie.core import canonical
from regie.core.audit import Actor, Event, Fact
from regie.core.definition import Definition
from regie.core.effect import EffectState, attempt_key
from regie.core.errors import Denied
from regie.core.needs import needs_at
from regie.core.places import LIMIT, undone_place, written_place
from regie.core.release import Release
from regie.core.starts import POLL_PLACE, PollStart
from regie.core.tenant import Grant
from regie.gateway.identify import Caller
from regie.gateway_client import ApplyQuestion, PlanQuestion, PollQuestion, PollRef, Question, StepRef
from regie.policy import steps
from regie.policy.cedar import Decision, Policies, policies_of
from regie.policy.steps import Asking, StepFacts
from regie.store import audit, claims, polls, releases, surroundings
from regie.store.approvals import granted
from regie.store.database import Database, Transaction
from regie.store.effects import Effect
from regie.store.keys import RunKey
from regie.store.schedules import StartKey


@dataclass(frozen=True, slots=True)
class Granted:
    """A grant with what stands around it.

    Attributes:
        key: The run.
        corr: The run's correlation id.
        release: The run's pinned release.
        requester: Address of the person who asked for the run; empty when no person did.
        step: What the policies know of the step.
        policies: Those of the current release: they decide about the very change too.
        approvals: Places of the approvals that cover the step: a change needs the yes of each.
        limit: How many changes the run may make, for a step that counts, with all that people have allowed since; None
            without a limit.
        effect: What the ledger knows of the step, if it got that far before.
        asked_at: When that was so, by the database's clock.
    """

    grant: Grant
    key: RunKey
    corr: str
    fence: int
    release: Release
    requester: str
    step: StepFacts
    policies: Policies
    approvals: tuple[str, ...]
    limit: int | None
    effect: Effect | None
    asked_at: datetime


class Grants:
    """Looks grants up, and writes down what was denied."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look_up(self, caller: Caller, question: Question) -> Granted:
        """The grant under which a question may be answered.

        Raises:
            FencedOut: The asker does not own the run any more, or the run is over.
            Denied: The asker belongs to another domain, or the step has no use for the capability.
        """
        step = question.step
        key = RunKey(step.tenant, step.domain, step.run)
        if caller.domain != step.domain:
            await self._deny_stranger(caller, step, question.capability, {"asked_run": step.run})
        own, undone = attempt_key(step.run, step.place), undone_place(step.place)
        keys = [own] if undone is None else [own, attempt_key(step.run, undone)]
        async with self._database.glance(key.tenant) as tx:
            asked = await surroundings.asked(tx, key, step.fence, keys)
            held = asked.held
            release = await releases.get(tx, held.release)
            policies = policies_of(await releases.get(tx, asked.current_release))
            definition = release.definition(held.workflow)
            limit = await _limit_of(tx, key, definition)
        row = None if undone is None else asked.effects.get(keys[-1])
        needs = needs_at(definition, release.blocks, step.place)
        facts = StepFacts.of(
            needs,
            tenant=step.tenant,
            domain=step.domain,
            workflow=held.workflow,
            at=step.place,
            is_dry=held.dry,
        )
        # What tells the ticket how the run ended and what takes back must always be possible.
        counted = None if undone is not None or facts.is_around else limit
        request = steps.ask(
            facts,
            _asking(question),
            question.capability,
            may_plan=_is_under(question, facts, has_limit=counted is not None)
            and (facts.is_dry or facts.is_approval or bool(facts.approvals) or limit is not None),
            has_changed=row is not None and row.state is EffectState.RECEIVED,
            is_own_ticket=bool(held.ticket) and question.want.get("ticket") == held.ticket,
        )
        decision = policies.decide(request)
        if not decision.is_allowed:
            await self.deny(key, question, decision)
            raise decision.denied(
                f"No policy allows step {step.place} of {held.workflow} to {request.action} {question.capability}."
            )
        grant = Grant(
            tenant=step.tenant,
            domain=step.domain,
            run=step.run,
            workflow=held.workflow,
            place=step.place,
            intent=_intent(held),
            capabilities=needs.capabilities,
            dry=held.dry,
        )
        return Granted(
            grant=grant,
            key=key,
            corr=held.corr,
            fence=step.fence,
            release=release,
            requester=held.requester,
            step=facts,
            policies=policies,
            approvals=needs.approvals,
            limit=counted,
            effect=asked.effects.get(own),
            asked_at=asked.at,
        )

    async def deny(self, key: RunKey, question: Question, decision: Decision) -> None:
        """Write down that a step of a run asked for what it may not do."""
        about: dict[str, JsonValue] = {"capability": question.capability, "place": question.step.place}
        fact = Fact(
            event=Event.CAPABILITY_DENIED,
            actor=Actor(type="worker", id=f"worker:{key.domain}"),
            detail={**about, "reason": decision.reason, **decision.told},
        )
        async with self._database.transaction(key.tenant) as tx:
            await audit.append(tx, key, [fact])

    async def look_up_poll(self, caller: Caller, question: PollQuestion) -> Release:
        """The release under which a poll may be answered.

        Raises:
            FencedOut: The asker does not hold the poll any more.
            Denied: The asker belongs to another domain, or the poll has no use for the capability.
        """
        poll, capability = question.poll, question.capability
        if caller.domain != poll.domain:
            await self._deny_stranger(caller, poll, capability, {"asked_workflow": poll.workflow})
        key = StartKey(poll.tenant, poll.domain, poll.workflow, poll.start)
        async with self._database.reading(key.tenant) as tx:
            release = await releases.get(tx, await polls.held(tx, key, poll.fence))
            policies = policies_of(await releases.current(tx))
        definition = release.definition(poll.workflow)
        its = [start for start in definition.starts(PollStart) if start.identity == poll.start]
        needs = {name for start in its for name in release.blocks.get(start.uses, ())}
        if definition.domain != poll.domain or not _is_known(poll, release) or capability not in needs:
            detail: dict[str, JsonValue] = {
                "place": POLL_PLACE,
                "reason": "poll_has_no_need",
                "asked_workflow": poll.workflow,
            }
            await self._deny_outside(poll, capability, f"worker:{poll.domain}", detail)
            raise Denied(f"The poll of {poll.workflow} has no use for {capability}.")
        facts = StepFacts(
            tenant=poll.tenant,
            domain=poll.domain,
            workflow=poll.workflow,
            place=POLL_PLACE,
            at=POLL_PLACE,
            needs=frozenset(needs),
        )
        decision = policies.decide(steps.ask(facts, "call", capability))
        if not decision.is_allowed:
            told: dict[str, JsonValue] = {
                "place": POLL_PLACE,
                "asked_workflow": poll.workflow,
                "reason": decision.reason,
                **decision.told,
            }
            await self._deny_outside(poll, capability, f"worker:{poll.domain}", told)
            raise decision.denied(f"No policy allows the poll of {poll.workflow} to call {capability}.")
        return release

    async def _deny_stranger(
        self, caller: Caller, asked: StepRef | PollRef, capability: str, detail: dict[str, JsonValue]
    ) -> NoReturn:
        """Refuse another domain's caller, in the log of the domain it reached for, if there is one."""
        await self._deny_outside(asked, capability, caller.name, {**detail, "reason": "token_of_another_domain"})
        raise Denied(f"{caller.name} may not ask for domain {asked.domain}.")

    async def _deny_outside(
        self, asked: StepRef | PollRef, capability: str, caller: str, detail: dict[str, JsonValue]
    ) -> None:
        actor = Actor(type="worker", id=caller)
        fact = Fact(event=Event.CAPABILITY_DENIED, actor=actor, detail={"capability": capability, **detail})
        async with self._database.transaction(asked.tenant) as tx:
            if _is_known(asked, await releases.current(tx)):
                await audit.append_outside(tx, asked.tenant, asked.domain, [fact])


async def _limit_of(tx: Transaction, key: RunKey, definition: Definition) -> int | None:
    """How many changes a run may make by now: each yes to its asking for more lets it make as many again."""
    if definition.limit is None:
        return None
    yes = sum(written_place(each.place) == LIMIT for each in await granted(tx, key))
    return definition.limit * (1 + yes)


def _intent(held: claims.HeldRun) -> str:
    """What was asked for. A ticket asks for each child by itself."""
    if held.ticket and held.lineage:
        return canonical.encode([held.ticket, *held.lineage]).decode()
    return held.intent


def _is_known(asked: StepRef | PollRef, release: Release) -> bool:
    tenant = release.tenants.get(asked.tenant)
    return tenant is not None and asked.domain in tenant.domains


def _asking(question: Question) -> Asking:
    match question:
        case ApplyQuestion():
            return "apply"
        case PlanQuestion():
            return "plan"
        case _:
            return "call"


def _is_under(question: Question, step: StepFacts, *, has_limit: bool) -> bool:
    """Whether a step is planned for itself, or for the approval that it is or is covered by.

    The run's own asking for more changes is for all that count.
    """
    covers_for = question.covers_for if isinstance(question, PlanQuestion) else None
    if covers_for is not None and written_place(covers_for) == LIMIT:
        return has_limit
    return covers_for is None or written_place(covers_for) in {*step.approvals, step.place}
