"""Every metric there is, and the text that Prometheus reads.

Rooms count where something happens; web, gateway, notary and workers tell it at `/metrics`.
Labels have few values, all of them words of a release: never an id, an address or a ticket.
"""

from __future__ import annotations

import hmac
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics import MetricWrapperBase

MEDIA_TYPE = CONTENT_TYPE_LATEST
"""Of the text that Prometheus reads."""

Process = Literal["web", "gateway", "worker", "notary"]

SHORT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Upper bounds in seconds for what processes do."""
LONG_S = (1, 10, 60, 300, 900, 3_600, 4 * 3_600, 86_400, 3 * 86_400, 7 * 86_400)
"""Upper bounds in seconds for whole runs, which may wait for people."""
CUT_OFF = "cut_off"
"""Outcome of what ended before anything could come of it, whoever counts it."""


class Described(NamedTuple):
    """A metric as the reference page describes it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    about: str
    processes: tuple[Process, ...]


DESCRIBED: list[Described] = []
"""Every metric of ours, in the order of this module."""

_REGISTRIES: dict[Process, CollectorRegistry] = {
    "web": CollectorRegistry(),
    "gateway": CollectorRegistry(),
    "worker": CollectorRegistry(),
    "notary": CollectorRegistry(),
}
for _registry in _REGISTRIES.values():
    ProcessCollector(registry=_registry)

Metric = TypeVar("Metric", bound=MetricWrapperBase)


def _told(metric: Metric, name: str, kind: str, labels: Sequence[str], about: str, *by: Process) -> Metric:
    """A metric, told by these processes."""
    for process in by:
        _REGISTRIES[process].register(metric)
    DESCRIBED.append(Described(name, kind, tuple(labels), about, by))
    return metric


def _counter(name: str, about: str, labels: Sequence[str], *by: Process) -> Counter:
    return _told(Counter(name, about, labels, registry=None), name, "counter", labels, about, *by)


def _gauge(name: str, about: str, labels: Sequence[str], *by: Process) -> Gauge:
    return _told(Gauge(name, about, labels, registry=None), name, "gauge", labels, about, *by)


def _histogram(name: str, about: str, labels: Sequence[str], buckets: Sequence[float], *by: Process) -> Histogram:
    metric = Histogram(name, about, labels, buckets=buckets, registry=None)
    return _told(metric, name, "histogram", labels, about, *by)


_RUN = ("tenant", "domain", "workflow")

