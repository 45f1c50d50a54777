"""A pool in numbers, as they are at one moment: for people, and for Prometheus."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from async_comfy._live.access import access
from async_comfy._live.dispatch import Dispatch
from async_comfy._live.member import Member
from async_comfy._live.roster import Roster
from async_comfy.protocol.health import Condition
from async_comfy.protocol.ledger import Figures, Ledger, Metric, label
from async_comfy.protocol.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class ServerStats:
    """One server now.

    `state`: "ready", "joining", "ejected", ... `jobs`: ours there. `others`: prompts of other people. `warm`:
    sets of model files that it is believed to hold.
    """

    name: str
    url: str
    state: str
    jobs: int
    others: int
    warm: tuple[tuple[str, ...], ...]
    vram_bytes: int
    requests: int
    figures: Figures | None


@dataclass(frozen=True, slots=True)
class Stats:
    """What a pool did and does: counts from when it was opened, seconds as percentiles.

    `cold_loads`: placements where the models had to be loaded. `placed`: attempts; `requests`: HTTP.
    """

    waiting: int
    running: int
    placed: int
    cold_loads: int
    ejections: int
    quarantines: int
    requests: int
    servers: tuple[ServerStats, ...]
    lanes: Mapping[str, Figures]
    models: Mapping[str, Figures]


def stats(scheduler: Scheduler, dispatch: Dispatch, roster: Roster, now: float) -> Stats:
    """What a pool did and does."""
    counters = scheduler.counters
    servers = dispatch.ledger.figures("server")
    members = list(roster.members.values())
    return Stats(
        waiting=scheduler.waiting,
        running=dispatch.running,
        placed=counters.placed,
        cold_loads=counters.cold,
        ejections=counters.ejected,
        quarantines=counters.quarantined,
        requests=roster.requests,
        servers=tuple([_server(scheduler, one, servers.get(one.name), now) for one in members]),
        lanes=dispatch.ledger.figures("lane"),
        models=dispatch.ledger.figures("models"),
    )


def exposition(stats: Stats, scheduler: Scheduler, ledger: Ledger) -> str:
    """The Prometheus text format, version 0.0.4."""
    states = Counter(server.state for server in stats.servers)
    by_server = [(label("server", server.name), server) for server in stats.servers]
    lanes = {label("lane", name): queue.count for name, queue in scheduler.lanes.items()}
    held = {label("lane", name): sum(queue.placed.values()) for name, queue in scheduler.lanes.items()}
    gauge, counter = "gauge", "counter"
    return ledger.exposition(
        [
            Metric("async_comfy_jobs_waiting", gauge, "Jobs in the queue of the pool.", lanes),
            Metric("async_comfy_jobs_placed", gauge, "Jobs at servers, running or next.", held),
            Metric(
                "async_comfy_servers",
                gauge,
                "Servers by state.",
                {label("state", str(one)): states[str(one)] for one in Condition},
            ),
            Metric(
                "async_comfy_server_ready",
                gauge,
                "1 where a server takes jobs.",
                {name: float(server.state in {"ready", "probing"}) for name, server in by_server},
            ),
            Metric(
                "async_comfy_server_jobs",
                gauge,
                "Jobs of this pool at a server.",
                {name: server.jobs for name, server in by_server},
            ),
            Metric(
                "async_comfy_server_prompts_of_others",
                gauge,
                "Prompts of other people in a server's queue.",
                {name: server.others for name, server in by_server},
            ),
            Metric("async_comfy_placements_total", counter, "Attempts that were placed.", {"": stats.placed}),
            Metric(
                "async_comfy_cold_loads_total",
                counter,
                "Placements where models had to be loaded.",
                {"": stats.cold_loads},
            ),
            Metric(
                "async_comfy_ejections_total",
                counter,
                "Servers ejected after failures.",
                {"": stats.ejections},
            ),
            Metric(
                "async_comfy_quarantines_total",
                counter,
                "Servers whose worker fell silent.",
                {"": stats.quarantines},
            ),
            Metric(
                "async_comfy_http_requests_total",
                counter,
                "HTTP requests to the servers, those that left included.",
                {"": stats.requests},
            ),
        ]
    )


def _server(scheduler: Scheduler, member: Member, figures: Figures | None, now: float) -> ServerStats:
    host = scheduler.hosts[member.name]
    return ServerStats(
        name=member.name,
        url=str(access(member.server.url)),
        state=str(host.health.condition(now)),
        jobs=len(host.hand),
        others=host.others,
        warm=tuple(host.warmth.sets()),
        vram_bytes=member.vram_bytes,
        requests=member.requests,
        figures=figures,
    )
