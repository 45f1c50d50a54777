"""The loads of which the pool's figures speak, by seed."""

import random

from async_comfy.protocol.lanes import Lane
from async_comfy.protocol.scheduler import Scheduler
from tests.pool.virtual import Fleet, Pooled, Prompt, Report, Server, zipf

SERVERS = 20
IMAGE_S, VIDEO_S = 2.0, 60.0
VIDEO_SHARE = 0.8  # of the servers at most: the ceiling of the video lane
DARK = (100.0, 700.0)  # seconds between which no server is up


def mixed_models(seed: int, jobs: int = 4000, *, rate: float | None = None) -> list[Prompt]:
    """Images of eight checkpoints of Zipf popularity; all at once, or so many a second."""
    chance = random.Random(seed)
    kinds = zipf(8, chance)
    at = 0.0
    prompts = []
    for _ in range(jobs):
        at += chance.expovariate(rate) if rate is not None else 0.0
        prompts.append(Prompt(at, IMAGE_S, (f"model_{next(kinds)}",)))
    return prompts


def classes(seed: int, jobs: int = 6000, *, images: bool = True) -> list[Prompt]:
    """Nine images to a video, at 80 % of what the fleet can do; or the same videos alone."""
    chance = random.Random(seed)
    rate = 0.8 * SERVERS / (0.9 * IMAGE_S + 0.1 * VIDEO_S)
    at = 0.0
    prompts = []
    for _ in range(jobs):
        at += chance.expovariate(rate)
        if chance.random() < 0.1:
            prompts.append(Prompt(at, VIDEO_S, lane="video"))
        elif images:
            prompts.append(Prompt(at, IMAGE_S, lane="image"))
    return prompts


def mixed_classes(seed: int) -> tuple[Report, Report]:
    """Images and videos on one fleet; and the videos alone on the servers that their ceiling leaves them."""
    lanes = (Lane("image"), Lane("video", ceiling=VIDEO_SHARE))
    mixed = Fleet(Pooled(Scheduler(lanes)), SERVERS).run(classes(seed))
    alone = Fleet(Pooled(Scheduler(lanes)), int(VIDEO_SHARE * SERVERS)).run(classes(seed, images=False))
    return mixed, alone


def chaos(seed: int, jobs: int = 5000, servers: int = SERVERS) -> tuple[Report, float]:
    """Servers die, come back and join while jobs run; and how much of the living servers' time was of use."""
    chance = random.Random(seed)
    fleet = Fleet(Pooled(), servers)
    living_s = [0.0]
    _disturb(fleet, chance, living_s)
    report = fleet.run(Prompt(0.0, IMAGE_S) for _ in range(jobs))
    return report, jobs * IMAGE_S / living_s[0]


def all_down(seed: int, servers: int = 100) -> tuple[Report, int]:
    """Jobs come all the time; for ten minutes no server is there; then all come back at once."""
    chance = random.Random(seed)
    fleet = Fleet(Pooled(), servers)
    for server in list(fleet.servers.values()):
        fleet.at(DARK[0], lambda server=server: fleet.kill(server))  # type: ignore[misc]  # bound here
        fleet.at(DARK[1], lambda server=server: fleet.revive(server))  # type: ignore[misc]  # bound here
    prompts = [Prompt(chance.uniform(0.0, 800.0), IMAGE_S) for _ in range(5000)]
    return fleet.run(prompts), servers


def _disturb(fleet: Fleet, chance: random.Random, living_s: list[float]) -> None:
    """Every two seconds one may die; each comes back after a while; now and then a new one joins."""

    def stir() -> None:
        up = [server for server in fleet.servers.values() if server.up]
        living_s[0] += 2.0 * len(up)
        if chance.random() < 0.3 and len(up) > 5:
            _kill_for_a_while(fleet, chance.choice(up), chance.uniform(10.0, 60.0))
        if chance.random() < 0.02:
            fleet.add(f"late{len(fleet.servers)}")
        fleet.at(fleet.now + 2.0, stir)

    fleet.at(0.0, stir)


def _kill_for_a_while(fleet: Fleet, server: Server, seconds: float) -> None:
    fleet.kill(server)
    fleet.at(fleet.now + seconds, lambda: fleet.revive(server))
