"""A pool over simulated servers: one queue, late placement, honest handles."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import pytest

from async_comfy import (
    CallerError,
    Cancelled,
    Closed,
    Executed,
    Failed,
    Lost,
    Rejected,
    Server,
    Unreachable,
    Workflow,
)
from async_comfy._live.pool import Pool
from async_comfy._live.pool_job import PoolJob
from async_comfy._live.rehearsal import rehearsal
from async_comfy.protocol.lanes import Lane
from async_comfy.testing import SimulatedServer
from tests.live.pictures import diffusion, picture
from tests.live.waiting import until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def fleet(size: int, **options: object) -> AsyncIterator[list[SimulatedServer]]:
    """So many servers."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(SimulatedServer(**options)) for _ in range(size)]  # type: ignore[arg-type]  # whatever a server takes


def name(server: SimulatedServer) -> str:
    return server.url.removeprefix("http://")


def runs(servers: list[SimulatedServer]) -> Counter[str]:
    return sum((server.executions for server in servers), Counter())


async def test_run_gives_the_result_and_says_where() -> None:
    """`run` anywhere: one POST, one result, with the server that made it."""
    async with fleet(2) as servers, Pool([server.url for server in servers]) as pool:
        result = await pool.run(picture(1))

    assert [file.media_type for file in result.images] == ["image/png"]
    assert result.server.rstrip("/") in {server.url for server in servers}
    assert sum(server.requests.count("POST", "/prompt") for server in servers) == 1


async def test_many_jobs_use_all_servers_and_each_runs_once() -> None:
    """Sixty jobs over three servers: each begun exactly once, every server at work."""
    async with fleet(3) as servers, Pool([server.url for server in servers]) as pool:
        results = await asyncio.gather(*(pool.run(picture(color)) for color in range(60)))

        assert len({result.prompt_id for result in results}) == 60
        assert set(runs(servers).values()) == {1}
        assert len(runs(servers)) == 60
        assert all(server.executions for server in servers)


async def test_at_most_one_runs_and_one_waits_at_a_server() -> None:
    """The queue is on our side: a held server has one prompt, the rest waits in the pool."""
    async with fleet(2) as servers, Pool([server.url for server in servers]) as pool:
        for server in servers:
            server.hold("prompt")
        jobs = [await pool.submit(picture(color)) for color in range(10)]
        await until(lambda: all(server.queue_remaining for server in servers))
        assert [server.queue_remaining for server in servers] == [1, 1]
        assert sum(job.state == "waiting" for job in jobs) == 8
        for server in servers:
            server.release()
        await asyncio.gather(*jobs)


async def test_map_yields_as_they_finish_and_takes_no_more_than_its_limit() -> None:
    """`map` reads its source as it goes: never more than `limit` ahead of what was yielded."""
    taken: list[int] = []

    def source() -> Iterator[Workflow]:
        for color in range(50):
            taken.append(color)
            yield picture(color)

    ahead, done = 0, 0
    async with fleet(2) as servers, Pool([server.url for server in servers]) as pool:
        async for job in pool.map(source(), limit=7):
            done += 1
            ahead = max(ahead, len(taken) - done + 1)
            assert (await job).files

    assert done == 50
    assert ahead <= 7


async def test_leaving_the_loop_of_map_cancels_the_rest() -> None:
    """What is still open when the iterator is closed does not run on."""
    async with fleet(1) as servers, Pool([servers[0].url]) as pool:
        async with aclosing(pool.map([picture(color) for color in range(20)], limit=20)) as jobs:
            async for job in jobs:
                await job
                servers[0].hold("prompt")
                break
        await until(lambda: pool.stats().waiting == 0)
        await servers[0].until(lambda: servers[0].queue_remaining == 0)


async def test_events_are_those_of_a_job() -> None:
    """Iterating a pool job gives its events from the first on, and ends with it."""
    async with fleet(1) as servers, Pool([servers[0].url]) as pool:
        job = await pool.submit(picture(3))
        names = await _facts(job)
        late = await _facts(job)

    assert names[0] == "ExecutionStart"
    assert "Executed" in names
    assert late == names
    assert Executed.__name__ in names


