"""Promises 5 and 6: a watcher that does not read costs bounded memory and never stalls the socket."""

import asyncio
from contextlib import aclosing

import pytest

from async_comfy import Executed, Executing, ExecutionSuccess, Preview, Session, Workflow
from async_comfy.testing import SimulatedServer
from tests.live.pictures import diffusion, picture

pytestmark = pytest.mark.anyio


def flood(count: int) -> Workflow:
    """So many messages from one node, as fast as they go."""
    workflow = picture(1)
    burst = workflow.add("ProbeSteps", image=workflow["Paper"][0], steps=count, delay_ms=0, preview=True)
    workflow["Out"].inputs["images"] = burst[0]
    return workflow


async def test_a_watcher_that_sleeps_holds_up_nobody() -> None:
    """Promise 6: while one job's watcher never reads, its job and another client's jobs run to their ends."""
    async with SimulatedServer() as server, Session(server.url) as ours, Session(server.url) as theirs:
        job = await ours.submit(flood(5000))
        watcher = job.events()
        await anext(watcher)
        result, other = await asyncio.gather(job, theirs.run(picture(2)))
        assert ours.statistics().frames > 5000
        waiting = [event async for event in watcher]
    assert result.files
    assert other.files
    assert job.dropped > 4000
    assert len(waiting) < 1000
    assert sum(isinstance(event, Preview) for event in waiting) <= 16


async def test_facts_stay_whatever_was_left_out() -> None:
    """Promise 5: of the gauges the newest, of the facts all, in order."""
    async with SimulatedServer(preview=False) as server, Session(server.url) as session:
        short = await session.submit(diffusion(seed=2, steps=1))
        undisturbed = [event.node async for event in short if isinstance(event, Executing)]
        server.free()
        job = await session.submit(diffusion(steps=3000))
        watcher = job.events()
        await anext(watcher)
        await job
        rest = [event async for event in watcher]
    facts = [event for event in rest if isinstance(event, Executing | Executed | ExecutionSuccess)]
    assert [event.node for event in facts if isinstance(event, Executing)] == undisturbed
    assert sum(isinstance(event, Executed) for event in facts) == 1
    assert sum(isinstance(event, ExecutionSuccess) for event in facts) == 1


async def test_a_watcher_that_leaves_is_forgotten() -> None:
    """Promise 5: leaving the loop frees its mailbox."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("node")
        job = await session.submit(diffusion(steps=5))
        for _ in range(10):
            async with aclosing(job.events()) as watcher:
                await anext(watcher)
        assert not job._mailboxes
        server.release()
        await job
