"""What a fleet did, in counts and percentiles, of bounded size however long it runs.

Durations go into buckets that double (Prometheus calls it a histogram), so a percentile is right within
its bucket.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from async_comfy.protocol.failover import Ending

BUCKETS_S = tuple(0.01 * 2.0**power for power in range(20))  # 10 ms to 1.5 h
NAMES = 256  # models and servers that are told apart; the rest is counted as "other"


class Histogram:
    """Durations in seconds."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.total_s = 0.0

    def __repr__(self) -> str:
        return f"<Histogram of {self.count}, median {self.percentile(0.5):.3g} s>"

    @property
    def count(self) -> int:
        """How many were taken."""
        return sum(self.counts)

    def take(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total_s += seconds

    def percentile(self, part: float) -> float:
        """Seconds that so large a part does not exceed, within a bucket; 0 of nothing."""
        wanted = part * self.count
        passed = 0.0
        for index, count in enumerate(self.counts):
            if count and passed + count >= wanted:
                low = BUCKETS_S[index - 1] if index else 0.0
                high = BUCKETS_S[min(index, len(BUCKETS_S) - 1)]
                return low + (high - low) * max(wanted - passed, 0.0) / count
            passed += count
        return 0.0


@dataclass(slots=True)
class Line:
    """What is kept of one lane, model set or server."""

    wait: Histogram = field(default_factory=Histogram)
    load: Histogram = field(default_factory=Histogram)
    run: Histogram = field(default_factory=Histogram)
    ended: dict[str, int] = field(default_factory=dict)  # by outcome


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Seconds: the median, the 95th and the 99th of a hundred."""

    p50: float
    p95: float
    p99: float
    count: int

    @classmethod
    def of(cls, histogram: Histogram) -> "Percentiles":
        """As they are now."""
        at = histogram.percentile
        return cls(at(0.5), at(0.95), at(0.99), histogram.count)


@dataclass(frozen=True, slots=True)
class Figures:
    """One lane, model set or server: seconds waited in our queue, loaded and ran; and how jobs ended."""

    wait: Percentiles
    load: Percentiles
    run: Percentiles
    ended: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of the text format. `kind`: "gauge" or "counter". `values`: by label text, "" without."""

    name: str
    kind: str
    told: str
    values: Mapping[str, float]


class Ledger:
    """The figures of one pool, by "lane", "models" and "server"."""

    def __init__(self) -> None:
        self.lines: dict[str, dict[str, Line]] = {"lane": {}, "models": {}, "server": {}}
        self._found: dict[tuple[str, tuple[str, ...], str], tuple[Line, ...]] = {}

    def __repr__(self) -> str:
        return f"<Ledger of {', '.join(f'{len(lines)} {kind}' for kind, lines in self.lines.items())}>"

    def waited(self, seconds: float, lane: str, models: tuple[str, ...], server: str) -> None:
        """A job was placed after so long."""
        for line in self._of(lane, models, server):
            line.wait.take(seconds)

    def ended(
        self,
        outcome: str,
        lane: str,
        models: tuple[str, ...],
        server: str,
        *,
        ran_s: float | None,
        loaded_s: float,
    ) -> None:
        """An attempt ended. `ran_s`: None where it did not run to its end, or events were missed."""
        for line in self._of(lane, models, server):
            line.ended[outcome] = line.ended.get(outcome, 0) + 1
            if ran_s is not None:
                line.run.take(max(ran_s - loaded_s, 0.0))
            if loaded_s:
                line.load.take(loaded_s)

    def forget(self, server: str) -> None:
        """It left the fleet: its name makes room for another. What it did stays in the other figures."""
        self.lines["server"].pop(server, None)
        self._found.clear()

    def figures(self, kind: str) -> dict[str, Figures]:
        """A snapshot of the lines of this kind."""
        return {
            name: Figures(
                Percentiles.of(line.wait),
                Percentiles.of(line.load),
                Percentiles.of(line.run),
                dict(line.ended),
            )
            for name, line in self.lines[kind].items()
        }

    def exposition(self, metrics: Iterable[Metric]) -> str:
        """These metrics and its own in the Prometheus text format, version 0.0.4."""
        lines = [line for metric in (*metrics, *self._outcomes()) for line in _values(metric)]
        return "".join(f"{line}\n" for line in (*lines, *self._histograms()))

    def _of(self, lane: str, models: tuple[str, ...], server: str) -> tuple[Line, ...]:
        key = (lane, models, server)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= 16 * NAMES:
                self._found.clear()
            names = ("lane", lane), ("models", ", ".join(models) or "none"), ("server", server)
            found = self._found[key] = tuple([self._line(kind, name) for kind, name in names])
        return found

    def _line(self, kind: str, name: str) -> Line:
        known = self.lines[kind]
        line = known.get(name)
        return line or known.setdefault(name if len(known) < NAMES else "other", Line())

    def _histograms(self) -> Iterator[str]:
        for what, told in _TOLD.items():
            metric = f"async_comfy_job_{what}_seconds"
            yield f"# HELP {metric} {told}"
            yield f"# TYPE {metric} histogram"
            for lane, line in self.lines["lane"].items():
                yield from _histogram(metric, label("lane", lane), getattr(line, what))

    def _outcomes(self) -> Iterator[Metric]:
        for kind, lines in self.lines.items():
            # At zero, too: Prometheus sees no increase in what first appears as a one.
            counted = {
                f"{label(kind, name)},{label('outcome', outcome)}": line.ended.get(outcome, 0)
                for name, line in lines.items()
                for outcome in (Ending if kind != "models" else line.ended)
            }
            metric = f"async_comfy_attempts_by_{kind}_total"
            yield Metric(metric, "counter", f"Attempts by {kind} and how they ended.", counted)


_TOLD = {
    "wait": "Seconds that jobs waited in the queue of the pool.",
    "load": "Seconds that servers loaded models before jobs ran.",
    "run": "Seconds that jobs ran, loading not counted.",
}


def label(name: str, value: str) -> str:
    """A label as the text format writes it."""
    escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'{name}="{escaped}"'


def _values(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.told}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for labels, value in metric.values.items():
        yield f"{metric.name}{{{labels}}} {value:.15g}" if labels else f"{metric.name} {value:.15g}"


def _histogram(metric: str, labels: str, histogram: Histogram) -> Iterator[str]:
    passed = 0
    for bound, count in zip((*BUCKETS_S, float("inf")), histogram.counts, strict=True):
        passed += count
        edge = "+Inf" if bound == float("inf") else f"{bound:g}"
        yield f'{metric}_bucket{{{labels},le="{edge}"}} {passed}'
    yield f"{metric}_sum{{{labels}}} {histogram.total_s:.15g}"
    yield f"{metric}_count{{{labels}}} {passed}"
