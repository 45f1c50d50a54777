"""Many jobs over many servers with faults at random: no wrong outcome, and everything back where it began.

``ASYNC_COMFY_FLEET`` is jobs x servers; `make soak` says 10000x20.
"""

import asyncio
import gc
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import pytest

from async_comfy import Job, Session, Workflow
from async_comfy.protocol.job import Life
from async_comfy.testing import SimulatedServer
from tests.live.reliability.census import descriptors
from tests.live.reliability.tally import tally
from tests.live.waiting import until

pytestmark = pytest.mark.anyio

JOBS, SERVERS = (int(number) for number in os.environ.get("ASYNC_COMFY_FLEET", "400x4").split("x"))
AT_ONCE = 40  # jobs under way at the same time
FAULT_EVERY_S = 0.05


def named(nonce: str) -> Workflow:
    workflow = Workflow()
    paper = workflow.add("EmptyImage", width=8, height=8, batch_size=1, color=0)
    workflow.add("SaveImage", images=paper[0], filename_prefix=nonce)
    return workflow


async def trouble(servers: list[SimulatedServer], chance: random.Random) -> None:
    """Something goes wrong somewhere, for as long as this is let."""
    while True:
        await asyncio.sleep(FAULT_EVERY_S)
        server = chance.choice(servers)
        strikes: list[Callable[[], object]] = [
            server.drop_sockets,
            server.deafen,
            server.faults.cut_after_queueing,
            server.faults.fail_but_queue,
            partial(server.faults.refuse_prompts, 503, "0.1"),
            partial(server.faults.duplicate, lambda frame: True, times=5),
            partial(server.faults.drop, lambda frame: True, times=3),
            partial(setattr, server.faults, "history_late_s", chance.choice([0.0, 0.1, 1.0])),
        ]
        done = chance.choice(strikes)()
        tally("faults struck at that fleet", 1)
        if isinstance(done, Awaitable):
            await done


def kept() -> list[object]:
    """Every job that is still in memory."""
    return [thing for thing in gc.get_objects() if isinstance(thing, Life | Job)]


async def test_a_fleet_with_faults_tells_no_falsehood_and_leaves_nothing() -> None:
    """Promises 1, 3, 4, 5 and 9: each job its own file and one execution; tasks, sockets, jobs: all gone."""
    chance = random.Random(JOBS)
    gc.collect()
    before = kept()
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(SimulatedServer()) for _ in range(SERVERS)]
        gc.collect()
        tasks, files = set(asyncio.all_tasks()), descriptors()
        async with AsyncExitStack() as sessions:
            open_ones = [await sessions.enter_async_context(Session(server.url)) for server in servers]
            troubling = asyncio.create_task(trouble(servers, chance))
            limit = asyncio.Semaphore(AT_ONCE)

            async def one(number: int) -> None:
                async with limit:
                    result = await open_ones[number % SERVERS].run(named(f"job_{number}"))
                assert [file.filename.startswith(f"job_{number}_") for file in result.files] == [True]
                assert servers[number % SERVERS].executions[result.prompt_id] == 1

            await asyncio.gather(*(one(number) for number in range(JOBS)))
            troubling.cancel()
            await asyncio.gather(troubling, return_exceptions=True)
            assert all(session.statistics().open_jobs == 0 for session in open_ones)
        await until(lambda: descriptors() <= files + 2)
        await until(lambda: not [task for task in asyncio.all_tasks() - tasks if not task.done()])
        assert sum(len(server.executions) for server in servers) == JOBS
    open_ones.clear()
    gc.collect()
    assert [thing for thing in kept() if thing not in before] == []
    tally(f"jobs over {SERVERS} servers with faults at random", JOBS)
