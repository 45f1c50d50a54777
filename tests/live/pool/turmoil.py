"""A fleet of real processes that are killed, frozen, started again and joined by others while jobs run.

What happens is drawn by a seed, when is told by how many jobs have ended, so that nothing depends on how
fast the machine is. What was executed is read from the files that the servers write as they begin a prompt;
those outlive a process that is killed.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median

from anyio.to_thread import run_sync

from async_comfy import Result, Workflow
from async_comfy._live.pool import Pool
from async_comfy._live.pool_job import PoolJob
from async_comfy.protocol.failover import Ending, Retry, is_poison
from async_comfy.testing import ServerProcess
from tests.live.pictures import picture

STEPS = 4
LEAD = 3  # turns by which jobs may run ahead of what happens: a process needs a second to start
POLICIES: tuple[Retry, ...] = ("never", "if_lost")


@dataclass(slots=True)
class Machine:
    """One server process, and for how long it could have worked."""

    process: ServerProcess
    state: str = "live"
    live_s: float = 0.0
    _since: float = field(default_factory=time.monotonic)

    def turn(self, state: str) -> None:
        """From now on it is that."""
        now = time.monotonic()
        if self.state == "live":
            self.live_s += now - self._since
        self.state, self._since = state, now


class Turmoil:
    """So many jobs over so many servers; something happens whenever `every` more have ended.

    `run_ms`: what a job takes. At least half of the servers are left in peace at any time.
    """

    def __init__(self, seed: int, *, jobs: int, servers: int, every: int, run_ms: int) -> None:
        self.jobs = jobs
        self.every = every
        self.run_ms = run_ms
        self.acts: Counter[str] = Counter()
        self.machines: list[Machine] = []
        self.done: list[PoolJob] = []
        self._turn = 0
        self._servers = servers
        self._chance = random.Random(seed)
        self._stack = ExitStack()

    def run(self) -> "Account":
        """The whole of it."""
        with self._stack:
            for _ in range(self._servers):
                self._start_one()
            jobs, results = asyncio.run(self._drive())
            begun = sum((machine.process.executions for machine in self.machines), Counter[str]())
            return Account(self, jobs, results, begun)

    async def _drive(self) -> tuple[list[PoolJob], list[Result]]:
        async with Pool([machine.process.url for machine in self.machines]) as pool:
            for machine in self.machines:
                machine.turn("live")
                machine.live_s = 0.0
            stirring = asyncio.create_task(self._stir(pool))
            jobs = []
            for number in range(self.jobs):
                await self._until(lambda number=number: number < (self._turn + LEAD) * self.every)  # type: ignore[misc]  # bound here
                job = await pool.submit(self._job(number), retry=POLICIES[number % 2], keep_events=False)
                job.on_end(self.done.append)
                jobs.append(job)
            results = await asyncio.gather(*jobs, return_exceptions=True)
            for machine in self.machines:
                machine.turn("over")
            await stirring
        return jobs, [result for result in results if isinstance(result, Result)]

    async def _stir(self, pool: Pool) -> None:
        """Acts until the last tenth, in which everybody is left in peace."""
        for turn in range(1, int(self.jobs * 0.9) // self.every):
            await self._until(lambda turn=turn: len(self.done) >= turn * self.every)  # type: ignore[misc]  # bound here
            troubled = [machine for machine in self.machines if machine.state in {"dead", "frozen"}]
            for machine in troubled:
                if self._chance.random() < 0.7:
                    await self._heal(machine)
            await self._act(pool)
            self._turn = turn
        self._turn = self.jobs
        for machine in self.machines:
            await self._heal(machine)

    async def _act(self, pool: Pool) -> None:
        live = [machine for machine in self.machines if machine.state == "live"]
        act = self._chance.choices(["kill", "freeze", "add"], [0.5, 0.4, 0.1])[0]
        if act == "add" and len(self.machines) < 1.5 * self._servers:
            machine = await run_sync(self._start_one)
            await pool.add(machine.process.url)
        elif act != "add" and len(live) > len(self.machines) / 2:
            machine = self._chance.choice(live)
            machine.turn("dead" if act == "kill" else "frozen")
            (machine.process.kill if act == "kill" else machine.process.stop)()
        else:
            return
        self.acts[act] += 1

    async def _heal(self, machine: Machine) -> None:
        if machine.state == "dead":
            await run_sync(machine.process.start)
            self.acts["start again"] += 1
        elif machine.state == "frozen":
            machine.process.cont()
            self.acts["thaw"] += 1
        else:
            return
        machine.turn("live")

    def _start_one(self) -> Machine:
        machine = Machine(self._stack.enter_context(ServerProcess()))
        self.machines.append(machine)
        return machine

    def _job(self, number: int) -> Workflow:
        workflow = picture(number)
        paper = workflow["Paper"][0]
        between = workflow.add(
            "ProbeSteps", image=paper, steps=STEPS, delay_ms=self.run_ms // STEPS, preview=False
        )
        workflow["Out"].inputs["images"] = between[0]
        return workflow

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.01)


class Account:
    """What became of every job, held against what the servers wrote down."""

    def __init__(
        self, turmoil: Turmoil, jobs: list[PoolJob], results: list[Result], begun: Counter[str]
    ) -> None:
        self.jobs = jobs
        self.begun = begun
        self.acts = turmoil.acts
        self.states = Counter(job.state for job in jobs)
        self.live_s = sum(machine.live_s for machine in turmoil.machines)
        runs = [result.ran_s for result in results if result.ran_s is not None]
        self.run_s = median(runs) if runs else 0.0

    def __repr__(self) -> str:
        return f"<Account of {len(self.jobs)} jobs: {dict(self.states)}>"

    @property
    def goodput(self) -> float:
        """The part of the living servers' time that went into jobs that were completed."""
        return self.states["completed"] * self.run_s / self.live_s

    @property
    def wrong(self) -> list[PoolJob]:
        """Jobs that ended otherwise than what happened to them and their policy allow."""
        return [job for job in self.jobs if job.state != "completed" and not self._may_be_lost(job)]

    @property
    def twice(self) -> list[PoolJob]:
        """Jobs that were begun more often than their policy and the deaths of their servers allow."""
        return [job for job in self.jobs if self._executions(job) > 1 + self._reruns(job)]

    @property
    def unseen(self) -> int:
        """Prompts that began in the instant in which their process died: no event of it could leave it."""
        return sum(
            bool(self.begun[one.prompt_id]) and not one.begun for job in self.jobs for one in job.attempts
        )

    @property
    def again(self) -> int:
        """Runs that a policy asked for."""
        return sum(self._reruns(job) for job in self.jobs)

    @property
    def unknown(self) -> int:
        """Prompts that servers began and no job tells of."""
        told = {one.prompt_id for job in self.jobs for one in job.attempts}
        return sum(prompt_id not in told for prompt_id in self.begun)

    def _may_be_lost(self, job: PoolJob) -> bool:
        begun = any(one.begun and one.ending is Ending.LOST for one in job.attempts)
        return job.state == "lost" and begun and (job.retry == "never" or is_poison(job.attempts))

    def _executions(self, job: PoolJob) -> int:
        return sum(self.begun[one.prompt_id] for one in job.attempts)

    def _reruns(self, job: PoolJob) -> int:
        if job.retry == "never":
            return 0
        return sum(one.begun and one.ending is Ending.LOST for one in job.attempts)
