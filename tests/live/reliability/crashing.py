"""A client that is killed at its Nth turn of the event loop. Run as a program, with a server's URL.

For N = 0, 1, 2... it forks a child that opens a session with a journal, runs three jobs, one of which it
cancels, and leaves with ``os._exit`` at its Nth turn. It prints N and what that child had said by then, and
stops after the first child that came to its end undisturbed.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from async_comfy import Cancelled, Session
from tests.live.pictures import picture

KILLED, UNDISTURBED = 9, 0


class MortalLoop(asyncio.SelectorEventLoop):
    """An event loop that is gone, and its process with it, after so many turns."""

    def __init__(self, turns: int) -> None:
        super().__init__()
        self.turns = turns

    def _run_once(self) -> None:
        if self.turns == 0:
            os._exit(KILLED)
        self.turns -= 1
        super()._run_once()  # type: ignore[misc]  # asyncio's own, where every turn passes


async def live(url: str, journal: Path, say: Callable[[str], None]) -> None:
    """Three jobs from submit to result; each end is said at once."""
    async with Session(url, journal=journal) as session:
        jobs = [await session.submit(picture(color)) for color in range(3)]
        await jobs[2].cancel()
        for job in jobs:
            try:
                await job
            except Cancelled:
                pass
            say(f"{job.id} {job.state}\n")


def child(url: str, journal: Path, turns: int, told: int) -> None:
    """Lives until its last turn; never returns."""
    with asyncio.Runner(loop_factory=lambda: MortalLoop(turns)) as runner:
        runner.run(live(url, journal, lambda line: _ignore(os.write(told, line.encode()))))
        os._exit(UNDISTURBED)


def _ignore(_: object) -> None:
    """What os.write returns."""


def main(url: str, folder: str) -> None:
    """One child after the other, each with a journal of its own."""
    for turns in range(10_000):
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            child(url, Path(folder) / f"{turns}.sqlite", turns, writing)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = pipe.read().split("\n")[:-1]
        _, status = os.waitpid(process, 0)
        print(turns, *(word for line in said for word in line.split()), flush=True)
        if os.waitstatus_to_exitcode(status) == UNDISTURBED:
            return
        assert os.waitstatus_to_exitcode(status) == KILLED


if __name__ == "__main__":
    main(*sys.argv[1:])
