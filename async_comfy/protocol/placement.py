"""Which job goes to which server, and when: from what was seen of the fleet to a decision, and its reasons.

The queue is ours and jobs are placed late, when a server has room, so what is learned meanwhile still
counts. A server with room takes, in this order of thought:

1. of the lanes, the one with the least of its share so far (`lanes`), a cold start counting as wait;
2. of the shelves in it, one whose models are warm here, the longest waiting first;
3. a cold one before it, if that has waited longer by `PATIENCE` times its loading: so nothing starves.
   After a cold start a server stays with its models for `PATIENCE` times the loading, so at most one part
   in 1 + PATIENCE of its time is spent on loading, however many models wait;
4. with nothing warm to do, the cold shelf with the longest drain per server (its backlog over the servers
   that hold it and this one: the rule of D'Hondt), unless those that hold it are through sooner than a load
   here would take, or `PATIENCE` loads where others would have to go. Then the server rather stays idle.

Everything is looked up, nothing is searched: a decision costs the same with ten jobs waiting or ten thousand.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from async_comfy.protocol.costs import Costs, Memory
from async_comfy.protocol.health import PART, Condition, Health
from async_comfy.protocol.lanes import Lane, LaneQueue, Models, Needs, Rows, Shares, Shelf, Ticket
from async_comfy.protocol.warmth import Standing, Warmth

PATIENCE = 3.0  # loads' worth of waiting that a cold start has to be worth; loading takes at most a quarter
SPARE_PRICE = 2.0  # the same where nothing has to be unloaded for it
AHEAD_S = 1.0  # a second prompt goes along only with work as short: there a pause between two would be felt
DEPTH = 2  # prompts of ours at one server: one that runs, one that waits
STICKY_S = 5.0  # a tenant may be served so much before its turn where it was served last
RECENT = 4  # tenants that a server is remembered to have served last
SUITORS = 8  # idle servers that are looked at for one new job
BAD_PAIR_S = 300.0  # a server that failed with models twice is not given them again for so long
NEVER_S = 1e9  # more than any wait, less than infinity: two such offers still compare
WARM_LOOK = 16  # servers of which the work in hand is summed up, to tell when one is through


@dataclass(slots=True)
class Hand:
    """One job of ours at a server."""

    placement: "Placement"
    cost_s: float
    since: float


class Host:
    """A server as placement sees it.

    `lanes`: it takes these alone, None: all. `vram_bytes`: 0 where unknown. `room`: sets of models that it
    holds at once; None: to be learned.
    """

    def __init__(
        self,
        name: str,
        *,
        labels: frozenset[str] = frozenset(),
        lanes: frozenset[str] | None = None,
        vram_bytes: int = 0,
        room: int | None = None,
    ) -> None:
        self.name = name
        self.labels = labels
        self.lanes = lanes
        self.vram_bytes = vram_bytes
        self.warmth = Warmth(room)
        self.health = Health()
        self.hand: dict[Ticket, Hand] = {}
        self.others = 0  # prompts of other people in its queue
        self.lacks: set[str] = set()  # node classes and model files that it refused
        self.recent: OrderedDict[str, None] = OrderedDict()
        self.stint_until = 0.0
        self._bad: dict[Models, tuple[int, float]] = {}
        self._fits: dict[Needs, bool] = {}

    def __repr__(self) -> str:
        return f"<Host {self.name}, {len(self.hand)} in hand, {self.warmth!r}>"

    def fits(self, needs: Needs) -> bool:
        """Whether it has what a job asks for, models aside."""
        found = self._fits.get(needs)
        if found is None:
            if len(self._fits) > 1000:
                self._fits.clear()
            found = self._fits[needs] = self._compare(needs)
        return found

    def misses(self, needs: Needs, models: Models) -> str:
        """Why it cannot run this, in a few words; empty where it can."""
        if needs.server is not None and needs.server != self.name:
            return "another server was asked for"
        if self.name in needs.without:
            return "excluded after it failed"
        if missing := needs.labels - self.labels:
            return f"has no label {', '.join(sorted(missing))}"
        if needs.vram_bytes > self.vram_bytes:
            return "has too little VRAM, or does not say how much"
        if lacking := self.lacks & {*needs.classes, *models}:
            return f"lacks {', '.join(sorted(lacking))}"
        return ""

    def lack(self, things: frozenset[str]) -> None:
        """It refused a prompt because these are not there."""
        self.lacks |= things
        self._fits.clear()

    def renew(self) -> None:
        """Another life of it: what it lacked may be there now, what was warm is not."""
        self.lacks.clear()
        self.warmth.forget()
        self._fits.clear()
        self._bad.clear()

    def failed_with(self, models: Models, now: float) -> None:
        """A prompt with these models failed here in a way that it does not elsewhere."""
        times = self._bad.get(models, (0, 0.0))[0] + 1
        self._bad[models] = (times, now + BAD_PAIR_S if times >= 2 else 0.0)

    def takes_models(self, models: Models, now: float) -> bool:
        """Whether it has the files, and did not fail with them too often."""
        if self.lacks and not self.lacks.isdisjoint(models):
            return False
        return not self._bad or self._bad.get(models, (0, 0.0))[1] <= now

    def hand_s(self, now: float) -> float:
        """Seconds until it is through with what it has of ours."""
        due = 0.0
        for hand in self.hand.values():
            due = max(due, hand.since) + hand.cost_s
        return max(due - now, 0.0)

    def _compare(self, needs: Needs) -> bool:
        return not self.misses(needs, ())


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """A decision: this job to that server. Times in seconds; `turn_s`: how far its tenant was ahead.

    `holders`: servers that held its models. `choices`: shelves that were compared.
    """

    ticket: Ticket
    host: str
    standing: Standing
    waited_s: float
    run_s: float
    load_s: float
    turn_s: float
    holders: int
    choices: int
    others: int

    @property
    def cold(self) -> bool:
        """Whether its models have to be loaded first."""
        return self.standing is not Standing.WARM

    def __str__(self) -> str:
        models = ", ".join(self.ticket.footprint.models) or "no models"
        heat = (
            f"a cold start of about {self.load_s:.1f} s (held by {self.holders} servers)"
            if self.cold
            else "warm there"
        )
        strangers = f", behind {self.others} prompts of others" if self.others else ""
        return (
            f"placed on {self.host} after {self.waited_s:.1f} s: {models}, {heat}; "
            f"about {self.run_s:.1f} s of work{strangers}; best of {self.choices} kinds of waiting jobs"
        )


@dataclass(slots=True)
class Offer:
    """A shelf that a server could serve now."""

    shelf: Shelf
    ticket: Ticket
    turn_s: float
    load_s: float

    @property
    def came_at(self) -> float:
        """When it counts as having come, cold starts counting as later."""
        return self.shelf.since + self.turn_s + PATIENCE * self.load_s


@dataclass(slots=True)
class Counters:
    """What was decided so far."""

    placed: int = 0
    cold: int = 0
    ejected: int = 0
    quarantined: int = 0


class Scheduler:
    """The queue and the fleet. Tell it what happened, then ask `decide` what to do; it waits for nothing."""

    def __init__(self, lanes: tuple[Lane, ...] = (), *, depth: int = DEPTH, ahead_s: float = AHEAD_S) -> None:
        self.depth = depth
        self.ahead_s = ahead_s
        self.costs = Costs()
        self.hosts: dict[str, Host] = {}
        self.lanes = {lane.name: LaneQueue(lane) for lane in (*lanes, Lane("default"))[: len(lanes) or 1]}
        self.shares = Shares()
        self.counters = Counters()
        self._idle: dict[str, Host] = {}  # hosts with room, those that have it longest first
        self._holders: dict[Models, dict[str, None]] = {}
        self._homes: Memory[tuple[str, str], str] = Memory()
        self._looked: OrderedDict[str, None] = OrderedDict()  # hosts to ask
        self._new: list[Ticket] = []
        self._ready = 0

    def __repr__(self) -> str:
        return f"<Scheduler {self.waiting} waiting, {len(self.hosts)} servers, {len(self._idle)} with room>"

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return sum(queue.count for queue in self.lanes.values())

    # What happened

    def add(self, host: Host) -> None:
        """A server belongs to the fleet. It is given work once it `joined`."""
        self.hosts[host.name] = host

    def remove(self, name: str) -> None:
        """A server belongs to it no more. Jobs in its hand are the caller's to end."""
        host = self.hosts.pop(name)
        self._idle.pop(name, None)
        self._forget_warm(host)
        self.costs.forget(name)
        for queue in self.lanes.values():
            queue.placed.pop(name, None)
        self._count_ready()

    def joined(self, name: str, now: float, *, renewed: bool = True) -> None:
        """A server is connected. `renewed`: it was restarted, or we do not know what it has in memory."""
        host = self.hosts[name]
        self._forget_warm(host)
        if renewed:
            host.renew()
        host.health.joined()
        self._note_warm(host)
        self._count_ready()
        self._look(host, now)

    def left(self, name: str) -> None:
        """The connection to a server is gone."""
        host = self.hosts[name]
        host.health.left()
        self._forget_warm(host)
        self._idle.pop(name, None)
        self._count_ready()

    def drain(self, name: str, now: float, *, draining: bool = True) -> None:
        """It is given nothing new from now on (or again)."""
        host = self.hosts[name]
        host.health.draining = draining
        self._look(host, now)

    def freed(self, name: str, *, keeping: Models = ()) -> None:
        """Its models were unloaded; these are loaded next."""
        host = self.hosts[name]
        self._forget_warm(host)
        host.warmth.forget()
        self._use(host, keeping)

    def lacks(self, name: str, things: frozenset[str]) -> None:
        """It refused a prompt because it does not have these node classes or files."""
        if (host := self.hosts.get(name)) is not None:
            host.lack(things)

    def failed_with(self, placement: Placement, now: float) -> None:
        """A prompt failed there. It says something of the server only where such work is known to succeed."""
        host, print_ = self.hosts.get(placement.host), placement.ticket.footprint
        if host is not None and self.costs.knows(print_.shape):
            host.failed_with(print_.models, now)

    def submit(self, ticket: Ticket, now: float) -> None:
        """A job waits from now on. Raises: KeyError where its lane is not known."""
        queue = self.lanes[ticket.lane]
        if not queue.count and not queue.placed:
            self.shares.come(ticket.lane)
        ticket.cost_s = self.costs.run_s(ticket.footprint.shape)
        queue.put(ticket)
        if self._idle:
            self._new.append(ticket)

    def withdraw(self, ticket: Ticket) -> bool:
        """It waits no more; whether it did."""
        if ticket.shelf is None:
            return False
        self.lanes[ticket.lane].drop(ticket)
        return True

    def ended(self, ticket: Ticket, host_name: str, now: float, *, ran_s: float | None = None) -> float:
        """A job left its server; how many seconds of it were loading. `ran_s`: its run, if it completed."""
        host = self.hosts.get(host_name)
        hand = host.hand.pop(ticket, None) if host is not None else None
        if host is None or hand is None:
            return 0.0
        for later in host.hand.values():
            later.since = now
        queue = self.lanes[ticket.lane]
        queue.placed[host.name] -= 1
        if not queue.placed[host.name]:
            del queue.placed[host.name]
        loaded_s = 0.0
        if ran_s is not None:
            loaded_s = self._learn(host, hand, ran_s)
            self._correct(ticket, ran_s - hand.cost_s)
        self._look(host, now)
        return loaded_s

    def never_ran(self, placement: Placement) -> None:
        """It was refused there, or never got there: its models were not loaded."""
        host, models = self.hosts.get(placement.host), placement.ticket.footprint.models
        if host is not None and placement.cold:
            self.counters.cold -= 1
            host.stint_until = 0.0
            self._forget_warm(host)
            host.warmth.drop(models)
            self._note_warm(host)

    def worked(self, name: str) -> None:
        """A prompt ended there as prompts end: the server is well. To be told before `ended`."""
        if (host := self.hosts.get(name)) is not None:
            host.health.worked()

    def failed(self, name: str, now: float) -> bool:
        """The machine or the way to it failed; whether it is ejected for it. Half of the fleet stays."""
        host = self.hosts.get(name)
        if host is None:
            return False
        out = sum(one.health.condition(now) is Condition.EJECTED for one in self.hosts.values())
        ejected = host.health.failed(now, may_eject=out + 1 <= PART * len(self.hosts))
        self.counters.ejected += ejected
        self._look(host, now)
        return ejected

    def stalled(self, name: str) -> None:
        """Its worker gives no sign: nothing more goes there until it joins anew or shows life."""
        if (host := self.hosts.get(name)) is not None:
            host.health.stalled()
            self.counters.quarantined += 1
            self._idle.pop(name, None)

    def recovered(self, name: str, now: float) -> None:
        """Its worker gave a sign after all: it stopped what it was asked to, or its queue is empty."""
        if (host := self.hosts.get(name)) is not None:
            host.health.stuck = False
            self._look(host, now)

    def others(self, name: str, count: int) -> None:
        """So many prompts of other people are in its queue."""
        self.hosts[name].others = count

    # What to do

    def decide(self, now: float) -> Iterator[Placement]:
        """The placements that are due after what happened."""
        while self._looked or self._new:
            while self._looked:
                host = self.hosts.get(self._looked.popitem(last=False)[0])
                while host is not None and self._refresh(host, now) and (found := self._pick(host, now)):
                    yield found
            if self._new:
                yield from self._court(self._new.pop(), now)

    def reconsider(self, now: float) -> None:
        """Time has passed: who was left idle or ejected is looked at again by the next `decide`."""
        if not self.waiting:
            return
        for host in self.hosts.values():
            if self._refresh(host, now):
                self._looked[host.name] = None

    def explain(self, ticket: Ticket, now: float) -> str:
        """Why a job still waits, server by server."""
        if ticket.shelf is None:
            return "does not wait in the queue"
        lines = [f"waits in lane {ticket.lane!r} for {now - ticket.came_at:.1f} s; {ticket.shelf!r}"]
        lines += [f"  {host.name}: {self._hindrance(host, ticket, now)}" for host in self.hosts.values()]
        return "\n".join(lines)

    def holders(self, models: Models) -> list[str]:
        """The connected servers that are believed to hold these models."""
        return list(self._holders.get(models, ()))

    def coldest(self, needs: Needs, models: Models, now: float) -> list[str]:
        """The servers that could take these models in, those that would lose least first."""
        able = [h for h in self.hosts.values() if h.health.takes(now) and not h.misses(needs, models)]
        return [host.name for host in sorted(able, key=_disturbance)]

    def can_ever(self, needs: Needs, models: Models) -> bool:
        """Whether any server of the fleet, up or down, could run it as far as is known."""
        return any(not host.misses(needs, models) for host in self.hosts.values())

    # Choosing

    def _pick(self, host: Host, now: float) -> Placement | None:
        best: tuple[LaneQueue, Offer] | None = None
        least, choices = math.inf, 0
        for tag, queue in self._lanes_for(host):
            if tag >= least:
                break  # the offers of a lane come no earlier than its tag
            offer, seen = self._best(queue, host, now)
            choices += seen
            if offer is not None and (key := tag + self._lateness(host, offer, now)) < least:
                best, least = (queue, offer), key
        return self._place(host, *best, choices, now) if best is not None else None

    def _lanes_for(self, host: Host) -> list[tuple[float, LaneQueue]]:
        """The lanes that wait and may use this server, the one with the least of its share first."""
        tag = self.shares.tag
        lanes = [(tag(q.lane.name), q) for q in self.lanes.values() if q.count and self._open_to(q, host)]
        return sorted(lanes, key=_first) if len(lanes) > 1 else lanes

    def _lateness(self, host: Host, offer: Offer, now: float) -> float:
        if not offer.load_s:
            return 0.0
        # Within its stint a server takes a warm offer of whatever lane first.
        return NEVER_S if now < host.stint_until else PATIENCE * offer.load_s

    def _open_to(self, queue: LaneQueue, host: Host) -> bool:
        if host.lanes is not None and queue.lane.name not in host.lanes:
            return False
        if queue.lane.ceiling is None or host.name in queue.placed:
            return True
        return len(queue.placed) < queue.lane.limit(self._ready)

    def _best(self, queue: LaneQueue, host: Host, now: float) -> tuple[Offer | None, int]:
        """The shelf of this lane that the server should serve, and how many were compared."""
        warm = host.warmth.sets()
        best: Offer | None = None
        seen = 0
        groups = [rows for needs, rows in queue.groups(host.name) if host.fits(needs)]
        for rows in groups:
            for models in ((), *warm):
                if (shelf := rows.get(models)) is not None and host.takes_models(models, now):
                    seen += 1
                    offer = self._offer(queue, host, shelf, 0.0)
                    best = offer if best is None or offer.came_at < best.came_at else best
        if best is not None and now < host.stint_until:
            return best, seen
        cold = [offer for rows in groups for offer in self._cold(queue, host, rows, best, now)]
        if not cold:
            return best, seen
        return self._weigh(host, best, cold, now), seen + len(cold)

    def _cold(
        self, queue: LaneQueue, host: Host, rows: Rows, warm: Offer | None, now: float
    ) -> Iterator[Offer]:
        """The shelves that would be a cold start here and that may come before the warm one."""
        latest = math.inf if warm is None else warm.came_at
        held = host.warmth.sets()
        for shelf in queue.longest(rows):
            models = shelf.models
            if not models or models in held:
                continue
            load_s = self.costs.load_s(models, host.name)
            late = shelf.since + PATIENCE * load_s >= latest and not queue.is_urgent(shelf)
            if not late and host.takes_models(models, now):
                yield self._offer(queue, host, shelf, load_s)

    def _weigh(self, host: Host, warm: Offer | None, cold: list[Offer], now: float) -> Offer | None:
        if warm is not None:
            first = min(cold, key=_came_at)
            return first if first.came_at < warm.came_at else warm
        price = SPARE_PRICE if host.warmth.spare else PATIENCE  # what has to go may be wanted again
        worthwhile = [offer for offer in cold if self._is_worth_loading(offer, price, now)]
        return min(worthwhile, key=self._urgency, default=None)

    def _is_worth_loading(self, offer: Offer, price: float, now: float) -> bool:
        """Whether those that hold these models need longer for what waits than `price` loads take."""
        holders = self._able_holders(offer.shelf, now)
        if not holders or offer.came_at <= now:
            return True
        needed = len(self._holders[offer.shelf.models]) * offer.load_s * price
        backlog = offer.shelf.backlog_s
        return backlog > needed or backlog + sum(host.hand_s(now) for host in holders) > needed

    def _able_holders(self, shelf: Shelf, now: float) -> list[Host]:
        """Some of the servers that hold these models and may be given such a job."""
        holders = islice(self._holders.get(shelf.models, ()), WARM_LOOK)
        hosts = [self.hosts[name] for name in holders]
        return [host for host in hosts if host.health.takes(now) and host.fits(shelf.needs)]

    def _urgency(self, offer: Offer) -> float:
        """Least is first: long waits, and long drains per server that would hold the models."""
        holders = len(self._holders.get(offer.shelf.models, ()))
        return offer.shelf.since + offer.turn_s - offer.shelf.backlog_s / (holders + 1)

    def _offer(self, queue: LaneQueue, host: Host, shelf: Shelf, load_s: float) -> Offer:
        turn_s, ticket = shelf.next(queue.shares)
        if host.recent and ticket.tenant not in host.recent:
            for tenant in host.recent:
                own = shelf.of(tenant)
                if own is not None and queue.shares.tag(tenant) - queue.shares.floor <= turn_s + STICKY_S:
                    return Offer(shelf, own, turn_s, load_s)
        return Offer(shelf, ticket, turn_s, load_s)

    def _court(self, ticket: Ticket, now: float) -> Iterator[Placement]:
        """Asks the idle servers that suit a new job best, until it is placed."""
        for host in self._suitors(ticket, now):
            if ticket.shelf is None:
                return
            if self._refresh(host, now) and (found := self._pick(host, now)):
                yield found
                self._looked[host.name] = None

    def _suitors(self, ticket: Ticket, now: float) -> list[Host]:
        models, needs = ticket.footprint.models, ticket.needs
        idle = self._idle
        named: list[str] = [] if needs.server is None else [needs.server]
        if not named:
            home = self._homes.get((ticket.tenant, ticket.lane)) if ticket.tenant else None
            named = [home] if home is not None else []
            named += [name for name in islice(self._holders.get(models, ()), WARM_LOOK) if name in idle]
        found = [idle[name] for name in named if name in idle and idle[name].fits(needs)]
        cold = (host for host in idle.values() if host.fits(needs) and host.takes_models(models, now))
        found += sorted(islice(cold, SUITORS), key=_disturbance)
        return found

    def _place(self, host: Host, queue: LaneQueue, offer: Offer, choices: int, now: float) -> Placement:
        ticket, models = offer.ticket, offer.shelf.models
        run_s = self.costs.run_s(ticket.footprint.shape, host.name)
        placement = Placement(
            ticket=ticket,
            host=host.name,
            standing=host.warmth.standing(models),
            waited_s=now - ticket.came_at,
            run_s=run_s,
            load_s=offer.load_s,
            turn_s=offer.turn_s,
            holders=len(self._holders.get(models, ())),
            choices=choices,
            others=host.others,
        )
        cost_s = run_s + offer.load_s
        queue.take(ticket, now, cost_s / max(self._ready, 1))
        self.shares.charge(queue.lane.name, cost_s / max(self._ready, 1) / queue.lane.weight)
        queue.placed[host.name] = queue.placed.get(host.name, 0) + 1
        host.hand[ticket] = Hand(placement, cost_s, now)
        if models not in host.warmth:
            host.stint_until = now + (1 + PATIENCE) * offer.load_s
            self.counters.cold += 1
        self._use(host, models)
        self._remember(host, ticket)
        self.counters.placed += 1
        return placement

    # Keeping the books

    def _learn(self, host: Host, hand: Hand, ran_s: float) -> float:
        footprint, standing = hand.placement.ticket.footprint, hand.placement.standing
        told = self.costs.was_cold(footprint.shape, footprint.models, ran_s, host.name)
        if told is not None and footprint.models:
            self._forget_warm(host)
            host.warmth.learn(standing, was_cold=told)
            self._note_warm(host)
        cold = hand.placement.cold if told is None else told
        return self.costs.learn(footprint.shape, footprint.models, ran_s, cold=cold, server=host.name)

    def _correct(self, ticket: Ticket, seconds: float) -> None:
        queue = self.lanes[ticket.lane]
        queue.shares.correct(ticket.tenant, seconds / max(self._ready, 1))
        self.shares.correct(ticket.lane, seconds / max(self._ready, 1) / queue.lane.weight)

    def _use(self, host: Host, models: Models) -> None:
        if not models:
            return
        self._forget_warm(host)
        host.warmth.use(models)
        self._note_warm(host)

    def _note_warm(self, host: Host) -> None:
        if host.health.connected:
            for models in host.warmth.sets():
                self._holders.setdefault(models, {})[host.name] = None

    def _forget_warm(self, host: Host) -> None:
        for models in host.warmth.sets():
            holders = self._holders.get(models)
            if holders is not None:
                holders.pop(host.name, None)
                if not holders:
                    del self._holders[models]

    def _remember(self, host: Host, ticket: Ticket) -> None:
        if not ticket.tenant:
            return
        self._homes[(ticket.tenant, ticket.lane)] = host.name
        host.recent[ticket.tenant] = None
        host.recent.move_to_end(ticket.tenant)
        if len(host.recent) > RECENT:
            host.recent.popitem(last=False)

    def _look(self, host: Host, now: float) -> None:
        if self._refresh(host, now):
            self._looked[host.name] = None

    def _refresh(self, host: Host, now: float) -> bool:
        """Whether the host has room now; the list of those that have is kept up to date."""
        room = self._has_room(host, now)
        if room:
            self._idle.setdefault(host.name, host)
        else:
            self._idle.pop(host.name, None)
        return room

    def _has_room(self, host: Host, now: float) -> bool:
        if not host.health.takes(now):
            return False
        if not host.hand:
            return True
        if len(host.hand) >= self.depth or host.others or not host.health.trusted:
            return False
        return sum(hand.cost_s for hand in host.hand.values()) <= self.ahead_s

    def _count_ready(self) -> None:
        self._ready = sum(host.health.connected for host in self.hosts.values())

    def _hindrance(self, host: Host, ticket: Ticket, now: float) -> str:
        queue = self.lanes[ticket.lane]
        if why := host.misses(ticket.needs, ticket.footprint.models):
            return why
        condition = host.health.condition(now)
        if condition not in {Condition.READY, Condition.PROBING}:
            return str(condition)
        if not host.takes_models(ticket.footprint.models, now):
            return "failed with these models"
        if host.hand and not self._has_room(host, now):
            return f"busy for about {host.hand_s(now):.1f} s"
        if host.lanes is not None and ticket.lane not in host.lanes:
            return f"reserved for {', '.join(sorted(host.lanes))}"
        if not self._open_to(queue, host):
            return f"the ceiling of lane {ticket.lane!r} is reached"
        return "has room; loading there would take longer than those that hold the models need"


def _first(lane: tuple[float, LaneQueue]) -> float:
    return lane[0]


def _came_at(offer: Offer) -> float:
    return offer.came_at


def _disturbance(host: Host) -> tuple[int, int]:
    """Least is best for a cold start: nobody else's prompts, then the fewest warm models to lose."""
    return host.others, len(host.warmth.sets())
