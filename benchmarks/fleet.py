"""The servers of a benchmark, in a process of their own on a core of their own."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from benchmarks import traffic

ROOT = Path(__file__).parents[1]
Pace = Literal["single", "recorded", "burst"]


@cache
def cores() -> tuple[int, ...]:
    """The cores that this process was given, before any of it was pinned."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else (0,)


def pin(process: int, *core: int) -> None:
    """Keeps a process on these cores, where the system can; 0 is this one."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process, core)


class Fleet:
    """So many lean servers. `urls` are theirs; everything else is said over a pipe."""

    def __init__(self, servers: int) -> None:
        pin(0, cores()[0])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load_server", str(servers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        pin(self._process.pid, cores()[-1])
        self.urls = [f"http://127.0.0.1:{port}" for port in self._heard()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(BrokenPipeError):
            self._process.communicate(timeout=10)
        pin(0, *cores())

    def reset(self, *, beat_us: int, pace: Pace = "recorded", hold: bool = False) -> None:
        """From now on every busy server speaks once in `beat_us`. Counts begin at zero.

        `pace`: what it says at a time: a "single" message, a group of messages as "recorded", or all of a
        run in one "burst". `hold`: prompts are taken and never run.
        """
        self._ask({"do": "reset", "beat_us": beat_us, "pace": pace, "hold": hold})

    def flood(self, kind: str, *, times: int, together: int, beat_us: int, width: int = 0) -> None:
        """Begins to send messages of one kind to held prompts, `together` in a write; `flooded` waits.

        `times`: beats. `width`: to so many sockets in turn at each beat, 0: to all.
        """
        order = {"do": "flood", "kind": kind, "times": times, "together": together}
        self._say({**order, "beat_us": beat_us, "width": width})

    def frame_bytes(self, kind: str) -> int:
        """The size of one message of a kind, on the wire."""
        size = len(traffic.KINDS[kind])
        return size + (2 if size < 126 else 4 if size < 1 << 16 else 10)

    def flooded(self) -> None:
        """Returns after the last write of a flood."""
        self._heard()

    def counted(self) -> dict[str, Any]:
        """Requests by route, connections, sockets, and when each prompt ended (monotonic nanoseconds)."""
        return dict(self._ask({"do": "count"}))

    def _ask(self, order: dict[str, Any]) -> Any:
        self._say(order)
        return self._heard()

    def _say(self, order: dict[str, Any]) -> None:
        pipe = self._pipe()
        pipe.write(json.dumps(order).encode() + b"\n")
        pipe.flush()

    def _heard(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def _pipe(self) -> Any:
        assert self._process.stdin is not None
        return self._process.stdin