async def _facts(job: PoolJob) -> list[str]:
    names = [type(event).__name__ async for event in job]
    return [name for name in names if not name.startswith("Progress")]


async def test_a_job_that_waits_is_cancelled_without_asking_any_server() -> None:
    """Cancelling in our own queue takes no request, and the job's outcome is "cancelled"."""
    async with fleet(1) as servers, Pool([servers[0].url]) as pool:
        servers[0].hold("prompt")
        first = await pool.submit(picture(4))
        second = await pool.submit(picture(5))
        await until(lambda: first.state == "queued")
        seen = len(servers[0].requests)
        assert await second.cancel()
        assert len(servers[0].requests) == seen
        assert second.state == "cancelled"
        with pytest.raises(Cancelled):
            await second
        servers[0].release()
        await first


async def test_a_job_at_a_server_is_cancelled_there() -> None:
    """Cancelling a placed job stops that one; the next goes on."""
    async with fleet(1) as servers, Pool([servers[0].url]) as pool:
        servers[0].hold("node")
        first = await pool.submit(picture(6))
        second = await pool.submit(picture(7))
        await servers[0].until_at("node")
        cancelling = asyncio.create_task(first.cancel())
        await servers[0].until(lambda: any("cancel" in request.path for request in servers[0].requests))
        servers[0].release()
        assert await cancelling
        assert (await second).files


async def test_user_errors_are_told_and_do_no_harm_to_the_server() -> None:
    """A failing node and a refused prompt raise what a session raises, at once, and eject nobody."""
    broken = picture(8)
    between = broken.add("ProbeFail", image=broken["Paper"][0], message="broken")
    broken["Out"].inputs["images"] = between[0]
    wrong = diffusion()
    wrong.set("KSampler.sampler_name", "eulerr")
    async with fleet(2) as servers, Pool([server.url for server in servers]) as pool:
        for _ in range(5):
            with pytest.raises(Failed):
                await pool.run(broken)
            with pytest.raises(Rejected):
                await pool.run(wrong)
        stats = pool.stats()

    assert stats.ejections == 0
    assert {server.state for server in stats.servers} <= {"ready", "probing"}
    assert set(runs(servers).values()) == {1}


async def test_a_server_that_lacks_a_node_is_passed_by() -> None:
    """A class that one server has not: the job ends where it is, and the next goes there at once."""
    from async_comfy.testing import Node

    special = Node("OnlyHere", lambda call, image: (image,), {"image": ["IMAGE", {}]}, outputs=("IMAGE",))
    async with SimulatedServer() as plain, SimulatedServer(nodes=[special]) as rich:
        workflow = picture(9)
        between = workflow.add("OnlyHere", image=workflow["Paper"][0])
        workflow["Out"].inputs["images"] = between[0]
        async with Pool([plain.url, rich.url]) as pool:
            for _ in range(4):
                assert (await pool.run(workflow)).server.rstrip("/") == rich.url
        assert plain.requests.count("POST", "/prompt") <= 1


async def test_a_model_that_nobody_has_is_refused_as_a_session_would() -> None:
    """When every server lacks the file, the caller gets the last refusal, and nothing ran."""
    workflow = diffusion()
    workflow.set("CheckpointLoaderSimple.ckpt_name", "nowhere.safetensors")
    async with fleet(3) as servers, Pool([server.url for server in servers]) as pool:
        with pytest.raises(Rejected) as refused:
            await pool.run(workflow)
        assert not runs(servers)

    assert "nowhere.safetensors" in str(refused.value)


async def test_jobs_go_where_they_are_sent() -> None:
    """`server` pins; `labels` choose; an unknown one is an error that names those that there are."""
    async with fleet(2) as servers, Pool([server.url for server in servers]) as pool:
        for server in servers:
            assert (await pool.run(picture(10), server=name(server))).server.rstrip("/") == server.url
        with pytest.raises(CallerError, match="no server 'gpu9'"):
            await pool.submit(picture(11), server="gpu9")
        with pytest.raises(CallerError, match="labels h100"):
            await pool.submit(picture(11), labels=["h100"])
        with pytest.raises(CallerError, match="no lane 'video'"):
            await pool.submit(picture(11), lane="video")


