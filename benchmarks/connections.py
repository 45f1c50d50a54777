"""500 servers from one process: time to connect, memory for each connection, idle and busy."""

import asyncio
import gc
import time
from typing import Any

from benchmarks.contestants import ALL, Contestant
from benchmarks.fleet import Fleet
from benchmarks.machine import alone, resident_bytes
from benchmarks.prompts import drive
from benchmarks.tables import Table

NAME = "connections"
SERVERS = 500
IDLE_S = 2.0


def measure(quick: bool) -> dict[str, Any]:
    """Each contestant in a process of its own."""
    servers = 50 if quick else SERVERS
    return {"servers": servers, "rows": {kind.name: alone(connect, kind, servers) for kind in ALL}}


def connect(kind: type[Contestant], servers: int) -> dict[str, float]:
    """Connects, idles, then runs two prompts on every server."""
    return asyncio.run(_connect(kind, servers))


async def _connect(kind: type[Contestant], servers: int) -> dict[str, float]:
    with Fleet(servers) as fleet:
        fleet.reset(beat_us=20_000)
        async with kind(fleet.urls[:1]) as first:
            await drive(first, "result", 1, 1)  # everything is imported then
        gc.collect()
        empty, begun = resident_bytes(), time.perf_counter()
        async with kind(fleet.urls) as contestant:
            connected = time.perf_counter() - begun
            gc.collect()
            idle, cpu = resident_bytes(), time.process_time()
            await asyncio.sleep(IDLE_S)
            resting = (time.process_time() - cpu) / IDLE_S
            await drive(contestant, "result", 2 * servers, servers)
            gc.collect()
            busy = resident_bytes()
    kib = 1024 * servers
    return {
        "connect_ms": connected / servers * 1e3,
        "idle_kib": (idle - empty) / kib,
        "busy_kib": (busy - empty) / kib,
        "idle_core": resting,
    }


def tables(result: dict[str, Any]) -> list[Table]:
    """For the report."""
    header = ["", "connect, ms each", "idle, KiB each", "after prompts, KiB each", "CPU idle, % of a core"]
    rows = [
        (name, row["connect_ms"], row["idle_kib"], row["busy_kib"], row["idle_core"] * 100)
        for name, row in result["rows"].items()
    ]
    note = (
        "Connected one after the other. After prompts: with the HTTP connections that their POSTs left open."
    )
    return [Table(f"{result['servers']} servers", header, rows, note)]
