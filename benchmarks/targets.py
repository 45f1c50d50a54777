"""What the figures were meant to be, and what they are."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks import crowd, growth, prompts, rivals
from benchmarks.contestants import Ours, Queued, Raw
from benchmarks.receive import Unwatched, Watched
from benchmarks.tables import Table, shown

Goal = tuple[str, str, float, bool]
"""What, what was wanted, what was measured, whether that is met."""


def table(results: Mapping[str, Any]) -> Table:
    """Every goal of which there is a figure. `results`: by case."""
    rows = [
        (what, wanted, shown(float(f"{measured:.3g}")), "yes" if met else "no")
        for case, goals in _GOALS.items()
        if case in results
        for what, wanted, measured, met in goals(results[case])
    ]
    return Table("Goals", ["", "wanted", "measured", "met"], rows)


def _prompts(result: dict[str, Any]) -> Iterator[Goal]:
    races = {(race["size"], race["how"]): race["rows"] for race in result["races"]}
    for size, how, times, share in (
        (prompts.CROWDED, "result", 2.5, 90.0),
        (prompts.CROWDED, "stream", 2.0, 70.0),
        (prompts.BURST, "result", 4.5, None),
        (prompts.BURST, "stream", 2.3, None),
    ):
        ratios = prompts.ratios(races[str(size), how])
        what = f"{prompts.HEARD[how]}, {prompts.PACES[size.pace]}"
        yield _at_least(f"{what}: peer-style CPU / ours", times, ratios[Queued.name])
        if share is not None:
            yield _at_least(f"{what}: limit's CPU / ours, %", share, ratios[Raw.name] * 100)
    calm = races[str(prompts.CALM), "result"][Ours.name]
    yield _at_most("median latency with 100 in flight, ms", 1.0, calm["latency_ms"])
    requests = races[str(prompts.CROWDED), "result"][Ours.name]["requests"]
    yield ("HTTP requests per prompt, polls included", "exactly 1", requests, requests == 1)


def _crowd(result: dict[str, Any]) -> Iterator[Goal]:
    rows = result["rows"]
    times = rows[Queued.name]["cpu_us"] / rows[Ours.name]["cpu_us"]
    yield _at_least("10,000 in flight: peer-style CPU / ours", 3.5, times)
    yield _at_most("bytes of our own state per prompt in flight", 300, result["state"]["submit"]["own_bytes"])


def _growth(result: dict[str, Any]) -> Iterator[Goal]:
    for axis, rows in result.items():
        for name in (Unwatched.name, Watched.name):
            values = [row[name] for row in rows.values() if name in row]
            if values:
                most = (max(values) / values[0] - 1) * 100
                yield _at_most(f"growth with {axis}, {name.partition(', ')[2]}, %", growth.FLAT * 100, most)


def _peers(result: dict[str, Any]) -> Iterator[Goal]:
    rows = {name: row for name, row in result["rows"].items() if "failed" not in row}
    for key, what in (("cpu_us", "CPU per prompt"), ("latency_ms", "latency"), ("wall_s", "makespan")):
        ours = rows[rivals.PEERS[0].name][key]
        others = [
            row[key]
            for name, row in rows.items()
            if not name.startswith("async_comfy") and row[key] is not None
        ]
        yield _at_least(f"best real peer's {what} / ours", 1.0, min(others) / ours)


def _at_least(what: str, wanted: float, measured: float) -> Goal:
    return (what, f"at least {wanted:g}", measured, measured >= wanted)


def _at_most(what: str, wanted: float, measured: float) -> Goal:
    return (what, f"at most {wanted:g}", measured, measured <= wanted)


_GOALS = {prompts.NAME: _prompts, crowd.NAME: _crowd, growth.NAME: _growth, rivals.NAME: _peers}
