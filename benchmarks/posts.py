"""What it costs to send a prompt: POST /prompt by aiohttp, by our courier, and a whole submission."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

import aiohttp

from async_comfy import Session, Workflow
from async_comfy._live.access import access
from async_comfy._live.courier import Courier
from benchmarks import traffic
from benchmarks.fleet import Fleet
from benchmarks.machine import seasoned
from benchmarks.tables import Table

NAME = "posts"
SERVERS = 100
POSTS = 3_000
AT_ONCE = (1, 4, 32)

Post = Callable[[int], Awaitable[object]]


def measure(quick: bool) -> dict[str, Any]:
    """Microseconds of this process's CPU for each, by how many are under way at once."""
    return {"us": asyncio.run(_measure(500 if quick else POSTS, 3 if quick else 7))}


async def _measure(posts: int, rounds: int) -> dict[str, dict[str, float]]:
    seasoned()
    workflow = Workflow.load(traffic.WORKFLOW)
    body = b'{"prompt":%s,"client_id":"x"}' % workflow.encode()
    with Fleet(SERVERS) as fleet:
        fleet.reset(beat_us=1000, hold=True)
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
            )
            sessions = [await stack.enter_async_context(Session(url)) for url in fleet.urls]
            couriers = [_courier(url) for url in fleet.urls]
            for courier in couriers:
                stack.callback(courier.close)

            async def by_aiohttp(server: int) -> None:
                kind = {"Content-Type": "application/json"}
                async with http.post(f"{fleet.urls[server]}/prompt", data=body, headers=kind) as response:
                    await response.read()

            ways: dict[str, Post] = {
                "aiohttp": by_aiohttp,
                "courier": lambda server: couriers[server].post("/prompt", body),
                "submit": lambda server: sessions[server].submit(workflow),
            }
            found: dict[str, dict[str, list[float]]] = {}
            for _ in range(rounds + 1):  # the first is for connections and caches
                for at_once in AT_ONCE:
                    for name, way in ways.items():
                        us = await _each(way, posts, at_once)
                        found.setdefault(str(at_once), {}).setdefault(name, []).append(us)
    return {
        at_once: {name: median(times[1:]) for name, times in row.items()} for at_once, row in found.items()
    }


def _courier(url: str) -> Courier:
    courier = Courier.to(access(url), most=64, connect_s=10.0, answer_s=60.0)
    assert courier is not None
    return courier


async def _each(post: Post, posts: int, at_once: int) -> float:
    turns = iter(range(posts))

    async def work() -> None:
        for turn in turns:
            await post(turn % SERVERS)

    begun = time.process_time()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return (time.process_time() - begun) / posts * 1e6


def tables(result: dict[str, Any]) -> list[Table]:
    """For the report."""
    header = ["at once", "POST by aiohttp", "POST by the courier", "aiohttp / courier", "a whole submission"]
    rows = [
        (int(at_once), us["aiohttp"], us["courier"], us["aiohttp"] / us["courier"], us["submit"])
        for at_once, us in result["us"].items()
    ]
    note = "The same body to the same servers in turn; a submission encodes, registers and reads as well."
    return [Table("CPU to send a prompt, us", header, rows, note)]
