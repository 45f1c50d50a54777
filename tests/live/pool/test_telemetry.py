"""What OpenTelemetry is told, with the in-memory exporters of its SDK; and nothing where nobody listens."""

import asyncio
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

from async_comfy import Failed, Lost, NotFound, Rejected, Session
from async_comfy._live import telemetry
from async_comfy._live.pool import Pool
from async_comfy.protocol.health import Condition
from async_comfy.protocol.lanes import Lane
from async_comfy.protocol.ledger import BUCKETS_S
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

    def kinds(self, prefix: str) -> list[Any]:
        """What went wrong in these spans."""
        found = [(span.attributes or {}).get("error.type") for span in self.spans(prefix)]
        return [kind for kind in found if kind is not None]

    def everything(self) -> str:
        """All that left the program, as text."""
        return "".join(span.to_json() for span in self.spans_out.get_finished_spans())

    def bounds(self, metric: str) -> set[Any]:
        """Those of a histogram's buckets."""
        return {tuple(point.explicit_bounds) for _, point in self._all(metric)}

    def points(self, metric: str) -> dict[str, Any]:
        """Values (counts, for a histogram) by the attributes, as text."""
        return {
            about: getattr(point, "value", getattr(point, "count", 0)) for about, point in self._all(metric)
        }

    def _all(self, metric: str) -> Iterator[tuple[str, Any]]:
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for one in scope.metrics:
                    for point in one.data.data_points if one.name == metric else ():
                        attributes: Mapping[str, Any] = point.attributes or {}
                        yield ",".join(f"{key}={value}" for key, value in sorted(attributes.items())), point


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

    assert heard.kinds("job") == ["Rejected", "Failed", "Lost"]
    assert all(not span.status.is_ok for span in heard.spans("job"))
    # When the server died the pool gave up the session, and with it the prompt: the job's span says why.
    assert heard.kinds("generate_content") == ["Rejected", "Failed", "Closed"]
    assert "hush" not in heard.everything()


async def test_no_text_of_a_prompt_is_in_a_span(heard: Heard, tmp_path: Path) -> None:
    """Not even where the server's own words repeat it: a span says what went wrong, and where."""
    wrong = diffusion()
    wrong.set("KSampler.steps", "my secret wish")
    broken = picture(8)
    between = broken.add("ProbeFail", image=broken["Paper"][0], message="my secret wish")
    broken["Out"].inputs["images"] = between[0]
    named = picture(9)
    named["Out"].inputs["filename_prefix"] = "my secret wish"
    async with SimulatedServer(folder=tmp_path / "server") as server, Pool([server.url]) as pool:
        with pytest.raises(Rejected, match="my secret wish"):
            await pool.run(wrong)
        with pytest.raises(Failed, match="my secret wish"):
            await pool.run(broken)
        result = await pool.run(named)
        for file in (tmp_path / "server" / "output").iterdir():
            file.unlink()
        with pytest.raises(NotFound):
            await result.save(tmp_path)

    assert "my secret wish" not in heard.everything()
    told = [span.status.description for span in heard.spans("job")]
    assert told == ["invalid_input_type at node 5 (KSampler)", "ValueError in node 3 (ProbeFail)", None]
    assert heard.kinds("download") == ["NotFound"]


async def test_each_attempt_has_its_own_span(heard: Heard) -> None:
    """Below the span of the job, which says where it was and how that ended."""
    async with SimulatedServer() as one, SimulatedServer() as two, Pool([one.url, two.url]) as pool:
        for server in (one, two):
            server.hold("node")
        job = await pool.submit(picture(), retry="if_lost")
        async with asyncio.timeout(10):
            at = [asyncio.create_task(server.until_at("node")) for server in (one, two)]
            await asyncio.wait(at, return_when=asyncio.FIRST_COMPLETED)
        first, second = (one, two) if at[0].done() else (two, one)
        for task in at:
            task.cancel()
        await first.crash()
        second.release()
        await job

    (whole,) = heard.spans("job")
    told = [event.attributes["async_comfy.outcome"] for event in whole.events[1::2] if event.attributes]
    assert told == ["lost", "completed"]
    assert whole.status.is_ok
    prompts = heard.spans("generate_content")
    assert [span.parent.span_id for span in prompts if span.parent] == [whole.context.span_id] * 2
    assert {span.attributes["server.port"] for span in prompts if span.attributes} == {one.port, two.port}


async def test_what_is_open_when_the_pool_closes_ends_as_closed(heard: Heard) -> None:
    """What runs and what waits; no span stays open, and none of them is called a failure."""
    async with SimulatedServer() as server:
        async with Pool([server.url]) as pool:
            server.hold("node")
            for color in range(3):
                await pool.submit(picture(color))
            await server.until_at("node")
        server.release()

    for prefix, open_then in (("job", 3), ("generate_content", 1)):
        assert heard.kinds(prefix) == ["Closed"] * open_then
        outcomes = {(span.attributes or {})["async_comfy.outcome"] for span in heard.spans(prefix)}
        assert outcomes == {"closed"}
    about = "async_comfy.outcome=closed,messaging.destination.name=default"
    assert heard.points("async_comfy.jobs") == {about: 3}
    assert not heard.points("async_comfy.queue")
    assert not any(heard.points("async_comfy.servers").values())


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
        servers = heard.points("async_comfy.servers")
        assert servers == {f"async_comfy.state={one}": one == "ready" for one in Condition}
        server.release()
        for job in jobs:
            await job
        assert heard.points("async_comfy.job.wait") == {lane: 8}
        assert list(heard.points("async_comfy.job.run").values()) == [8]


async def test_pools_of_one_program_are_added_up(heard: Heard) -> None:
    """The same lane in two of them is one gauge, and their servers are counted together."""
    async with SimulatedServer() as server, Pool([server.url]) as one, Pool([server.url]) as two:
        server.hold("prompt")
        for color in range(9):
            await (one if color % 3 else two).submit(picture(color))
        lane = "messaging.destination.name=default"
        waiting = one.stats().waiting + two.stats().waiting
        assert one.stats().waiting
        assert two.stats().waiting
        assert heard.points("async_comfy.queue") == {lane: waiting}
        assert sum(heard.points("async_comfy.servers").values()) == 2
        server.release()


async def test_durations_are_told_apart_below_five_seconds(heard: Heard) -> None:
    """In the buckets of the Prometheus text, and not in the SDK's own, of which the first ends at 5 s."""
    async with SimulatedServer() as server, Pool([server.url]) as pool:
        await pool.run(picture())
    for metric in ("async_comfy.job.wait", "async_comfy.job.run", "gen_ai.client.operation.duration"):
        assert heard.bounds(metric) == {BUCKETS_S}, metric


async def test_without_a_provider_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API alone, or not even that: no span, no instrument, and jobs run."""
    assert not telemetry.listening()
    for module in [module for module in sys.modules if module.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    async with SimulatedServer() as server, Pool([server.url]) as pool:
        assert pool._dispatch.telemetry is None
        assert (await pool.run(picture())).files
