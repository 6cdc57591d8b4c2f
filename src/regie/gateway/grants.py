"""What one step of one run may do, from the run's pinned release. A worker names its step and cannot widen this.

Every question passes here first: is the run still the asker's, does the step exist, does its block need the capability.
An undo needs no approval, and may only take back what the effect ledger says this very run has changed there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from pydantic import JsonValue

from regie.core import canonical
from regie.core.audit import Actor, Event, Fact
from regie.core.capabilities import identity, ticket
from regie.core.definition import Definition, Step
from regie.core.effect import EffectState, attempt_key
from regie.core.errors import Denied
from regie.core.release import Release
from regie.core.run import ANSWER, LIMIT, START, undone_place, written_place
from regie.core.starts import PollStart
from regie.core.tenant import Grant
from regie.gateway.identify import Caller
from regie.gateway_client import PollQuestion, PollRef, Question, StepRef
from regie.store import audit, claims, polls, releases, surroundings
from regie.store.approvals import granted
from regie.store.database import Database, Transaction
from regie.store.effects import Effect
from regie.store.keys import RunKey
from regie.store.schedules import StartKey

APPROVE = "people.approve"
"""The block that the interpreter itself carries out: it reads for its ladder, and plans what it covers."""

POLL = "start/poll"
"""The place of a poll, in leaves: before there is a run there is no step."""

_IMPLICIT = {START: frozenset({ticket.READ.name}), ANSWER: frozenset({ticket.COMMENT.name})}
_LOOP = re.compile(r"\[(?P<indices>[0-9]+(?:\.[0-9]+)*)\]$")


@dataclass(frozen=True, slots=True)
class Granted:
    """A grant with what stands around it.

    Attributes:
        key: The run.
        corr: The run's correlation id.
        release: The run's pinned release.
        approvals: Places of the approvals that cover the step: a change needs the yes of each.
        may_plan: A dry run, a step under an approval, or one of a run that may have to ask for more changes.
        may_apply: A step of its own, in a run that is not dry.
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
    approvals: tuple[str, ...]
    may_plan: bool
    may_apply: bool
    limit: int | None
    effect: Effect | None
    asked_at: datetime

    def is_under(self, approval: str) -> bool:
        """Whether the step is that approval, or one of those it covers; the run's own asking for more is for all."""
        if written_place(approval) == LIMIT:
            return self.limit is not None
        return written_place(approval) in {*self.approvals, written_place(self.grant.place)}


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
            definition = release.definition(held.workflow)
            limit = await _limit_of(tx, key, definition)
        row = None if undone is None else asked.effects.get(keys[-1])
        capabilities, approvals, is_approval = _allowed(definition, release, step.place)
        if question.capability not in capabilities:
            await self.deny(key, question, "step_has_no_need")
            raise Denied(f"Step {step.place} of {held.workflow} has no use for {question.capability}.")
        if undone is not None and (row is None or row.state is not EffectState.RECEIVED):
            await self.deny(key, question, "nothing_to_undo")
            raise Denied(f"Step {undone} of {held.workflow} has changed nothing in this run that could be undone.")
        if step.place in _IMPLICIT and (not held.ticket or question.want.get("ticket") != held.ticket):
            await self.deny(key, question, "not_the_runs_ticket")
            raise Denied(f"The place {step.place} is there for the run's own ticket.")
        grant = Grant(
            tenant=step.tenant,
            domain=step.domain,
            run=step.run,
            workflow=held.workflow,
            place=step.place,
            intent=_intent(held),
            capabilities=capabilities,
            dry=held.dry,
        )
        return Granted(
            grant=grant,
            key=key,
            corr=held.corr,
            fence=step.fence,
            release=release,
            approvals=approvals,
            may_plan=held.dry or bool(approvals) or is_approval or limit is not None,
            may_apply=not held.dry and not is_approval,
            # What tells the ticket how the run ended and what takes back must always be possible.
            limit=None if undone is not None or step.place in _IMPLICIT else limit,
            effect=asked.effects.get(own),
            asked_at=asked.at,
        )

    async def deny(self, key: RunKey, question: Question, reason: str) -> None:
        """Write down that a step of a run asked for what it may not do."""
        fact = Fact(
            event=Event.CAPABILITY_DENIED,
            actor=Actor(type="worker", id=f"worker:{key.domain}"),
            detail={"capability": question.capability, "place": question.step.place, "reason": reason},
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
        definition = release.definition(poll.workflow)
        its = [start for start in definition.starts(PollStart) if start.identity == poll.start]
        needs = {name for start in its for name in release.blocks.get(start.uses, ())}
        if definition.domain != poll.domain or not _is_known(poll, release) or capability not in needs:
            detail: dict[str, JsonValue] = {
                "place": POLL,
                "reason": "poll_has_no_need",
                "asked_workflow": poll.workflow,
            }
            await self._deny_outside(poll, capability, f"worker:{poll.domain}", detail)
            raise Denied(f"The poll of {poll.workflow} has no use for {capability}.")
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


def _allowed(definition: Definition, release: Release, place: str) -> tuple[frozenset[str], tuple[str, ...], bool]:
    """The capabilities a place may use, the approvals over it, and whether it is itself an approval."""
    if place in _IMPLICIT:
        return _IMPLICIT[place], (), False
    step = definition.by_place.get(written_place(place))
    if step is None or step.uses is None or _depth(place) != _loops(definition, step):
        return frozenset(), (), False
    if step.uses != APPROVE:
        return frozenset(release.blocks.get(step.uses, ())), approvals_over(definition, step), False
    covered = {name for below in _covered(definition, step) for name in release.blocks.get(below.uses or "", ())}
    return frozenset(covered | {identity.FIND_MANAGER.name}), (), True


def approvals_over(definition: Definition, step: Step) -> tuple[str, ...]:
    """Places of the approvals that cover a written step, by its own id or by that of a step around it."""
    return tuple(
        other.place
        for other in definition.by_place.values()
        if other.uses == APPROVE and any(below.place == step.place for below in _covered(definition, other))
    )


def _covered(definition: Definition, approval: Step) -> Iterator[Step]:
    """Every step an approval covers. What handles an error is not covered: nobody can plan it beforehand."""
    names = approval.arguments.get("covers", [])
    for name in names if isinstance(names, list) else []:
        step = definition.by_id.get(str(name))
        if step is not None:
            yield from _below(step)


def _below(step: Step) -> Iterator[Step]:
    yield step
    for child in step.steps:
        yield from _below(child)


def _depth(place: str) -> int:
    """In how many loops a place of a run stands."""
    found = _LOOP.search(place)
    return len(found["indices"].split(".")) if found else 0


def _loops(definition: Definition, step: Step) -> int:
    """In how many loops a step does its work: a place with other indices is made up."""
    return len(definition.loops[step.place]) + (1 if step.for_each else 0)
