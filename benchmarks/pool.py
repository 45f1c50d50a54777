"""`python -m benchmarks.pool`: what the pool costs, and what its policy is worth.

Policies are compared in virtual time, so that is a function of seeds, and each is given the very same jobs.
The two numbers of our policy were chosen by `--tune` on seeds that the tables do not use. The turmoil and
the cost per prompt are real: server processes that are killed and frozen; and a pool and bare sessions in
turn, against the same hundred lean servers in another process. `--quick`: a tenth of the work.
"""

import argparse
import asyncio
import gc
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from itertools import cycle, product
from statistics import median
from unittest.mock import patch

from async_comfy import Session, Workflow
from async_comfy._live.member import KNOCK_S, LONGEST_KNOCK_S
from async_comfy._live.pool import Pool
from async_comfy.protocol import placement
from async_comfy.protocol.backoff import Backoff
from async_comfy.protocol.footprint import Footprint
from async_comfy.protocol.host import Host, Placement
from async_comfy.protocol.lanes import Lane, Needs, Ticket
from async_comfy.protocol.scheduler import Scheduler
from benchmarks import traffic
from benchmarks.fleet import Fleet as Lean
from benchmarks.tables import Table, Value
from tests.live.pool.turmoil import Turmoil
from tests.pool import scenarios
from tests.pool.virtual import Fleet, LeastQueue, Policy, Pooled, RoundRobin, plan_loads

SERVERS = 100
IN_FLIGHT = 400
ROUNDS = 5
WARM_UP = 2 * IN_FLIGHT  # jobs until every server has its connections and every shape is learned
SEEDS = tuple(range(1, 11))  # of which the tables tell
TUNING = tuple(range(101, 107))  # on which the policy's numbers were chosen
assert not set(SEEDS) & set(TUNING)


