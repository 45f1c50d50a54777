"""The job handle: awaited, watched, measured, cancelled, timed."""

import asyncio
from typing import Any

import pytest

from async_comfy import (
    CallerError,
    Cancelled,
    Executed,
    Failed,
    OutOfMemory,
    Progress,
    Rejected,
    Session,
    TimedOut,
    Workflow,
)
from async_comfy.testing import SimulatedServer
from tests.live.pictures import diffusion, picture
from tests.live.waiting import until

pytestmark = pytest.mark.anyio


async def test_events_end_with_the_job_and_the_result_follows() -> None:
    """What the README shows: submit, iterate, await."""
    async with SimulatedServer() as server, Session(server.url) as session:
        job = await session.submit(diffusion(steps=5))
        steps = [event.value async for event in job if isinstance(event, Progress)]
        result = await job

    assert steps[-1] == 5
    assert steps == sorted(steps)
    assert result.seeds == {"5.seed": 1}
    assert [file.media_type for file in result.images] == ["image/png"]


async def test_several_watchers_hear_the_same_whenever_they_begin() -> None:
    """A watcher that begins after the end still hears every fact, from the first."""
    async with SimulatedServer() as server, Session(server.url) as session:
        job = await session.submit(picture(1))
        first, second = await asyncio.gather(_facts(job), _facts(job))
        await job
        late = await _facts(job)

    assert first == second == late
    assert first[0] == "ExecutionStart"


async def _facts(job: object) -> list[str]:
    names = [type(event).__name__ async for event in job]  # type: ignore[attr-defined]  # a Job
    return [name for name in names if not name.startswith("Progress")]


async def test_many_tasks_await_one_job_and_one_of_them_may_be_cancelled() -> None:
    """Cancelling one waiter cancels neither the job nor the other waiters."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("prompt")
        job = await session.submit(picture(2))
        waiters = [asyncio.ensure_future(job) for _ in range(3)]
        await asyncio.sleep(0)
        waiters[0].cancel()
        server.release()
        results = await asyncio.gather(*waiters, return_exceptions=True)

    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1] is results[2]


async def test_previews_come_as_pictures() -> None:
    """`previews()` yields whole image files, with the node that makes them."""
    async with SimulatedServer() as server, Session(server.url) as session:
        job = await session.submit(diffusion(steps=3))
        previews = [preview async for preview in job.previews()]

    assert previews
    assert {preview.node for preview in previews} == {"5"}
    assert previews[-1].data.startswith(b"\xff\xd8\xff")


async def test_progress_grows_from_nothing_to_all() -> None:
    """`progress` weighs nodes by their steps, names the current node, and never goes back."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("node")
        job = await session.submit(diffusion(steps=10))
        seen = []
        async for event in job:
            seen.append(job.progress)
            if isinstance(event, Progress) and event.value == 5:
                assert job.progress.title == "KSampler"
                assert (job.progress.step, job.progress.steps) == (5, 10)
            server.advance()
        await job

    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.2
    assert job.progress.fraction == 1.0


async def test_a_queued_job_knows_how_many_are_ahead() -> None:
    """`progress.ahead` counts everybody's prompts less our later ones, without asking the server."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("prompt")
        jobs = [await session.submit(picture(color)) for color in range(4)]
        await until(lambda: session.statistics().queue_remaining == 4)
        assert [job.progress.ahead for job in jobs] == [0, 1, 2, 3]
        requests = len(server.requests)
        server.release()
        await asyncio.gather(*jobs)

    assert requests == 4


async def test_a_cached_result_says_so() -> None:
    """The second run of the same workflow does nothing, and every file of it is marked as cached."""
    async with SimulatedServer() as server, Session(server.url) as session:
        first = await session.run(picture(3))
        again = await session.run(picture(3))

    assert not first.cached
    assert not first.files[0].cached
    assert again.cached == {"1", "2"}
    assert again.files[0].cached
    assert again.files[0].filename == first.files[0].filename


async def test_pictures_sent_over_the_socket_are_outputs() -> None:
    """SaveImageWebsocket leaves no file on the server, yet its pictures are in the result."""
    async with SimulatedServer() as server, Session(server.url) as session:
        result = await session.run(picture(4, save="SaveImageWebsocket", batch=3))
        data = [await file.read() for file in result.images]
        requests = len(server.requests)

    assert len(data) == 3
    assert all(picture.startswith(b"\x89PNG") for picture in data)
    assert requests == 1


async def test_a_failing_node_is_named_with_the_server_s_traceback() -> None:
    """`Failed` carries node, class, title, message and remote traceback; memory is a type of its own."""
    async with SimulatedServer() as server, Session(server.url) as session:
        with pytest.raises(Failed) as failed:
            await session.run(_through("ProbeFail", message="broken"))
        with pytest.raises(OutOfMemory) as memory:
            await session.run(_through("ProbeOOM"))

    assert (failed.value.node, failed.value.title, failed.value.class_type) == ("3", "Between", "ProbeFail")
    assert failed.value.remote_traceback
    assert "Between (ProbeFail) failed: ValueError: broken" in str(failed.value)
    assert not isinstance(failed.value, OutOfMemory)
    assert "memory" in memory.value.hint


def _through(class_type: str, **inputs: Any) -> Workflow:
    """Paper, then a node of this class, then Out."""
    workflow = picture(5)
    between = workflow.add(class_type, title="Between", image=workflow["Paper"][0], **inputs)
    workflow["Out"].inputs["images"] = between[0]
    return workflow


async def test_a_refused_prompt_says_which_node_which_input_and_what_is_allowed() -> None:
    """`Rejected` is readable in a terminal, and names title, class, input, given and allowed."""
    workflow = diffusion()
    workflow.set("KSampler.sampler_name", "eulerr")
    workflow.set("KSampler.steps", 0)
    async with SimulatedServer() as server, Session(server.url) as session:
        with pytest.raises(Rejected) as refused:
            await session.submit(workflow)
        assert session.statistics().open_jobs == 0

    problems = {problem.input: problem for problem in refused.value.problems}
    assert problems["steps"].kind == "value_smaller_than_min"
    assert problems["sampler_name"].given == "eulerr"
    assert "euler" in problems["sampler_name"].allowed
    assert "KSampler" in str(refused.value)
    assert "'sampler_name'" in str(refused.value)


async def test_dropped_outputs_raise_unless_a_part_is_welcome() -> None:
    """A 200 with node_errors is a refusal by default and stops the rest; `partial=True` takes it."""
    workflow = picture(6)
    workflow.add("PreviewImage", title="Wrong", images=["77", 0])
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("prompt")
        with pytest.raises(Rejected) as refused:
            await session.submit(workflow)
        assert server.queue_remaining == 0
        server.release()
        result = await session.run(workflow, partial=True)

    assert refused.value.problems
    assert result.dropped
    assert [file.node for file in result.files] == ["2"]


async def test_time_outs_tell_queued_from_running() -> None:
    """`wait` names the phase that took too long, and leaves the job alone."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("prompt", "node")
        job = await session.submit(picture(7))
        with pytest.raises(TimedOut) as queued:
            await job.wait(queued=0.01)
        server.advance()
        await server.until_at("node")
        with pytest.raises(TimedOut) as running:
            await job.wait(running=0.01)
        server.release()
        await job

    assert queued.value.phase == "queued"
    assert running.value.phase == "running"


