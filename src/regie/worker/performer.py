"""Carries out one piece of work: a block, a plan for an approval, the search for whom a rung means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from pydantic import BaseModel, JsonValue, ValidationError

from regie.core.block import Catalogue, Context
from regie.core.capabilities import identity
from regie.core.capability import Capability, Record
from regie.core.effect import EffectNote
from regie.core.errors import BudgetSpent, Failure, InvalidInput, OutcomeUnknown, RegieError, Terminal
from regie.core.plan import Change, NoChange, PlannedStep
from regie.core.run_commands import CoveredStep, FindApprovers, MakePlan, Perform
from regie.core.run_events import ApproversFound, Event, Failed, PlanMade, Postponed, Succeeded
from regie.engine.port import Task
from regie.gateway_client import GatewayClient, StepRef

PLANNED_AT_ONCE = 8
"""Steps under an approval that are planned at the same time."""

log = structlog.get_logger(__name__)

Want = TypeVar("Want", bound=Record)
Gives = TypeVar("Gives", bound=Record)


class _Postponed(BaseException):
    """Leaves a block whose change takes effect later. No `Exception`, so that no block catches it by mistake."""

    def __init__(self, handle: JsonValue, again_after_s: float) -> None:
        super().__init__()
        self.handle = handle
        self.again_after_s = again_after_s


class StepContext:
    """A block's way to the world for one attempt, see `core.block.Context`.

    Args:
        gateway: Of the domain's worker.
        step: Which step asks.
        is_planning: Plan only: in a dry run, and for the steps under an approval.
        covers_for: The place of the approval being planned for; empty otherwise.
        handle: Of a change that was postponed in an earlier attempt.
    """

    def __init__(
        self,
        gateway: GatewayClient,
        step: StepRef,
        *,
        is_planning: bool = False,
        covers_for: str = "",
        handle: JsonValue = None,
    ) -> None:
        self.gateway = gateway
        self.step = step
        self.is_planning = is_planning
        self.covers_for = covers_for or None
        self.handle = handle
        self.planned: list[Change | NoChange] = []
        self.effects: list[EffectNote] = []

    async def call(self, capability: Capability[Want, Gives], want: Want) -> Gives:
        """Read. See `core.block.Context`."""
        return await self.gateway.call(self.step, capability, want)

    async def change(self, capability: Capability[Want, Gives], want: Want) -> Gives:
        """Make at most one change. See `core.block.Context`."""
        if self.planned:
            raise Terminal(
                f"The block of step {self.step.place} wants a second change.",
                hint="A block makes at most one change; split it into two blocks.",
            )
        if self.is_planning:
            foreseen = await self.gateway.plan(self.step, capability, want, covers_for=self.covers_for)
            self._note(foreseen.planned, "")
            return foreseen.foreseen
        answer = await self.gateway.apply(self.step, capability, want, handle=self.handle)
        if answer.state == "pending":
            raise _Postponed(answer.handle, answer.again_after_s or 1.0)
        self._note(answer.planned, answer.receipt.request_id)
        if answer.output is None:
            raise OutcomeUnknown(f"The gateway gave no state for {capability.name} after the change.")
        return answer.output

    def _note(self, planned: Change | NoChange, request_id: str) -> None:
        self.planned.append(planned)
        is_change = isinstance(planned, Change)
        self.effects.append(
            EffectNote(
                capability=planned.capability,
                target=planned.target,
                words=planned.in_words() if isinstance(planned, Change) else planned.because,
                changed=is_change,
                digest=planned.digest if isinstance(planned, Change) else "",
                request_id=request_id,
            )
        )


class BlockPerformer:
    """Carries out work by calling blocks with a context. See `engine.port.Performer`.

    Args:
        catalogue: The blocks.
        gateways: How to ask the gateway, by domain: each domain's worker has a token of its own.
    """

    def __init__(self, catalogue: Catalogue, gateways: Callable[[str], GatewayClient]) -> None:
        self.catalogue = catalogue
        self.gateways = gateways

    async def perform(self, task: Task) -> Event:
        """Do the work. Errors of the vocabulary become `Failed`."""
        work = task.work
        match work:
            case Perform():
                return await self._answered(work.place, work.attempt, lambda: self._run_block(task, work))
            case MakePlan():
                return await self._answered(work.place, work.attempt, lambda: self._make_plan(task, work))
            case FindApprovers():
                return await self._answered(work.place, work.attempt, lambda: self._find_approvers(task, work))

    async def _answered(self, place: str, attempt: int, do: Callable[[], Awaitable[Event]]) -> Event:
        try:
            return await do()
        except RegieError as error:
            return Failed(place=place, attempt=attempt, failure=Failure.of(error))
        except ExceptionGroup as errors:
            # Of several plans that failed the first one tells; what is no error of ours is told below.
            first = next((error for error in errors.exceptions if isinstance(error, RegieError)), None)
            if first is None:
                raise
            return Failed(place=place, attempt=attempt, failure=Failure.of(first))
        except Exception as error:
            log.exception("block:broke", place=place)
            broken = Terminal(
                f"The block of step {place} broke with {type(error).__name__}.",
                hint="The worker's log has the details.",
            )
            return Failed(place=place, attempt=attempt, failure=Failure.of(broken))

    async def _run_block(self, task: Task, work: Perform) -> Event:
        ctx = StepContext(
            self.gateways(task.facts.domain),
            self._ref(task, work.place),
            is_planning=task.facts.dry,
            handle=work.handle,
        )
        try:
            output = await call_block(self.catalogue, ctx, work.uses, work.arguments)
        except _Postponed as later:
            return Postponed(
                place=work.place, attempt=work.attempt, handle=later.handle, again_after_s=later.again_after_s
            )
        except BudgetSpent as spent:
            # Nothing went wrong: the run parks until there is room, and holds nothing meanwhile.
            return Postponed(
                place=work.place, attempt=work.attempt, handle=work.handle, again_after_s=spent.after_s or 1.0
            )
        return Succeeded(
            place=work.place,
            attempt=work.attempt,
            output=output.model_dump(mode="json"),
            effects=tuple(ctx.effects),
        )

    async def _make_plan(self, task: Task, work: MakePlan) -> Event:
        places = asyncio.Semaphore(PLANNED_AT_ONCE)

        async def plan_one(step: CoveredStep) -> list[PlannedStep]:
            async with places:
                planned = await self._plan_step(task, work.place, step)
            return [PlannedStep(place=step.place, uses=step.uses, planned=change) for change in planned]

        async with asyncio.TaskGroup() as group:
            plans = [group.create_task(plan_one(step)) for step in work.steps]
        plan = [planned for each in plans for planned in each.result()]
        return PlanMade(place=work.place, attempt=work.attempt, plan=tuple(plan))

    async def _plan_step(self, task: Task, approval: str, step: CoveredStep) -> list[Change | NoChange]:
        ctx = StepContext(
            self.gateways(task.facts.domain), self._ref(task, step.place), is_planning=True, covers_for=approval
        )
        await call_block(self.catalogue, ctx, step.uses, step.arguments)
        return ctx.planned

    async def _find_approvers(self, task: Task, work: FindApprovers) -> Event:
        tenant = task.release.tenant(task.facts.tenant)
        kind, _, rest = work.who.partition(":")
        if kind == "user":
            found = [rest.strip()]
        elif kind == "role":
            found = list(tenant.roles.get(rest.strip(), ()))
        else:
            person = work.who.removeprefix("manager_of").strip()
            manager = await self.gateways(task.facts.domain).call(
                self._ref(task, work.place), identity.FIND_MANAGER, identity.UserQuery(user=person)
            )
            found = [manager.user] if manager.user else []
        return ApproversFound(place=work.place, attempt=work.attempt, rung=work.rung, approvers=tuple(found))

    def _ref(self, task: Task, place: str) -> StepRef:
        return StepRef(tenant=task.key.tenant, domain=task.key.domain, run=task.key.run, place=place, fence=task.fence)


async def call_block(catalogue: Catalogue, ctx: Context, uses: str, arguments: dict[str, JsonValue]) -> BaseModel:
    """Call a block with a context.

    Raises:
        Terminal: There is no such block here.
        InvalidInput: The arguments do not fit it.
        RegieError: Whatever the block met.
    """
    block = catalogue.get(uses)
    if block is None or block.function is None:
        raise Terminal(
            f"There is no block {uses} in this worker's catalogue.", hint="Was it removed while runs still use it?"
        )
    try:
        given = block.arguments.model_validate(arguments)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise InvalidInput(f"The arguments of {uses} do not fit: {wrong}.") from error
    return await block.function(ctx, **{name: getattr(given, name) for name in type(given).model_fields})
