"""Whatever happens in whatever order, the scheduler keeps its promises."""

import math
from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from async_comfy.protocol.footprint import Footprint
from async_comfy.protocol.host import Host, Placement
from async_comfy.protocol.lanes import Lane, Needs, Ticket
from async_comfy.protocol.scheduler import DEPTH, Scheduler

LANES = (Lane("image"), Lane("video", ceiling=1), Lane("batch", weight=0.2))
SERVERS = [f"gpu{number}" for number in range(4)]
MODELS: list[tuple[str, ...]] = [(), ("a",), ("b",), ("a", "lora")]
LABELS = [frozenset[str](), frozenset({"big"})]


class Machine(RuleBasedStateMachine):
    """Jobs come and end, servers come, fail, stall, drain and go, time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(LANES)
        self.now = 0.0
        self.numbers = 0
        self.waiting: set[Ticket] = set()
        self.placed: dict[Ticket, Placement] = {}
        self.times: Counter[Ticket] = Counter()

    @initialize()
    def begin(self) -> None:
        for index, name in enumerate(SERVERS):
            self.scheduler.add(Host(name, labels=LABELS[index % 2], room=1 + index % 2))
            self.scheduler.joined(name, self.now)

    @rule(
        lane=st.sampled_from([lane.name for lane in LANES]),
        tenant=st.sampled_from(["", "ann", "bob"]),
        models=st.sampled_from(MODELS),
        labels=st.sampled_from(LABELS),
        server=st.sampled_from([None, None, None, *SERVERS]),
        boost=st.sampled_from([0.0, 0.0, 60.0, 600.0]),
    )
    def submit(
        self,
        lane: str,
        tenant: str,
        models: tuple[str, ...],
        labels: frozenset[str],
        server: str | None,
        boost: float,
    ) -> None:
        self.numbers += 1
        needs = Needs(labels=labels, server=server)
        shape = len(models)
        ticket = Ticket(self.numbers, Footprint(shape, models), needs, self.now, lane, tenant, boost)
        self.waiting.add(ticket)
        self.scheduler.submit(ticket, self.now)
        self.decide()

    @rule(data=st.data(), ran_s=st.sampled_from([None, 0.1, 2.0, 60.0]))
    def end(self, data: st.DataObject, ran_s: float | None) -> None:
        if self.placed:
            ticket = data.draw(st.sampled_from(sorted(self.placed, key=lambda one: one.number)))
            placement = self.placed.pop(ticket)
            if ran_s is not None:
                self.scheduler.worked(placement.host)
            self.scheduler.ended(ticket, placement.host, self.now, ran_s=ran_s)
            self.decide()

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        if self.waiting:
            ticket = data.draw(st.sampled_from(sorted(self.waiting, key=lambda one: one.number)))
            assert self.scheduler.withdraw(ticket)
            assert not self.scheduler.withdraw(ticket)
            self.waiting.discard(ticket)

    @rule(data=st.data())
    def place_again(self, data: st.DataObject) -> None:
        if self.placed:
            ticket = data.draw(st.sampled_from(sorted(self.placed, key=lambda one: one.number)))
            placement = self.placed.pop(ticket)
            self.scheduler.ended(ticket, placement.host, self.now)
            self.waiting.add(ticket)
            self.scheduler.submit(ticket, self.now)
            self.decide()

    @rule(server=st.sampled_from(SERVERS))
    def server_dies(self, server: str) -> None:
        self.scheduler.left(server)
        for ticket in [ticket for ticket, placement in self.placed.items() if placement.host == server]:
            del self.placed[ticket]
            self.scheduler.ended(ticket, server, self.now)
        self.scheduler.failed(server, self.now)
        self.decide()

    @rule(server=st.sampled_from(SERVERS), renewed=st.booleans())
    def server_joins(self, server: str, renewed: bool) -> None:
        self.scheduler.joined(server, self.now, renewed=renewed)
        self.decide()

    @rule(server=st.sampled_from(SERVERS), draining=st.booleans())
    def drain(self, server: str, draining: bool) -> None:
        self.scheduler.drain(server, self.now, draining=draining)
        self.decide()

    @rule(server=st.sampled_from(SERVERS))
    def stall(self, server: str) -> None:
        self.scheduler.stalled(server)

    @rule(server=st.sampled_from(SERVERS), others=st.integers(0, 3))
    def strangers(self, server: str, others: int) -> None:
        self.scheduler.others(server, others)

    @rule(server=st.sampled_from(SERVERS))
    def freed(self, server: str) -> None:
        self.scheduler.freed(server)

    @rule(seconds=st.sampled_from([0.5, 10.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.scheduler.reconsider(self.now)
        self.decide()
        self.no_server_idles_beside_a_job_that_it_could_begin()

    @rule(server=st.sampled_from(SERVERS), things=st.sampled_from([{"a"}, {"lora"}, {"a", "b"}]))
    def lacks(self, server: str, things: set[str]) -> None:
        self.scheduler.lacks(server, frozenset(things), self.now)
        self.decide()

    @rule(server=st.sampled_from(SERVERS))
    def fails(self, server: str) -> None:
        self.scheduler.failed(server, self.now)
        self.decide()

    @rule(data=st.data(), died=st.booleans())
    def fails_with(self, data: st.DataObject, died: bool) -> None:
        if self.placed:
            ticket = data.draw(st.sampled_from(sorted(self.placed, key=lambda one: one.number)))
            placement = self.placed.pop(ticket)
            self.scheduler.ended(ticket, placement.host, self.now)
            self.scheduler.failed_with(placement, self.now, died=died)
            self.decide()

    @rule(data=st.data())
    def refused(self, data: st.DataObject) -> None:
        if self.placed:
            ticket = data.draw(st.sampled_from(sorted(self.placed, key=lambda one: one.number)))
            placement = self.placed.pop(ticket)
            self.scheduler.never_ran(placement)
            self.scheduler.ended(ticket, placement.host, self.now)
            self.decide()

    @rule(server=st.sampled_from(SERVERS), room=st.sampled_from([None, 1, 3]))
    def amend(self, server: str, room: int | None) -> None:
        host = self.scheduler.hosts[server]
        self.scheduler.amend(server, self.now, host.labels, None, room, 0)
        self.decide()

    @rule(server=st.sampled_from(SERVERS))
    def replaced(self, server: str) -> None:
        """Another machine of the same name; what the old one had is lost."""
        host = self.scheduler.hosts[server]
        self.scheduler.remove(server)
        for ticket in list(host.hand):
            del self.placed[ticket]
            assert self.scheduler.ended(ticket, server, self.now) == 0.0
        self.scheduler.add(Host(server, labels=host.labels))
        self.decide()

    @rule(weight=st.sampled_from([0.01, 1.0, 50.0]), depth=st.integers(1, DEPTH))
    def limits(self, weight: float, depth: int) -> None:
        self.scheduler.limit((*LANES[:2], Lane("batch", weight=weight)), depth, 1.0)
        self.decide()

    def no_server_idles_beside_a_job_that_it_could_begin(self) -> None:
        """Warm there, or without models; nobody else's prompts in the way; and no ceiling."""
        for host in self.scheduler.hosts.values():
            if host.hand or host.others or not host.health.takes(self.now):
                continue
            for ticket in self.waiting:
                models = ticket.footprint.models
                able = host.fits(ticket.needs) and host.takes_models(models, ticket.needs, self.now)
                assert not (able and ticket.lane != "video" and models in host.warmth), (host, ticket)

    def decide(self) -> None:
        for placement in self.scheduler.decide(self.now):
            ticket, host = placement.ticket, self.scheduler.hosts[placement.host]
            assert ticket in self.waiting, "placed although it does not wait"
            assert ticket.needs.server in (None, host.name)
            assert ticket.needs.labels <= host.labels
            assert host.health.takes(self.now), "placed on a server that takes nothing"
            assert str(placement)
            self.waiting.discard(ticket)
            self.placed[ticket] = placement

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.scheduler.waiting == len(self.waiting)
        assert all(ticket.shelf is not None for ticket in self.waiting)
        shelves = [shelf for queue in self.scheduler.lanes.values() for shelf in queue.shelves()]
        assert sum(shelf.count for shelf in shelves) == len(self.waiting)

    @invariant()
    def servers_hold_what_they_may(self) -> None:
        at = Counter(placement.host for placement in self.placed.values())
        for host in self.scheduler.hosts.values():
            assert len(host.hand) == at[host.name] <= DEPTH

    @invariant()
    def ceilings_hold(self) -> None:
        videos = {placement.host for ticket, placement in self.placed.items() if ticket.lane == "video"}
        assert len(videos) <= 1

    @invariant()
    def half_of_the_fleet_is_not_ejected(self) -> None:
        hosts = self.scheduler.hosts.values()
        assert sum(self.now < host.health.ejected_until for host in hosts) <= len(SERVERS) / 2

    @invariant()
    def the_books_agree_with_the_servers(self) -> None:
        """Who holds what, who is idle, what of which lane is where."""
        scheduler, books = self.scheduler, self.scheduler._books
        held = {
            (models, host.name)
            for host in scheduler.hosts.values()
            if host.health.connected
            for models in host.warmth.sets()
        }
        assert held == {(models, name) for models, names in books.holders.items() for name in names}
        at = Counter((ticket.lane, one.host) for ticket, one in self.placed.items())
        assert at == {(n, host): c for n, q in scheduler.lanes.items() for host, c in q.placed.items()}
        assert all(books.idle[name] is scheduler.hosts.get(name) for name in books.idle)
        assert books.ready == sum(host.health.connected for host in scheduler.hosts.values())

    @invariant()
    def shares_are_kept(self) -> None:
        """Finite, with a tag for whoever waits, and never more given back than was taken."""
        for queue in self.scheduler.lanes.values():
            waiting = Counter(ticket.tenant for ticket in self.waiting if ticket.lane == queue.lane.name)
            assert queue._waiting == waiting
            assert queue.shares.tags.keys() >= waiting.keys()
            assert all(math.isfinite(tag) and tag > -1e-6 for tag in queue.shares.tags.values())
        assert all(math.isfinite(tag) and tag > -1e-6 for tag in self.scheduler.shares.tags.values())

    @invariant()
    def it_explains(self) -> None:
        """Every server in one line; of one that cannot take it, or takes nothing, no room is told."""
        for ticket in list(self.waiting)[:2]:
            head, *lines = self.scheduler.explain(ticket, self.now).splitlines()
            assert "waits" in head
            for line, host in zip(lines, self.scheduler.hosts.values(), strict=True):
                assert line.startswith(f"  {host.name}: ")
                if host.misses(ticket.needs, ticket.footprint.models) or not host.health.takes(self.now):
                    assert "has room" not in line

    def teardown(self) -> None:
        """With all servers well and time enough, everything that waits is placed."""
        for name in SERVERS:
            self.scheduler.drain(name, self.now, draining=False)
            self.scheduler.joined(name, self.now)
            self.scheduler.others(name, 0)
        for _ in range(2 * (len(self.waiting) + len(self.placed)) + 10):
            self.now += 400.0
            for ticket, placement in list(self.placed.items()):
                del self.placed[ticket]
                self.scheduler.worked(placement.host)
                self.scheduler.ended(ticket, placement.host, self.now, ran_s=1.0)
                self.decide()
            self.scheduler.reconsider(self.now)
            self.decide()
        labelled = {host.name for host in self.scheduler.hosts.values() if host.labels}
        stuck = [t for t in self.waiting if not (t.needs.labels and t.needs.server not in {None, *labelled})]
        assert not stuck, [self.scheduler.explain(ticket, self.now) for ticket in stuck]


TestSchedulerMachine = Machine.TestCase
