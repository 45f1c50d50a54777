"""What a person is told while jobs run. Paths go to stdout, everything else to stderr."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

import anyio

from async_comfy import ComfyError, Job, Result, Session
from async_comfy.cli.exits import complaint
from async_comfy.cli.preview import NO_PREVIEW, Preview
from async_comfy.cli.terminal import clean

if TYPE_CHECKING:
    from async_comfy import Pool, PoolJob

Place: TypeAlias = "Session | Pool"
"""Where a job goes: one server, or a pool of them."""
PlacedJob: TypeAlias = "Job | PoolJob"

PAUSE_S = 1.0  # between looks at the connection; shorter breaks are nobody's concern


class Report:
    """Plain lines: for pipes, logs and terminals that can do no more. `previews`: whether it shows them."""

    previews = False

    def __init__(self) -> None:
        self.places: set[Place] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def begin(self, name: str, total: int, done: int) -> None:
        """So many runs there are, so many of them were done before."""
        if 0 < done < total:
            self.note(f"{name}: {done} of {total} were done before, going on")

    def submitted(self, index: int, job: PlacedJob, place: Place) -> None:
        """The server accepted run number `index`; or a pool, which places it later."""
        self.places.add(place)
        if isinstance(place, Session) and isinstance(job, Job):
            self.note(f"{index:04} submitted as {job.id} to {place.url}")

    def placed(self, index: int, prompt_id: str, server: str) -> None:
        """A pool sends run number `index` to that server."""
        self.note(f"{index:04} sent as {prompt_id} to {server}")

    def left(self, index: int, job: Job, session: Session) -> None:
        """Run number `index` was submitted and is left to the server."""
        self.print(job.id)

    async def follow(self, index: int, job: PlacedJob) -> None:
        """Listens to one job until it ends, where its events matter."""
        return

    async def watch(self) -> None:
        """Keeps what is shown up to date, until cancelled: here, whether the servers are there."""
        lost: set[str] = set()
        while True:
            away = {server for place in self.places for server in _away(place)}
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

    def ended(self, made: int, failed: int, left: int, hint: str) -> None:
        """The last words of a batch of many: of its runs so many are done, failed, and left to do."""
        said = [f"{made} done", f"{failed} failed" if failed else "", f"{left} left to do" if left else ""]
        self.note(f"{', '.join(filter(None, said))}{f'; {hint}' if hint else ''}")

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


def _away(place: Place) -> list[str]:
    """The servers of a place that are not connected."""
    if isinstance(place, Session):
        return [] if place.statistics().connected else [place.url]
    return [server.name for server in place.stats().servers if server.state == "joining"]


def server_of(job: "PlacedJob | None", place: Place) -> str:
    """The server of a job, by the name that people use for it; empty where it waits in a pool."""
    if isinstance(place, Session):
        return place.url
    return "" if job is None or isinstance(job, Job) else job.server or ""


def choose_report(*, json: bool, verbose: bool, preview: Preview = NO_PREVIEW) -> Report:
    """JSON where asked for; bars where stderr can show them and no log lines get between; else lines."""
    if json:
        from async_comfy.cli.ndjson import Ndjson

        return Ndjson()
    if sys.stderr.isatty() and not verbose:
        from async_comfy.cli.bars import Bars, able

        if able():
            return Bars(preview=preview)
    return Report()