async def test_models_stay_where_they_are_warm() -> None:
    """Four models over four servers: each is loaded once, however many jobs use it."""
    async with fleet(4, load_s=0.2, models=CHECKPOINTS) as servers, Pool([s.url for s in servers]) as pool:
        for seed in range(5):
            await asyncio.gather(*(pool.run(_with(model, seed)) for model in CHECKPOINTS["checkpoints"]))
        stats = pool.stats()

    assert stats.cold_loads == 4
    assert sum(len(server.warm) for server in stats.servers) == 4


CHECKPOINTS = {"checkpoints": [f"model_{letter}.safetensors" for letter in "abcd"]}


def _with(model: str, seed: int) -> Workflow:
    workflow = diffusion(seed=seed, steps=2)
    workflow.set("CheckpointLoaderSimple.ckpt_name", model)
    return workflow


async def test_warm_loads_before_the_first_job() -> None:
    """`warm` sees that so many servers hold the models, saves nothing, and does nothing twice."""
    async with fleet(3) as servers, Pool([server.url for server in servers]) as pool:
        names = await pool.warm(diffusion(), servers=2)
        again = await pool.warm(diffusion(), servers=2)
        result = await pool.run(diffusion(seed=5))
        assert len(names) == 2
        assert sorted(again) == sorted(names)
        assert result.server.removeprefix("http://").rstrip("/") in names
        assert sum(runs(servers).values()) == 3
        assert pool.stats().cold_loads == 2


async def test_warm_goes_on_to_servers_that_have_the_files() -> None:
    """One that lacks them is passed over; where all lack them its refusal is told."""
    first, second, third = [{"checkpoints": [f"model_{letter}.safetensors"]} for letter in "abc"]
    async with (
        fleet(1, models=first) as (one,),
        fleet(1, models=second) as (two,),
        Pool([one.url, two.url]) as pool,
    ):
        await until(lambda: all(server.state != "joining" for server in pool.stats().servers))
        assert await pool.warm(_with(first["checkpoints"][0], 1), servers=2) == [name(one)]
        assert await pool.warm(_with(second["checkpoints"][0], 1)) == [name(two)]
        with pytest.raises(Rejected, match="model_c"):
            await pool.warm(_with(third["checkpoints"][0], 1))


async def test_what_warm_loads_is_measured() -> None:
    """Its time is a load's, not a run's: in the figures, and in what is expected of the next load."""
    async with fleet(1, load_s=0.3) as servers, Pool([servers[0].url]) as pool:
        await pool.warm(diffusion())
        (figures,) = pool.stats().models.values()
        assert figures.load.count == 1
        assert figures.load.p50 > 0.1
        assert figures.run.p99 < 0.1
        await pool.run(diffusion(seed=7))
        (figures,) = pool.stats().models.values()
        assert (figures.load.count, figures.run.count) == (1, 2)


async def test_warm_passes_over_a_server_whose_lanes_nobody_has() -> None:
    """It can be given nothing, so the other one is warmed; one taken out meanwhile is said to be gone."""
    async with fleet(2) as (one, two):
        async with Pool([Server(one.url, lanes=set()), two.url]) as pool:
            await until(lambda: all(server.state != "joining" for server in pool.stats().servers))
            assert await pool.warm(diffusion(), servers=2) == [name(two)]
        async with Pool([one.url, two.url]) as pool:
            await until(lambda: all(server.state != "joining" for server in pool.stats().servers))
            warming = asyncio.ensure_future(pool.warm(diffusion(), servers=2))
            await asyncio.sleep(0)
            await pool.remove(name(one))
            with pytest.raises((CallerError, Lost)):
                await warming


async def test_models_freed_at_a_server_that_leaves_are_nobodys() -> None:
    """The worker is given its moment; meanwhile the server is taken out."""
    async with fleet(2) as (one, two), Pool([one.url, two.url]) as pool:
        await until(lambda: all(server.state != "joining" for server in pool.stats().servers))
        freeing = asyncio.ensure_future(pool.free(name(one)))
        await until(lambda: one.requests.count("POST", "/free"))
        await pool.remove(name(one), drain=False)
        await freeing


