"""Runs in the peers' own environment: the same work for each, told in one line of JSON.

Given in argv[1] as JSON: `urls`, `prompts`, `in_flight`, `workflow`. A module beside this one says how
its package runs a prompt.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

Runner = Callable[[dict[str, Any]], Awaitable[str | None]]
"""Runs a workflow to its end; the prompt id, where the package tells it."""

Connect = Callable[[str], AbstractAsyncContextManager[Runner]]
"""A server's address: how to run prompts there."""


def main(connect: Connect) -> None:
    """Does the work that argv names and prints what it took."""
    print(json.dumps(asyncio.run(_drive(connect, json.loads(sys.argv[1])))), flush=True)


async def _drive(connect: Connect, work: dict[str, Any]) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        runners = [await stack.enter_async_context(connect(url)) for url in work["urls"]]
        for run in runners:
            await run(work["workflow"])
        return await _timed(runners, work)


async def _timed(runners: list[Runner], work: dict[str, Any]) -> dict[str, Any]:
    back: dict[str, int] = {}
    failed: list[str] = []
    turns = iter(range(work["prompts"]))

    async def worker() -> None:
        for turn in turns:
            try:
                prompt = await runners[turn % len(runners)](work["workflow"])
            except Exception as error:  # noqa: BLE001  # whatever a peer raises is its result
                failed.append(f"{type(error).__name__}: {error}"[:200])
            else:
                back[prompt or f"untold {turn}"] = time.monotonic_ns()

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(work["in_flight"])))
    return {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "back_ns": back,
        "failed": failed[:3],
        "failures": len(failed),
    }
