"""What a job of a pool tells who holds it: sent, cancelled, watched, and moved from server to server."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from async_comfy import (
    Ambiguous,
    CallerError,
    Cancelled,
    Closed,
    Failed,
    TimedOut,
    Unreachable,
    Workflow,
)
from async_comfy._live import dispatch
from async_comfy._live.pool import Pool
from async_comfy.protocol import costs
from async_comfy.testing import SimulatedServer
from tests.live.pictures import picture
from tests.live.pool.test_pool import EDITED, fleet, name
from tests.live.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def quick_to_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker counts as silent after a moment."""
    monkeypatch.setattr(costs, "STALL_FLOOR_S", 0.3)
    monkeypatch.setattr(costs, "STALL_TIMES", 1.0)
    monkeypatch.setattr(costs, "GUESS_RUN_S", 0.1)
    monkeypatch.setattr(dispatch, "STOP_S", 0.5)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"priority": float("nan")}, "priority cannot be nan"),
        ({"priority": float("inf")}, "priority cannot be inf"),
        ({"deadline": float("nan")}, "deadline cannot be nan"),
        ({"vram_gb": float("inf")}, "vram_gb cannot be inf"),
        ({"retry": "if-lost"}, "retry cannot be 'if-lost'"),
        ({"retry": -1}, "retry cannot be -1"),
        ({"labels": "24gb"}, "labels are a list"),
    ],
    ids=[
        "priority nan",
        "priority inf",
        "deadline nan",
        "vram inf",
        "retry typo",
        "retry negative",
        "labels text",
    ],
)
async def test_odd_wishes_are_refused(wish: dict[str, object], said: str) -> None:
    """What is no number would put the whole queue out of order; a policy that there is not does nothing."""
    async with fleet(1) as servers, Pool([servers[0].url]) as pool:
        with pytest.raises(CallerError, match=said):
            await pool.submit(picture(1), **wish)  # type: ignore[arg-type]  # it is refused
        assert (await pool.run(picture(1), deadline=-1, vram_gb=1)).files


async def test_what_sending_raises_is_told_and_no_fault_of_the_server() -> None:
    """Nothing is sent, no server is blamed, and the next job goes through."""

    def full(prompt_id: str, server: str) -> None:
        raise OSError(f"no room to write down {prompt_id} on {server}")

    async with fleet(2) as servers, Pool([server.url for server in servers]) as pool:
        for _ in range(4):
            job = await pool.submit(picture(1), sending=full, retry=2)
            with pytest.raises(CallerError, match="no room to write down") as told:
                await job
            assert isinstance(told.value.__cause__, CallerError)
            assert job.attempts[0].prompt_id == ""
        assert not sum(server.requests.count("POST", "/prompt") for server in servers)
        assert pool.stats().ejections == 0
        assert (await pool.run(picture(2))).files


async def test_late_watchers_hear_every_attempt() -> None:
    """Who iterates when all is over hears what who iterated meanwhile heard, of both servers."""
    async with fleet(2) as (first, second), Pool([first.url, second.url]) as pool:
        first.hold("node")
        second.hold("prompt")
        filler = await pool.submit(picture(1), server=name(second))
        job = await pool.submit(picture(2), retry="if_lost")
        meanwhile = asyncio.create_task(_starts(job.events()))
        await first.until_at("node")
        await first.crash()
        second.release()
        await asyncio.gather(job, filler)
        assert await meanwhile == [attempt.prompt_id for attempt in job.attempts]
        assert await _starts(job.events()) == await meanwhile


async def _starts(events: AsyncIterator[object]) -> list[object]:
    return [event.prompt_id async for event in events if type(event).__name__ == "ExecutionStart"]  # type: ignore[attr-defined]  # such an event has one


async def test_patience_outlives_the_server() -> None:
    """`wait` goes on where the job goes, when its server dies under it."""
    async with fleet(2) as (first, second), Pool([first.url, second.url]) as pool:
        first.hold("prompt")
        second.hold("prompt")
        filler = await pool.submit(picture(1), server=name(second))
        job = await pool.submit(picture(2))
        await until(lambda: job.state == "queued")
        waiting = asyncio.create_task(job.wait(queued=60, running=60))
        await until(lambda: job._inners[0]._mailboxes)  # it watches for the beginning
        await first.crash()
        second.release()
        assert (await waiting).server.rstrip("/") == second.url
        await filler
        with pytest.raises(CallerError, match="queued cannot be nan"):
            await job.wait(queued=float("nan"))


