"""CPU for one event, from its bytes to whoever waits for it: decode, route, wake. No sockets.

The traffic is what a real server said in some forty situations (tests/recordings), all message types
mixed as they came.
"""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from async_comfy import Session
from async_comfy._live.handle import Job
from async_comfy.protocol.job import Life
from benchmarks.tables import Table

NAME = "events"
RECORDINGS = Path(__file__).parents[1] / "tests" / "recordings"
FULL, QUICK = 7, 3


class Recording(NamedTuple):
    """The frames of one situation, and the prompts that they are about."""

    frames: list[tuple[bytes, bool]]
    prompts: list[str]


def measure(quick: bool) -> dict[str, Any]:
    """Microseconds per event, in three ways of listening."""
    recordings = [recording(path) for path in sorted(RECORDINGS.glob("*.jsonl.gz"))]
    rounds = range(QUICK if quick else FULL)
    found = {
        "result only": [asyncio.run(_replay(recordings, watched=False, together=50)) for _ in rounds],
        "watched, burst": [asyncio.run(_replay(recordings, watched=True, together=50)) for _ in rounds],
        "watched, one at a time": [
            asyncio.run(_replay(recordings, watched=True, together=1)) for _ in rounds
        ],
    }
    return {
        "frames": sum(len(each.frames) for each in recordings),
        "us_per_event": {how: median(times) for how, times in found.items()},
    }


def tables(result: dict[str, Any]) -> list[Table]:
    """For the report."""
    rows = list(result["us_per_event"].items())
    note = (
        f"{result['frames']} recorded messages of all types, decoded, routed and handed to a waiting task; "
        "what the event loop itself takes for a pass is taken off."
    )
    return [Table("CPU per event: decode + route + wake", ["listener", "us"], rows, note)]


def recording(path: Path) -> Recording:
    """One file of tests/recordings; its README tells the format."""
    frames: list[tuple[bytes, bool]] = []
    prompts: list[str] = []
    for line in gzip.decompress(path.read_bytes()).splitlines():
        said = json.loads(line)
        if said["kind"] == "scenario":
            prompts = list(said["ends"])
        elif said["kind"] == "text":
            frames.append((said["raw"].encode(), False))
        elif said["kind"] == "binary":
            frames.append((bytes.fromhex(said["head"]).ljust(said["len"], b"\0"), True))
    return Recording(frames, prompts)


async def _replay(recordings: list[Recording], *, watched: bool, together: int) -> float:
    passes, spent = 0, 0.0
    for each in recordings:
        session = Session("http://127.0.0.1:8188")  # never opened: its frames come from a file
        session._board.opened = True
        router = session._board.router
        async with _listening(session, each.prompts, watched=watched):
            begun = time.process_time()
            for at in range(0, len(each.frames), together):
                for raw, binary in each.frames[at : at + together]:
                    (router.take_binary if binary else router.take_text)(raw, begun)
                await asyncio.sleep(0)
                passes += 1
            spent += time.process_time() - begun
    idle = await _idle(passes)
    return (spent - idle) / sum(len(each.frames) for each in recordings) * 1e6


async def _idle(passes: int) -> float:
    begun = time.process_time()
    for _ in range(passes):
        await asyncio.sleep(0)
    return time.process_time() - begun


@asynccontextmanager
async def _listening(session: Session, prompts: list[str], *, watched: bool) -> AsyncIterator[None]:
    jobs = []
    for prompt in prompts:
        life = Life(prompt, {}, time.monotonic())
        jobs.append(Job(session, session._board, life, {}, keep_events=False))
        session._board.router.register(life)
    watchers = [asyncio.ensure_future(_watch(job)) for job in jobs] if watched else []
    await asyncio.sleep(0)
    try:
        yield
    finally:
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)


async def _watch(job: Job) -> None:
    async for _event in job:
        pass