async def test_warm_uses_a_lane_that_the_server_takes() -> None:
    """A server that is reserved for videos is warmed in their lane."""
    async with fleet(1) as servers:
        server = Server(servers[0].url, lanes={"video"})
        async with Pool([server], lanes=[Lane("image"), Lane("video")]) as pool:
            assert await pool.warm(diffusion()) == [name(servers[0])]


def test_a_rehearsal_runs_each_sampler_for_a_step() -> None:
    """Also a refiner, which begins where another one ends: what samples nothing loads nothing."""
    workflow = Workflow()
    workflow.add("KSamplerAdvanced", title="Base", steps=20, start_at_step=0, end_at_step=15)
    workflow.add("KSamplerAdvanced", title="Refiner", steps=20, start_at_step=15, end_at_step=10000)
    short = rehearsal(workflow)
    for title in ("Base", "Refiner"):
        assert short[title].inputs == {"steps": 1, "start_at_step": 0, "end_at_step": 1}
    assert workflow["Refiner"].inputs["start_at_step"] == 15


async def test_a_drained_server_gets_nothing_new() -> None:
    """`drain` returns when the server is empty; jobs go to the others; `resume` takes it back."""
    async with fleet(2) as servers, Pool([server.url for server in servers]) as pool:
        servers[0].hold("prompt")
        held = await pool.submit(picture(20), server=name(servers[0]))
        await until(lambda: held.state == "queued")
        draining = asyncio.create_task(pool.drain(name(servers[0])))
        results = [await pool.run(picture(color)) for color in range(21, 26)]
        assert {result.server.rstrip("/") for result in results} == {servers[1].url}
        assert not draining.done()
        servers[0].release()
        await draining
        await held
        pool.resume(name(servers[0]))
        assert (await pool.run(picture(30), server=name(servers[0]))).files


async def test_servers_come_and_go_while_jobs_run() -> None:
    """A server that is added takes jobs; one that is removed is drained first."""
    async with fleet(2) as servers, Pool([servers[0].url]) as pool:
        added = await pool.add(servers[1].url)
        assert (await pool.run(picture(31), server=added)).files
        await pool.remove(name(servers[0]))
        results = [await pool.run(picture(color)) for color in range(32, 36)]
        assert {result.server.rstrip("/") for result in results} == {servers[1].url}
        with pytest.raises(CallerError, match="no server"):
            await pool.drain(name(servers[0]))


async def test_a_pool_that_can_reach_nobody_says_so() -> None:
    """No server: the error of the first; none named: what to write."""
    async with SimulatedServer() as server:
        url = server.url
    with pytest.raises(Unreachable):
        async with Pool([url]):
            pass
    with pytest.raises(CallerError, match="needs a server"):
        Pool([])


async def test_closing_ends_what_waits_and_leaves_what_runs() -> None:
    """After closing, waiting jobs raise `Closed`; what was at a server runs on there."""
    async with fleet(1) as servers:
        async with Pool([servers[0].url]) as pool:
            servers[0].hold("prompt")
            jobs = [await pool.submit(picture(color)) for color in range(3)]
            await until(lambda: jobs[0].state == "queued")
        for job in jobs:
            with pytest.raises(Closed):
                await job
        with pytest.raises(Closed):
            await pool.submit(picture(1))
        servers[0].release()
        await servers[0].until(lambda: len(servers[0].executions) == 1)


async def test_lanes_keep_to_their_ceiling() -> None:
    """A lane with a ceiling of one server leaves the other one free for images."""
    lanes = [Lane("image"), Lane("video", ceiling=1)]
    async with fleet(2) as servers, Pool([server.url for server in servers], lanes=lanes) as pool:
        for server in servers:
            server.hold("node")
        videos = [await pool.submit(picture(color), lane="video") for color in range(3)]
        await until(lambda: sum(video.state != "waiting" for video in videos) == 1)
        image = await pool.submit(picture(9), lane="image")
        await until(lambda: image.state == "running")
        assert sum(video.state != "waiting" for video in videos) == 1
        assert "ceiling" in pool.explain(videos[2]) or "busy" in pool.explain(videos[2])
        for server in servers:
            server.release()
        await asyncio.gather(image, *videos)


