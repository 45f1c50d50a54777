"""A scheduler step by step: tickets, a fleet, what follows when some are put and when one ends."""

from itertools import count
from typing import Any

from async_comfy.protocol.footprint import Footprint
from async_comfy.protocol.host import Host, Placement
from async_comfy.protocol.lanes import Lane, Needs, Ticket
from async_comfy.protocol.scheduler import Scheduler

ANY = Needs()

_numbers = count()


def ticket(
    model: str = "", at: float = 0.0, *, needs: Needs = ANY, shape: int | None = None, **more: Any
) -> Ticket:
    """One job of a model; its shape is the model's, unless another is named."""
    models = (model,) if model else ()
    return Ticket(
        next(_numbers), Footprint(hash(model) if shape is None else shape, models), needs, at, **more
    )


def fleet(size: int, lanes: tuple[Lane, ...] = (), room: int | None = 1) -> Scheduler:
    """So many servers, connected and idle."""
    scheduler = Scheduler(lanes)
    for number in range(size):
        scheduler.add(Host(f"gpu{number}", room=room))
        scheduler.joined(f"gpu{number}", 0.0)
    assert list(scheduler.decide(0.0)) == []
    return scheduler


def put(scheduler: Scheduler, *tickets: Ticket, now: float = 0.0) -> list[Placement]:
    """These wait from now on; what follows."""
    for one in tickets:
        scheduler.submit(one, now)
    return list(scheduler.decide(now))


def end(scheduler: Scheduler, placement: Placement, now: float, ran_s: float = 2.0) -> list[Placement]:
    """One is completed; what follows."""
    scheduler.worked(placement.host)
    scheduler.ended(placement.ticket, placement.host, now, ran_s=ran_s)
    return list(scheduler.decide(now))
