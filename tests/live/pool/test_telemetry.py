"""What OpenTelemetry is told, with the in-memory exporters of its SDK; and nothing where nobody listens."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from async_comfy import Failed, Lost, Rejected, Session
from async_comfy._live import telemetry
from async_comfy._live.pool import Pool
from async_comfy.protocol.lanes import Lane
from async_comfy.testing import SimulatedServer
from tests.live.pictures import diffusion, picture
from tests.live.pool.test_pool import name

pytestmark = pytest.mark.anyio


class Heard:
    """What was exported."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.spans_out = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        tracers, meters = TracerProvider(), MeterProvider([self.reader])
        tracers.add_span_processor(SimpleSpanProcessor(self.spans_out))
        # The API takes a provider once in the life of a process; a test wants its own.
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", tracers)
        monkeypatch.setattr(metrics._internal, "_METER_PROVIDER", meters)

    def spans(self, prefix: str) -> list[ReadableSpan]:
        return [span for span in self.spans_out.get_finished_spans() if span.name.startswith(prefix)]

    def points(self, metric: str) -> dict[str, Any]:
        """Values (counts, for a histogram) by the attributes, as text."""
        data = self.reader.get_metrics_data()
        found: dict[str, Any] = {}
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for one in scope.metrics:
                    for point in one.data.data_points if one.name == metric else ():
                        attributes: Mapping[str, Any] = point.attributes or {}
                        about = ",".join(f"{key}={value}" for key, value in sorted(attributes.items()))
                        found[about] = getattr(point, "value", None) or getattr(point, "count", 0)
        return found


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    """Tracing and metrics are set up for this test."""
    heard = Heard(monkeypatch)
    yield heard
    telemetry._made.clear()


async def test_a_job_of_a_pool_has_a_span_below_that_of_its_caller(heard: Heard) -> None:
    """The caller's span, the job's below it, the prompt's below that, with what happened and when."""
    async with SimulatedServer() as server, Pool([server.url], lanes=[Lane("image")]) as pool:
        with trace.get_tracer("app").start_as_current_span("request") as request:
            result = await pool.run(diffusion(), key="ann")

    (job,), (prompt,) = heard.spans("job"), heard.spans("generate_content")
    assert job.parent is not None
    assert prompt.parent is not None
    assert job.parent.span_id == request.get_span_context().span_id
    assert prompt.parent.span_id == job.context.span_id
    assert job.attributes is not None
    assert job.attributes["messaging.destination.name"] == "image"
    assert job.attributes["async_comfy.outcome"] == "completed"
    assert job.attributes["async_comfy.server"] == name(server)
    assert [event.name for event in job.events] == ["placed", "attempt ended"]
    assert prompt.name == "generate_content sd_xl_base_1.0.safetensors"
    assert prompt.kind is trace.SpanKind.CLIENT
    assert prompt.attributes is not None
    assert prompt.attributes["server.address"] == "127.0.0.1"
    assert prompt.attributes["gen_ai.response.id"] == result.prompt_id
    assert [event.name for event in prompt.events] == ["queued", "execution_start"]
    times = [prompt.start_time, *(event.timestamp for event in prompt.events), prompt.end_time]
    assert times == sorted(times, key=lambda time: time or 0)


async def test_a_session_alone_has_spans_and_its_downloads_too(heard: Heard, tmp_path: Path) -> None:
    """A prompt and a download, each in the caller's span."""
    async with SimulatedServer() as server, Session(server.url) as session:
        with trace.get_tracer("app").start_as_current_span("request") as request:
            await (await session.run(picture())).save(tmp_path)

    for prefix in ("generate_content", "download"):
        (span,) = heard.spans(prefix)
        assert span.parent is not None
        assert span.parent.span_id == request.get_span_context().span_id
    (took,) = heard.points("gen_ai.client.operation.duration").values()
    assert took == 1


async def test_what_goes_wrong_is_an_error_of_its_span(heard: Heard) -> None:
    """A refused prompt, a failing node, a server that dies: status and type, and no secret."""
    wrong = diffusion()
    wrong.set("KSampler.sampler_name", "eulerr")
    broken = picture(8)
    between = broken.add("ProbeFail", image=broken["Paper"][0], message="broken")
    broken["Out"].inputs["images"] = between[0]
    async with SimulatedServer() as server, Pool([server.url], options={"bearer": "hush"}) as pool:
        with pytest.raises(Rejected):
            await pool.run(wrong)
        with pytest.raises(Failed):
            await pool.run(broken)
        server.hold("node")
        job = await pool.submit(picture(9))
        await server.until_at("node")
        await server.crash()
        with pytest.raises(Lost):
            await job

    kinds = [span.attributes["error.type"] for span in heard.spans("job") if span.attributes is not None]
    assert kinds == ["Rejected", "Failed", "Lost"]
    assert all(not span.status.is_ok for span in heard.spans("job"))
    assert len(heard.spans("generate_content")) == 3
    assert "hush" not in "".join(span.to_json() for span in heard.spans_out.get_finished_spans())


async def test_metrics_count_jobs_times_the_queue_and_the_servers(heard: Heard) -> None:
    """Jobs by outcome, waits and runs by lane; what waits and which servers there are when it is asked."""
    async with SimulatedServer() as server, Pool([server.url]) as pool:
        for color in range(3):
            await pool.run(picture(color))
        server.hold("prompt")
        jobs = [await pool.submit(picture(color)) for color in range(3, 8)]
        lane = "messaging.destination.name=default"
        assert heard.points("async_comfy.jobs") == {f"async_comfy.outcome=completed,{lane}": 3}
        assert heard.points("async_comfy.queue") == {lane: pool.stats().waiting}
        assert heard.points("async_comfy.servers") == {"async_comfy.state=ready": 1}
        server.release()
        for job in jobs:
            await job
        assert heard.points("async_comfy.job.wait") == {lane: 8}
        assert list(heard.points("async_comfy.job.run").values()) == [8]


async def test_without_a_provider_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API alone, or not even that: no span, no instrument, and jobs run."""
    assert not telemetry.listening()
    for module in [module for module in sys.modules if module.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    async with SimulatedServer() as server, Pool([server.url]) as pool:
        assert pool._dispatch.telemetry is None
        assert (await pool.run(picture())).files