async def test_a_cancelled_job_that_goes_on_is_not_called_cancelled() -> None:
    """Cancelled while it is posted, at a server too old to stop it: it is followed to its real end."""
    async with SimulatedServer(profile="0.3.40") as server, Pool([server.url]) as pool:
        server.faults.slow(("POST", "/prompt"), 0.2)
        server.hold("node")
        job = await pool.submit(picture(1))
        await server.until(lambda: server.requests.count("POST", "/prompt"))
        with pytest.raises(CallerError, match="too old"):
            await job.cancel()
        assert job.state == "running"
        server.release()
        assert (await job).files


async def test_cancelling_is_not_disturbed_by_the_death_of_the_server() -> None:
    """The job ends as cancelled, whoever asked is told so, and nothing is placed again."""
    async with fleet(2) as (first, second), Pool([first.url, second.url]) as pool:
        first.faults.ignores_interrupts = True
        first.hold("node")
        job = await pool.submit(picture(1), server=name(first), retry="if_lost")
        await first.until_at("node")
        cancelling = asyncio.create_task(job.cancel(timeout=60))
        await first.until(lambda: any("cancel" in request.path for request in first.requests))
        await first.crash()
        assert await cancelling
        with pytest.raises(Cancelled):
            await job
        assert not second.executions


async def test_a_cancel_that_took_too_long_stands() -> None:
    """Nobody waits for it any more, and the job is not run again when its server dies."""
    async with fleet(2) as (first, second), Pool([first.url, second.url]) as pool:
        first.faults.ignores_interrupts = True
        first.hold("node")
        job = await pool.submit(picture(1), retry="if_lost")
        await first.until_at("node")
        with pytest.raises(TimedOut, match="The request stands"):
            await job.cancel(timeout=0.1)
        await first.crash()
        with pytest.raises(Cancelled):
            await job
        assert not second.executions


async def test_a_refusal_to_cancel_changes_nothing() -> None:
    """A server that is too old says so; the job keeps its policy and fails as it would have."""
    workflow = _failing()
    async with SimulatedServer(profile="0.3.40") as server, Pool([server.url]) as pool:
        server.hold("node")
        job = await pool.submit(workflow, retry=1)
        await server.until_at("node")
        with pytest.raises(CallerError, match="too old"):
            await job.cancel()
        server.release()
        with pytest.raises(Failed):
            await job
        assert len(job.attempts) == 2


def _failing() -> Workflow:
    workflow = picture(3)
    between = workflow.add("ProbeFail", image=workflow["Paper"][0], message="broken")
    workflow["Out"].inputs["images"] = between[0]
    return workflow


@pytest.mark.usefixtures("quick_to_doubt")
async def test_what_does_not_stop_ends_for_all_who_watch() -> None:
    """A silent job that goes on after it was asked to stop is `Ambiguous`; iterating it ends."""
    async with fleet(1) as servers, Pool([servers[0].url]) as pool:
        servers[0].faults.ignores_interrupts = True
        servers[0].hold("node")
        job = await pool.submit(picture(1))
        meanwhile = asyncio.create_task(_starts(job.events()))
        with pytest.raises(Ambiguous, match="may go on there"):
            await job
        assert len(await meanwhile) == len(await _starts(job.events())) == 1
        servers[0].release()


@pytest.mark.usefixtures("quick_to_doubt")
async def test_what_fails_while_it_is_stopped_has_failed() -> None:
    """A silent job whose node raises after all: that is its outcome, and no doubt is left."""
    async with fleet(1) as servers, Pool([servers[0].url]) as pool:
        servers[0].faults.ignores_interrupts = True
        servers[0].hold("node")
        job = await pool.submit(_failing())
        await servers[0].until(lambda: any("cancel" in request.path for request in servers[0].requests))
        servers[0].release()
        with pytest.raises(Failed, match="broken"):
            await job


async def test_an_explanation_names_the_attempts_before() -> None:
    """Where it is now, and where it was: while it runs and when it has ended."""
    async with fleet(2) as (first, second), Pool([first.url, second.url]) as pool:
        for server in (first, second):
            server.hold("prompt")
        filler = await pool.submit(picture(1), server=name(second))
        job = await pool.submit(picture(2))
        await until(lambda: job.state == "queued")
        await first.crash()
        await until(lambda: job.state == "waiting")
        second.advance()
        await filler
        await until(lambda: job.state == "queued")
        assert f"before: {name(first)}: lost" in job.explain()
        second.release()
        await job
        assert f"before: {name(first)}: lost" in job.explain()
        assert f"before: {name(second)}" not in job.explain()


