"""Servers that die, lie, run out of memory or fall silent; the jobs end right all the same, at most once."""

import asyncio
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from async_comfy import CallerError, Lost, OutOfMemory, Rejected, Workflow
from async_comfy._live.endings import may_have_begun
from async_comfy._live.fleet import Server
from async_comfy._live.pool import Pool
from async_comfy._live.pool_job import PoolJob
from async_comfy.protocol import costs
from async_comfy.protocol.failover import Ending, Retry
from async_comfy.protocol.job import State
from async_comfy.protocol.lanes import Lane
from async_comfy.testing import ServerProcess, SimulatedServer
from tests.live.pictures import diffusion, picture
from tests.live.pool.test_pool import name
from tests.live.waiting import until

pytestmark = pytest.mark.anyio


async def test_what_waited_at_a_server_that_died_runs_elsewhere() -> None:
    """A prompt that had not begun is placed again, by default, and runs exactly once."""
    async with SimulatedServer() as dying, SimulatedServer() as other:
        async with Pool([dying.url, other.url]) as pool:
            dying.hold("prompt")
            other.hold("prompt")
            jobs = [await pool.submit(picture(color)) for color in range(2)]
            await until(lambda: all(job.state == "queued" for job in jobs))
            await dying.crash()
            other.release()
            results = await asyncio.gather(*jobs)

        assert {result.server.rstrip("/") for result in results} == {other.url}
        assert not dying.executions
        assert set(other.executions.values()) == {1}
        moved = next(job for job in jobs if job.attempts[0].server == name(dying))
        assert [attempt.begun for attempt in moved.attempts] == [False, True]


async def test_what_ran_there_is_lost_unless_its_caller_said_otherwise() -> None:
    """A begun job raises `Lost` with the evidence; with retry="if_lost" it runs again elsewhere."""
    async with SimulatedServer() as first, SimulatedServer() as second:
        async with Pool([first.url, second.url]) as pool:
            first.hold("node")
            never = await pool.submit(picture(1), server=name(first))
            await first.until_at("node")
            await first.crash()
            with pytest.raises(Lost) as lost:
                await never
            assert "if_lost" in lost.value.hint
            assert never.state == "lost"

            second.hold("node")
            again = await pool.submit(picture(2), retry="if_lost")
            await second.until_at("node")
            await first.restart()
            first.release()
            await second.crash()
            result = await again

        assert result.server.rstrip("/") == first.url
        assert again.prompt_id == result.prompt_id
        assert [attempt.begun for attempt in again.attempts] == [True, True]


async def test_a_job_that_kills_two_servers_stops() -> None:
    """A poison job is not sent to a third server, whatever its caller allows."""
    async with SimulatedServer() as a, SimulatedServer() as b, SimulatedServer() as c:
        servers = {name(server): server for server in (a, b, c)}
        async with Pool([server.url for server in servers.values()]) as pool:
            for server in servers.values():
                server.hold("node")
            job = await pool.submit(picture(3), retry=10)
            for died in range(2):
                await until(lambda died=died: len(job.attempts) == died and job.state == "running")  # type: ignore[misc]  # bound
                await servers[str(job.server)].crash()
            with pytest.raises(Lost, match="running when its servers died"):
                await job

        assert len({attempt.server for attempt in job.attempts}) == 2
        assert sum(bool(server.executions) for server in servers.values()) == 2


async def test_out_of_memory_frees_then_takes_a_bigger_card_then_tells() -> None:
    """OOM: /free and once more, then a server with more VRAM, then the error."""
    hungry = picture(4)
    between = hungry.add("ProbeOOM", image=hungry["Paper"][0])
    hungry["Out"].inputs["images"] = between[0]
    async with SimulatedServer() as small, SimulatedServer() as big:
        cards = [Server(small.url, "small", vram_gb=8), Server(big.url, "big", vram_gb=24)]
        async with Pool(cards) as pool:
            big.hold("prompt")
            job = await pool.submit(hungry)
            await until(lambda: job.server == "big")
            assert small.requests.count("POST", "/free") == 1
            big.release()
            with pytest.raises(OutOfMemory):
                await job

    assert [attempt.server for attempt in job.attempts] == ["small", "small", "big", "big"]


