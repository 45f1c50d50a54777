"""One session and its server: reconnecting, strangers, old and coming versions, closing."""

import asyncio
import gc

import pytest

from async_comfy import CallerError, Closed, Executing, Gap, Session
from async_comfy.testing import SimulatedServer
from tests.live.pictures import diffusion, picture
from tests.live.waiting import until

pytestmark = pytest.mark.anyio


async def test_the_first_frame_asks_for_previews_with_metadata_also_after_a_reconnect() -> None:
    """Flags belong to the connection: previews name their node before and after."""
    async with SimulatedServer() as server, Session(server.url) as session:
        before = await session.submit(diffusion(1))
        assert all([preview.node == "5" async for preview in before.previews()])
        await server.drop_sockets()
        await until(lambda: session.statistics().connections == 2)
        after = await session.submit(diffusion(2))
        assert all([preview.node == "5" async for preview in after.previews()])


async def test_a_job_that_ended_while_the_socket_was_away_resolves_with_its_outputs() -> None:
    """One look at queue, then history, after connecting again."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("node")
        job = await session.submit(picture(1))
        await server.until_at("node")
        server.faults.drop(lambda frame: True)
        await server.drop_sockets()
        server.release()
        await server.until_idle()
        server.faults.clear()
        result = await job

    assert [file.kind for file in result.files] == ["images"]
    assert session.statistics().looks >= 1


async def test_a_watcher_is_told_of_the_gap() -> None:
    """Events may be missing between what came before and what comes after, and the watcher knows it."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("node")
        job = await session.submit(picture(8))
        await server.until_at("node")
        await server.drop_sockets()
        await until(lambda: session.statistics().connections == 2)
        server.release()
        gaps = [event async for event in job if isinstance(event, Gap)]

    assert [gap.prompt_id for gap in gaps] == [job.id]
    assert gaps[0].seconds >= 0


async def test_strangers_prompts_reach_nobody() -> None:
    """Prompts of other clients, and of no client at all, leave our jobs alone."""
    async with SimulatedServer() as server, Session(server.url) as ours, Session(server.url) as theirs:
        server.hold("prompt")
        job = await ours.submit(picture(2))
        other = await theirs.submit(picture(3))
        await ours._http.post("/prompt", {"prompt": picture(4).to_api()})
        server.release()
        events = [event async for event in job]
        await other
        await server.until_idle()
        await until(lambda: ours.statistics().strangers)

    assert {event.prompt_id for event in events} == {job.id}
    assert [event.node for event in events if isinstance(event, Executing)] == ["1", "2", None]


@pytest.mark.parametrize("profile", ["0.3.40", "0.33", "next"])
async def test_every_server_version_is_driven_alike(profile: str) -> None:
    """Before client-made ids, now, and with the coming credential: the same results."""
    async with SimulatedServer(profile=profile) as server, Session(server.url) as session:
        results = await asyncio.gather(*(session.run(picture(color)) for color in range(20)))
        await server.drop_sockets()
        await until(lambda: session.statistics().connections == 2)
        results.append(await session.run(picture(99)))

    assert all(len(result.files) == 1 for result in results)
    assert set(server.executions.values()) == {1}


async def test_closing_fails_the_waiters_and_leaves_nothing_behind() -> None:
    """Waiters get `Closed`, each its own, never a CancelledError; no task survives."""
    async with SimulatedServer() as server:
        before = asyncio.all_tasks()
        server.hold("prompt")
        async with Session(server.url) as session:
            job = await session.submit(picture(5))
            waiters = [asyncio.ensure_future(job) for _ in range(3)]
            await asyncio.sleep(0)
        errors = await asyncio.gather(*waiters, return_exceptions=True)
        await until(lambda: server.open_sockets == 0)
        await until(lambda: asyncio.all_tasks() <= before)  # the server's own end in their own time
        server.release()

    assert [type(error) for error in errors] == [Closed] * 3
    assert len({id(error) for error in errors}) == 3
    gc.collect()


async def test_a_watcher_of_a_closed_session_is_told() -> None:
    """Iterating does not end as if the job had."""
    async with SimulatedServer() as server:
        server.hold("prompt")
        async with Session(server.url) as session:
            job = await session.submit(picture(6))
            watching = asyncio.create_task(_drain(job))
            await asyncio.sleep(0)
        with pytest.raises(Closed):
            await watching
        server.release()


async def test_a_job_that_ended_can_be_read_after_its_session_closed() -> None:
    """Its events and its result are values; only what needs the server is gone."""
    async with SimulatedServer() as server:
        async with Session(server.url) as session:
            job = await session.submit(picture(7))
            await job
        names = [type(event).__name__ async for event in job]
        result = await job
        with pytest.raises(Closed):
            await result.files[0].read()

    assert names[0] == "ExecutionStart"


async def test_declarations_are_asked_once_and_again_after_a_reconnect() -> None:
    """object_info is kept per class, as long as it is surely the same server that answers."""
    async with SimulatedServer() as server, Session(server.url) as session:
        for _ in range(2):
            await session.nodes.get("SaveImage")
        await server.drop_sockets()
        await until(lambda: session.statistics().connections == 2)
        await session.nodes.get("SaveImage")
        assert server.requests.count("GET", "/object_info/SaveImage") == 2


async def _drain(job: object) -> None:
    async for _ in job:  # type: ignore[attr-defined]  # a Job
        pass


async def test_a_slow_watcher_costs_bounded_memory_and_stalls_nobody() -> None:
    """A watcher that never reads keeps every fact and the newest gauges; what went is counted."""
    async with SimulatedServer() as server, Session(server.url) as session:
        job = await session.submit(diffusion(steps=1000))
        watcher = job.events()
        first = await anext(watcher)
        await job
        rest = [event async for event in watcher]

    assert type(first).__name__ == "ExecutionStart"
    assert job.dropped > 0
    assert len(rest) < 1000
    assert [event.node for event in rest if isinstance(event, Executing)][-1] is None


async def test_what_is_no_json_is_refused_before_anything_is_sent() -> None:
    async with SimulatedServer() as server, Session(server.url) as session:
        with pytest.raises(CallerError, match=r"`extra_data` is no JSON"):
            await session.submit(picture(1), extra_data={"when": object()})
        assert session.statistics().open_jobs == 0
        assert not [one for one in server.requests if one.path == "/prompt"]


@pytest.mark.parametrize(
    ("name", "given"),
    [("connections", 0), ("connections", -1), ("give_up_s", float("nan"))],
)
async def test_numbers_that_mean_nothing_are_refused(name: str, given: float) -> None:
    """Without connections nothing is ever sent."""
    with pytest.raises(CallerError, match=name):
        Session("http://127.0.0.1:8188", **{name: given})  # type: ignore[arg-type]  # as the table says it
