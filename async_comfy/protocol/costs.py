"""What things cost, learned while they run: seconds of work by shape, seconds of loading by models.

Means and mean deviations are moving ones, as TCP keeps its round-trip times (RFC 6298), so a server that
gets slower is believed after a few runs, and one odd run changes little.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

GAIN = 0.2  # weight of the newest sample; RFC 6298 takes 1/8 of many more samples than a server gives
GUESS_RUN_S = 5.0  # for work never seen: an image, not a video
GUESS_LOAD_S = 10.0  # for models never loaded: gigabytes from a disk
STALL_FLOOR_S = 120.0  # no silence shorter than this is a stall: one node may compile or download
STALL_TIMES = 10.0  # nor one shorter than so many usual runs
ODD_TIMES = 4.0  # a sample counts as so many usual ones, and a second, at most; what comes again is believed
SPEEDS = (0.25, 4.0)  # how much slower or faster than the fleet one server is believed to be
REMEMBERED = 4096  # shapes and models; of more, those longest unused are learned again

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True)
class Average:
    """A moving mean with its mean deviation."""

    mean: float
    deviation: float
    samples: int = 1

    def take(self, sample: float) -> None:
        """One more sample. The first few weigh evenly, so the first alone decides nothing."""
        sample = min(sample, ODD_TIMES * (self.mean + self.deviation) + 1.0)
        gain = max(GAIN, 1.0 / (self.samples + 1))
        self.samples += 1
        self.deviation += gain * (abs(sample - self.mean) - self.deviation)
        self.mean += gain * (sample - self.mean)


class Memory(OrderedDict[K, V], Generic[K, V]):
    """A dict of at most `REMEMBERED` entries: a new one drops the first."""

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        if len(self) > REMEMBERED:
            self.popitem(last=False)


class Costs:
    """What was learned of one fleet. Models are the tuples of `Footprint.models`."""

    def __init__(self) -> None:
        self._runs: Memory[int, Average] = Memory()
        self._cold: Memory[int, float] = Memory()  # shapes seen only with a load: the whole, as a bound
        self._loads: Memory[tuple[str, ...], Average] = Memory()
        self._server_loads: Memory[tuple[str, tuple[str, ...]], Average] = Memory()
        self._speeds: Memory[str, Average] = Memory()
        self._any: Average | None = None

    def __repr__(self) -> str:
        return f"<Costs of {len(self._runs)} shapes, {len(self._loads)} sets of models>"

    def knows(self, shape: int) -> bool:
        """Whether a warm run of this shape was seen."""
        return shape in self._runs

    @property
    def usual_s(self) -> float:
        """Seconds of work of a prompt of which nothing is known, such as somebody else's."""
        return self._any.mean if self._any is not None else GUESS_RUN_S

    def run_s(self, shape: int, server: str = "") -> float:
        """Seconds of work, models being warm; on this server, if one is named."""
        run = self._runs.get(shape)
        seconds = run.mean if run is not None else self._cold.get(shape, GUESS_RUN_S)
        speed = self._speeds.get(server)
        return seconds if speed is None else seconds * speed.mean

    def load_s(self, models: tuple[str, ...], server: str = "") -> float:
        """Seconds that a cold start adds; 0 for a prompt without models."""
        if not models:
            return 0.0
        found = self._server_loads.get((server, models)) or self._loads.get(models)
        return found.mean if found is not None else GUESS_LOAD_S

    def stall_s(self, shape: int, models: tuple[str, ...] = ()) -> float:
        """So long without any sign from a running prompt, and its server is taken for stuck."""
        usual = self.run_s(shape) + self.load_s(models)
        run = self._runs.get(shape)
        spread = 4.0 * run.deviation if run is not None else 0.0  # RFC 6298's four deviations
        return max(STALL_FLOOR_S, STALL_TIMES * usual + spread)

    def was_cold(self, shape: int, models: tuple[str, ...], ran_s: float, server: str = "") -> bool | None:
        """Whether a run of these seconds must have loaded its models; None where nobody can know."""
        if models and shape in self._cold and ran_s < 0.5 * self._cold[shape]:
            return False  # the one that was seen before it must have been loading
        if not models or shape not in self._runs or models not in self._loads:
            return None
        load_s = self.load_s(models, server)
        run_s = self.run_s(shape, server)
        if load_s < 0.5 * run_s:
            return None  # the difference would drown in the spread of the work itself
        return ran_s > run_s + 0.5 * load_s

    def learn(
        self, shape: int, models: tuple[str, ...], ran_s: float, *, cold: bool, server: str = ""
    ) -> float:
        """Takes a finished run; the seconds of it that were loading, as far as can be told."""
        if self._any is None:
            self._any = Average(ran_s, ran_s / 2)
        else:
            self._any.take(ran_s)
        if not cold:
            self._learn_run(shape, ran_s, server)
            if (first_s := self._cold.pop(shape, None)) is not None:
                _take(self._loads, models, max(first_s - ran_s, 0.0))
            return 0.0
        if shape not in self._runs:
            self._cold[shape] = min(ran_s, self._cold.get(shape, ran_s))
            return 0.0
        load_s = max(ran_s - self.run_s(shape, server), 0.0)
        self.loaded(models, load_s, server)
        return load_s

    def loaded(self, models: tuple[str, ...], seconds: float, server: str) -> None:
        """These were loaded there in so many seconds."""
        _take(self._loads, models, seconds)
        _take(self._server_loads, (server, models), seconds)

    def forget(self, server: str) -> None:
        """The server left: what was special about it goes."""
        self._speeds.pop(server, None)
        for key in [key for key in self._server_loads if key[0] == server]:
            del self._server_loads[key]

    def _learn_run(self, shape: int, ran_s: float, server: str) -> None:
        known = self._runs.get(shape)
        if known is not None and known.mean > 0.0 and server:
            slow, fast = SPEEDS
            _take(self._speeds, server, min(max(ran_s / known.mean, slow), fast))
        _take(self._runs, shape, ran_s)


def _take(kept: Memory[K, Average], key: K, sample: float) -> None:
    found = kept.get(key)
    if found is None:
        kept[key] = Average(sample, sample / 2)  # RFC 6298: the first deviation is half the first sample
    else:
        found.take(sample)
        kept.move_to_end(key)
