"""How domains do, as far as whoever asks may see it: the figures behind the page, `regie top` and the metrics."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from regie.core.errors import InvalidInput, Unavailable
from regie.store import figures, logs, releases, workers
from regie.store.database import Transaction
from regie.store.figures import Asked, Ended, Promise, Standing, StepTimes
from regie.telemetry import metrics
from regie.web.answers import Answer, Moment
from regie.web.caller import Caller
from regie.web.means import Asking, Having, Means, current_release
from regie.web.problems import Unidentified

SHORTEST_S, USUAL_S, LONGEST_S = 60.0, 86_400.0, 31 * 86_400.0
"""Seconds of a window: a minute, a day when nothing is said, a month."""
NONE_ENDED = Ended(domain="", by_outcome={}, took=figures.Spread(0, 0), on_time=0, late=0)

router = APIRouter()


class Window(BaseModel):
    """What a request asks about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_s: float = Field(default=USUAL_S, ge=SHORTEST_S, le=LONGEST_S)
    tenant: str | None = Field(default=None, max_length=100)


class Times(Answer):
    """Seconds within which half of them, and 95 of 100, were done."""

    p50_s: float
    p95_s: float

    @classmethod
    def of(cls, spread: figures.Spread) -> Times:
        """As computed."""
        return cls(p50_s=round(spread.p50_s, 3), p95_s=round(spread.p95_s, 3))


class Sla(Answer):
    """Runs of workflows with a promised time (`sla: finish`).

    Attributes:
        on_time, late: Ended within the window, within or after their time.
        going_on_time, going_at_risk, going_late: Unfinished; at risk when three quarters of the time are over.
    """

    on_time: int
    late: int
    going_on_time: int
    going_at_risk: int
    going_late: int

    @property
    def is_promised(self) -> bool:
        """Whether any run had a promised time."""
        return any(self.model_dump().values())


class DomainFigures(Answer):
    """One domain.

    Attributes:
        queued, running, waiting: Runs that stand so now.
        oldest_wait_s: How long the run has been ready that waits longest for a worker.
        ended: By outcome, within the window.
        success: Of the runs that came to an end by themselves, the part that did not fail; None without any.
        per_hour: Runs that ended within the window, an hour.
        took: Whole runs, from start to end.
        step_queued, step_ran: Attempts of steps, from the runs that ended last; None when none had any.
    """

    domain: str
    queued: int
    running: int
    waiting: int
    oldest_wait_s: float
    ended: dict[str, int]
    success: float | None
    per_hour: float
    took: Times | None
    step_queued: Times | None
    step_ran: Times | None
    sla: Sla


class WorkerLine(Answer):
    """A living worker."""

    name: str
    domains: list[str]
    since: Moment
    beat_at: Moment


class Figures(Answer):
    """All that the caller may see. `workers` are told to operators only."""

    at: Moment
    window_s: float
    domains: list[DomainFigures]
    workers: list[WorkerLine]


@router.get("/v1/figures")
async def show_figures(means: Having, caller: Asking, wanted: Annotated[Window, Query()]) -> Figures:
    """How the domains do."""
    async with means.database.reading() as tx:
        return await read_figures(tx, caller, wanted)


def asked_by(caller: Caller, wanted: Window) -> Asked:
    """About which runs a caller may ask."""
    return Asked(window_s=wanted.window_s, tenant=wanted.tenant, sight=caller.sight)


async def read_figures(tx: Transaction, caller: Caller, wanted: Window) -> Figures:
    """The figures of every domain in which the caller may see a run that ended in the window or is unfinished."""
    asked = asked_by(caller, wanted)
    promises = await promised(tx, asked)
    ended = {each.domain: each for each in await figures.ended(tx, asked, promises)}
    standing: dict[str, list[Standing]] = {}
    for each in await figures.standing(tx, asked, promises):
        standing.setdefault(each.domain, []).append(each)
    steps = {each.domain: each for each in await figures.step_times(tx, asked)}
    known = await workers.list_workers(tx) if caller.is_operator else []
    serving = {domain for worker in known for domain in worker.domains} if wanted.tenant is None else set()
    return Figures(
        at=await figures.moment(tx),
        window_s=wanted.window_s,
        domains=[
            _domain(domain, ended.get(domain, NONE_ENDED), standing.get(domain, []), steps.get(domain), wanted.window_s)
            for domain in sorted({*ended, *standing, *serving})
        ],
        workers=[
            WorkerLine(name=row.name, domains=list(row.domains), since=row.started_at, beat_at=row.beat_at)
            for row in known
        ],
    )