async def test_a_server_that_comes_back_is_used_again() -> None:
    """After a restart of the only server what waited goes on, and nothing is sent while it is away."""
    async with SimulatedServer() as server, Pool([server.url]) as pool:
        await pool.run(picture(5))
        await server.crash()
        await until(lambda: pool.stats().servers[0].state == "joining")
        job = await pool.submit(picture(6))
        assert job.state == "waiting"
        await server.restart()
        assert (await job).files


async def test_prompts_of_others_are_seen() -> None:
    """Strangers at a server are counted, and the server without them is chosen."""
    async with (
        SimulatedServer() as busy,
        SimulatedServer() as free,
        Pool([busy.url, free.url]) as pool,
        Pool([busy.url]) as stranger,
    ):
        busy.hold("prompt")
        theirs = await stranger.submit(picture(7))
        await until(lambda: pool.stats().servers[0].others == 1)
        for color in range(8, 12):
            assert (await pool.run(picture(color))).server.rstrip("/") == free.url
        busy.release()
        await theirs


async def test_a_silent_worker_is_quarantined_and_its_job_s_fate_decided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No sign past the learned bound: the job is stopped there, and runs elsewhere if that is allowed."""
    monkeypatch.setattr(costs, "STALL_FLOOR_S", 0.3)
    monkeypatch.setattr(costs, "STALL_TIMES", 1.0)
    monkeypatch.setattr(costs, "GUESS_RUN_S", 0.1)
    async with SimulatedServer() as stuck, SimulatedServer() as well:
        async with Pool([stuck.url, well.url]) as pool:
            stuck.hold("node")
            well.hold("prompt")
            filler = await pool.submit(picture(12), server=name(well))
            job = await pool.submit(picture(13), server=name(stuck), retry="if_lost")
            job.needs = filler.needs.__class__(classes=job.needs.classes)  # it may go anywhere from now on
            await stuck.until_at("node")
            await until(lambda: pool.stats().quarantines)
            await stuck.until(lambda: any("cancel" in request.path for request in stuck.requests))
            stuck.release()
            well.release()
            result = await job

        assert result.server.rstrip("/") == well.url
        assert set(stuck.executions.values()) == {1}


def test_killed_and_frozen_processes_lose_nothing() -> None:
    """One process is killed, one frozen, one added: every job ends; only what the dead one ran, ran twice."""
    with ServerProcess() as a, ServerProcess() as b, ServerProcess() as c:
        jobs = asyncio.run(_chaos(a, b, c))
        executions = a.executions + b.executions + c.executions
    assert Counter(job.state for job in jobs) == {"completed": 40}
    again = sum(attempt.begun and attempt.ending is Ending.LOST for job in jobs for attempt in job.attempts)
    assert sum(executions.values()) <= len(jobs) + again
    assert set(executions.values()) == {1}
    assert again <= 2


async def _chaos(a: ServerProcess, b: ServerProcess, c: ServerProcess) -> list[PoolJob]:
    async with Pool([a.url, b.url]) as pool:
        jobs = [await pool.submit(_slow(color), retry="if_lost") for color in range(40)]
        await until(lambda: sum(job.done for job in jobs) >= 6)
        a.kill()
        await pool.add(c.url)
        await until(lambda: sum(job.done for job in jobs) >= 14)
        b.stop()
        await until(lambda: sum(job.done for job in jobs) >= 20)
        b.cont()
        a.start()
        await asyncio.gather(*jobs)
    return jobs


def _slow(color: int) -> Workflow:
    workflow = picture(color)
    between = workflow.add("ProbeSteps", image=workflow["Paper"][0], steps=4, delay_ms=20, preview=False)
    workflow["Out"].inputs["images"] = between[0]
    return workflow


async def test_a_server_that_is_taken_out_at_once_frees_its_lane() -> None:
    """Removed without draining, its job is lost or moves; the lane's ceiling does not count it any more."""
    lanes = [Lane("video", ceiling=1)]
    async with (
        SimulatedServer() as gone,
        SimulatedServer() as kept,
        Pool([gone.url, kept.url], lanes=lanes) as pool,
    ):
        gone.hold("node")
        job = await pool.submit(picture(14), server=name(gone))
        await gone.until_at("node")
        await pool.remove(name(gone), drain=False)
        with pytest.raises(Lost):
            await job
        assert (await pool.run(picture(15))).server.rstrip("/") == kept.url
        gone.release()


