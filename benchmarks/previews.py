"""Previews of 30 KB, twenty a second from each of 100 servers, every one of them handed to a loop."""

import asyncio
from statistics import median
from typing import Any

from benchmarks.fleet import Fleet
from benchmarks.machine import seasoned
from benchmarks.receive import SERVERS, Aiohttp, Frames, RawBytes, Receiver, Recv, Watched, receive
from benchmarks.tables import Table

NAME = "previews"
PER_S = 20
CONTESTANTS: tuple[type[Receiver], ...] = (Watched, Frames, RawBytes, Recv, Aiohttp)


def measure(quick: bool) -> dict[str, Any]:
    """CPU per preview, and what part of a core the whole stream takes."""
    return asyncio.run(_measure(1 if quick else 3))


async def _measure(rounds: int) -> dict[str, Any]:
    seasoned()
    runs: dict[str, list[dict[str, float]]] = {kind.name: [] for kind in CONTESTANTS}
    with Fleet(SERVERS) as fleet:
        for _ in range(rounds):
            for kind in CONTESTANTS:
                options = {"times": PER_S, "together": 1, "beat_us": 1_000_000 // PER_S}
                runs[kind.name].append(await receive(fleet, kind, "preview 30 KB", **options))
    return {name: {key: median(run[key] for run in each) for key in each[0]} for name, each in runs.items()}


def tables(result: dict[str, Any]) -> list[Table]:
    """For the report."""
    rows = [(name, row["cpu_us"], row["core"] * 100) for name, row in result.items()]
    title = f"Previews of 30 KB, {PER_S} a second from {SERVERS} servers"
    return [Table(title, ["", "CPU, us each", "% of a core"], rows)]
