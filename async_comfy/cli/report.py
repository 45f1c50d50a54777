"""What a person is told while jobs run. Paths go to stdout, everything else to stderr."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio

from async_comfy import ComfyError, Job, Result, Session
from async_comfy.cli.exits import complaint
from async_comfy.cli.terminal import clean

PAUSE_S = 1.0  # between looks at the connection; shorter breaks are nobody's concern


class Report:
    """Plain lines: for pipes, logs and terminals that can do no more. `previews`: whether it shows them."""

    previews = False

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def begin(self, name: str, total: int, done: int) -> None:
        """So many runs there are, so many of them were done before."""
        if done:
            self.note(f"{name}: {done} of {total} were done before, going on")

    def submitted(self, index: int, job: Job, session: Session) -> None:
        """The server accepted run number `index`."""
        self.sessions[session.url] = session
        self.note(f"{index:04} submitted as {job.id} to {session.url}")

    def left(self, index: int, job: Job, session: Session) -> None:
        """Run number `index` was submitted and is left to the server."""
        self.print(job.id)

    async def follow(self, index: int, job: Job) -> None:
        """Listens to one job until it ends, where its events matter."""
        return

    async def watch(self) -> None:
        """Keeps what is shown up to date, until cancelled: here, whether the servers are there."""
        lost: set[str] = set()
        while True:
            away = {url for url, session in self.sessions.items() if not session.statistics().connected}
            for url in sorted(away - lost):
                self.note(f"connection to {url} lost, trying again")
            for url in sorted(lost - away):
                self.note(f"connected to {url} again")
            lost = away
            await anyio.sleep(PAUSE_S)

    def saved(self, index: int, result: Result, paths: Sequence[Path]) -> None:
        """One line with what a run made: its files, or else its texts."""
        for problem in result.dropped:
            self.note(f"{index:04} without an output that the server refused: {problem}")
        made = shlex.join(map(str, paths)) or " ".join(result.texts)
        if made:
            self.print(made)
        else:
            self.note(f"{index:04} made no files")

    def failed(self, index: int, error: ComfyError) -> None:
        """A run ended badly; the others go on."""
        self.note(f"{index:04} {complaint(error)}")

    def fatal(self, error: ComfyError) -> None:
        """Nothing goes on. The error itself is shown by whoever ends the command."""
        return

    def print(self, line: str) -> None:
        """A line of what was asked for."""
        try:
            sys.stdout.write(f"{clean(line)}\n")
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read along has left (`| head`); the files are wanted all the same.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def note(self, line: str) -> None:
        """A line beside it."""
        sys.stderr.write(f"{clean(line)}\n")
        sys.stderr.flush()


def choose_report(*, json: bool, verbose: bool, previews: bool = False) -> Report:
    """JSON where asked for; bars where stderr can show them and no log lines get between; else lines."""
    if json:
        from async_comfy.cli.ndjson import Ndjson

        return Ndjson()
    if sys.stderr.isatty() and not verbose:
        from async_comfy.cli.bars import Bars, able

        if able():
            return Bars(previews=previews)
    return Report()
