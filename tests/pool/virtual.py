"""A fleet in virtual time: servers that run one prompt at a time and hold so many models, and nothing else.

It drives the pure scheduler as the live pool does, and the policies that it is compared with, with the same
jobs. A run is a function of its seed.
"""

import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import accumulate, count
from typing import Protocol

from async_comfy.protocol.footprint import Footprint
from async_comfy.protocol.host import Host, Placement
from async_comfy.protocol.lanes import Needs, Ticket, boost_s
from async_comfy.protocol.scheduler import Scheduler

TICK_S = 0.5  # as the live pool
NOTICE_S = 0.5  # until the pool sees that a process is gone: a look, and a refused connection


@dataclass(slots=True, eq=False)
class Prompt:
    """One job: what it takes, and what became of it."""

    at: float
    run_s: float
    models: tuple[str, ...] = ()
    lane: str = "default"
    tenant: str = ""
    priority: float = 0.0
    began_at: float | None = None
    ended_at: float | None = None
    server: str = ""
    executions: int = 0
    ticket: Ticket | None = None

    @property
    def wait_s(self) -> float:
        """From its coming to its first node. Fails where it never began."""
        assert self.began_at is not None
        return self.began_at - self.at

    @property
    def sojourn_s(self) -> float:
        """From its coming to its end. Fails where it never ended."""
        assert self.ended_at is not None
        return self.ended_at - self.at

    @property
    def shape(self) -> int:
        """What the pool would take for its shape."""
        return hash((self.run_s, self.models))


class Server:
    """Runs what it is sent, in order; loads what it does not hold, and drops what it used longest ago."""

    def __init__(self, name: str, room: int, load_s: float) -> None:
        self.name = name
        self.room = room
        self.load_s = load_s
        self.queue: deque[Prompt] = deque()
        self.running: Prompt | None = None
        self.held: OrderedDict[tuple[str, ...], None] = OrderedDict()
        self.loads = 0
        self.busy_s = 0.0
        self.up = True
        self.life = 0

    @property
    def load(self) -> int:
        """Prompts that run or wait."""
        return len(self.queue) + (self.running is not None)

    def begin(self) -> tuple[Prompt, float] | None:
        """The next prompt and the seconds it will take; None where nothing waits or one runs."""
        if self.running is not None or not self.queue or not self.up:
            return None
        prompt = self.running = self.queue.popleft()
        seconds = prompt.run_s
        if prompt.models and prompt.models not in self.held:
            seconds += self.load_s
            self.loads += 1
        if prompt.models:
            self.held[prompt.models] = None
            self.held.move_to_end(prompt.models)
            while len(self.held) > self.room:
                self.held.popitem(last=False)
        self.busy_s += seconds
        return prompt, seconds

    def die(self) -> list[Prompt]:
        """Everything is gone; what it had, the one that ran first."""
        had = [*([self.running] if self.running is not None else []), *self.queue]
        self.queue.clear()
        self.running = None
        self.held.clear()
        self.up = False
        self.life += 1
        return had


class Policy(Protocol):
    """Decides where prompts go. It may send to servers through `fleet.send`."""

    def start(self, fleet: "Fleet") -> None:
        """Before the first prompt."""
        ...

    def came(self, prompt: Prompt) -> None:
        """A prompt came."""
        ...

    def ended(self, prompt: Prompt, server: Server, ran_s: float) -> None:
        """A prompt was completed."""
        ...

    def died(self, server: Server, had: list[Prompt]) -> None:
        """A server is gone with what it had."""
        ...

    def joined(self, server: Server) -> None:
        """A server is (back) up."""
        ...

    def tick(self) -> None:
        """Time has passed."""
        ...


