"""Prompts end to end: CPU, latency, requests and sockets, for results alone and for all events."""

import asyncio
import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from benchmarks.contestants import ALL, Contestant, Ours, Queued, Raw, Typed
from benchmarks.fleet import Fleet, Pace
from benchmarks.machine import alone, peak_bytes, seasoned
from benchmarks.tables import Bars, Table

NAME = "prompts"
How = Literal["result", "stream"]
HOW: tuple[How, ...] = ("result", "stream")
HEARD = {"result": "result only", "stream": "every event"}


@dataclass(frozen=True)
class Size:
    """How many servers, prompts in all, prompts at a time; and how quickly the servers speak."""

    servers: int
    prompts: int
    in_flight: int
    beat_us: int
    pace: Pace = "recorded"

    def __str__(self) -> str:
        return f"{self.servers} x {self.prompts:,}, {self.in_flight} in flight, {PACES[self.pace]}"


PACES = {"single": "one message at a time", "recorded": "paced as recorded", "burst": "each run in one burst"}
CROWDED = Size(100, 4000, 400, 4000)
CALM = Size(100, 400, 100, 20_000)  # a run takes 0.6 s: nobody queues behind anybody's CPU
SPARSE = Size(100, 1000, 400, 4000, "single")
BURST = Size(100, 4000, 400, 4000, "burst")
SIZES = (Size(1, 200, 200, 1000), Size(8, 400, 400, 1000), CROWDED, CALM, SPARSE, BURST)
QUICK = (Size(100, 1000, 400, 4000), Size(100, 2000, 400, 4000, "burst"))

Row = dict[str, float]


@dataclass
class Run:
    """One contestant's run: seconds of its own CPU, of the clock, and nanoseconds when each was back."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    back_ns: dict[str, int] = field(default_factory=dict)
    events: int = 0


async def drive(contestant: Contestant, how: How, prompts: int, in_flight: int) -> Run:
    """Keeps `in_flight` prompts going until `prompts` are done."""
    run, turns, servers = Run(), iter(range(prompts)), len(contestant.urls)

    async def work() -> None:
        for turn in turns:
            if how == "result":
                prompt_id = await contestant.result(turn % servers)
            else:
                prompt_id, heard = await contestant.stream(turn % servers)
                run.events += heard
            run.back_ns[prompt_id] = time.monotonic_ns()

    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())
    run.cpu_s, run.wall_s = time.process_time() - cpu, time.perf_counter() - wall
    return run


async def turn(fleet: Fleet, size: Size, how: How, kind: type[Contestant]) -> Row:
    """One contestant's turn at these servers."""
    fleet.reset(beat_us=size.beat_us, pace=size.pace)
    async with kind(fleet.urls) as contestant:
        await drive(contestant, how, size.servers, size.in_flight)  # connections and caches are warm then
        await asyncio.sleep(0.05)
        before = fleet.counted()
        run = await drive(contestant, how, size.prompts, size.in_flight)
        after = fleet.counted()
    late = sorted((back - after["ends"][prompt]) / 1e6 for prompt, back in run.back_ns.items())
    requests = sum(after["requests"].values()) - sum(before["requests"].values())
    return {
        "cpu_us": run.cpu_s / size.prompts * 1e6,
        "wall_s": run.wall_s,
        "latency_ms": median(late),
        "latency_p99_ms": late[int(len(late) * 0.99)],
        "requests": requests / size.prompts,
        "sockets": float(after["sockets"]),
        "events": run.events / size.prompts,
    }


async def race(
    size: Size, how: How, rounds: int, contestants: Sequence[type[Contestant]] = ALL
) -> dict[str, Row]:
    """Every contestant in turn, `rounds` times, in changing order; medians by name."""
    seasoned()
    turns: dict[str, list[Row]] = {each.name: [] for each in contestants}
    with Fleet(size.servers) as fleet:
        for number in range(rounds):
            for each in contestants if number % 2 == 0 else contestants[::-1]:
                turns[each.name].append(await turn(fleet, size, how, each))
    return {name: middle(rows) for name, rows in turns.items()}


def middle(rows: Sequence[Row]) -> Row:
    """The median of every figure."""
    return {key: median(row[key] for row in rows) for key in rows[0]}


def fresh(kind: type[Contestant], size: Size) -> Row:
    """One contestant in a process that has done nothing else before; with its peak of memory."""

    async def once() -> Row:
        with Fleet(size.servers) as fleet:
            return await turn(fleet, size, "result", kind)

    return {**asyncio.run(once()), "peak_mib": peak_bytes() / (1 << 20)}


def measure(quick: bool) -> dict[str, Any]:
    """All sizes and both ways of listening."""
    sizes = QUICK if quick else SIZES
    rounds = 2
    races = [
        {"size": str(size), "how": how, "rows": asyncio.run(race(size, how, rounds))}
        for size in sizes
        for how in HOW
    ]
    fresh_rows = {} if quick else {kind.name: alone(fresh, kind, QUICK[0]) for kind in ALL}
    return {"races": races, "fresh": fresh_rows}


def ratios(rows: dict[str, Row]) -> dict[str, float]:
    """How our CPU compares: the limit's share of it, and how many times more the others take."""
    ours = rows[Ours.name]["cpu_us"]
    return {kind.name: rows[kind.name]["cpu_us"] / ours for kind in (Raw, Typed, Queued)}


def tables(result: dict[str, Any]) -> list[Table]:
    """For the report."""
    found = [_table(race) for race in result["races"]]
    found.insert(0, _summary(result["races"]))
    if result["fresh"]:
        found.append(_fresh(result["fresh"]))
    return found


def _summary(races: list[dict[str, Any]]) -> Table:
    rows = []
    for race in races:
        other = ratios(race["rows"])
        fastest = min(other[Typed.name], other[Queued.name])
        rows.append((race["size"], HEARD[race["how"]], other[Raw.name] * 100, other[Queued.name], fastest))
    header = ["servers x prompts", "heard", "limit / ours, %", "peer-style / ours", "next best / ours"]
    bars = {
        f"{race['size']}, {HEARD[race['how']]}": {name: row["cpu_us"] for name, row in race["rows"].items()}
        for race in races
    }
    note = "CPU of the client's process. The limit is a raw asyncio.Protocol that decodes nothing."
    plot = Bars("prompts", "CPU per prompt of 61 events", "us", bars)
    return Table("CPU per prompt, compared", header, rows, note, plot)


def _table(race: dict[str, Any]) -> Table:
    header = ["", "CPU, us", "makespan, s", "latency, ms", "p99, ms", "requests", "sockets", "events"]
    keys = ("cpu_us", "wall_s", "latency_ms", "latency_p99_ms", "requests", "sockets", "events")
    rows = [(name, *(row[key] for key in keys)) for name, row in race["rows"].items()]
    note = "Latency: from the server's writing of the end mark to the code that awaited."
    if race["size"] == str(CALM):
        note += (
            f" Here a server speaks only every {CALM.beat_us / 1000:.0f} ms, so the client is far from busy."
        )
    return Table(f"{race['size']}: {HEARD[race['how']]}", header, rows, note)


def _fresh(found: dict[str, Row]) -> Table:
    header = ["", "CPU, us", "latency, ms", "peak memory, MiB"]
    rows = [(name, row["cpu_us"], row["latency_ms"], row["peak_mib"]) for name, row in found.items()]
    return Table(f"In a fresh process: {QUICK[0]}, result only", header, rows)