async def test_map_yields_while_its_source_keeps_it_waiting() -> None:
    """A source that makes its next workflow from the last result is never waited for in vain."""
    results: asyncio.Queue[bool] = asyncio.Queue()

    async def source() -> AsyncIterator[Workflow]:
        for color in range(3):
            yield picture(color)
            await results.get()

    done = 0
    async with fleet(1) as servers, Pool([servers[0].url]) as pool:
        async with asyncio.timeout(10):
            async for job in pool.map(source()):
                assert (await job).files
                done += 1
                results.put_nowait(True)
    assert done == 3


async def test_what_the_source_of_map_raises_is_raised_and_the_rest_cancelled() -> None:
    """No job of an iterator that broke runs on."""

    def broken() -> Iterator[Workflow]:
        yield picture(1)
        yield picture(2)
        raise LookupError("no third")

    async with fleet(1) as servers, Pool([servers[0].url]) as pool:
        servers[0].hold("prompt")
        with pytest.raises(LookupError, match="no third"):
            await anext(pool.map(broken()))
        await until(lambda: pool.stats().waiting + pool.stats().running == 0)
        assert not servers[0].executions
        for limit in (0, -1, float("nan")):
            with pytest.raises(CallerError, match="limit cannot be"):
                await anext(pool.map([picture(3)], limit=limit))  # type: ignore[arg-type]  # it is refused
        servers[0].release()
        states = [job.state async for job in pool.map([picture(4), picture(5)], limit=1)]
        assert states == ["completed", "completed"]


async def test_closing_meanwhile_leaves_nobody_waiting() -> None:
    """Submitting, draining, taking out and mapping end with `Closed` when the pool is closed under them."""

    async def endless() -> AsyncIterator[Workflow]:
        yield picture(1)
        await asyncio.Event().wait()

    async def mapped() -> None:
        async for _ in pool.map(endless()):
            pass

    async with fleet(1) as (server,):
        pool = await Pool([server.url]).open()
        server.hold("prompt")
        job = await pool.submit(picture(2))
        await until(lambda: job.state == "queued")
        server.faults.slow(lambda request: "object_info" in request.path, 60.0)
        waiting = [
            asyncio.create_task(one)
            for one in (pool.run(EDITED), pool.drain(name(server)), pool.remove(name(server)), mapped())
        ]
        await server.until(lambda: any("object_info" in request.path for request in server.requests))
        await pool.close()
        for ended in await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10):
            assert isinstance(ended, Closed)
        await server.until(lambda: not server.open_sockets)


async def test_who_is_cancelled_while_closing_closes_all_the_same() -> None:
    """The cancellation arrives when all is closed; the pool cannot be opened anew."""
    async with fleet(2) as servers:
        pool = await Pool([server.url for server in servers]).open()
        closing = asyncio.create_task(pool.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        for server in servers:
            await server.until(lambda server=server: not server.open_sockets)  # type: ignore[misc]  # bound
        await pool.close()
        with pytest.raises(Closed, match="opened before"):
            await pool.open()


async def test_what_is_cancelled_behind_its_back_is_not_sent_again() -> None:
    """As a loop does that ends while a pool is open: the job ends, though it may go on at its server."""
    async with fleet(2) as servers, Pool([server.url for server in servers]) as pool:
        for server in servers:
            server.hold("prompt")
        job = await pool.submit(picture(1), retry=2)
        await until(lambda: job.state == "queued")
        for task in list(pool._dispatch._attending.values()):
            task.cancel()
        with pytest.raises(Closed):
            await job
        assert job.attempts == []
        for server in servers:
            server.release()
        assert (await pool.run(picture(2))).files
        assert sum(server.requests.count("POST", "/prompt") for server in servers) == 2


async def test_the_editor_s_format_waits_for_a_server_that_tells_its_nodes() -> None:
    """With none up it is converted where it goes; seeds can only be drawn from what is known."""
    async with fleet(1) as servers, Pool([servers[0].url]) as pool:
        await servers[0].crash()
        await until(lambda: pool.stats().servers[0].state == "joining")
        job = await pool.submit(EDITED)
        with pytest.raises(Unreachable, match="No server is up"):
            await pool.submit(EDITED, seed="random")
        await servers[0].restart()
        assert (await job).files
        servers[0].faults.answer(lambda request: "object_info" in request.path, 500, times=2)
        assert (await pool.run(EDITED)).files