RUNS_BEGUN = _counter(
    "regie_runs_begun_total", "Runs that a worker has taken up for the first time; dry runs left out.", _RUN, "worker"
)
RUNS_ENDED = _counter(
    "regie_runs_ended_total", "Runs that have ended; dry runs left out.", (*_RUN, "outcome"), "worker"
)
RUN_SECONDS = _histogram(
    "regie_run_duration_seconds",
    "From the start of a run to its end, waiting included; dry runs left out.",
    ("domain", "workflow"),
    LONG_S,
    "worker",
)
STEP_ATTEMPTS = _counter(
    "regie_step_attempts_total", "Attempts of steps, by what came of them.", (*_RUN, "outcome"), "worker"
)
STEP_SECONDS = _histogram(
    "regie_step_duration_seconds", "Work on one attempt of a step.", ("domain", "block"), SHORT_S, "worker"
)
QUEUE_SECONDS = _histogram(
    "regie_step_queue_wait_seconds",
    "From when an attempt of a step could begin until a worker began it.",
    ("domain",),
    SHORT_S,
    "worker",
)
WORKER_SLOTS = _gauge("regie_worker_slots", "How many runs this worker moves at the same time.", (), "worker")
WORKER_RUNS = _gauge("regie_worker_runs", "How many runs this worker has in hand.", (), "worker")
EFFECTS = _counter(
    "regie_effects_total",
    "Changes that steps have asked for, by what came of them: a state of the ledger, or the class of an error.",
    ("tenant", "domain", "capability", "outcome"),
    "gateway",
)
VENDOR_REQUESTS = _counter(
    "regie_vendor_requests_total",
    "Requests to outside systems: `1xx` to `5xx`, `429`, or `no_answer`.",
    ("connector", "outcome"),
    "gateway",
)
VENDOR_SECONDS = _histogram(
    "regie_vendor_request_duration_seconds",
    "From sending a request to an outside system until its answer begins.",
    ("connector",),
    SHORT_S,
    "gateway",
)
CHANGE_PART_SECONDS = _histogram(
    "regie_change_part_duration_seconds",
    "What a question to the gateway spends its time with: `grant`, `budget`, `lock`, `approval`, `ledger` (leaves "
    "included), `audit` (the leaves alone).",
    ("part",),
    SHORT_S,
    "gateway",
)
HTTP_REQUESTS = _counter(
    "regie_http_requests_total",
    "Requests answered, by the pattern of their address.",
    ("method", "route", "status"),
    "web",
    "gateway",
)
HTTP_SECONDS = _histogram(
    "regie_http_request_duration_seconds",
    "From a request to the end of its answer; streams count until they are closed.",
    ("route",),
    SHORT_S,
    "web",
    "gateway",
)
UNFINISHED = _gauge(
    "regie_unfinished_runs",
    "Runs that are not over: `queued` for a worker, `running` in one, or `waiting` for people, time or events.",
    ("tenant", "domain", "state"),
    "web",
)
OLDEST_WAIT = _gauge(
    "regie_queue_oldest_wait_seconds",
    "How long the run has waited that waits longest for a worker.",
    ("domain",),
    "web",
)
SLA = _gauge(
    "regie_unfinished_runs_sla",
    "Unfinished runs of workflows with a promised time: `on_time`, `at_risk` or `late`.",
    ("tenant", "domain", "state"),
    "web",
)
WORKERS = _gauge("regie_workers", "Living workers that serve a domain.", ("domain",), "web")
# The web tells these two, so that they are told when the notary is not there.
INTAKE_WAITING = _gauge(
    "regie_audit_intake_waiting", "Leaves of the audit log that the notary has not taken in yet.", (), "web"
)
INTAKE_OLDEST = _gauge(
    "regie_audit_intake_oldest_wait_seconds",
    "How long the leaf has waited that waits longest for the notary: look from 10 seconds on, alarm from 30 on.",
    (),
    "web",
)
LEAVES = _counter("regie_audit_leaves_total", "Leaves that this notary has put into their logs.", (), "notary")
CHECKPOINTS = _counter(
    "regie_audit_checkpoints_total", "Checkpoints that this notary has signed, the anchor log's included.", (), "notary"
)
MERGE_DELAY = _histogram(
    "regie_audit_merge_delay_seconds",
    "Of each turn of the notary the longest time from when a leaf was written until it stood in its log.",
    (),
    SHORT_S,
    "notary",
)
TURN_SECONDS = _histogram(
    "regie_audit_turn_duration_seconds", "Turns of the notary in which it took something in.", (), SHORT_S, "notary"
)
ATTESTATIONS = _counter(
    "regie_audit_attestations_total",
    "Checkpoints of the anchor log that parties outside were asked to attest: `witness`, `timestamp`, `deposit`; "
    "`done` or `failed`.",
    ("kind", "outcome"),
    "notary",
)
for _kind in ("witness", "timestamp", "deposit"):
    for _outcome in ("done", "failed"):
        # Nothing is a figure too: an alarm must be able to tell it from not knowing.
        ATTESTATIONS.labels(_kind, _outcome)

OF_THE_DATABASE = (UNFINISHED, OLDEST_WAIT, SLA, WORKERS)
"""Read from the database each time they are told, by whichever process tells them."""


def forget_the_database() -> None:
    """Take back what was read from the database."""
    for gauge in OF_THE_DATABASE:
        gauge.clear()
    for alone in (INTAKE_WAITING, INTAKE_OLDEST):
        alone.set(math.nan)


def text(process: Process) -> bytes:
    """What a process of that kind tells, in the form that Prometheus reads."""
    return generate_latest(_REGISTRIES[process])


def count_attestation(kind: str, outcome: Literal["done", "failed"]) -> None:
    """Count that a party outside was asked to attest a checkpoint."""
    ATTESTATIONS.labels(kind, outcome).inc()


def may_read(authorization: str | None, token: str) -> bool:
    """Whether an `Authorization` header carries the token for reading metrics. An empty token lets nobody in.

    Where the request comes from does not count: behind a proxy everything comes from this machine.
    """
    scheme, _, given = (authorization or "").partition(" ")
    is_right = hmac.compare_digest(given.strip().encode("utf-8", "surrogatepass"), token.encode())
    return bool(token) and scheme.lower() == "bearer" and is_right


@contextmanager
def timing(part: str) -> Iterator[None]:
    """Count the time inside as this part of a change."""
    began_s = time.monotonic()
    try:
        yield
    finally:
        CHANGE_PART_SECONDS.labels(part).observe(time.monotonic() - began_s)
