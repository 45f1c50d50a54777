"""The jobs that wait, in the order in which they deserve a server.

A lane is a class of jobs (images, videos, batches). Lanes share the fleet by weight, and so do the
tenants within a lane, by start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): each has a tag
that grows by the work that it was given, the lowest tag is next, and who comes back after a pause begins
at the level of the others, so nobody saves up. Deficit round robin (Shreedhar and Varghese, SIGCOMM
1995) would serve as well but for its quantum, which has to exceed the longest job.

Jobs that ask the same of a server and use the same models lie on one shelf. Whoever looks for work sees
shelves, not jobs, so ten thousand waiting jobs cost no more than ten.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush, heapreplace
from itertools import islice

from async_comfy.protocol.footprint import Footprint

PRIORITY_S = 60.0  # one point of priority is worth having come so much earlier; none waits for ever
HORIZON_S = 600.0  # a deadline nearer than this counts as having come earlier by what is missing to it
LOOK = 8  # shelves that a server without warm work looks at: those that wait longest
TENANTS = 1024  # tags kept of tenants that have nothing waiting

Models = tuple[str, ...]
Rows = OrderedDict[Models, "Shelf"]
"""Shelves with the same needs, those served longest ago first."""


@dataclass(frozen=True, slots=True)
class Lane:
    """A class of jobs.

    `weight`: its share of the fleet while others wait, too. `ceiling`: at most so many servers at once, a
    number, or a share of the fleet below 1.
    """

    name: str
    weight: float = 1.0
    ceiling: float | None = None

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"the weight of lane {self.name!r} is {self.weight}; it must be above 0")
        if self.ceiling is not None and not self.ceiling > 0:
            raise ValueError(f"the ceiling of lane {self.name!r} is {self.ceiling}; it must be above 0")

    def limit(self, servers: int) -> float:
        """How many of so many servers it may occupy; a share is at least one server."""
        if self.ceiling is None:
            return servers
        return max(1.0, int(self.ceiling * servers)) if self.ceiling < 1 else self.ceiling


@dataclass(frozen=True, slots=True)
class Needs:
    """What a job asks of a server. `server`: this one and no other. `without`: not these."""

    classes: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    vram_bytes: int = 0
    server: str | None = None
    without: frozenset[str] = frozenset()


@dataclass(slots=True, eq=False)
class Ticket:
    """One job while it waits.

    `came_at`: seconds. `cost_s`: expected work. `boost_s`: how much earlier it counts as having come.
    `tenant`: whose share of the lane it uses.
    """

    number: int
    footprint: Footprint
    needs: Needs
    came_at: float
    lane: str = "default"
    tenant: str = ""
    boost_s: float = 0.0
    cost_s: float = 0.0
    shelf: "Shelf | None" = field(default=None, repr=False)

    @property
    def rank(self) -> tuple[float, int]:
        """The order among jobs of one tenant that ask for the same."""
        return self.came_at - self.boost_s, self.number


def boost_s(priority: float, deadline_s: float | None, cost_s: float) -> float:
    """How much earlier a job counts as having come. `deadline_s`: from its coming, None without.

    Among equal priorities this is earliest deadline first (by latest start) for deadlines within the horizon.
    """
    urgent = 0.0 if deadline_s is None else max(0.0, HORIZON_S - max(deadline_s - cost_s, 0.0))
    return priority * PRIORITY_S + urgent


@dataclass(slots=True)
class Shares:
    """Who was given how much, in seconds by weight. The start tags of start-time fair queueing."""

    tags: dict[str, float] = field(default_factory=dict)
    floor: float = 0.0

    def tag(self, name: str) -> float:
        """Where this one stands; who comes anew stands where the others are."""
        return self.tags.get(name, self.floor)

    def come(self, name: str) -> None:
        """Begins to wait: what it did not use while it was away is gone."""
        self.tags[name] = max(self.tags.get(name, 0.0), self.floor)

    def charge(self, name: str, seconds: float) -> None:
        """Was given so much."""
        tag = self.tag(name)
        self.floor = max(self.floor, tag)
        self.tags[name] = tag + seconds

    def correct(self, name: str, seconds: float) -> None:
        """It took so much more (or less) than was charged."""
        if name in self.tags:
            self.tags[name] += seconds

    def prune(self, waiting: Collection[str]) -> None:
        """Forgets those whom it makes no difference: not waiting, and not ahead of the others."""
        self.tags = {n: tag for n, tag in self.tags.items() if n in waiting or tag > self.floor}


class Shelf:
    """Jobs that ask the same of a server and use the same models, by tenant.

    `since`: when it was last served, or when its first job came.
    """

    __slots__ = ("_lines", "_turns", "backlog_s", "count", "models", "needs", "since")

    def __init__(self, needs: Needs, models: Models, since: float) -> None:
        self.needs = needs
        self.models = models
        self.since = since
        self.backlog_s = 0.0
        self.count = 0
        self._lines: dict[str, list[tuple[float, int, Ticket]]] = {}
        self._turns: list[tuple[float, str]] = []

    def __repr__(self) -> str:
        return f"<Shelf {self.count} jobs, {self.backlog_s:.0f} s, {', '.join(self.models) or 'no models'}>"

    def put(self, ticket: Ticket, shares: Shares) -> None:
        """One more waits here."""
        ticket.shelf = self
        self.count += 1
        self.backlog_s += ticket.cost_s
        line = self._lines.setdefault(ticket.tenant, [])
        heappush(line, (*ticket.rank, ticket))
        if line[0][2] is ticket:
            heappush(self._turns, (self._turn(ticket, shares), ticket.tenant))

    def drop(self, ticket: Ticket) -> None:
        """It waits no more. Its place in the line is cleared when the line comes to it."""
        ticket.shelf = None
        self.count -= 1
        self.backlog_s = max(self.backlog_s - ticket.cost_s, 0.0)

    def next(self, shares: Shares) -> tuple[float, Ticket]:
        """The job whose turn it is, and its turn: seconds by which its tenant is ahead of its share.

        Raises: LookupError where nothing waits.
        """
        tags, floor = shares.tags, shares.floor
        while self._turns:
            turn, tenant = self._turns[0]
            line = self._lines.get(tenant)
            head = line[0][2] if line else None
            if head is None or head.shelf is not self:
                head = self._head(tenant)
                if head is None:
                    heappop(self._turns)
                    continue
            now = tags.get(tenant, floor) - head.boost_s
            if now <= turn:
                return now - floor, head
            heapreplace(self._turns, (now, tenant))  # the tenant was served elsewhere meanwhile
        raise LookupError("an empty shelf")

    def of(self, tenant: str) -> Ticket | None:
        """This tenant's next job here."""
        return self._head(tenant)

    def _head(self, tenant: str) -> Ticket | None:
        line = self._lines.get(tenant)
        while line:
            if line[0][2].shelf is self:
                return line[0][2]
            heappop(line)
        self._lines.pop(tenant, None)
        return None

    def _turn(self, ticket: Ticket, shares: Shares) -> float:
        return shares.tag(ticket.tenant) - ticket.boost_s


