"""Is it slower than it was? Compares CPU ratios, measured in turn in one run, with the committed ones."""

import asyncio
from statistics import median
from typing import Any

from benchmarks.contestants import Ours, Queued, Raw
from benchmarks.fleet import Fleet
from benchmarks.machine import seasoned
from benchmarks.prompts import HEARD, HOW, How, Size, turn
from benchmarks.results import stored
from benchmarks.tables import Table

NAME = "guard"
ALLOWED = 0.10  # slower than committed; the medians of ROUNDS pairs scatter by about half of it
ROUNDS = 5
SIZES = (Size(100, 800, 400, 4000), Size(100, 1600, 400, 4000, "burst"))


def measure(quick: bool) -> dict[str, Any]:
    """Our CPU over the raw Protocol's and over the peer-style loop's, per size and way of listening."""
    rounds = 2 if quick else ROUNDS
    found = {}
    for size in SIZES:
        for how in HOW:
            label = f"{size.pace}, {HEARD[how]}"
            found[label] = asyncio.run(_compare(size, how, rounds))
    return {"ratios": found}


def tables(result: dict[str, Any]) -> list[Table]:
    """For the report."""
    rows = [(label, *each["median"].values(), each["spread"]) for label, each in result["ratios"].items()]
    header = ["", "ours / limit", "ours / peer-style", "spread of the rounds"]
    note = "What `make bench-check` compares. Spread: half the distance of the quartiles, over the median."
    return [Table("The guard's ratios", header, rows, note)]


def check() -> int:
    """1 where a ratio grew by more than `ALLOWED` and stayed so when measured again."""
    committed = stored(NAME)
    if committed is None:
        print("Nothing to compare with: run `python -m benchmarks --full` once and commit its results.")
        return 2
    known = committed["result"]["ratios"]
    slower = _slower(known, measure(quick=False)["ratios"])
    if slower:
        print("Once more, to be sure.")
        slower &= _slower(known, measure(quick=False)["ratios"])
    for label in sorted(slower):
        print(f"SLOWER: {label}")
    return int(bool(slower))


def _slower(known: dict[str, Any], now: dict[str, Any]) -> set[str]:
    """Where both ratios say so: one alone may mean that the other contestant had a good day."""
    found = set()
    for label, each in now.items():
        growth = [each["median"][name] / known[label]["median"][name] - 1 for name in each["median"]]
        print(f"{label:24} " + "  ".join(f"{change:+6.1%}" for change in growth))
        if min(growth) > ALLOWED:
            found.add(label)
    return found


async def _compare(size: Size, how: How, rounds: int) -> dict[str, Any]:
    seasoned()
    pairs: dict[str, list[float]] = {Raw.name: [], Queued.name: []}
    with Fleet(size.servers) as fleet:
        for _ in range(rounds):
            limit = await turn(fleet, size, how, Raw)
            ours = await turn(fleet, size, how, Ours)
            peer = await turn(fleet, size, how, Queued)
            pairs[Raw.name].append(ours["cpu_us"] / limit["cpu_us"])
            pairs[Queued.name].append(ours["cpu_us"] / peer["cpu_us"])
    middle = {name: median(ratios) for name, ratios in pairs.items()}
    return {"median": middle, "spread": _spread(pairs[Raw.name])}


def _spread(ratios: list[float]) -> float:
    ordered = sorted(ratios)
    quarter = len(ordered) // 4
    return (ordered[-1 - quarter] - ordered[quarter]) / 2 / median(ordered)
