"""What a scheduler knows: who is in the fleet, who has room, what is warm where, who had how much."""

from collections import OrderedDict, deque
from dataclasses import dataclass

from async_comfy.protocol.costs import Costs, Memory
from async_comfy.protocol.host import Hand, Host
from async_comfy.protocol.lanes import Lane, LaneQueue, Models, Shares, Ticket

RECENT = 4  # tenants that a server is remembered to have served last


@dataclass(slots=True)
class Counters:
    """What was decided so far."""

    placed: int = 0
    cold: int = 0
    ejected: int = 0
    quarantined: int = 0


class Books:
    """Kept by the scheduler, read by whoever chooses.

    `idle`: servers with room, those that have it longest first. `holders`: which of the connected ones hold
    models. `homes`: where a tenant's last job of a lane went. `looked`: servers to ask for work; `new`: jobs
    that came while some had room. `ready`: how many are connected.
    """

    def __init__(self, lanes: tuple[Lane, ...], depth: int, ahead_s: float) -> None:
        self.depth = depth
        self.ahead_s = ahead_s
        self.costs = Costs()
        self.hosts: dict[str, Host] = {}
        self.lanes = {lane.name: LaneQueue(lane) for lane in lanes or (Lane("default"),)}
        self._weigh()
        self.shares = Shares()
        self.counters = Counters()
        self.idle: dict[str, Host] = {}
        self.holders: dict[Models, dict[str, None]] = {}
        self.homes: Memory[tuple[str, str], str] = Memory()
        self.looked: OrderedDict[str, None] = OrderedDict()
        self.new: deque[Ticket] = deque()
        self.ready = 0

    def __repr__(self) -> str:
        return f"<Books of {len(self.hosts)} servers, {len(self.idle)} with room>"

    def limit(self, lanes: tuple[Lane, ...], depth: int, ahead_s: float) -> None:
        """Other lanes and limits from now on. A lane that is gone stays while it has jobs."""
        self.depth, self.ahead_s = depth, ahead_s
        before, self.lanes = self.lanes, {}
        for lane in lanes or (Lane("default"),):
            queue = before.pop(lane.name) if lane.name in before else LaneQueue(lane)
            queue.lane, self.lanes[lane.name] = lane, queue
        self.lanes |= {name: queue for name, queue in before.items() if queue.count or queue.placed}
        self.looked |= dict.fromkeys(self.idle)
        self._weigh()

    def _weigh(self) -> None:
        self._weights = sum(queue.lane.weight for queue in self.lanes.values())

    def open_to(self, queue: LaneQueue, host: Host) -> bool:
        """Whether a server takes jobs of a lane now: it may, and the ceiling is not reached."""
        if host.lanes is not None and queue.lane.name not in host.lanes:
            return False
        if queue.lane.ceiling is None or host.name in queue.placed:
            return True
        return len(queue.placed) + 1 <= queue.lane.limit(self.ready)

    def look(self, host: Host, now: float) -> None:
        """Something changed at a server: it is asked, if it has room."""
        if self.refresh(host, now):
            self.looked[host.name] = None

    def refresh(self, host: Host, now: float) -> bool:
        """Whether the host has room now; the list of those that have is kept up to date."""
        room = self.has_room(host, now)
        if room:
            self.idle.setdefault(host.name, host)
        else:
            self.idle.pop(host.name, None)
        return room

    def has_room(self, host: Host, now: float) -> bool:
        """Whether one more may go there. A second one only along with short work, where nobody else waits."""
        if not host.health.takes(now):
            return False
        if not host.hand:
            return True
        if len(host.hand) >= self.depth or host.others or not host.health.trusted:
            return False
        return sum(hand.cost_s for hand in host.hand.values()) <= self.ahead_s

    def count_ready(self) -> None:
        """Servers came or went."""
        self.ready = sum(host.health.connected for host in self.hosts.values())

    def use(self, host: Host, models: Models) -> None:
        """These are in memory there from now on."""
        if not models:
            return
        self.forget_warm(host)
        host.warmth.use(models)
        self.note_warm(host)

    def note_warm(self, host: Host) -> None:
        """Enters what it holds."""
        if host.health.connected:
            for models in host.warmth.sets():
                self.holders.setdefault(models, {})[host.name] = None

    def forget_warm(self, host: Host) -> None:
        """Strikes out what it holds, before that changes."""
        for models in host.warmth.sets():
            holders = self.holders.get(models)
            if holders is not None:
                holders.pop(host.name, None)
                if not holders:
                    del self.holders[models]

    def remember(self, host: Host, ticket: Ticket) -> None:
        """Whom it served, for the next time."""
        if not ticket.tenant:
            return
        self.homes[(ticket.tenant, ticket.lane)] = host.name
        host.recent[ticket.tenant] = None
        host.recent.move_to_end(ticket.tenant)
        if len(host.recent) > RECENT:
            host.recent.popitem(last=False)

    def learn(self, host: Host, hand: Hand, ran_s: float, *, kept: bool | None) -> float:
        """Takes a completed run; how many seconds of it were loading. `kept`: see `Scheduler.ended`."""
        footprint, standing = hand.placement.ticket.footprint, hand.placement.standing
        if kept is None or not (kept or self.costs.knows(footprint.shape)):
            told = self.costs.was_cold(footprint.shape, footprint.models, ran_s, host.name)
        else:
            told = not kept  # the server said so; how long it took is what it ran longer than usual
        if told is not None and footprint.models:
            self.forget_warm(host)
            told = host.warmth.learn(footprint.models, standing, was_cold=told, sure=kept is not None)
            self.note_warm(host)
        cold = hand.placement.cold if told is None else told
        return self.costs.learn(footprint.shape, footprint.models, ran_s, cold=cold, server=host.name)

    def rates(self, queue: LaneQueue) -> tuple[float, float]:
        """What a second of work is of a tenant's share now, and of the lane's.

        Of the weights only the ratio matters: 70 and 30 are 7 and 3.
        """
        part = 1.0 / max(self.ready, 1)
        return part, part * self._weights / queue.lane.weight

    def correct(self, hand: Hand, seconds: float) -> None:
        """It took so much more (or less) than its tenant and its lane were charged."""
        ticket = hand.placement.ticket
        self.lanes[ticket.lane].shares.correct(ticket.tenant, seconds * hand.of_tenant)
        self.shares.correct(ticket.lane, seconds * hand.of_lane)
