"""What a worker tells of its runs: counters, spans, and the names on the lines of its log."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from structlog.typing import EventDict

from regie.core.run import RunState
from regie.engine.working import WorkerLoop
from regie.store import steps
from regie.store.database import Database
from regie.telemetry import metrics, sending, traces
from regie.worker.observing import Observed

from ..engine.stage import (  # noqa: TID252  tests are no installed package, so there is no absolute name
    CATALOGUE,
    PostgresStage,
    at_work,
    load,
)

pytestmark = pytest.mark.slow

CANARY = "zoe.canary@example.com"


@pytest.fixture
async def stage(database: Database) -> PostgresStage:
    await load(database)
    return PostgresStage(database)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    with sending.written("worker", SimpleSpanProcessor(exporter)):
        yield exporter


@pytest.fixture
def lines() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as captured:
        yield captured


def working(stage: PostgresStage) -> contextlib.AbstractAsyncContextManager[asyncio.Event]:
    """A worker whose performer and loop are observed."""
    observed = Observed(stage.script)
    return at_work(WorkerLoop(stage.database, CATALOGUE, observed, ["things"], watcher=observed))


def count(name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics.text("worker").decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def is_over(state: RunState) -> bool:
    return state.status.is_final


async def test_attempts_runs_and_times_are_counted(stage: PostgresStage, lines: list[EventDict]) -> None:
    labels = {"tenant": "acme", "domain": "things", "workflow": "things.flaky"}
    names = {
        "begun": ("regie_runs_begun_total", labels),
        "done": ("regie_runs_ended_total", {**labels, "outcome": "done"}),
        "failed": ("regie_step_attempts_total", {**labels, "outcome": "failed"}),
        "succeeded": ("regie_step_attempts_total", {**labels, "outcome": "succeeded"}),
        "queued": ("regie_step_queue_wait_seconds_count", {"domain": "things"}),
        "ran": ("regie_step_duration_seconds_count", {"domain": "things", "block": "thing.act"}),
    }
    before = {what: count(name, **chosen) for what, (name, chosen) in names.items()}
    async with working(stage):
        await stage.until(await stage.start("flaky"), is_over)
        await stage.until(await stage.start("flaky", dry=True), is_over)
    told = {what: count(name, **chosen) - before[what] for what, (name, chosen) in names.items()}
    assert told == {"begun": 1, "done": 1, "failed": 4, "succeeded": 2, "queued": 6, "ran": 6}


async def test_a_run_that_waits_for_a_worker_has_queued(stage: PostgresStage) -> None:
    key = await stage.start("five")
    await asyncio.sleep(0.3)
    async with working(stage):
        await stage.until(key, is_over)
    async with stage.database.reading() as tx:
        rows = await steps.list_steps(tx, key)
    times = [
        (row.queued_at, row.started_at, row.ended_at)
        for row in rows
        if row.queued_at and row.started_at and row.ended_at
    ]
    assert len(times) == 5
    assert all(queued_at <= started_at <= ended_at for queued_at, started_at, ended_at in times)
    queued_at, started_at, _ = times[0]
    assert (started_at - queued_at).total_seconds() >= 0.3
    # The others have not waited since then: each was queued when what stands before it was over.
    for (_, _, ended_at), (queued_at, _, _) in itertools.pairwise(times):
        assert queued_at >= ended_at


def in_hex(number: int | None, digits: int) -> str:
    return f"{number or 0:0{digits}x}"


def by_name(spans: InMemorySpanExporter) -> dict[str, list[ReadableSpan]]:
    found: dict[str, list[ReadableSpan]] = {}
    for span in spans.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


async def test_steps_belong_to_the_span_of_their_run(stage: PostgresStage, spans: InMemorySpanExporter) -> None:
    with traces.span("asked from outside", {}) as outside:
        key = await stage.start("flaky", word=CANARY)
        began_in = outside.get_span_context()
    async with working(stage):
        await stage.until(key, is_over)
    found = by_name(spans)
    [run] = found["run things.flaky"]
    assert run.context is not None
    assert run.context.trace_id == began_in.trace_id
    assert run.parent is not None
    assert run.parent.span_id == began_in.span_id
    attempts = found["step thing.act"]
    assert len(attempts) == 3
    for number, attempt in enumerate(attempts, start=1):
        assert attempt.parent is not None
        assert attempt.context is not None
        assert (attempt.context.trace_id, attempt.parent.span_id) == (began_in.trace_id, run.context.span_id)
        assert attempt.attributes is not None
        assert attempt.attributes["regie.attempt"] == number
        assert attempt.attributes["regie.corr"] == key.run
        assert attempt.attributes["regie.outcome"] == ("failed" if number < 3 else "succeeded")
        assert attempt.attributes.get("error.type") == ("Unavailable" if number < 3 else None)
        assert run.start_time is not None
        assert attempt.start_time is not None
        assert run.start_time <= attempt.start_time
    everything = "".join(span.to_json() for span in spans.get_finished_spans())
    assert CANARY not in everything
    assert "Not now." not in everything, "messages may quote people"


async def test_a_run_that_was_started_untraced_has_its_own_trace(
    stage: PostgresStage, spans: InMemorySpanExporter
) -> None:
    key = await stage.start("five")
    async with working(stage):
        await stage.until(key, is_over)
    found = by_name(spans)
    [run] = found["run things.five"]
    assert run.context is not None
    assert in_hex(run.context.trace_id, 32) == key.run.replace("-", "")
    assert run.parent is None
    assert {span.context.trace_id for span in found["step thing.act"] if span.context} == {run.context.trace_id}


async def test_every_line_about_a_run_names_it(stage: PostgresStage, lines: list[EventDict]) -> None:
    async with working(stage):
        one, other = await stage.start("broken", word=CANARY), await stage.start("broken")
        for key in (one, other):
            await stage.until(key, is_over)
    broke = [line for line in lines if line["event"] == "work:broke"]
    named = {(line["run"], line["tenant"], line["domain"], line["corr"]) for line in broke}
    assert named == {(key.run, "acme", "things", key.run) for key in (one, other)}
    assert CANARY not in str(lines)
    assert structlog.contextvars.get_contextvars() == {}
