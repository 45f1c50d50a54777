"""Spans and metrics for OpenTelemetry, for a program that uses it; for any other, nothing at all.

Only the API package is spoken to, and only where the program itself has set it up: what a program exports,
and where to, is its own affair. Names follow the semantic conventions for generative AI, messaging and errors
where those have one (https://opentelemetry.io/docs/specs/semconv/); the others begin with "async_comfy.".
"""

import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakSet

from async_comfy.errors import Cancelled, Closed, ComfyError, Denied, Failed, NetworkError, Rejected
from async_comfy.protocol import outcome as outcomes
from async_comfy.protocol.footprint import footprint
from async_comfy.protocol.health import Condition
from async_comfy.protocol.job import Life, State
from async_comfy.protocol.ledger import BUCKETS_S
from async_comfy.workflow import Workflow

if TYPE_CHECKING:
    from async_comfy._live.handle import Job
    from async_comfy._live.pool_job import PoolJob
    from async_comfy.protocol.host import Placement

SCOPE = "async_comfy"
OPERATION = "generate_content"  # the conventions' word for making pictures and the like
CLOSED = "closed"  # the outcome where this side stopped listening: its pool or session was closed

Attributes = Mapping[str, Any]


def listening() -> bool:
    """Whether this program has set up tracing or metrics: whether there is a provider, not its stand-in.

    Asked when a session or a pool is opened, so that a prompt costs the same where the answer is no.
    """
    trace, metrics = sys.modules.get("opentelemetry.trace"), sys.modules.get("opentelemetry.metrics")
    return (trace is not None and _is_real(trace.get_tracer_provider())) or (
        metrics is not None and _is_real(metrics.get_meter_provider())
    )


async def followed(
    url: str, workflow: object, delivering: Awaitable["Job"], start: Callable[[Any], object]
) -> "Job":
    """A prompt's delivery, with a span from here to the end of its job. `start`: begins a task.

    Raises: as the delivery does; the span has it, too.
    """
    from opentelemetry import trace

    models = _models(workflow)
    attributes = {
        "gen_ai.operation.name": OPERATION,
        "gen_ai.provider.name": "comfyui",
        **_address(url),
        **({"gen_ai.request.model": models[0], "async_comfy.models": models} if models else {}),
    }
    name = f"{OPERATION} {models[0]}" if models else OPERATION
    began = time.perf_counter()
    span = trace.get_tracer(SCOPE).start_span(name, kind=trace.SpanKind.CLIENT, attributes=attributes)
    try:
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            job = await delivering
    except BaseException as error:
        _close(span, error)
        _took(began, attributes, error)
        raise
    span.set_attribute("gen_ai.response.id", job.id)
    start(_follow(span, job, began, attributes))
    return job


@contextmanager
def downloading(files: int) -> Iterator[Any]:
    """A span around the download of so many files, in whatever the caller is doing."""
    if not listening():
        yield None
        return
    from opentelemetry import trace

    attributes = {"async_comfy.files": files}
    span = trace.get_tracer(SCOPE).start_span("download", kind=trace.SpanKind.CLIENT, attributes=attributes)
    try:
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield span
    except BaseException as error:
        _close(span, error)
        raise
    _close(span, None)


class Telemetry:
    """What a pool tells OpenTelemetry.

    `states`: of its servers, and `waiting`: jobs by lane; asked for by the thread that collects metrics.
    """

    def __init__(self, states: Callable[[], list[str]], waiting: Callable[[], Mapping[str, int]]) -> None:
        from opentelemetry import context, trace

        self.states = states
        self.waiting = waiting
        self._trace = trace
        self._attach = context.attach
        self._instruments = _instruments()
        self._instruments.watched.add(self)

    def __repr__(self) -> str:
        return f"<Telemetry as {SCOPE}>"

    def submitted(self, job: "PoolJob") -> None:
        """It came; its span goes on until it ends, and what it does belongs to that."""
        attributes = {
            "messaging.system": SCOPE,
            "messaging.destination.name": job.lane,
            "messaging.message.id": job.id,
            **({"async_comfy.models": job.ticket.footprint.models} if job.ticket.footprint.models else {}),
            **({"async_comfy.tenant": job.ticket.tenant} if job.ticket.tenant else {}),
        }
        span = job.span = self._trace.get_tracer(SCOPE).start_span(f"job {job.lane}", attributes=attributes)
        job.context.run(self._attach, self._trace.set_span_in_context(span))
        job.on_end(self._ended)

    def placed(self, job: "PoolJob", placement: "Placement") -> None:
        """It goes to a server."""
        self._instruments.wait.record(placement.waited_s, {"messaging.destination.name": job.lane})
        job.span.add_event(
            "placed",
            {
                "async_comfy.server": placement.host,
                "async_comfy.waited_s": placement.waited_s,
                "async_comfy.cold": placement.cold,
            },
        )

    def attempted(
        self, job: "PoolJob", server: str, outcome: str, ran_s: float | None, loaded_s: float
    ) -> None:
        """An attempt ended."""
        job.span.add_event("attempt ended", {"async_comfy.server": server, "async_comfy.outcome": outcome})
        lane = {"messaging.destination.name": job.lane}
        if ran_s is not None:
            self._instruments.run.record(max(ran_s - loaded_s, 0.0), {**lane, "async_comfy.server": server})
        if loaded_s:
            self._instruments.load.record(loaded_s, lane)

    def _ended(self, job: "PoolJob") -> None:
        span = job.span
        ended = CLOSED if isinstance(job.error, Closed) else job.state
        span.set_attributes({"async_comfy.outcome": ended, "async_comfy.attempts": len(job.attempts)})
        if job.server is not None:
            span.set_attribute("async_comfy.server", job.server)
        self._instruments.jobs.add(1, {"messaging.destination.name": job.lane, "async_comfy.outcome": ended})
        _close(span, job.error)


