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
   Kin comes first: what shares files with what was used here last has less to load (a LoRA, a text encoder).

Everything is looked up, nothing is searched: a decision costs the same with ten jobs waiting or ten thousand.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from async_comfy.protocol.books import Books
from async_comfy.protocol.host import Host
from async_comfy.protocol.lanes import LOOK, LaneQueue, Models, Rows, Shelf, Ticket

PATIENCE = 3.0  # loads' worth of waiting that a cold start has to be worth; loading takes at most a quarter
SPARE_PRICE = 3.0  # the same where nothing has to be unloaded for it
STICKY_S = 5.0  # a tenant may be served so much before its turn where it was served last
SUITORS = 8  # idle servers that are looked at for one new job
OTHERS = 32  # servers that are looked at for one without strangers
NEVER_S = 1e9  # more than any wait, less than infinity: two such offers still compare
WARM_LOOK = 16  # servers of which the work in hand is summed up, to tell when one is through


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

    @property
    def stint_s(self) -> float:
        """How long a server stays with these models after it loaded them."""
        return (1 + PATIENCE) * self.load_s


class Choice:
    """What a server with room should do next, and which servers a new job should ask."""

    __slots__ = ("_books",)

    def __init__(self, books: Books) -> None:
        self._books = books

    def __repr__(self) -> str:
        return f"<Choice from {self._books!r}>"

    def pick(self, host: Host, now: float) -> tuple[LaneQueue, Offer, int] | None:
        """The offer that the server should take, its lane, and how many kinds of jobs were compared."""
        best: tuple[LaneQueue, Offer] | None = None
        least, choices = math.inf, 0
        for tag, queue in self._lanes_for(host):
            if tag >= least:
                break  # the offers of a lane come no earlier than its tag
            offer, seen = self._best(queue, host, now)
            choices += seen
            if offer is not None and (key := tag + self._lateness(host, offer, now)) < least:
                best, least = (queue, offer), key
        if best is None or (host.others and self._is_sooner_elsewhere(host, *best, now)):
            return None
        self._stick(best[0], host, best[1])
        return *best, choices

    def _is_sooner_elsewhere(self, host: Host, queue: LaneQueue, offer: Offer, now: float) -> bool:
        """Whether a server without strangers is through before the strangers here are."""
        books = self._books
        behind_s = host.others * books.costs.usual_s
        if now - offer.ticket.came_at >= behind_s:
            return False
        alone = (other for other in books.hosts.values() if not other.others)
        return any(
            other.hand_s(now) < behind_s and self._could_take(other, queue, offer.shelf, now)
            for other in islice(alone, OTHERS)
        )

    def _could_take(self, host: Host, queue: LaneQueue, shelf: Shelf, now: float) -> bool:
        """Whether it could run these jobs of this lane, room aside."""
        return (
            host.health.takes(now)
            and host.fits(shelf.needs)
            and host.takes_models(shelf.models, shelf.needs, now)
            and self._books.open_to(queue, host)
        )

    def _lanes_for(self, host: Host) -> list[tuple[float, LaneQueue]]:
        """The lanes that wait and may use this server, the one with the least of its share first."""
        tag = self._books.shares.tag
        lanes = [
            (tag(q.lane.name), q)
            for q in self._books.lanes.values()
            if q.count and self._books.open_to(q, host)
        ]
        return sorted(lanes, key=_first) if len(lanes) > 1 else lanes

    def _lateness(self, host: Host, offer: Offer, now: float) -> float:
        if not offer.load_s:
            return 0.0
        # Within its stint a server takes a warm offer of whatever lane first.
        return NEVER_S if now < host.stint_until else PATIENCE * offer.load_s

    def _best(self, queue: LaneQueue, host: Host, now: float) -> tuple[Offer | None, int]:
        """The shelf of this lane that the server should serve, and how many were compared."""
        warm = host.warmth.sets()
        best: Offer | None = None
        seen = 0
        groups = [rows for needs, rows in queue.groups(host.name) if host.fits(needs)]
        for rows in groups:
            for models in ((), *warm):
                if (shelf := rows.get(models)) is not None and host.takes_models(models, shelf.needs, now):
                    seen += 1
                    offer = _offer(queue, shelf, 0.0)
                    best = offer if best is None or offer.came_at < best.came_at else best
        if best is not None and now < host.stint_until:
            return best, seen
        cold = [found for rows in groups for found in self._cold(queue, host, rows, now)]
        if best is None:
            return self._worthiest(queue, host, cold, now), seen + len(cold)
        return self._soonest(queue, host, best, cold), seen + len(cold)

    def _cold(self, queue: LaneQueue, host: Host, rows: Rows, now: float) -> Iterator[Shelf]:
        """The shelves that would be a cold start here: those that wait longest, and those that are urgent."""
        held = host.warmth.sets()
        left = LOOK  # what it cannot take is not counted: it would hide what it can, perhaps for ever
        for shelf in rows.values():
            models = shelf.models
            if models and models not in held and host.takes_models(models, shelf.needs, now):
                yield shelf
                left -= 1
                if not left:
                    break
        else:
            return
        for shelf in queue.urgent(rows):
            if shelf.models not in held and host.takes_models(shelf.models, shelf.needs, now):
                yield shelf

    # What costs is whose turn it is on a shelf, and how long it would load. Both can only make an offer
    # later, unless one is urgent: so they are asked only where the offer could still be the best.

    def _soonest(self, queue: LaneQueue, host: Host, warm: Offer, cold: list[Shelf]) -> Offer:
        """The warm offer, or a cold one that comes before it."""
        best, first_at = warm, warm.came_at
        for shelf in cold:
            urgent = queue.is_urgent(shelf)
            if shelf.since >= first_at and not urgent:
                continue
            load_s = self._books.costs.load_s(shelf.models, host.name)
            if shelf.since + PATIENCE * load_s < first_at or urgent:
                offer = _offer(queue, shelf, load_s)
                if offer.came_at < first_at:
                    best, first_at = offer, offer.came_at
        return best

    def _worthiest(self, queue: LaneQueue, host: Host, cold: list[Shelf], now: float) -> Offer | None:
        """Of what is worth a load: kin, long waits, and long drains per server that would hold these."""
        price = SPARE_PRICE if host.warmth.spare else PATIENCE  # what has to go may be wanted again
        best, least = None, math.inf
        for shelf in cold:
            models = shelf.models
            load_s = self._books.costs.load_s(models, host.name)
            holders = len(self._books.holders.get(models, ()))
            spared_s = load_s * host.warmth.kinship(models) / len(models)
            rank = shelf.since - shelf.backlog_s / (holders + 1) - PATIENCE * spared_s
            if rank < least or queue.is_urgent(shelf):
                offer = _offer(queue, shelf, load_s)
                rank += offer.turn_s
                if rank < least and self._is_worth_loading(queue, offer, price, now):
                    best, least = offer, rank
        return best

    def _is_worth_loading(self, queue: LaneQueue, offer: Offer, price: float, now: float) -> bool:
        """Whether those that hold these models need longer for what waits than `price` loads take."""
        names = self._books.holders.get(offer.shelf.models)
        if not names or offer.came_at <= now:
            return True
        costs, price_s = self._books.costs, price * offer.load_s
        # Of many holders some are looked at; they have as large a part of the backlog to do.
        more_s = offer.shelf.backlog_s * min(WARM_LOOK / len(names), 1.0)
        able = False
        for name in islice(names, WARM_LOOK):
            host = self._books.hosts[name]
            if self._could_take(host, queue, offer.shelf, now):
                able = True
                more_s += host.others * costs.usual_s + host.hand_s(now) - price_s
        return more_s > 0 or not able

    def _stick(self, queue: LaneQueue, host: Host, offer: Offer) -> None:
        """A tenant that was served here last goes before its turn, by `STICKY_S` at most."""
        if not host.recent or offer.ticket.tenant in host.recent:
            return
        for tenant in host.recent:
            own = offer.shelf.of(tenant)
            if own is not None and queue.shares.tag(tenant) - queue.shares.floor <= offer.turn_s + STICKY_S:
                offer.ticket = own
                return

    def suitors(self, ticket: Ticket, now: float) -> list[Host]:
        """The idle servers that suit a new job, the best first."""
        models, needs = ticket.footprint.models, ticket.needs
        idle = self._books.idle
        if needs.server is not None:
            return [idle[needs.server]] if needs.server in idle else []
        home = self._books.homes.get((ticket.tenant, ticket.lane)) if ticket.tenant else None
        named = [home] if home is not None else []
        named += [name for name in islice(self._books.holders.get(models, ()), WARM_LOOK) if name in idle]
        found = [idle[name] for name in named if name in idle and idle[name].fits(needs)]
        able = (host for host in idle.values() if host.fits(needs) and host.takes_models(models, needs, now))
        cold = list(islice((host for host in able if not host.others), SUITORS))
        if len(cold) < SUITORS:
            strange = (host for host in idle.values() if host.others and host.fits(needs))
            cold += islice((host for host in strange if host.takes_models(models, needs, now)), SUITORS)
        return found + sorted(cold, key=lambda host: disturbance(host, models))


def _offer(queue: LaneQueue, shelf: Shelf, load_s: float) -> Offer:
    turn_s, ticket = shelf.next(queue.shares)
    return Offer(shelf, ticket, turn_s, load_s)


def _first(lane: tuple[float, LaneQueue]) -> float:
    return lane[0]


def disturbance(host: Host, models: Models) -> tuple[int, int, int]:
    """Least is best for a cold start: nobody else's prompts, most of its files, the fewest models to lose."""
    return host.others, -host.warmth.kinship(models), len(host.warmth.sets())
