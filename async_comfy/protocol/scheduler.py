"""The queue and the fleet: told what happened, asked what to do. Pure; it waits for nothing."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace

from async_comfy.protocol import explanation
from async_comfy.protocol.books import Books, Counters
from async_comfy.protocol.costs import Costs
from async_comfy.protocol.health import PART
from async_comfy.protocol.host import Hand, Host, Placement
from async_comfy.protocol.lanes import Lane, LaneQueue, Models, Needs, Ticket
from async_comfy.protocol.placement import Choice, Offer, disturbance

AHEAD_S = 1.0  # a second prompt goes along only with work as short: there a pause between two would be felt
DEPTH = 2  # prompts of ours at one server: one that runs, one that waits


class Scheduler:
    """The queue and the fleet. Tell it what happened, then ask `decide` what to do."""

    def __init__(self, lanes: tuple[Lane, ...] = (), *, depth: int = DEPTH, ahead_s: float = AHEAD_S) -> None:
        books = self._books = Books(lanes, depth, ahead_s)
        self._choice = Choice(books)
        self.costs: Costs = books.costs
        self.hosts = books.hosts
        self.counters: Counters = books.counters
        self.shares = books.shares

    def __repr__(self) -> str:
        return f"<Scheduler {self.waiting} waiting, {self._books!r}>"

    @property
    def lanes(self) -> dict[str, LaneQueue]:
        """The lanes by name; the first is the one for jobs that name none."""
        return self._books.lanes

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return sum(queue.count for queue in self.lanes.values())

    @property
    def due(self) -> bool:
        """Whether anything happened that `decide` has not heard of."""
        return bool(self._books.looked or self._books.new)

    # What happened

    def add(self, host: Host) -> None:
        """A server belongs to the fleet. It is given work once it `joined`."""
        self.hosts[host.name] = host

    def remove(self, name: str) -> None:
        """A server belongs to it no more. Jobs in its hand are the caller's to end."""
        host = self.hosts.pop(name)
        self._books.idle.pop(name, None)
        self._books.forget_warm(host)
        self.costs.forget(name)
        for queue in self.lanes.values():
            queue.placed.pop(name, None)
        self._books.count_ready()

    def joined(self, name: str, now: float, *, renewed: bool = True) -> None:
        """A server is connected. `renewed`: it was restarted, or we do not know what it has in memory."""
        host = self.hosts[name]
        self._books.forget_warm(host)
        if renewed:
            host.renew()
        host.health.joined()
        self._books.note_warm(host)
        self._books.count_ready()
        self._books.look(host, now)

    def left(self, name: str) -> None:
        """The connection to a server is gone."""
        host = self.hosts[name]
        host.health.left()
        self._books.forget_warm(host)
        self._books.idle.pop(name, None)
        self._books.count_ready()

    def drain(self, name: str, now: float, *, draining: bool = True) -> None:
        """It is given nothing new from now on (or again)."""
        host = self.hosts[name]
        host.health.draining = draining
        self._books.look(host, now)

    def freed(self, name: str, *, keeping: Models = ()) -> None:
        """Its models were unloaded; these are loaded next."""
        if (host := self.hosts.get(name)) is None:
            return  # it was taken out meanwhile
        self._books.forget_warm(host)
        host.warmth.forget()
        self._books.use(host, keeping)

    def amend(
        self,
        name: str,
        now: float,
        labels: AbstractSet[str],
        lanes: AbstractSet[str] | None,
        room: int | None,
        vram_bytes: int,
    ) -> None:
        """Something else is said of a server from now on."""
        host = self.hosts[name]
        self._books.forget_warm(host)
        host.amend(labels, lanes, room, vram_bytes)
        self._books.note_warm(host)
        self._books.look(host, now)

    def limit(self, lanes: tuple[Lane, ...], depth: int, ahead_s: float) -> None:
        """Other lanes and limits from now on. A lane that is gone stays while it has jobs."""
        self._books.limit(lanes, depth, ahead_s)

    def lacks(self, name: str, things: frozenset[str], now: float) -> None:
        """It refused a prompt because it does not have these node classes or files.

        Where a job waits that nobody else has them for, it is asked again: what it says is that job's end.
        """
        if (host := self.hosts.get(name)) is not None:
            host.lack(things, now)
            if self._wanted_in_vain(things):
                host.forgive(now, things)
                self._books.look(host, now)

    def failed_with(self, placement: Placement, now: float, *, died: bool = False) -> None:
        """A prompt failed there, or the server `died` of it: after the second one others get these models.

        For a while only, and a short one where such work is not known to succeed anywhere. Where more than
        half of the servers that are up and could run it fail with these models, it is not they: the prompts
        are wrong.
        """
        host, print_ = self.hosts.get(placement.host), placement.ticket.footprint
        if host is None:
            return
        work = print_.models or print_.classes
        host.failed_with(work, now, died=died, sure=self.costs.knows(print_.shape))
        needs = replace(placement.ticket.needs, server=None, without=frozenset())
        able = [h for h in self.hosts.values() if h.health.connected and not h.misses(needs, print_.models)]
        if sum(one.avoids(work, now) for one in able) > PART * len(able):
            for one in self.hosts.values():
                one.acquit(work)
                self._books.look(one, now)

    def submit(self, ticket: Ticket, now: float) -> None:
        """A job waits from now on. Raises: KeyError where its lane is not known."""
        queue = self.lanes[ticket.lane]
        if not queue.count:
            self.shares.come(ticket.lane)
        ticket.cost_s = self.costs.run_s(ticket.footprint.shape)
        queue.put(ticket)
        if self._books.idle:
            self._books.new.append(ticket)

    def withdraw(self, ticket: Ticket) -> bool:
        """It waits no more; whether it did."""
        if ticket.shelf is None:
            return False
        self.lanes[ticket.lane].drop(ticket)
        return True

    def ended(
        self,
        ticket: Ticket,
        host_name: str,
        now: float,
        *,
        ran_s: float | None = None,
        kept: bool | None = None,
    ) -> float:
        """A job left its server; how many seconds of it were loading. `ran_s`: its run, if that is known.

        `kept`: whether the server still had what its loaders had loaded; None where it did not say.
        """
        host = self.hosts.get(host_name)
        if host is None or ticket not in host.hand:
            return 0.0
        first = next(iter(host.hand)) is ticket
        hand = host.hand.pop(ticket)
        self.counters.cold += hand.ran and (hand.placement.cold if kept is None else not kept)
        if first:
            for later in host.hand.values():
                later.since = now
        queue = self.lanes[ticket.lane]
        queue.placed[host.name] -= 1
        if not queue.placed[host.name]:
            del queue.placed[host.name]
        loaded_s = 0.0
        if ran_s is not None:
            host.worked_with(ticket.footprint.models or ticket.footprint.classes)
            loaded_s = self._books.learn(host, hand, ran_s, kept=kept)
            self._books.correct(hand, ran_s - hand.cost_s)
        else:
            # Cancelled, failed, lost, refused, all cached: at most the time that it was there counts.
            used_s = now - hand.since if first and hand.ran else 0.0
            self._books.correct(hand, min(used_s - hand.cost_s, 0.0))
        self._books.look(host, now)
        return loaded_s

    def never_ran(self, placement: Placement) -> None:
        """It was refused there, or never got there: its models were not loaded."""
        host, models = self.hosts.get(placement.host), placement.ticket.footprint.models
        if host is not None and placement.ticket in host.hand:
            host.hand[placement.ticket].ran = False
        if host is not None and placement.cold:
            host.stint_until = 0.0
            self._books.forget_warm(host)
            host.warmth.drop(models)
            self._books.note_warm(host)

    def worked(self, name: str) -> None:
        """A prompt ended there as prompts end: the server is well. To be told before `ended`."""
        if (host := self.hosts.get(name)) is not None:
            host.health.worked()

    def failed(self, name: str, now: float) -> bool:
        """The machine or the way to it failed; whether it is ejected for it. Half of the fleet stays."""
        host = self.hosts.get(name)
        if host is None:
            return False
        out = sum(now < one.health.ejected_until for one in self.hosts.values() if one is not host)
        ejected = host.health.failed(now, may_eject=out + 1 <= PART * len(self.hosts))
        self.counters.ejected += ejected
        self._books.look(host, now)
        return ejected

    def stalled(self, name: str) -> None:
        """Its worker gives no sign: nothing more goes there until it joins anew or shows life."""
        if (host := self.hosts.get(name)) is not None:
            host.health.stalled()
            self.counters.quarantined += 1
            self._books.idle.pop(name, None)

    def recovered(self, name: str, now: float) -> None:
        """Its worker gave a sign after all: it stopped what it was asked to, or its queue is empty."""
        if (host := self.hosts.get(name)) is not None:
            host.health.stuck = False
            self._books.look(host, now)

    def others(self, name: str, count: int, now: float = 0.0) -> None:
        """So many prompts of other people are in its queue. While there are, ours have not had their turn."""
        host = self.hosts[name]
        host.others = count
        if count:
            for hand in host.hand.values():
                hand.since = max(hand.since, now)

    # What to do

    def decide(self, now: float) -> Iterator[Placement]:
        """The placements that are due after what happened."""
        books = self._books
        while books.looked or books.new:
            while books.looked:
                host = self.hosts.get(books.looked.popitem(last=False)[0])
                while host is not None and (found := self._next(host, now)):
                    yield found
            if books.new:
                yield from self._court(books.new.popleft(), now)

    def reconsider(self, now: float) -> None:
        """Time has passed: who was left idle or ejected is looked at again by the next `decide`."""
        waiting = self.waiting
        for host in self.hosts.values():
            if host.lacks:
                host.forgive(now)
            if waiting and self._books.refresh(host, now):
                self._books.looked[host.name] = None

    def explain(self, ticket: Ticket, now: float) -> str:
        """Why a job still waits, server by server."""
        return explanation.waits(self._books, ticket, now)

    def why_nobody(self, ticket: Ticket, now: float) -> str | None:
        """Why no server of this fleet can ever take the job, in a sentence; None where one can."""
        return explanation.nobody(self._books, ticket, now)

    def holders(self, models: Models) -> list[str]:
        """The connected servers that are believed to hold these models."""
        return list(self._books.holders.get(models, ()))

    def coldest(self, needs: Needs, models: Models, now: float) -> list[str]:
        """The servers that could take these models in, those that would lose least first."""
        able = [h for h in self.hosts.values() if h.health.takes(now) and not h.misses(needs, models)]
        return [host.name for host in sorted(able, key=lambda host: disturbance(host, models))]

    def can_ever(self, needs: Needs, models: Models, lane: str | None = None) -> bool:
        """Whether any server of the fleet, up or down, could run it (in this lane) as far as is known."""
        return any(
            not host.misses(needs, models)
            for host in self.hosts.values()
            if lane is None or host.lanes is None or lane in host.lanes
        )

    def _wanted_in_vain(self, things: frozenset[str]) -> bool:
        """Whether a job waits for these that no server is believed to have."""
        return any(
            not things.isdisjoint((*shelf.needs.classes, *shelf.models))
            and not self.can_ever(shelf.needs, shelf.models, name)
            for name, queue in self.lanes.items()
            for shelf in queue.shelves()
        )

    def _court(self, ticket: Ticket, now: float) -> Iterator[Placement]:
        """Asks the idle servers that suit a new job best, until it is placed."""
        for host in self._choice.suitors(ticket, now):
            if ticket.shelf is None:
                return
            if (found := self._next(host, now)) is not None:
                yield found
                self._books.looked[host.name] = None

    def _next(self, host: Host, now: float) -> Placement | None:
        """The next job for a server, if it has room and there is one for it."""
        if not self._books.refresh(host, now):
            return None
        picked = self._choice.pick(host, now)
        return self._place(host, *picked, now) if picked is not None else None

    def _place(self, host: Host, queue: LaneQueue, offer: Offer, choices: int, now: float) -> Placement:
        ticket, models = offer.ticket, offer.shelf.models
        run_s = self.costs.run_s(ticket.footprint.shape, host.name)
        placement = Placement(
            ticket=ticket,
            host=host.name,
            standing=host.warmth.standing(models),
            kin=host.warmth.kinship(models),
            waited_s=now - ticket.came_at,
            run_s=run_s,
            load_s=offer.load_s,
            turn_s=offer.turn_s,
            holders=len(self._books.holders.get(models, ())),
            choices=choices,
            others=host.others,
        )
        cost_s = run_s + offer.load_s
        of_tenant, of_lane = self._books.rates(queue)
        queue.take(ticket, now, cost_s * of_tenant)
        self.shares.charge(queue.lane.name, cost_s * of_lane)
        queue.placed[host.name] = queue.placed.get(host.name, 0) + 1
        host.hand[ticket] = Hand(placement, cost_s, now, of_tenant, of_lane)
        if models not in host.warmth:
            host.stint_until = now + offer.stint_s
        self._books.use(host, models)
        self._books.remember(host, ticket)
        self.counters.placed += 1
        return placement