class _Instruments:
    """The instruments of the program's meter; `watched`: whom the observing ones ask."""

    def __init__(self, metrics: Any) -> None:
        self.watched: WeakSet[Telemetry] = WeakSet()
        self._meter = meter = metrics.get_meter(SCOPE)
        self._observe = metrics.Observation
        self.jobs = meter.create_counter("async_comfy.jobs", "{job}", "Jobs that ended, by outcome")
        self.wait = self._seconds("async_comfy.job.wait", "Seconds in the queue of the pool")
        self.load = self._seconds("async_comfy.job.load", "Seconds of loading models")
        self.run = self._seconds("async_comfy.job.run", "Seconds of work, loading left out")
        self.took = self._seconds(
            "gen_ai.client.operation.duration", "Seconds from the sending of a prompt to its end"
        )
        meter.create_observable_gauge("async_comfy.queue", [self._queue], "{job}", "Jobs that wait, by lane")
        meter.create_observable_gauge("async_comfy.servers", [self._servers], "{server}", "Servers by state")

    def _seconds(self, name: str, told: str) -> Any:
        """A histogram. Without our own bounds a meter's first one is five seconds."""
        bounds = list(BUCKETS_S)
        return self._meter.create_histogram(name, "s", told, explicit_bucket_boundaries_advisory=bounds)

    def _queue(self, _options: Any) -> Iterable[Any]:
        waiting: Counter[str] = Counter()
        for one in list(self.watched):
            waiting.update(one.waiting())
        return [self._observe(count, {"messaging.destination.name": lane}) for lane, count in waiting.items()]

    def _servers(self, _options: Any) -> Iterable[Any]:
        states = Counter(state for one in list(self.watched) for state in one.states())
        return [self._observe(states[state], {"async_comfy.state": str(state)}) for state in Condition]


_made: list[tuple[object, _Instruments]] = []  # for the program's provider of meters; there is one at a time


def _instruments() -> _Instruments:
    from opentelemetry import metrics

    provider = metrics.get_meter_provider()
    if not _made or _made[0][0] is not provider:
        _made[:] = [(provider, _Instruments(metrics))]
    return _made[0][1]


def _is_real(provider: object) -> bool:
    return "Proxy" not in type(provider).__name__  # the API has no public word for its stand-ins


async def _follow(span: Any, job: "Job", began: float, attributes: Attributes) -> None:
    """Closes its span when the job ends, or its session."""
    try:
        await job.settled()
    finally:
        life, now = job.life, time.monotonic()
        error = _error(life)
        if life.queued_at is not None:
            span.add_event("queued", timestamp=_epoch_ns(life.queued_at, now))
        if life.run is not None:
            span.add_event("execution_start", timestamp=_epoch_ns(life.run.since, now))
        span.set_attribute("async_comfy.outcome", job.state if life.over else CLOSED)
        _close(span, error)
        _took(began, attributes, error)


def _error(life: Life) -> ComfyError | None:
    if life.state is State.COMPLETED:
        return None
    return outcomes.error(life, life.evidence) if life.over else Closed("The session was closed.")


def _close(span: Any, error: BaseException | None) -> None:
    """`error`: what was raised, or would be if somebody awaited."""
    if error is not None:
        from opentelemetry import trace

        span.set_attribute("error.type", _kind(error))
        span.set_status(trace.Status(trace.StatusCode.ERROR, _told(error)))
    span.end()


def _kind(error: BaseException) -> str:
    return type(error).__name__


def _told(error: BaseException) -> str | None:
    """What went wrong and where, without a word that the caller wrote or a node printed."""
    match error:
        case Failed():
            return f"{error.exception_type or 'an error'} in node {error.node} ({error.class_type})"
        case Rejected():
            found = [f"{one.kind} at node {one.node} ({one.class_type})" for one in error.problems[:3]]
            return "; ".join(found) or error.kind or None
        case NetworkError() | Cancelled() | Closed() | Denied():
            return error.message
        case _:
            return None  # its message may quote the workflow


def _took(began: float, attributes: Attributes, error: BaseException | None) -> None:
    about = {key: value for key, value in attributes.items() if key != "async_comfy.models"}
    if error is not None:
        about["error.type"] = _kind(error)
    _instruments().took.record(time.perf_counter() - began, about)


def _epoch_ns(then: float, now: float) -> int:
    return time.time_ns() - int((now - then) * 1e9)


def _models(workflow: object) -> tuple[str, ...]:
    known = isinstance(workflow, Workflow) and workflow.format == "api"
    return workflow.derived(footprint).models if known and isinstance(workflow, Workflow) else ()


def _address(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {"server.address": parts.hostname or "", **({"server.port": parts.port} if parts.port else {})}