def _png() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(data, format="PNG")
    return data.getvalue()


async def test_files_follow_the_job_to_its_next_server(tmp_path: Path) -> None:
    """An upload is made at the first server, and again at the one where the job runs in the end."""
    (tmp_path / "in.png").write_bytes(_png())
    workflow = Workflow()
    image = workflow.add("LoadImage", image=tmp_path / "in.png")
    workflow.add("SaveImage", images=image[0], filename_prefix="copy")
    async with SimulatedServer() as dying, SimulatedServer() as other:
        async with Pool([dying.url, other.url]) as pool:
            dying.hold("prompt")
            other.hold("prompt")
            filler = await pool.submit(picture(16), server=name(other))
            job = await pool.submit(workflow)
            await until(lambda: job.state == "queued")
            assert job.server == name(dying)
            await dying.crash()
            other.release()
            assert (await job).files
            await filler
        assert dying.requests.count("POST", "/upload/image") == 1
        assert other.requests.count("POST", "/upload/image") == 1


async def test_what_waits_behind_a_silent_worker_runs_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that never begins what it has: the job is deleted there, and goes to another server."""
    monkeypatch.setattr(costs, "STALL_FLOOR_S", 0.3)
    monkeypatch.setattr(costs, "STALL_TIMES", 1.0)
    monkeypatch.setattr(costs, "GUESS_RUN_S", 0.1)
    async with SimulatedServer() as stuck, SimulatedServer() as well:
        async with Pool([stuck.url]) as pool:
            stuck.hold("prompt")
            job = await pool.submit(picture(17))
            await until(lambda: job.state == "queued")
            await pool.add(well.url)
            result = await job
            assert result.server.rstrip("/") == well.url
            assert [(one.ending, one.begun) for one in job.attempts] == [
                (Ending.STALLED, False),
                (Ending.COMPLETED, True),
            ]
            stuck.release()
            await stuck.until_idle()
        assert not stuck.executions


@pytest.mark.parametrize("retry", ["never", "if_lost"])
async def test_a_post_whose_answer_never_came_may_have_begun(retry: Retry) -> None:
    """The server dies while the prompt is on its way: `Lost`, and not sent again, unless that is allowed."""
    async with SimulatedServer() as dying, SimulatedServer() as other:
        async with Pool([dying.url, other.url]) as pool:
            dying.faults.slow(("POST", "/prompt"), 60.0)
            other.hold("prompt")
            filler = await pool.submit(picture(18), server=name(other))
            job = await pool.submit(picture(19), retry=retry)
            await dying.until(lambda: dying.requests.count("POST", "/prompt"))
            await dying.crash()
            other.release()
            if retry == "never":
                with pytest.raises(Lost):
                    await job
            else:
                assert (await job).server.rstrip("/") == other.url
            await filler
        assert job.attempts[0].begun
        assert job.attempts[0].prompt_id


async def test_what_nobody_has_is_refused_each_time_and_found_once_it_is_there() -> None:
    """The second job with a missing file is refused like the first, and does not wait for ever."""
    workflow = diffusion()
    workflow.set("CheckpointLoaderSimple.ckpt_name", "nowhere.safetensors")
    async with SimulatedServer() as one, SimulatedServer() as two, Pool([one.url, two.url]) as pool:
        for _ in range(3):
            with pytest.raises(Rejected, match=r"nowhere\.safetensors"):
                await pool.run(workflow)
        assert (await pool.run(diffusion())).files
        assert one.requests.count("POST", "/prompt") + two.requests.count("POST", "/prompt") <= 6


async def test_what_no_server_can_ever_take_is_said_at_once() -> None:
    """More VRAM than there is, a lane that nobody takes, a label of another server: one sentence, no wait."""
    lanes = [Lane("image"), Lane("video")]
    async with SimulatedServer() as small, SimulatedServer() as big:
        cards = [
            Server(small.url, "small", vram_gb=8, lanes=frozenset({"image"})),
            Server(big.url, "big", vram_gb=24, lanes=frozenset({"image"}), labels=frozenset({"h"})),
        ]
        async with Pool(cards, lanes=lanes) as pool:
            for options, said in (
                ({"vram_gb": 48}, "says that it has 48 GB"),
                ({"lane": "video"}, "takes no jobs of lane 'video'"),
                ({"server": "small", "labels": ["h"]}, "small cannot take that: has no label h"),
            ):
                with pytest.raises(CallerError, match=said):
                    await pool.submit(picture(20), **options)
            assert (await pool.run(picture(20), vram_gb=20)).server.rstrip("/") == big.url


@pytest.mark.parametrize(("state", "begun"), [(State.LOST, False), (State.CANCELLED, True)])
def test_what_we_stopped_after_a_gap_may_have_begun(state: State, begun: bool) -> None:
    """A process that died and is back at once ran nothing in between; one that lived may have."""
    life = SimpleNamespace(run=None, gap=True, state=state)
    job: Any = SimpleNamespace(inner=SimpleNamespace(life=life), sent_id="one")
    member: Any = SimpleNamespace(quick=True)
    assert may_have_begun(job, member) is begun


async def test_what_a_server_did_between_its_last_word_and_its_death_nobody_knows() -> None:
    """Its socket broke, it answered, and then it died: what it had may have begun, and is not sent again."""
    async with SimulatedServer() as dying, SimulatedServer() as other:
        async with Pool([dying.url, other.url]) as pool:
            dying.hold("prompt")
            job = await pool.submit(picture(27), server=name(dying))
            await until(lambda: job.state == "queued")
            job.needs = job.ticket.needs = replace(job.needs, server=None)  # it may go anywhere from now on
            dying.faults.answer(lambda request: request.path.endswith("/ws"), 503, times=1000)
            asked = dying.requests.count("GET", "/prompt")
            await dying.drop_sockets()
            await dying.until(lambda: dying.requests.count("GET", "/prompt") > asked + 1)
            await dying.crash()
            with pytest.raises(Lost):
                await job
        assert not other.executions


async def test_what_ran_out_of_memory_does_not_wait_for_a_server_that_goes() -> None:
    """A server that is drained or dead is not the one to try again: the bigger card is, at once."""
    hungry = picture(21)
    between = hungry.add("ProbeOOM", image=hungry["Paper"][0])
    hungry["Out"].inputs["images"] = between[0]
    async with SimulatedServer() as small, SimulatedServer() as big:
        cards = [Server(small.url, "small", vram_gb=8), Server(big.url, "big", vram_gb=24)]
        async with Pool(cards) as pool:
            small.hold("node")
            big.hold("prompt")
            filler = await pool.submit(picture(22), server="big")
            job = await pool.submit(hungry)
            await small.until_at("node")
            leaving = asyncio.create_task(pool.remove("small"))
            await until(lambda: pool.stats().servers[0].state == "draining")
            small.release()
            await leaving
            big.release()
            with pytest.raises(OutOfMemory):
                await job
            await filler
    assert [attempt.server for attempt in job.attempts] == ["small", "big", "big"]


async def test_what_waits_for_memory_is_let_go_when_its_server_drains() -> None:
    """It waits to run there once more, behind another one, when the server is drained: it goes elsewhere."""
    hungry = picture(23)
    between = hungry.add("ProbeOOM", image=hungry["Paper"][0])
    hungry["Out"].inputs["images"] = between[0]
    async with SimulatedServer() as small, SimulatedServer() as big, Pool([small.url]) as stranger:
        cards = [Server(small.url, "small", vram_gb=8), Server(big.url, "big", vram_gb=24)]
        async with Pool(cards) as pool:
            small.hold("node")
            big.hold("prompt")
            filler = await pool.submit(picture(24), server="big")
            job = await pool.submit(hungry)
            await small.until_at("node")
            behind = await pool.submit(picture(25), server="small", priority=100)
            theirs = await stranger.submit(picture(26))
            await until(lambda: theirs.state == "queued")
            small.advance(2)
            await until(lambda: len(job.attempts) == 1)
            await until(lambda: job.state == "waiting" and behind.state != "waiting")
            draining = asyncio.create_task(pool.drain("small"))
            await until(lambda: pool.stats().servers[0].state == "draining")
            big.release()
            with pytest.raises(OutOfMemory):
                await job
            small.release()
            await asyncio.gather(draining, behind, theirs, filler)
    assert [attempt.server for attempt in job.attempts] == ["small", "big", "big"]