async def promised(tx: Transaction, asked: Asked) -> list[Promise]:
    """The promises that the runs asked about were started under, each from the release its runs are pinned to."""
    found = []
    for digest, workflow in await figures.in_use(tx, asked):
        try:
            finish_s = (await releases.get(tx, digest)).definition(workflow).sla_finish_s
        except (InvalidInput, ValueError):
            # A release that a later version cannot read: its runs are counted without a promise.
            continue
        if finish_s is not None:
            found.append(Promise(digest, workflow, finish_s))
    return found


def _domain(
    domain: str, ended: Ended, standing: list[Standing], steps: StepTimes | None, window_s: float
) -> DomainFigures:
    outcomes = ended.by_outcome
    by_themselves = sum(outcomes.get(outcome, 0) for outcome in ("done", "refused", "failed"))
    return DomainFigures(
        domain=domain,
        queued=sum(each.queued for each in standing),
        running=sum(each.running for each in standing),
        waiting=sum(each.waiting for each in standing),
        oldest_wait_s=round(max((each.oldest_wait_s for each in standing), default=0.0), 3),
        ended=dict(outcomes),
        success=round(1 - outcomes.get("failed", 0) / by_themselves, 4) if by_themselves else None,
        per_hour=round(sum(outcomes.values()) * 3600 / window_s, 2),
        took=Times.of(ended.took) if outcomes else None,
        step_queued=Times.of(steps.queued) if steps else None,
        step_ran=Times.of(steps.ran) if steps else None,
        sla=Sla(
            on_time=ended.on_time,
            late=ended.late,
            going_on_time=sum(each.on_time for each in standing),
            going_at_risk=sum(each.at_risk for each in standing),
            going_late=sum(each.late for each in standing),
        ),
    )


def _reading(means: Having, request: Request) -> Means:
    """Let in who has the token for metrics, and nobody else: not even the operator's token is for this."""
    if not metrics.may_read(request.headers.get("Authorization"), means.metrics_token()):
        raise Unidentified("Metrics are read with their own token.")
    return means


@router.get("/metrics")
async def tell_metrics(means: Annotated[Means, Depends(_reading)]) -> Response:
    """What Prometheus reads."""
    metrics.forget_the_database()
    try:
        async with means.database.reading() as tx:
            await _count(tx)
    except Unavailable:
        # What this process knows by itself is told all the same; the others are missing, which Prometheus can see.
        metrics.forget_the_database()
    return Response(metrics.text("web"), media_type=metrics.MEDIA_TYPE)


async def _count(tx: Transaction) -> None:
    asked = Asked(window_s=SHORTEST_S)
    release = await current_release(tx)
    # Nothing is a figure too: an alarm must be able to tell it from not knowing.
    found = {
        (tenant.tenant, domain): Standing(tenant=tenant.tenant, domain=domain)
        for tenant in release.tenants.values()
        for domain in tenant.domains
    }
    found |= {(each.tenant, each.domain): each for each in await figures.standing(tx, asked, await promised(tx, asked))}
    oldest = dict.fromkeys(release.domains, 0.0)
    for place, each in found.items():
        for state in ("queued", "running", "waiting"):
            metrics.UNFINISHED.labels(*place, state).set(getattr(each, state))
        for state in ("on_time", "at_risk", "late"):
            metrics.SLA.labels(*place, state).set(getattr(each, state))
        oldest[each.domain] = max(oldest.get(each.domain, 0.0), each.oldest_wait_s)
    for domain, wait_s in oldest.items():
        metrics.OLDEST_WAIT.labels(domain).set(wait_s)
        metrics.WORKERS.labels(domain).set(0)
    waiting, oldest_s = await logs.waiting(tx)
    metrics.INTAKE_WAITING.set(waiting)
    metrics.INTAKE_OLDEST.set(oldest_s)
    for worker in await workers.list_workers(tx):
        for domain in worker.domains:
            metrics.WORKERS.labels(domain).inc()
