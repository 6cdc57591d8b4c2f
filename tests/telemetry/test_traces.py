"""Traces: nothing while they are off, W3C contexts as they are written, and nobody's words in them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from regie.telemetry import exporting, sending, traces

from .receiver import receiving

pytestmark = pytest.mark.slow

RUN = "75a79682-6213-40ed-984f-8c7f80cda19e"
OUTSIDE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    with sending.written("web", SimpleSpanProcessor(exporter)):
        yield exporter


def test_while_off_nothing_is_written_and_nothing_is_known() -> None:
    with traces.span("start run", {}, parent=OUTSIDE) as opened:
        assert not opened.is_recording()
        assert traces.current() == ""
    assert traces.of_run(RUN, OUTSIDE) == ""
    assert not traces.is_on()


def test_while_off_a_span_costs_microseconds() -> None:
    spent_s = []
    for _ in range(5):
        began_s = time.process_time()
        for _ in range(2_000):
            with traces.span("step x", {"regie.attempt": 1}):
                traces.current()
        spent_s.append(time.process_time() - began_s)
    assert min(spent_s) / 2_000 < 50e-6


def test_a_span_continues_whom_it_trusts_and_refers_to_others(spans: InMemorySpanExporter) -> None:
    with traces.span("start run", {}, kind="answers", parent=OUTSIDE):
        assert traces.current().startswith(OUTSIDE[:36])
    with traces.span("take delivery", {}, kind="answers", link=OUTSIDE):
        assert OUTSIDE[3:35] not in traces.current()
    trusted, stranger = spans.get_finished_spans()
    assert trusted.parent is not None
    assert f"{trusted.parent.span_id:016x}" == OUTSIDE[36:52]
    assert stranger.parent is None
    assert [f"{link.context.trace_id:032x}" for link in stranger.links] == [OUTSIDE[3:35]]


@given(st.text())
def test_what_is_no_traceparent_begins_a_trace_of_our_own(text: str) -> None:
    exporter = InMemorySpanExporter()
    with sending.written("web", SimpleSpanProcessor(exporter)):
        with traces.span("start run", {}, parent=text):
            pass
        kept = traces.of_run(RUN, text)
    [span] = exporter.get_finished_spans()
    assert span.parent is None
    assert kept.startswith(f"00-{uuid.UUID(RUN).hex}-")


def test_every_process_gives_a_run_the_same_span() -> None:
    kept = []
    for process in ("web", "worker"):
        with sending.written(process, SimpleSpanProcessor(InMemorySpanExporter())):
            kept.append(traces.of_run(RUN, OUTSIDE))
    assert kept[0] == kept[1]
    assert kept[0].startswith(OUTSIDE[:36])


def test_of_an_error_only_the_class_is_told(spans: InMemorySpanExporter) -> None:
    def refuse() -> None:
        with traces.span("gateway apply", {}):
            raise ValueError("zoe.canary@example.com")

    with pytest.raises(ValueError, match="canary"):
        refuse()
    [span] = spans.get_finished_spans()
    assert "canary" not in span.to_json()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "ValueError"
    assert not span.status.is_ok


def test_spans_are_sent_to_the_address_of_the_settings_and_nowhere_else() -> None:
    with receiving() as receiver:
        with exporting.exported("", "gateway"), traces.span("answer call", {}):
            pass
        assert receiver.bodies == []
        with exporting.exported(receiver.url, "gateway"), traces.span("answer call", {"regie.run": RUN}):
            pass
        [span] = receiver.spans()
    assert (span.process, span.name, span.attributes) == ("regie-gateway", "answer call", {"regie.run": RUN})


def test_a_receiver_that_is_away_stops_nothing() -> None:
    with exporting.exported("http://127.0.0.1:9/v1/traces", "gateway"), traces.span("answer call", {}):
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 2 * sending.SEND_WITHIN_S