class LaneQueue:
    """What waits in one lane."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.shares = Shares()
        self.count = 0
        self.placed: dict[str, int] = {}  # server to how many jobs of this lane are there
        self._waiting: dict[str, int] = {}  # by tenant
        self._open: dict[Needs, Rows] = {}
        self._pinned: dict[str, dict[Needs, Rows]] = {}
        self._boosted: OrderedDict[Shelf, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<LaneQueue {self.lane.name}, {self.count} waiting, {sum(self.placed.values())} placed>"

    def put(self, ticket: Ticket) -> None:
        """One more waits."""
        if not self._waiting.get(ticket.tenant):
            self.shares.come(ticket.tenant)
        self._waiting[ticket.tenant] = self._waiting.get(ticket.tenant, 0) + 1
        self.count += 1
        rows = self._rows(ticket.needs).setdefault(ticket.needs, OrderedDict())
        shelf = rows.get(ticket.footprint.models)
        if shelf is None:
            shelf = Shelf(ticket.needs, ticket.footprint.models, ticket.came_at)
            rows[shelf.models] = shelf
        shelf.put(ticket, self.shares)
        if ticket.boost_s > 0:
            self._boosted[shelf] = None

    def drop(self, ticket: Ticket) -> None:
        """It waits no more."""
        shelf = ticket.shelf
        if shelf is None:
            return
        shelf.drop(ticket)
        self.count -= 1
        self._leave(ticket.tenant)
        if not shelf.count:
            self._clear(shelf)

    def take(self, ticket: Ticket, now: float, charge_s: float) -> None:
        """It goes to a server, and its tenant has had so much of its share."""
        shelf = ticket.shelf
        self.drop(ticket)
        self.shares.charge(ticket.tenant, charge_s)
        if shelf is not None and shelf.count:
            shelf.since = now
            self._rows(shelf.needs)[shelf.needs].move_to_end(shelf.models)

    def groups(self, server: str) -> Iterator[tuple[Needs, Rows]]:
        """The shelves by what they need: those for anybody, and those for this server alone."""
        yield from self._open.items()
        yield from self._pinned.get(server, {}).items()

    def longest(self, rows: Rows) -> Iterator[Shelf]:
        """The shelves that wait longest, and those with a job that is urgent."""
        yield from islice(rows.values(), LOOK)
        if len(rows) > LOOK:
            yield from [s for s in islice(self._boosted, LOOK) if rows.get(s.models) is s]

    def is_urgent(self, shelf: Shelf) -> bool:
        """Whether a job with a priority or a deadline lies there, so that its age does not tell its turn."""
        return shelf in self._boosted

    def shelves(self) -> Iterator[Shelf]:
        """All of them, to explain and to count."""
        for groups in (self._open, *self._pinned.values()):
            for rows in groups.values():
                yield from rows.values()

    def _rows(self, needs: Needs) -> dict[Needs, Rows]:
        return self._open if needs.server is None else self._pinned.setdefault(needs.server, {})

    def _leave(self, tenant: str) -> None:
        self._waiting[tenant] -= 1
        if self._waiting[tenant]:
            return
        del self._waiting[tenant]
        if len(self.shares.tags) > TENANTS + len(self._waiting):
            self.shares.prune(self._waiting)

    def _clear(self, shelf: Shelf) -> None:
        self._boosted.pop(shelf, None)
        groups = self._rows(shelf.needs)
        rows = groups[shelf.needs]
        del rows[shelf.models]
        if not rows:
            del groups[shelf.needs]
        if shelf.needs.server is not None and not groups:
            del self._pinned[shelf.needs.server]
