"""Traces: which run led to which step, question to the gateway and request to a vendor, and how long each took.

Off until `exporting` puts a tracer in: until then every function here returns at once. The trace of a run outlives
processes: its context is kept with the run as a W3C `traceparent`, and the span of the run itself, whose id follows
from the run's, is written by the worker that ends it. No span holds a message, a value or a person's address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Literal
from uuid import UUID

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

HEADER = "traceparent"
"""Of W3C Trace Context."""

Kind = Literal["inside", "asks", "answers"]
Attributes = Mapping[str, str | int | bool]

_KINDS: dict[Kind, SpanKind] = {"inside": SpanKind.INTERNAL, "asks": SpanKind.CLIENT, "answers": SpanKind.SERVER}
_PROPAGATOR = TraceContextTextMapPropagator()

chosen: ContextVar[tuple[int, int] | None] = ContextVar("chosen", default=None)
"""Ids of trace and span that the next span gets, instead of random ones."""

_tracer: Tracer | None = None


def use(tracer: Tracer | None) -> None:
    """Write spans with this tracer from now on; none switches traces off."""
    global _tracer  # noqa: PLW0603  one process, one tracer: like the log, set up once at its start
    _tracer = tracer


def is_on() -> bool:
    """Whether spans are written."""
    return _tracer is not None


@contextmanager
def span(
    name: str,
    attributes: Attributes,
    *,
    kind: Kind = "inside",
    parent: str | None = None,
    link: str | None = None,
) -> Iterator[Span]:
    """A span around what happens inside; whatever is begun there belongs to it.

    Args:
        name: One of few, such as `step identity.list_access`.
        parent: A `traceparent` that it continues; the current span when nothing is said.
        link: A `traceparent` of somebody we do not trust to choose our ids: it is referred to, not continued.
    """
    if _tracer is None:
        yield INVALID_SPAN
        return
    context = None if parent is None and link is None else _context(parent)
    links = [Link(found)] if (found := _read(link)) is not None else []
    with _tracer.start_as_current_span(
        name,
        context,
        _KINDS[kind],
        dict(attributes),
        links,
        record_exception=False,  # its message may name people
        set_status_on_exception=False,
    ) as opened:
        try:
            yield opened
        except BaseException as error:
            fail(opened, type(error).__name__)
            raise


def fail(opened: Span, kind: str) -> None:
    """Mark a span as failed.

    Args:
        kind: Class name of the error, never its message.
    """
    opened.set_status(Status(StatusCode.ERROR))
    opened.set_attribute("error.type", kind)


def current() -> str:
    """The `traceparent` of the current span; empty without one, or while traces are off."""
    found = trace.get_current_span().get_span_context() if _tracer is not None else None
    return _written(found) if found is not None and found.is_valid else ""


def of_run(run: str, kept: str) -> str:
    """The `traceparent` that everything in a run continues; empty while traces are off.

    Args:
        run: Its id, a UUID.
        kept: What was kept with it: the context it was started in, or nothing.
    """
    if _tracer is None:
        return ""
    before = _read(kept)
    trace_id = before.trace_id if before is not None else UUID(run).int
    flags = before.trace_flags if before is not None else TraceFlags(TraceFlags.SAMPLED)
    return _written(SpanContext(trace_id, _span_id(run), is_remote=True, trace_flags=flags))


def run_ended(run: str, kept: str, name: str, attributes: Attributes, *, began: datetime, failure: str = "") -> None:
    """Write the span of a run that is over, from its start until now.

    Args:
        failure: Class name of what it failed with.
    """
    if _tracer is None:
        return
    token = chosen.set((UUID(run).int, _span_id(run)))
    try:
        opened = _tracer.start_span(
            name, _context(kept), SpanKind.INTERNAL, dict(attributes), start_time=int(began.timestamp() * 1e9)
        )
    finally:
        chosen.reset(token)
    if failure:
        fail(opened, failure)
    opened.end()


def _span_id(run: str) -> int:
    """Follows from the run, so that every process knows it."""
    return int.from_bytes(hashlib.sha256(f"regie run span {run}".encode()).digest()[:8]) or 1


def _context(traceparent: str | None) -> Context:
    """A context with that span in it, and no other."""
    found = _read(traceparent)
    return Context() if found is None else trace.set_span_in_context(NonRecordingSpan(found), Context())


def _read(traceparent: str | None) -> SpanContext | None:
    if not traceparent:
        return None
    found = trace.get_current_span(_PROPAGATOR.extract({HEADER: traceparent}, Context())).get_span_context()
    return found if found.is_valid else None


def _written(found: SpanContext) -> str:
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"
