"""`python -m benchmarks.pool`: what the pool costs, and what its policy is worth.

The first part runs on the wire: a pool and bare sessions in turn, against the same hundred lean servers in
another process. The rest runs in virtual time, so it is a function of its seeds, with the policies that we
compare with given the very same jobs. `--quick`: a tenth of the work.
"""

import argparse
import asyncio
import gc
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from statistics import median

from async_comfy import Session, Workflow
from async_comfy._live.pool import Pool
from async_comfy.protocol.footprint import Footprint
from async_comfy.protocol.lanes import Lane, Needs, Ticket
from async_comfy.protocol.placement import Host, Placement, Scheduler
from benchmarks import traffic
from benchmarks.fleet import Fleet as Lean
from benchmarks.tables import Table, Value
from tests.pool import scenarios
from tests.pool.virtual import Fleet, LeastQueue, Policy, Pooled, RoundRobin, plan_loads

SERVERS = 100
IN_FLIGHT = 400
SEEDS = (1, 2, 3)


def main() -> None:
    """Prints every table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pool", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    jobs = 1_000 if parser.parse_args().quick else 10_000
    for make in (decisions, models, lanes, turmoil, darkness, lambda: wire(jobs)):
        print(make().text(), flush=True)
        print()


def wire(jobs: int) -> Table:
    """CPU per prompt of this one process: the pool beside bare sessions that are chosen in turn."""
    rounds = [asyncio.run(_wire(jobs)) for _ in range(3)]
    alone, pooled = (median(one[index] for one in rounds) for index in (0, 1))
    rows: list[list[Value]] = [
        ["sessions, in turn", round(alone), 1.0, jobs],
        ["pool", round(pooled), round(pooled / alone, 2), min(int(one[2]) for one in rounds)],
    ]
    return Table(
        f"{SERVERS} servers, {jobs:,} jobs, one client process",
        ["", "CPU us per prompt", "ratio", "completed"],
        rows,
    )


async def _wire(jobs: int) -> tuple[float, float, float]:
    with Lean(SERVERS) as lean:
        workflow = Workflow.load(traffic.WORKFLOW)
        lean.reset(beat_us=4000)
        async with AsyncExitStack() as stack:
            sessions = [await stack.enter_async_context(Session(url)) for url in lean.urls]
            turn = iter(range(10**9))
            run = lambda: sessions[next(turn) % SERVERS].run(workflow)  # noqa: E731  # the one place that needs it
            await _drive(run, SERVERS)
            alone = await _drive(run, jobs)
        lean.reset(beat_us=4000)
        async with Pool(lean.urls) as pool:
            await _drive(lambda: pool.run(workflow), SERVERS)
            pooled = await _drive(lambda: pool.run(workflow), jobs)
            completed = pool.stats().lanes["default"].ended["completed"] - SERVERS
    return alone, pooled, completed


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


def decisions() -> Table:
    """Microseconds from a job's end (and a new one's coming) to the next placement."""
    rows: list[list[Value]] = []
    for hosts, queued, kinds in ((100, 5000, 1), (100, 5000, 20), (100, 5000, 500), (1000, 5000, 20)):
        took = sorted(_decide_often(hosts, queued, kinds))
        p99 = took[int(0.99 * len(took))]
        rows.append([f"{hosts} servers, {queued:,} queued, {kinds} models", median(took), p99])
    note = "Three lanes, one with a ceiling; fifty tenants; a third of the jobs urgent."
    return Table("One decision, us", ["", "median", "p99"], [_rounded(row) for row in rows], note)


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
        begun = time.perf_counter()
        found = list(scheduler.decide(now))
        yield (time.perf_counter() - begun) * 1e6 / max(len(found), 1)
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
        "Virtual time, median of three seeds. The plan knows all jobs (McNaughton's wrap-around).",
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


def darkness() -> Table:
    """All servers gone for ten minutes."""
    report, servers = scenarios.all_down(1)
    down, back = scenarios.DARK
    seconds = report.fleet.posts
    rows: list[list[Value]] = [
        ["prompts sent while all are down", sum(seconds[s] for s in range(int(down) + 10, int(back) - 10))],
        ["in the second of their return", seconds[int(back)]],
        ["in the worst second at all", max(seconds.values())],
        ["jobs completed", sum(prompt.ended_at is not None for prompt in report.of())],
    ]
    return Table(f"All {servers} servers down for ten minutes, 5,000 jobs meanwhile", ["", "count"], rows)


def _rounded(row: list[Value]) -> list[Value]:
    return [round(value, 2) if isinstance(value, float) else value for value in row]


if __name__ == "__main__":
    main()