@pytest.mark.parametrize("seconds", [float("nan"), -1, "5"])
async def test_a_patience_that_is_none_is_refused_before_anything_is_sent(seconds: Any) -> None:
    """Of `wait`, of `run`, of `cancel`: a sentence that names it."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("prompt")
        job = await session.submit(picture(1))
        server.requests.clear()
        for call in (
            lambda: job.wait(queued=seconds),
            lambda: job.wait(running=seconds),
            lambda: session.run(picture(1), queued=seconds),
            lambda: session.run(picture(1), running=seconds),
            lambda: job.cancel(timeout=seconds),
        ):
            with pytest.raises(CallerError, match=r"(queued|running|timeout) cannot be"):
                await call()
        assert not server.requests
        assert not job.done


async def test_run_that_is_cancelled_cancels_its_job() -> None:
    """Cancelling `run()` stops the prompt at the server before the CancelledError arrives."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("prompt")
        task = asyncio.create_task(session.run(picture(8)))
        await server.until(lambda: server.queue_remaining == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.queue_remaining == 0
        server.release()
        assert (await session.run(picture(9))).files


async def test_a_block_ties_the_job_to_itself() -> None:
    """`async with` cancels what is still open at its end; a dropped handle leaves it running."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("prompt")
        async with await session.submit(picture(10)) as job:
            pass
        assert job.state == "cancelled"
        with pytest.raises(Cancelled):
            await job
        await session.submit(picture(11))
        server.release()
        await server.until(lambda: len(server.executions) == 1)


async def test_a_held_node_is_interrupted_and_no_other_job_is() -> None:
    """`cancel` of a running job stops that one; the next in the queue runs to its end."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("node")
        first = await session.submit(picture(12))
        second = await session.submit(picture(13))
        await server.until_at("node")
        cancelling = asyncio.create_task(first.cancel())
        await server.until(lambda: any("cancel" in request.path for request in server.requests))
        server.release()
        assert await cancelling
        assert (await second).files

    assert [job.state for job in (first, second)] == ["cancelled", "completed"]


async def test_outputs_arrive_while_the_job_runs() -> None:
    """An `Executed` names its files before the run is over."""
    async with SimulatedServer() as server, Session(server.url) as session:
        job = await session.submit(picture(14))
        outputs = [event.output async for event in job if isinstance(event, Executed)]

    assert outputs[0] is not None
    assert outputs[0]["images"][0]["type"] == "output"


async def test_a_seed_is_applied_to_every_seed_input_and_told() -> None:
    """`seed=` varies what is sent and leaves the workflow alone; the result says what was sent."""
    workflow = diffusion(seed=1)
    async with SimulatedServer() as server, Session(server.url) as session:
        chosen = await session.run(workflow, seed=42)
        drawn = await (await session.submit(workflow, seed="random"))
        sent = [request.json["prompt"]["5"]["inputs"]["seed"] for request in server.requests]

    assert chosen.seeds == {"5.seed": 42}
    assert sent == [42, drawn.seeds["5.seed"]]
    assert workflow.seeds() == {"5.seed": 1}
