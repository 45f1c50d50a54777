"""10,000 prompts in flight: CPU for each, peak of memory, and bytes of our own state while they wait."""

import asyncio
import gc
import tracemalloc
from typing import Any

from async_comfy import Session, Workflow, tune_gc
from benchmarks import traffic
from benchmarks.contestants import Contestant, Ours, Queued, Raw
from benchmarks.fleet import Fleet
from benchmarks.machine import alone, collector_pauses, peak_bytes, seasoned
from benchmarks.prompts import Row, Size, turn
from benchmarks.tables import Table

NAME = "crowd"
PROMPTS = 10_000
SERVERS = 100
TRACED = 2_000  # tracing costs; the state of each is the same
_LINES = 8
TUNED = f"{Ours.name}, tune_gc()"


def measure(quick: bool) -> dict[str, Any]:
    """Everything, each contestant in a process of its own."""
    prompts = 1000 if quick else PROMPTS
    size = Size(SERVERS, prompts, prompts, 2000)
    return {
        "size": str(size),
        "rows": {
            **{kind.name: alone(crowded, kind, size) for kind in (Ours, Raw, Queued)},
            TUNED: alone(crowded, Ours, size, tuned=True),
        },
        "state": {how: alone(state, how, TRACED // (10 if quick else 1)) for how in ("submit", "run")},
    }


def crowded(kind: type[Contestant], size: Size, *, tuned: bool = False) -> Row:
    """One contestant with all prompts in flight at once."""

    async def once() -> Row:
        seasoned()
        with Fleet(size.servers) as fleet:
            return await turn(fleet, size, "result", kind)

    if tuned:
        tune_gc()
    with collector_pauses() as pauses:
        row = asyncio.run(once())
    pause_ms = max(pauses, default=0.0) * 1000
    return {**row, "peak_mib": peak_bytes() / (1 << 20), "pause_ms": pause_ms}


def state(how: str, prompts: int) -> dict[str, Any]:
    """Bytes for each waiting prompt: in all, in our own modules, and the lines that take most."""
    return asyncio.run(_state(how, prompts))


async def _state(how: str, prompts: int) -> dict[str, Any]:
    workflow = Workflow.load(traffic.WORKFLOW)
    with Fleet(1) as fleet:
        fleet.reset(beat_us=1000, hold=True)
        async with Session(fleet.urls[0]) as session:
            await _wait(session, workflow, how, 100, 0)
            gc.collect()
            tracemalloc.start()
            before = tracemalloc.take_snapshot()
            await _wait(session, workflow, how, prompts, 100)
            gc.collect()
            after = tracemalloc.take_snapshot()
            tracemalloc.stop()
    await asyncio.gather(*KEPT, return_exceptions=True)
    return _weighed(after.compare_to(before, "lineno"), prompts)


async def _wait(session: Session, workflow: Workflow, how: str, prompts: int, earlier: int) -> None:
    """So many more prompts in flight, all accepted."""
    if how == "submit":
        KEPT.extend([await session.submit(workflow) for _ in range(prompts)])
        return
    KEPT.extend(asyncio.ensure_future(session.run(workflow)) for _ in range(prompts))
    while session.statistics().open_jobs < earlier + prompts or session._board.router.posting:
        await asyncio.sleep(0.05)


KEPT: list[Any] = []
"""What a user would hold: handles, or the tasks of `run`."""


def _weighed(lines: list[tracemalloc.StatisticDiff], prompts: int) -> dict[str, Any]:
    each = [(line.traceback[0], line.size_diff / prompts) for line in lines]
    ours = [(place, size) for place, size in each if "async_comfy" in place.filename]
    most = sorted(each, key=lambda line: -line[1])[:_LINES]
    return {
        "bytes": sum(size for _, size in each),
        "own_bytes": sum(size for _, size in ours),
        "lines": {f"{_short(place.filename)}:{place.lineno}": size for place, size in most},
    }


def _short(path: str) -> str:
    return "/".join(path.rsplit("/", 2)[1:])


def tables(result: dict[str, Any]) -> list[Table]:
    """For the report."""
    ours = result["rows"][Ours.name]["cpu_us"]
    header = [
        "",
        "CPU, us a prompt",
        "times ours",
        "makespan, s",
        "peak memory, MiB",
        "collector's longest pause, ms",
    ]
    rows = [
        (name, row["cpu_us"], row["cpu_us"] / ours, row["wall_s"], row["peak_mib"], row["pause_ms"])
        for name, row in result["rows"].items()
    ]
    weighed = result["state"]
    lines = [(how, place, size) for how, each in weighed.items() for place, size in each["lines"].items()]
    summary = [(how, each["bytes"], each["own_bytes"]) for how, each in weighed.items()]
    return [
        Table(f"All in flight: {result['size']}, result only", header, rows),
        Table("Bytes for each waiting prompt", ["", "in all", "allocated by our code"], summary),
        Table("What takes the bytes", ["", "where", "bytes a prompt"], lines),
    ]
