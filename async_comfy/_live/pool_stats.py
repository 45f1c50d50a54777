"""A pool in numbers, as they are at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass

from async_comfy.protocol.ledger import Figures


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