async def test_placements_are_explained() -> None:
    """`explain` says why a job waits, server by server, and why it was placed where it is."""
    async with fleet(1) as servers, Pool([servers[0].url]) as pool:
        servers[0].hold("prompt")
        first = await pool.submit(diffusion())
        second = await pool.submit(diffusion(seed=2))
        await until(lambda: first.state == "queued")
        assert "a cold start" in pool.explain(first)
        assert "busy" in pool.explain(second)
        servers[0].release()
        await asyncio.gather(first, second)
        assert "warm" in pool.explain(second)


async def test_numbers_are_told_to_people_and_to_prometheus() -> None:
    """`stats` has percentiles by lane, model and server; `metrics` is the same as text."""
    async with fleet(2) as servers, Pool([server.url for server in servers]) as pool:
        await asyncio.gather(*(pool.run(picture(color)) for color in range(8)))
        stats, text = pool.stats(), pool.metrics()

    assert stats.placed == 8
    assert stats.lanes["default"].wait.count == 8
    assert stats.lanes["default"].ended == {"completed": 8}
    assert sum(server.figures.run.count for server in stats.servers if server.figures) == 8
    assert 'async_comfy_attempts_by_lane_total{lane="default",outcome="completed"} 8' in text
    assert 'async_comfy_job_wait_seconds_count{lane="default"} 8' in text


async def test_a_random_seed_is_drawn_once() -> None:
    """`seed="random"` is drawn when the job is submitted: another attempt would send the same."""
    async with fleet(1) as servers, Pool([servers[0].url]) as pool:
        results = [await pool.run(diffusion(seed=1), seed="random") for _ in range(2)]
        fixed = await pool.run(diffusion(seed=7), seed="+1")

    assert results[0].seeds != results[1].seeds
    assert fixed.seeds == {"5.seed": 8}


async def test_the_editor_s_format_is_converted_where_its_nodes_are_known() -> None:
    """A workflow as the editor saves it runs in a pool, and its models are seen before it is placed."""
    async with fleet(2) as servers, Pool([server.url for server in servers]) as pool:
        job = await pool.submit(EDITED)
        assert job.ticket.footprint.classes == {"EmptyImage", "SaveImage"}
        assert (await job).files


EDITED = Workflow.load(
    {
        "last_node_id": 2,
        "last_link_id": 1,
        "version": 0.4,
        "nodes": [
            {
                "id": 1,
                "type": "EmptyImage",
                "mode": 0,
                "inputs": [],
                "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
                "widgets_values": [16, 16, 1, 255],
            },
            {
                "id": 2,
                "type": "SaveImage",
                "mode": 0,
                "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
                "outputs": [],
                "widgets_values": ["edited"],
            },
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"]],
    }
)


async def test_models_of_one_family_go_before_those_of_another_if_asked() -> None:
    """`free_between` unloads before another family, once per change, and never where somebody else waits."""
    first, second = CHECKPOINTS["checkpoints"][:2]
    async with fleet(1, models=CHECKPOINTS) as servers:
        server = servers[0]
        async with Pool([server.url], free_between=True) as pool, Pool([server.url]) as stranger:
            await pool.run(_with(first, 1))
            await pool.run(_with(first, 2))
            assert server.requests.count("POST", "/free") == 0
            await pool.run(_with(second, 3))
            assert server.requests.count("POST", "/free") == 1
            server.hold("prompt")
            theirs = await stranger.submit(picture(1))
            await until(lambda: theirs.state == "queued")
            ours = await pool.submit(_with(first, 4))
            await until(lambda: ours.state == "queued")
            assert server.requests.count("POST", "/free") == 1
            server.release()
            await asyncio.gather(theirs, ours)


async def test_closing_does_not_wait_for_a_server_that_does_not_answer() -> None:
    """A POST that hangs is given up: the caller gets `Closed`, and no connection is left behind."""
    async with fleet(1) as servers:
        servers[0].faults.slow(("POST", "/prompt"), 60.0)
        async with Pool([servers[0].url]) as pool:
            job = await pool.submit(picture(1))
            await servers[0].until(lambda: servers[0].requests.count("POST", "/prompt"))
        with pytest.raises(Closed):
            await job
        await servers[0].until(lambda: not servers[0].open_sockets)