class Fleet:
    """The virtual clock, the servers, and the policy that feeds them."""

    def __init__(self, policy: Policy, servers: int, *, room: int = 2, load_s: float = 10.0) -> None:
        self.now = 0.0
        self.policy = policy
        self.servers = {f"gpu{i}": Server(f"gpu{i}", room, load_s) for i in range(1, servers + 1)}
        self.prompts: list[Prompt] = []
        self.posts: Counter[int] = Counter()  # prompts sent, by second
        self._happenings: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._open = 0
        policy.start(self)

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Does it at that time."""
        heappush(self._happenings, (when, next(self._order), do))

    def run(self, prompts: Iterable[Prompt]) -> "Report":
        """Until every prompt has ended."""
        for prompt in prompts:
            self.prompts.append(prompt)
            self._open += 1
            self.at(prompt.at, lambda prompt=prompt: self.policy.came(prompt))  # type: ignore[misc]  # default
        self.at(TICK_S, self._tick)
        while self._open:
            self.now, _, do = heappop(self._happenings)
            do()
        return Report(self)

    def send(self, prompt: Prompt, server: Server) -> None:
        """POST /prompt."""
        self.posts[int(self.now)] += 1
        prompt.server = server.name
        if not server.up:
            self.at(self.now + NOTICE_S, lambda: self.policy.died(server, [prompt]))
            return
        server.queue.append(prompt)
        self._go_on(server)

    def kill(self, server: Server) -> None:
        """The process dies."""
        if server.up:
            had = server.die()
            self.at(self.now + NOTICE_S, lambda: self.policy.died(server, had))

    def revive(self, server: Server) -> None:
        """It is started again."""
        if not server.up:
            server.up = True
            self.policy.joined(server)

    def add(self, name: str, *, room: int = 2, load_s: float = 10.0) -> None:
        """A further server."""
        self.servers[name] = Server(name, room, load_s)
        self.policy.joined(self.servers[name])

    def _go_on(self, server: Server) -> None:
        if (begun := server.begin()) is not None:
            prompt, seconds = begun
            prompt.executions += 1
            prompt.began_at = self.now if prompt.began_at is None else prompt.began_at
            life = server.life
            self.at(self.now + seconds, lambda: self._end(prompt, server, life, seconds))

    def _end(self, prompt: Prompt, server: Server, life: int, ran_s: float) -> None:
        if server.life != life:
            return  # it died meanwhile
        server.running = None
        prompt.ended_at = self.now
        self._open -= 1
        self._go_on(server)
        self.policy.ended(prompt, server, ran_s)

    def _tick(self) -> None:
        self.policy.tick()
        self.at(self.now + TICK_S, self._tick)


@dataclass(slots=True)
class Report:
    """What a run came to."""

    fleet: Fleet
    makespan_s: float = field(init=False)
    loads: int = field(init=False)

    def __post_init__(self) -> None:
        self.makespan_s = max(prompt.ended_at or 0.0 for prompt in self.fleet.prompts)
        self.loads = sum(server.loads for server in self.fleet.servers.values())

    def of(self, lane: str | None = None) -> list[Prompt]:
        """The prompts, of one lane."""
        return [prompt for prompt in self.fleet.prompts if lane in (None, prompt.lane)]

    def sojourn_s(self, part: float, lane: str | None = None) -> float:
        """The percentile of coming to end."""
        return percentile([prompt.sojourn_s for prompt in self.of(lane)], part)

    def throughput(self, lane: str | None = None) -> float:
        """Prompts completed a second, from the first coming to the last end."""
        prompts = self.of(lane)
        return len(prompts) / (max(p.ended_at or 0.0 for p in prompts) - min(p.at for p in prompts))

    def wait_s(self, part: float, lane: str | None = None) -> float:
        """The percentile of coming to begin."""
        return percentile([prompt.wait_s for prompt in self.of(lane)], part)


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that so large a part of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]


class Blind:
    """Sends at once, knowing queue lengths at most: what the policies that we compare with share."""

    def start(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.turn = 0

    def choose(self) -> Server:
        raise NotImplementedError

    def came(self, prompt: Prompt) -> None:
        self.fleet.send(prompt, self.choose())

    def ended(self, prompt: Prompt, server: Server, ran_s: float) -> None:
        """Nothing to do: everything was sent."""

    def died(self, server: Server, had: list[Prompt]) -> None:
        for prompt in had:
            self.came(prompt)

    def joined(self, server: Server) -> None:
        """Nothing to do: it is chosen when its turn comes."""

    def tick(self) -> None:
        """Nothing to do."""


class RoundRobin(Blind):
    """One after the other."""

    def choose(self) -> Server:
        servers = [server for server in self.fleet.servers.values() if server.up]
        self.turn += 1
        return servers[self.turn % len(servers)]


class LeastQueue(Blind):
    """Where the fewest run and wait."""

    def choose(self) -> Server:
        servers = [server for server in self.fleet.servers.values() if server.up]
        return min(servers, key=lambda server: server.load)


class Pooled:
    """Our scheduler, told what the live pool would tell it."""

    def __init__(self, scheduler: Scheduler | None = None, *, room: int | None = None) -> None:
        self.scheduler = scheduler or Scheduler()
        self.room = room
        self.placements: list[Placement] = []
        self._numbers = count()
        self._of: dict[Ticket, Prompt] = {}

    def start(self, fleet: Fleet) -> None:
        self.fleet = fleet
        for server in fleet.servers.values():
            self.joined(server)

    def came(self, prompt: Prompt) -> None:
        expected = self.scheduler.costs.run_s(prompt.shape)
        prompt.ticket = Ticket(
            number=next(self._numbers),
            footprint=Footprint(prompt.shape, prompt.models),
            needs=Needs(),
            came_at=prompt.at,
            lane=prompt.lane,
            tenant=prompt.tenant,
            boost_s=boost_s(prompt.priority, None, expected),
        )
        self._of[prompt.ticket] = prompt
        self.scheduler.submit(prompt.ticket, self.fleet.now)
        self._decide()

    def ended(self, prompt: Prompt, server: Server, ran_s: float) -> None:
        assert prompt.ticket is not None
        del self._of[prompt.ticket]
        self.scheduler.worked(server.name)
        self.scheduler.ended(prompt.ticket, server.name, self.fleet.now, ran_s=ran_s)
        self._decide()

    def died(self, server: Server, had: list[Prompt]) -> None:
        now = self.fleet.now
        self.scheduler.left(server.name)
        for prompt in had:
            assert prompt.ticket is not None
            self.scheduler.ended(prompt.ticket, server.name, now)
            self.scheduler.submit(prompt.ticket, now)
        self.scheduler.failed(server.name, now)
        if server.up:
            self.scheduler.joined(server.name, now)
        self._decide()

    def joined(self, server: Server) -> None:
        if server.name not in self.scheduler.hosts:
            self.scheduler.add(Host(server.name, room=self.room))
        self.scheduler.joined(server.name, self.fleet.now)
        self._decide()

    def tick(self) -> None:
        self.scheduler.reconsider(self.fleet.now)
        self._decide()

    def _decide(self) -> None:
        for placement in self.scheduler.decide(self.fleet.now):
            self.placements.append(placement)
            self.fleet.send(self._of[placement.ticket], self.fleet.servers[placement.host])


def zipf(kinds: int, chance: random.Random) -> Iterator[int]:
    """Kinds by Zipf's law: the second half as often as the first, the third a third, ..."""
    weights = list(accumulate(1 / (kind + 1) for kind in range(kinds)))
    while True:
        yield chance.choices(range(kinds), cum_weights=weights)[0]


