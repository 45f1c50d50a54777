"""Does an event cost more with more servers, or with more prompts in flight?

One socket after the other gets fifty messages, as quickly as the client takes them: what changes is only
how many others there are.
"""

import asyncio
from statistics import median
from typing import Any

from benchmarks.fleet import Fleet
from benchmarks.machine import seasoned
from benchmarks.receive import POLL_S, RawBytes, Receiver, Unwatched, Watched, receive
from benchmarks.tables import Bars, Table

NAME = "growth"
SERVERS = (1, 10, 100, 500)
PROMPTS = (1, 100, 10_000)
TURNS, TOGETHER = 3000, 50
CONTESTANTS: tuple[type[Receiver], ...] = (Unwatched, Watched, RawBytes)
FLAT = 0.25


class Crowded(Unwatched):
    """A session whose server holds many more prompts than the one that it talks about."""

    prompts = 1

    async def hold(self) -> None:
        first = self.sessions[0]
        others = [asyncio.ensure_future(first.run(self.workflow)) for _ in range(self.prompts - 1)]
        while first.statistics().open_jobs < self.prompts - 1:
            await asyncio.sleep(POLL_S)
        await super().hold()
        self.tasks = [*self.tasks, *others]
        while first._board.router.posting:
            await asyncio.sleep(POLL_S)


def measure(quick: bool) -> dict[str, Any]:
    """CPU per event along both ways of growing."""
    rounds = 1 if quick else 3
    seasoned()
    servers, prompts = (SERVERS[:3], PROMPTS[:2]) if quick else (SERVERS, PROMPTS)
    return {
        "servers": {str(count): asyncio.run(_at(count, rounds)) for count in servers},
        "prompts": {str(count): asyncio.run(_with(count, rounds)) for count in prompts},
    }


async def _at(servers: int, rounds: int) -> dict[str, float]:
    with Fleet(servers) as fleet:
        runs = {kind.name: [await _once(fleet, kind) for _ in range(rounds)] for kind in CONTESTANTS}
    return {name: median(each) for name, each in runs.items()}


async def _with(prompts: int, rounds: int) -> dict[str, float]:
    kind = type("Crowded", (Crowded,), {"prompts": prompts})
    with Fleet(1) as fleet:
        return {Unwatched.name: median([await _once(fleet, kind) for _ in range(rounds)])}


async def _once(fleet: Fleet, kind: type[Receiver]) -> float:
    found = await receive(fleet, kind, "progress_state", times=TURNS, together=TOGETHER, beat_us=0, width=1)
    return found["cpu_us"]


def tables(result: dict[str, Any]) -> list[Table]:
    """For the report."""
    found = []
    for axis, rows in result.items():
        names = list(next(iter(rows.values())))
        body = [(count, *(row[name] for name in names)) for count, row in rows.items()]
        growth = {name: _growth([row[name] for row in rows.values()]) for name in names}
        note = "; ".join(
            f"{name}: {change:+.0%} from the least to the most" for name, change in growth.items()
        )
        plot = Bars(f"growth_{axis}", f"CPU per event by number of {axis}", "us", rows)
        found.append(Table(f"CPU per event, us, by number of {axis}", [axis, *names], body, note, plot))
    return found


def _growth(values: list[float]) -> float:
    return values[-1] / values[0] - 1
