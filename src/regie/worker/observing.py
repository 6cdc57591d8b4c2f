"""Counts, times and traces what a worker does, from outside: around its performer, and beside its loop."""

from __future__ import annotations

import time
from contextvars import ContextVar
from functools import cache

from prometheus_client import Counter, Histogram

from regie import logs
from regie.core.approval import APPROVE
from regie.core.run import RunState
from regie.core.run_commands import FindApprovers, MakePlan, Perform, Work
from regie.core.run_events import ApproversFound, Event, Failed, PlanMade, Postponed, Succeeded
from regie.engine.port import Performer, Task
from regie.store.claims import Claimed
from regie.telemetry import metrics, traces

OUTCOMES: dict[type[Event], str] = {
    Succeeded: "succeeded",
    Failed: "failed",
    Postponed: "postponed",
    PlanMade: "planned",
    ApproversFound: "asked",
}
"""Of attempts, in metrics and traces."""

_taken_s: ContextVar[float] = ContextVar("taken_s")
"""When the run of this task was taken, on the monotonic clock."""


class Observed:
    """A performer that tells how it does. Also an `engine.port.Watcher`."""

    def __init__(self, performer: Performer) -> None:
        self._performer = performer

    async def perform(self, task: Task) -> Event:
        """Have the work done. See `engine.port.Performer`."""
        facts, uses = task.facts, block_of(task.work)
        # So it stays where the attempt is given no more time, or the worker stops.
        outcome = metrics.CUT_OFF
        queued, took = _times_of(facts.domain, uses)
        queued.observe(task.waited_s)
        began_s = time.monotonic()
        try:
            event = await (self._traced(task, uses) if traces.is_on() else self._performer.perform(task))
            outcome = outcome_of(event)
            return event
        finally:
            took.observe(time.monotonic() - began_s)
            _attempts_of(facts.tenant, facts.domain, facts.workflow, outcome).inc()

    async def _traced(self, task: Task, uses: str) -> Event:
        attributes: traces.Attributes = {
            **about_run(task.key.tenant, task.key.domain, task.facts.workflow, task.key.run, task.corr),
            "regie.place": task.work.place,
            "regie.attempt": task.work.attempt,
            "regie.block": uses,
        }
        parent = traces.of_run(task.key.run, task.trace)
        with traces.span(f"step {uses}", attributes, parent=parent) as opened:
            event = await self._performer.perform(task)
            opened.set_attribute("regie.outcome", outcome_of(event))
            if isinstance(event, Failed):
                traces.fail(opened, event.failure.kind)
            return event

    def took(self, claimed: Claimed) -> None:
        """A run is in this worker's hands: every line of the log from its task names it."""
        key = claimed.claim.key
        _taken_s.set(time.monotonic())
        logs.bind(run=key.run, tenant=key.tenant, domain=key.domain, corr=claimed.corr)
        if claimed.claim.seq == 0 and claimed.claim.fence == 1 and not claimed.dry:
            metrics.RUNS_BEGUN.labels(key.tenant, key.domain, claimed.workflow).inc()

    def let_go(self, claimed: Claimed, state: RunState) -> None:
        """The run has ended, or waits."""
        if not state.status.is_final:
            return
        key, workflow = claimed.claim.key, claimed.workflow
        traces.run_ended(
            key.run,
            claimed.trace,
            f"run {workflow}",
            {**about_run(key.tenant, key.domain, workflow, key.run, claimed.corr), "regie.outcome": state.status.value},
            began=claimed.started_at,
            failure=state.failure.kind if state.failure is not None else "",
        )
        if not claimed.dry:
            metrics.RUNS_ENDED.labels(key.tenant, key.domain, workflow, state.status.value).inc()
            metrics.RUN_SECONDS.labels(key.domain, workflow).observe(claimed.age_s + time.monotonic() - _taken_s.get())


@cache
def _times_of(domain: str, block: str) -> tuple[Histogram, Histogram]:
    """Where waits and work are noted, looked up once: steps come by the thousand."""
    return metrics.QUEUE_SECONDS.labels(domain), metrics.STEP_SECONDS.labels(domain, block)


@cache
def _attempts_of(tenant: str, domain: str, workflow: str, outcome: str) -> Counter:
    return metrics.STEP_ATTEMPTS.labels(tenant, domain, workflow, outcome)


def outcome_of(event: Event) -> str:
    """What came of an attempt, in one word."""
    return OUTCOMES.get(type(event), "answered")


def block_of(work: Work) -> str:
    """The block that a piece of work is for."""
    match work:
        case Perform():
            return work.uses
        case MakePlan() | FindApprovers():
            return APPROVE


def about_run(tenant: str, domain: str, workflow: str, run: str, corr: str) -> dict[str, str | int | bool]:
    """What every span of a worker says about the run it belongs to."""
    return {
        "regie.tenant": tenant,
        "regie.domain": domain,
        "regie.workflow": workflow,
        "regie.run": run,
        "regie.corr": corr,
    }
