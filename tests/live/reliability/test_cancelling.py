"""Promise 7: cancelling touches only its own job, on every server, and is repeated until the job is over."""

import asyncio

import pytest

from async_comfy import CallerError, Cancelled, Session, TimedOut
from async_comfy.testing import SimulatedServer
from tests.live.pictures import picture
from tests.live.waiting import until

pytestmark = pytest.mark.anyio

PROFILES = ["0.3.40", "0.33", "next"]


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_pending_job_is_removed_and_its_neighbours_run(profile: str) -> None:
    """The running one before it and the pending one after it end with their pictures."""
    async with SimulatedServer(profile=profile) as server, Session(server.url) as session:
        server.hold("node")
        first, second, third = [await session.submit(picture(color)) for color in range(3)]
        await server.until_at("node")
        assert await second.cancel()
        server.release()
        ends = await asyncio.gather(first, second, third, return_exceptions=True)
    assert isinstance(ends[1], Cancelled)
    assert [job.state for job in (first, second, third)] == ["completed", "cancelled", "completed"]
    assert second.id not in server.executions


@pytest.mark.parametrize("profile", ["0.33", "next"])
async def test_a_running_job_is_interrupted_by_its_id(profile: str) -> None:
    """The next in the queue runs to its end, and no untargeted interrupt was sent."""
    async with SimulatedServer(profile=profile) as server, Session(server.url) as session:
        server.hold("node")
        first, second = [await session.submit(picture(color)) for color in range(2)]
        await server.until_at("node")
        assert await first.cancel()
        server.release()
        assert (await second).files
        interrupts = [request for request in server.requests if request.path == "/interrupt"]
        assert all(request.json["prompt_id"] == first.id for request in interrupts)


async def test_a_cancel_that_the_server_lost_is_repeated() -> None:
    """Right after a POST a server says true to some cancels and does nothing: ask until it is over."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("node")
        server.faults.lost_cancels = 3
        job = await session.submit(picture(4))
        await server.until_at("node")
        assert await job.cancel()
        assert server.faults.lost_cancels == 0
        server.release()
        assert (await session.run(picture(5))).files


async def test_cancelling_right_after_the_post_leaves_nothing_in_the_queue() -> None:
    """Fifty jobs cancelled at once, each as soon as it is accepted, wherever it is then."""
    async with SimulatedServer() as server, Session(server.url) as session:

        async def hurried(color: int) -> str:
            job = await session.submit(picture(color))
            await job.cancel()
            return job.state

        states = await asyncio.gather(*(hurried(color) for color in range(50)))
        assert server.queue_remaining == 0
        assert session.statistics().open_jobs == 0
    assert set(states) <= {"cancelled", "completed"}
    assert max(server.executions.values(), default=0) <= 1


async def test_cancelling_twice_at_once_and_after_the_end_is_harmless() -> None:
    """Idempotent: the outcome that stands is told again."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("node")
        job = await session.submit(picture(6))
        await server.until_at("node")
        assert all(await asyncio.gather(job.cancel(), job.cancel()))
        asked = _cancels(server)
        assert await job.cancel()
        server.release()
        done = await session.submit(picture(7))
        await done
        assert not await done.cancel()
        assert _cancels(server) == asked
    assert done.state == "completed"


def _cancels(server: SimulatedServer) -> int:
    return sum(request.path.endswith("/cancel") for request in server.requests)


async def test_an_old_server_refuses_to_interrupt_unless_the_caller_insists() -> None:
    """0.3.40 would stop whatever runs: nothing is sent to it until `force`."""
    async with SimulatedServer(profile="0.3.40") as server, Session(server.url) as session:
        server.hold("node")
        job = await session.submit(picture(8))
        await server.until_at("node")
        with pytest.raises(CallerError, match="too old"):
            await job.cancel()
        assert server.requests.count("POST", "/interrupt") == 0
        assert await job.cancel(force=True)
        server.release()
        with pytest.raises(Cancelled):
            await job


async def test_force_on_an_old_server_never_stops_another_s_prompt() -> None:
    """While somebody else's prompt runs, ours is taken from the queue and no interrupt is sent."""
    async with (
        SimulatedServer(profile="0.3.40") as server,
        Session(server.url) as ours,
        Session(server.url) as theirs,
    ):
        server.hold("node")
        other = await theirs.submit(picture(9))
        job = await ours.submit(picture(10))
        await server.until_at("node")
        assert await job.cancel(force=True)
        assert server.requests.count("POST", "/interrupt") == 0
        server.release()
        assert (await other).files


async def test_a_node_that_cannot_be_stopped_is_a_time_out_and_the_request_stands(hasty: None) -> None:
    """Bounded: the caller gets `TimedOut`, the job ends as the server ends it."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.faults.ignores_interrupts = True
        server.hold("node")
        job = await session.submit(picture(11))
        await server.until_at("node")
        with pytest.raises(TimedOut):
            await job.cancel(timeout=0.3)
        server.faults.ignores_interrupts = False
        server.release()
        with pytest.raises(Cancelled):
            await job


async def test_cancelling_over_a_deaf_socket_ends_too(hasty: None) -> None:
    """No event tells of it: queue and history do."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("node")
        job = await session.submit(picture(12))
        await server.until_at("node")
        server.deafen()
        assert await job.cancel()
        server.release()


async def test_a_job_that_ended_well_in_a_gap_is_not_called_cancelled_because_we_wanted_it_to_be() -> None:
    """Promise 1: history is late, and in it is a success: the cancel came after the end."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("node")
        server.faults.history_late_s = 1.0
        job = await session.submit(picture(13))
        await server.until_at("node")
        server.deafen()
        server.release()
        await server.until_idle()
        assert not await job.cancel()
    assert job.state == "completed"


async def test_somebody_else_s_interrupt_is_told_as_such() -> None:
    """`Cancelled` for us, with whose doing it was."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("node")
        job = await session.submit(picture(14))
        await server.until_at("node")
        server.interrupt()
        with pytest.raises(Cancelled, match="at the server"):
            await job
        server.release()


async def test_a_pending_job_that_somebody_else_removed_is_lost_not_hanging(hasty: None) -> None:
    """No event tells of it: the empty queue does."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("prompt")
        job = await session.submit(picture(15))
        async with Session(server.url) as other:
            await other.queue.clear()
        await until(lambda: job.done)
        server.release()
    assert job.state == "lost"