def main() -> None:
    """Prints every table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pool", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--tune", action="store_true", help="only try other numbers for the policy")
    parser.add_argument("--only", metavar="TABLE", help="only this one")
    given = parser.parse_args()
    part = 10 if given.quick else 1
    tables: dict[str, Callable[[], Table]] = {
        "decisions": decisions,
        "models": models,
        "lanes": lanes,
        "turmoil": turmoil,
        "processes": lambda: processes(5_000 // part),
        "darkness": darkness,
        "wire": lambda: wire(10_000 // part),
        "telemetry": lambda: telemetry(5_000 // part),
    }
    chosen = {"tuning": tuning} if given.tune else tables
    for name, make in chosen.items():
        if given.only in (None, name):
            print(make().text(), flush=True)
            print()


def wire(jobs: int) -> Table:
    """CPU per prompt of this one process: the pool beside bare sessions that are chosen in turn."""
    with Lean(SERVERS) as lean:
        lean.reset(beat_us=4000)
        opening, alone, pooled, completed = asyncio.run(_wire(lean, jobs))
    rows: list[list[Value]] = [
        ["sessions, in turn", round(median(alone)), None, 1.0, jobs, round(opening[0], 1)],
        [
            "pool",
            round(median(pooled)),
            round(median(p - a for a, p in zip(alone, pooled, strict=True))),
            round(median(p / a for a, p in zip(alone, pooled, strict=True)), 2),
            completed,
            round(opening[1], 1),
        ],
    ]
    return Table(
        f"{SERVERS} servers, {jobs:,} jobs each way, one client process",
        ["", "CPU us per prompt", "of it the pool's own", "ratio", "completed", "CPU ms to open a server"],
        rows,
        f"Medians of {ROUNDS} rounds, both in each, in turn. All servers are up before the first.",
    )


async def _wire(lean: Lean, jobs: int) -> tuple[tuple[float, float], list[float], list[float], int]:
    """Milliseconds of CPU to open a server either way; CPU per prompt by rounds; jobs that were completed."""
    workflow = Workflow.load(traffic.WORKFLOW)
    turn = cycle(range(SERVERS))
    async with AsyncExitStack() as stack:
        begun = time.process_time()
        sessions = [await stack.enter_async_context(Session(url)) for url in lean.urls]
        opened = time.process_time()
        pool = await stack.enter_async_context(Pool(lean.urls))
        while any(server.state == "joining" for server in pool.stats().servers):
            await asyncio.sleep(0.05)
        up = time.process_time()
        one = lambda: sessions[next(turn)].run(workflow)  # noqa: E731  # the one place that needs it
        two = lambda: pool.run(workflow)  # noqa: E731  # and its neighbour
        for run in (one, two):
            await _drive(run, WARM_UP)
        alone: list[float] = []
        pooled: list[float] = []
        for round_ in range(ROUNDS):
            for run in (one, two) if round_ % 2 else (two, one):
                (alone if run is one else pooled).append(await _drive(run, jobs // ROUNDS))
        completed = pool.stats().lanes["default"].ended["completed"] - WARM_UP
    return ((opened - begun) * 1e3 / SERVERS, (up - opened) * 1e3 / SERVERS), alone, pooled, completed


async def _drive(run: Callable[[], object], jobs: int) -> float:
    """Microseconds of CPU per job, with so many in flight."""
    turns = iter(range(jobs))

    async def work() -> None:
        for _ in turns:
            await run()  # type: ignore[misc]  # either of two coroutines

    gc.collect()
    before = time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(work())
    return (time.process_time() - before) / jobs * 1e6


def telemetry(jobs: int) -> Table:
    """What OpenTelemetry costs: not there, imported and not set up, and set up with nobody to export to."""
    rows: list[list[Value]] = []
    with Lean(SERVERS) as lean:
        rows.append(["not imported", round(asyncio.run(_told_of(lean, jobs)))])
        from opentelemetry import metrics, trace

        rows.append(["API imported, not set up", round(asyncio.run(_told_of(lean, jobs)))])
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.trace import TracerProvider

        trace.set_tracer_provider(TracerProvider())
        metrics.set_meter_provider(MeterProvider())
        rows.append(["SDK, two spans and four measurements a job", round(asyncio.run(_told_of(lean, jobs)))])
    note = "One process, medians of three rounds."
    return Table(f"OpenTelemetry, {jobs:,} jobs of a pool", ["", "CPU us per prompt"], rows, note)


async def _told_of(lean: Lean, jobs: int) -> float:
    workflow = Workflow.load(traffic.WORKFLOW)
    lean.reset(beat_us=4000)
    async with Pool(lean.urls) as pool:
        await _drive(lambda: pool.run(workflow), SERVERS)
        return median([await _drive(lambda: pool.run(workflow), jobs) for _ in range(3)])


def decisions() -> Table:
    """Microseconds from a job's end (and a new one's coming) to the next placement."""
    rows: list[list[Value]] = []
    for hosts, queued, kinds in ((100, 5000, 1), (100, 5000, 20), (100, 5000, 500), (1000, 5000, 20)):
        took = sorted(_decide_often(hosts, queued, kinds))
        p99 = took[int(0.99 * len(took))]
        rows.append([f"{hosts} servers, {queued:,} queued, {kinds} models", median(took), p99])
    note = "Three lanes, one with a ceiling; fifty tenants; a third of the jobs urgent."
    return Table("One decision, us of CPU", ["", "median", "p99"], [_rounded(row) for row in rows], note)


def _decide_often(hosts: int, queued: int, kinds: int) -> Iterator[float]:
    chance = random.Random(1)
    scheduler = Scheduler((Lane("image"), Lane("video", ceiling=0.8), Lane("batch", weight=0.2)))
    for number in range(hosts):
        scheduler.add(Host(f"gpu{number}"))
        scheduler.joined(f"gpu{number}", 0.0)
    numbers = iter(range(10**9))
    for _ in range(queued + hosts):
        scheduler.submit(_ticket(next(numbers), 0.0, kinds, chance), 0.0)
    now = 20.0
    placed: list[Placement] = list(scheduler.decide(now))
    gc.collect()
    gc.freeze()
    for _ in range(4000):
        now += 0.02
        one = placed.pop(chance.randrange(len(placed)))
        ticket = _ticket(next(numbers), now, kinds, chance)
        ran_s = 2.0 + 10.0 * one.cold
        scheduler.submit(ticket, now)
        scheduler.worked(one.host)
        scheduler.ended(one.ticket, one.host, now, ran_s=ran_s)
        begun = time.thread_time()
        found = list(scheduler.decide(now))
        yield (time.thread_time() - begun) * 1e6 / max(len(found), 1)
        placed += found
    gc.unfreeze()


def _ticket(number: int, now: float, kinds: int, chance: random.Random) -> Ticket:
    kind = chance.randrange(kinds)
    return Ticket(
        number=number,
        footprint=Footprint(kind, (f"model_{kind}",)),
        needs=Needs(),
        came_at=now,
        lane=chance.choice(["image", "video", "batch"]),
        tenant=f"tenant_{chance.randrange(50)}",
        boost_s=chance.choice([0.0, 0.0, 60.0]),
    )


POLICIES: dict[str, Callable[[], Policy]] = {
    "round robin": RoundRobin,
    "least queue": LeastQueue,
    "pool": Pooled,
}


def models() -> Table:
    """Eight checkpoints on twenty servers."""
    rows: list[list[Value]] = []
    for rate in (None, 8.0):
        for name, policy in POLICIES.items():
            reports, plans = [], []
            for seed in SEEDS:
                prompts = scenarios.mixed_models(seed, rate=rate)
                plans.append(plan_loads(prompts, scenarios.SERVERS, 10.0)[0])
                reports.append(Fleet(policy(), scenarios.SERVERS).run(prompts))
            when = "all at once" if rate is None else f"{rate:g} a second"
            rows.append(
                [
                    f"{name}, {when}",
                    median(report.makespan_s for report in reports),
                    median(report.sojourn_s(0.5) for report in reports),
                    median(report.sojourn_s(0.99) for report in reports),
                    median(report.loads for report in reports),
                    max(report.loads / plan for report, plan in zip(reports, plans, strict=True)),
                    median(plans),
                ]
            )
    return Table(
        "Mixed models: 4,000 jobs of 2 s, 8 checkpoints by Zipf, 10 s to load, 20 servers with room for two",
        ["", "makespan s", "p50 s", "p99 s", "loads", "loads / plan, worst", "plan's loads"],
        [_rounded(row) for row in rows],
        f"Virtual time, medians of {_told(SEEDS)}; tuned on {_told(TUNING)}. "
        "The plan knows all jobs (McNaughton's wrap-around).",
    )


def lanes() -> Table:
    """Images and videos on one fleet."""
    rows: list[list[Value]] = []
    for seed in SEEDS:
        mixed, alone = scenarios.mixed_classes(seed)
        videos = mixed.throughput("video") / alone.throughput("video")
        rows.append(
            [f"pool, seed {seed}", mixed.wait_s(0.5, "image"), mixed.wait_s(0.99, "image"), 100 * videos]
        )
    rows.append(["pool, worst seed", *[max(float(row[i] or 0) for row in rows) for i in (1, 2)], None])
    rows[-1][3] = min(float(row[3] or 0) for row in rows[:-1])
    for name in ("round robin", "least queue"):
        report = Fleet(POLICIES[name](), scenarios.SERVERS).run(scenarios.classes(1))
        rows.append([f"{name}, seed 1", report.wait_s(0.5, "image"), report.wait_s(0.99, "image"), None])
    return Table(
        "Mixed classes: 90 % images of 2 s, 10 % videos of 60 s, 20 servers at 80 % load",
        ["", "image wait p50 s", "image wait p99 s", "videos' pace, % of alone"],
        [_rounded(row) for row in rows],
        f"Virtual time. The video lane's ceiling is {scenarios.VIDEO_SHARE:.0%} of the servers.",
    )


def turmoil() -> Table:
    """Servers that die, come back and join."""
    rows: list[list[Value]] = []
    for seed in SEEDS:
        report, goodput = scenarios.chaos(seed)
        done = sum(prompt.ended_at is not None for prompt in report.of())
        again = sum(prompt.executions - 1 for prompt in report.of())
        rows.append([f"seed {seed}", done, again, 100 * goodput])
    return Table(
        "Turmoil: 5,000 jobs, 20 servers that die and come back at random, some join",
        ["", "completed", "run again after a death", "goodput, % of living server time"],
        [_rounded(row) for row in rows],
        "Virtual time, every job with retry.",
    )


def processes(jobs: int) -> Table:
    """Real processes that are killed, frozen, started again and joined by others."""
    account = Turmoil(7, jobs=jobs, servers=12, every=100, run_ms=500).run()
    attempts = sum(len(job.attempts) for job in account.jobs)
    rows: list[list[Value]] = [[f"servers: {act}", times] for act, times in sorted(account.acts.items())]
    rows += [
        ["completed", account.states["completed"]],
        ["lost, as the death of their server and their policy have it", account.states["lost"]],
        ["ended wrongly", len(account.wrong)],
        ["attempts", attempts],
        ["prompts begun, as the servers wrote down", sum(account.begun.values())],
        ["run again after a death, as the policy allows", account.again],
        ["begun oftener than allowed", len(account.twice)],
        ["begun unseen, in the instant of a death", account.unseen],
        ["begun and unknown to the pool", account.unknown],
        ["ms a run, median", round(1000 * account.run_s)],
        ["seconds that servers were alive, all together", round(account.live_s)],
        ["goodput, % of what they could give", round(100 * account.goodput, 1)],
    ]
    return Table(
        f"Turmoil on processes: {jobs:,} jobs, half of them with retry, twelve servers and those that join",
        ["", "count"],
        rows,
    )


def tuning() -> Table:
    """Other numbers for the policy, on seeds that the other tables do not use."""
    rows: list[list[Value]] = []
    for patience, price in product((2.0, 3.0, 4.0), (1.0, 1.5, 2.0, 3.0)):
        with patch.multiple(placement, PATIENCE=patience, SPARE_PRICE=price):
            figures = [_tried(seed, rate) for rate in (None, 8.0) for seed in TUNING]
        together, spread = figures[: len(TUNING)], figures[len(TUNING) :]
        rows.append(
            [
                f"PATIENCE {patience:g}, SPARE_PRICE {price:g}",
                median(one[0] for one in together),
                median(one[1] for one in together),
                max(one[2] for one in together),
                median(one[1] for one in spread),
                max(one[2] for one in spread),
            ]
        )
    return Table(
        "Mixed models with other numbers",
        ["", "makespan s", "p99 s", "loads / plan, worst", "p99 s at 8 a second", "loads / plan, worst"],
        [_rounded(row) for row in rows],
        f"Virtual time, medians of {_told(TUNING)}. "
        f"In use: {placement.PATIENCE:g} and {placement.SPARE_PRICE:g}.",
    )


def _tried(seed: int, rate: float | None) -> tuple[float, float, float]:
    prompts = scenarios.mixed_models(seed, rate=rate)
    plan = plan_loads(prompts, scenarios.SERVERS, 10.0)[0]
    report = Fleet(Pooled(), scenarios.SERVERS).run(prompts)
    return report.makespan_s, report.sojourn_s(0.99), report.loads / plan


def _told(seeds: tuple[int, ...]) -> str:
    return f"seeds {seeds[0]} to {seeds[-1]}"


def darkness() -> Table:
    """All servers gone for ten minutes."""
    report, servers = scenarios.all_down(1)
    down, back = scenarios.DARK
    seconds = report.fleet.posts
    knocks = _knocks(servers, back - down)
    rows: list[list[Value]] = [
        ["prompts sent while all are down", sum(seconds[s] for s in range(int(down) + 10, int(back) - 10))],
        ["in the second of their return", seconds[int(back)]],
        ["a second at most, in the minute after it", max(seconds[int(back) + s] for s in range(60))],
        ["in the worst second at all", max(seconds.values())],
        ["connections tried a second while all are down, mean", round(sum(knocks) / len(knocks))],
        ["connections tried in the worst second", max(knocks)],
        ["jobs completed", sum(prompt.ended_at is not None for prompt in report.of())],
    ]
    return Table(f"All {servers} servers down for ten minutes, 5,000 jobs meanwhile", ["", "count"], rows)


def _knocks(servers: int, seconds: float) -> list[int]:
    """Connections that the members of a pool try, by second, while nobody listens."""
    chance = random.Random(1)
    tried = [0] * int(seconds)
    for _ in range(servers):
        backoff, at = Backoff(KNOCK_S, LONGEST_KNOCK_S), 0.0
        while (at := at + backoff.next_s(chance.random())) < seconds:
            tried[int(at)] += 1
    return tried


def _rounded(row: list[Value]) -> list[Value]:
    return [round(value, 2) if isinstance(value, float) else value for value in row]


if __name__ == "__main__":
    main()
