"""The jobs that wait, in the order in which they deserve a server.

A lane is a class of jobs (images, videos, batches). Lanes share the fleet by weight, and so do the
tenants within a lane, by start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): each has a tag
that grows by the work that it was given, the lowest tag is next, and who comes back after a pause begins
at the level of the others, so nobody saves up. Deficit round robin (Shreedhar and Varghese, SIGCOMM
1995) would serve as well but for its quantum, which has to exceed the longest job.

Jobs that ask the same of a server and use the same models lie on one shelf. Whoever looks for work sees
shelves, not jobs, so ten thousand waiting jobs cost no more than ten.
"""

import math
from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace, nlargest
from itertools import islice

from async_comfy.errors import CallerError
from async_comfy.protocol.footprint import Footprint

PRIORITY_S = 60.0  # one point of priority is worth having come so much earlier; none waits for ever
HORIZON_S = 600.0  # a deadline nearer than this counts as having come earlier by what is missing to it
LOOK = 8  # shelves that a server looks at for a cold start: those that wait longest, and as many urgent ones
TENANTS = 1024  # tags kept of tenants that have nothing waiting
SLACK = 64  # entries that are out of date and may lie in a heap before it is cleared of them
ROUNDING = 1e-9  # 0.29 of a hundred servers are 29, not 28.999

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
        if not 0 < self.weight < math.inf:
            raise ValueError(
                f"the weight of lane {self.name!r} is {self.weight}; it must be above 0, and finite"
            )
        if self.ceiling is not None and not self.ceiling > 0:
            raise ValueError(f"the ceiling of lane {self.name!r} is {self.ceiling}; it must be above 0")

    def limit(self, servers: int) -> float:
        """How many of so many servers it may occupy; a share is at least one server."""
        if self.ceiling is None:
            return servers
        return max(1.0, self.ceiling * servers + ROUNDING) if self.ceiling < 1 else self.ceiling


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

    Raises: CallerError for what is no number: nothing can be put in order by it.
    """
    if not math.isfinite(priority * PRIORITY_S):
        raise CallerError(f"The priority is {priority}.", hint="Each point is worth a minute: give 5, or -5.")
    if deadline_s is not None and math.isnan(deadline_s):
        raise CallerError("The deadline is nan.", hint="Give the seconds from now, or None.")
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

    def charge(self, name: str, seconds: float, boost_s: float = 0.0) -> None:
        """Was given so much. `boost_s`: how much before its turn; others who come do not wait for that."""
        tag = self.tag(name)
        self.floor = max(self.floor, tag - max(boost_s, 0.0))
        self.tags[name] = tag + seconds

    def correct(self, name: str, seconds: float) -> None:
        """It took so much more (or less) than was charged."""
        if name in self.tags:
            self.tags[name] += seconds

    def prune(self, waiting: Collection[str], most: int) -> None:
        """Forgets who does not wait, but for those (`most`) who are furthest ahead of the others."""
        ahead = [(tag, n) for n, tag in self.tags.items() if tag > self.floor and n not in waiting]
        kept = {n: tag for n, tag in self.tags.items() if n in waiting}
        self.tags = kept | {n: tag for tag, n in nlargest(most, ahead)}


class Shelf:
    """Jobs that ask the same of a server and use the same models, by tenant.

    `since`: when it was last served, or when its first job came. Among tenants whose turns are equal who
    came first is served first.
    """

    __slots__ = ("_entries", "_gone", "_lines", "_turns", "backlog_s", "count", "models", "needs", "since")

    def __init__(self, needs: Needs, models: Models, since: float) -> None:
        self.needs = needs
        self.models = models
        self.since = since
        self.backlog_s = 0.0
        self.count = 0
        self._lines: dict[str, list[tuple[float, int, Ticket]]] = {}
        self._gone = 0  # of those in the lines, how many wait no more
        self._turns: list[tuple[float, int, str]] = []
        self._entries: dict[str, tuple[float, int]] = {}  # by tenant, the one among the turns that counts

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
            self._enter(ticket.tenant, shares.tag(ticket.tenant) - ticket.boost_s, ticket.number)

    def drop(self, ticket: Ticket) -> None:
        """It waits no more. Its place in the line is cleared when it is at the front, or with many others."""
        ticket.shelf = None
        self.count -= 1
        self.backlog_s = max(self.backlog_s - ticket.cost_s, 0.0)
        self._gone += 1
        if self._gone > self.count + SLACK:
            self._sweep()

    def next(self, shares: Shares) -> tuple[float, Ticket]:
        """The job whose turn it is, and its turn: seconds by which its tenant is ahead of its share.

        Raises: LookupError where nothing waits.
        """
        tags, floor = shares.tags, shares.floor
        while self._turns:
            turn, number, tenant = self._turns[0]
            line = self._lines.get(tenant)
            head = line[0][2] if line else None
            if head is None or head.shelf is not self:
                head = self._head(tenant)
            if head is None or self._entries[tenant] != (turn, number):
                heappop(self._turns)
                continue
            now = tags.get(tenant, floor) - head.boost_s
            if now < turn or (now == turn and head.number <= number):
                return now - floor, head
            # The tenant was served meanwhile, here or on another shelf.
            self._entries[tenant] = now, head.number
            heapreplace(self._turns, (now, head.number, tenant))
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
            self._gone -= 1
        self._lines.pop(tenant, None)
        self._entries.pop(tenant, None)
        return None

    def _enter(self, tenant: str, turn: float, number: int) -> None:
        self._entries[tenant] = turn, number
        heappush(self._turns, (turn, number, tenant))
        if len(self._turns) > 2 * len(self._entries) + SLACK:
            self._turns = [(*entry, one) for one, entry in self._entries.items()]
            heapify(self._turns)

    def _sweep(self) -> None:
        for tenant, line in list(self._lines.items()):
            line[:] = [one for one in line if one[2].shelf is self]
            heapify(line)
            self._head(tenant)
        self._gone = 0


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
        self.shares.charge(ticket.tenant, charge_s, ticket.boost_s)
        if shelf is not None and shelf.count:
            shelf.since = now
            self._rows(shelf.needs)[shelf.needs].move_to_end(shelf.models)

    def groups(self, server: str) -> Iterator[tuple[Needs, Rows]]:
        """The shelves by what they need: those for anybody, and those for this server alone."""
        yield from self._open.items()
        yield from self._pinned.get(server, {}).items()

    def urgent(self, rows: Rows) -> Iterator[Shelf]:
        """Some of these shelves with a job that is urgent."""
        return (shelf for shelf in islice(self._boosted, LOOK) if rows.get(shelf.models) is shelf)

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
            self.shares.prune(self._waiting, TENANTS // 2)

    def _clear(self, shelf: Shelf) -> None:
        self._boosted.pop(shelf, None)
        groups = self._rows(shelf.needs)
        rows = groups[shelf.needs]
        del rows[shelf.models]
        if not rows:
            del groups[shelf.needs]
        if shelf.needs.server is not None and not groups:
            del self._pinned[shelf.needs.server]
