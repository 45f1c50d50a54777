"""Why a job is not at a server, in words: why it still waits, or why nobody can take it."""

from async_comfy.protocol.books import Books
from async_comfy.protocol.health import Condition
from async_comfy.protocol.host import Host
from async_comfy.protocol.lanes import Ticket

_GIB = 1 << 30


def waits(books: Books, ticket: Ticket, now: float) -> str:
    """Why a job still waits, server by server."""
    if ticket.shelf is None:
        return "does not wait in the queue"
    lines = [f"waits in lane {ticket.lane!r} for {now - ticket.came_at:.1f} s; {ticket.shelf!r}"]
    lines += [f"  {host.name}: {_hindrance(books, host, ticket, now)}" for host in books.hosts.values()]
    return "\n".join(lines)


def nobody(books: Books, ticket: Ticket, now: float) -> str | None:
    """Why no server of this fleet can ever take the job, in a sentence; None where one can.

    What servers were found to lack does not count: one of them will be asked again.
    """
    needs, models = ticket.needs, ticket.footprint.models
    lacking: Host | None = None
    reasons: list[str] = []
    for host in books.hosts.values():
        if needs.server is not None and needs.server != host.name:
            continue
        if host.lanes is not None and ticket.lane not in host.lanes:
            reasons.append(f"it takes no jobs of lane {ticket.lane!r}")
        elif host.fits(needs) and not (host.lacks and host.misses(needs, models)):
            return None
        elif needs.vram_bytes and not host.vram_bytes and not host.health.connected:
            return None  # it has not said how much it has
        else:
            reasons.append(host.misses(needs, models))
            if reasons[-1].startswith("lacks") and (lacking is None or host.health.takes(now)):
                lacking = host
    if lacking is not None:
        lacking.forgive(now, needs.classes | frozenset(models))
        return None
    if needs.server is not None and needs.server not in books.hosts:
        reasons = ["it is not in this pool"]
    return _sentence(ticket, reasons) if reasons else None


def _sentence(ticket: Ticket, reasons: list[str]) -> str:
    needs = ticket.needs
    if needs.server is not None:
        return f"{needs.server} cannot take that: {reasons[0]}."
    if needs.labels and all(one.startswith("has no label") for one in reasons):
        return f"No server of this pool has the labels {', '.join(sorted(needs.labels))}."
    if needs.vram_bytes and all("VRAM" in one for one in reasons):
        return f"No server of this pool says that it has {needs.vram_bytes / _GIB:g} GB of VRAM."
    return f"No server of this pool can take that: {'; '.join(sorted(set(reasons)))}."


def _hindrance(books: Books, host: Host, ticket: Ticket, now: float) -> str:
    if why := host.misses(ticket.needs, ticket.footprint.models):
        return why
    if host.lanes is not None and ticket.lane not in host.lanes:
        return f"reserved for {', '.join(sorted(host.lanes)) or 'no lane'}"
    condition = host.health.condition(now)
    if condition not in {Condition.READY, Condition.PROBING}:
        return str(condition)
    models = ticket.footprint.models
    if ticket.needs.server is None and host.avoids(models or ticket.needs.classes, now):
        return f"failed with {'these models' if models else 'such prompts'}"
    if not host.health.takes(now):
        return f"rests for {host.health.rests_until - now:.1f} s after a failure"
    if host.hand and not books.has_room(host, now):
        left_s = host.hand_s(now)
        return f"busy for about {left_s:.1f} s" if left_s else "busy, for longer than was expected"
    if not books.open_to(books.lanes[ticket.lane], host):
        return f"the ceiling of lane {ticket.lane!r} is reached"
    if host.others:
        return f"has {host.others} prompts of others, and another server is through sooner"
    if models in host.warmth:
        return "has room; others go first there, or it is asked in a moment"
    return "has room; loading there would take longer than those that hold the models need"