def plan_loads(prompts: Sequence[Prompt], servers: int, load_s: float) -> tuple[int, float]:
    """Loads and makespan of a plan that knows all jobs and may begin when it likes.

    McNaughton's wrap-around rule: each model's work is laid out along the servers, as full as the shortest
    makespan allows, and a load paid for each piece.
    """
    work: Counter[tuple[str, ...]] = Counter()
    for prompt in prompts:
        work[prompt.models] += prompt.run_s  # type: ignore[assignment]  # a Counter of seconds
    low, high = sum(work.values()) / servers, float(sum(work.values()))
    best = len(work)
    while high - low > 0.01:
        middle = (low + high) / 2
        pieces = _pieces([float(seconds) for seconds in work.values()], servers, load_s, middle)
        if pieces is None:
            low = middle
        else:
            high, best = middle, pieces
    return best, high


def _pieces(work: list[float], servers: int, load_s: float, span_s: float) -> int | None:
    pieces, used, room_s = 0, 1, span_s
    for seconds in sorted(work, reverse=True):
        while seconds > 1e-9:
            if room_s <= load_s:
                used, room_s = used + 1, span_s
            piece = min(seconds, room_s - load_s)
            if piece <= 0 or used > servers:
                return None
            pieces, seconds, room_s = pieces + 1, seconds - piece, room_s - load_s - piece
    return pieces
