"""Large things: a picture of 20 MB to disk, and a workflow of 300 KB to the server."""

import asyncio
import copy
import json
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from async_comfy import OutputFile, Result, Session, Workflow
from benchmarks.fleet import Fleet
from benchmarks.machine import seasoned
from benchmarks.tables import Table

NAME = "transfers"
FILE_BYTES = 20_000_000
NODES = 1900  # makes about 300 KB
STALL_EVERY_S = 0.001

Work = Callable[[], Awaitable[Any]]


def large_workflow() -> dict[str, Any]:
    """A chain of text nodes, as prompt collections grow."""
    return {
        str(node): {
            "class_type": "StringConcatenate",
            "inputs": {
                "string_a": f"a lighthouse in the evening sun, {node}",
                "string_b": [str(node - 1), 0] if node else "",
                "delimiter": ", ",
            },
            "_meta": {"title": f"words {node}"},
        }
        for node in range(NODES)
    }


def measure(quick: bool) -> dict[str, Any]:
    """Medians of CPU, time, and the longest time in which nothing else could run."""
    rounds = 2 if quick else 5
    return asyncio.run(_measure(rounds))


async def _measure(rounds: int) -> dict[str, Any]:
    seasoned()
    with Fleet(1) as fleet, tempfile.TemporaryDirectory() as folder:
        fleet.reset(beat_us=1000, hold=True)
        async with Session(fleet.urls[0]) as session, aiohttp.ClientSession() as http:
            downloads = await _each(_downloads(session, http, fleet.urls[0], Path(folder)), rounds)
            uploads = await _each(_submissions(session, http, fleet.urls[0]), rounds * 3)
    return {"download": downloads, "submit": uploads, "workflow_bytes": len(json.dumps(large_workflow()))}


async def _each(ways: dict[str, Work], rounds: int) -> dict[str, dict[str, float]]:
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for work in ways.values():
        await work()
    for _ in range(rounds):
        for name, work in ways.items():
            runs[name].append(await _timed(work))
    return {name: {key: median(run[key] for run in each) for key in each[0]} for name, each in runs.items()}


async def _timed(work: Work) -> dict[str, float]:
    stalls = [0.0]
    clock = asyncio.ensure_future(_stalls(stalls))
    await asyncio.sleep(0.01)
    cpu, wall = time.process_time(), time.perf_counter()
    await work()
    spent, passed = time.process_time() - cpu, time.perf_counter() - wall
    await asyncio.sleep(0.005)
    clock.cancel()
    return {"cpu_ms": spent * 1e3, "wall_ms": passed * 1e3, "stall_ms": max(stalls) * 1e3}


async def _stalls(found: list[float]) -> None:
    while True:
        begun = time.perf_counter()
        await asyncio.sleep(STALL_EVERY_S)
        found.append(time.perf_counter() - begun - STALL_EVERY_S)


def _downloads(session: Session, http: aiohttp.ClientSession, url: str, folder: Path) -> dict[str, Work]:
    name = f"{FILE_BYTES}.bytes"
    file = OutputFile("7", "images", name, source=session._downloads)
    result = Result("", {}, (file,))

    async def ours() -> None:
        (path,) = await result.save(folder, existing="overwrite")
        assert path.stat().st_size == FILE_BYTES

    async def whole() -> None:
        async with http.get(f"{url}/view?filename={name}") as response:
            (folder / "whole").write_bytes(await response.read())

    async def chunks() -> None:
        async with http.get(f"{url}/view?filename={name}") as response:
            with (folder / "chunks").open("wb") as to:
                async for chunk in response.content.iter_chunked(1 << 16):
                    to.write(chunk)

    return {"async_comfy, save": ours, "aiohttp, read and write": whole, "aiohttp, 64 KiB chunks": chunks}


def _submissions(session: Session, http: aiohttp.ClientSession, url: str) -> dict[str, Work]:
    prompt = large_workflow()
    workflow = Workflow.load(prompt)

    async def ours() -> None:
        await session.submit(workflow)

    async def edited() -> None:
        changed = workflow.copy()
        changed.set("0.string_a", uuid.uuid4().hex)
        await session.submit(changed)

    async def usual() -> None:
        body = copy.deepcopy(prompt)
        body["0"]["inputs"]["string_a"] = uuid.uuid4().hex
        payload = {"prompt": body, "client_id": session.client_id, "prompt_id": str(uuid.uuid4())}
        async with http.post(f"{url}/prompt", json=payload) as response:
            await response.json()

    return {
        "async_comfy, the same again": ours,
        "async_comfy, edited copy": edited,
        "deepcopy + json + aiohttp": usual,
    }


def tables(result: dict[str, Any]) -> list[Table]:
    """For the report."""
    header = ["", "CPU, ms", "time, ms", "longest stall of the loop, ms"]
    keys = ("cpu_ms", "wall_ms", "stall_ms")
    titles = {
        "download": f"A file of {FILE_BYTES // 1_000_000} MB to disk",
        "submit": f"A workflow of {result['workflow_bytes'] // 1000} KB",
    }
    return [
        Table(title, header, [(name, *(row[key] for key in keys)) for name, row in result[case].items()])
        for case, title in titles.items()
    ]
