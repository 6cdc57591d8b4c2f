"""The way of a process's spans out of it: by OTLP over HTTP, or into whatever takes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

from regie.telemetry import traces
from regie.telemetry.metrics import Process

SEND_WITHIN_S = 5.0
"""Longest that sending one batch may take; what cannot be sent is dropped, the work goes on."""
EVERY_MS = 1_000.0
"""Milliseconds between two batches."""


class _Ids(RandomIdGenerator):
    """Random ids, unless the caller has chosen some."""

    def generate_trace_id(self) -> int:
        """128 bits."""
        chosen = traces.chosen.get()
        return super().generate_trace_id() if chosen is None else chosen[0]

    def generate_span_id(self) -> int:
        """64 bits."""
        chosen = traces.chosen.get()
        return super().generate_span_id() if chosen is None else chosen[1]


def over_http(url: str) -> SpanProcessor:
    """Sends spans to a receiver, some at a time.

    Args:
        url: Of the receiver, path included, such as http://127.0.0.1:4318/v1/traces.
    """
    session = requests.Session()
    # Neither a proxy nor a .netrc of the machine's user: what leaves here goes where the settings say.
    session.trust_env = False
    exporter = OTLPSpanExporter(endpoint=url, headers={}, timeout=SEND_WITHIN_S, session=session)
    return BatchSpanProcessor(exporter, schedule_delay_millis=EVERY_MS)


@contextmanager
def written(process: Process, processor: SpanProcessor) -> Iterator[None]:
    """Give this process's spans to a processor until the end of the block; then what is left is sent."""
    # No detection: it would add the machine's name and the command line.
    about = Resource({"service.name": f"regie-{process}", "service.namespace": "regie"})
    provider = TracerProvider(
        sampler=ParentBased(ALWAYS_ON), resource=about, shutdown_on_exit=False, id_generator=_Ids()
    )
    provider.add_span_processor(processor)
    traces.use(provider.get_tracer("regie"))
    try:
        yield
    finally:
        traces.use(None)
        provider.shutdown()
