"""Live bars on stderr: the whole, and each job in flight."""

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from async_comfy import ComfyError, JobProgress, Result, Session
from async_comfy.cli.preview import NO_PREVIEW, Preview
from async_comfy.cli.report import Place, PlacedJob, Report, server_of
from async_comfy.cli.terminal import clean
from async_comfy.cli.thumbnail import ROWS

PAUSE_S = 0.125  # eight times a second looks live and costs next to nothing
BAR_WIDTHS = (12, 32)  # columns, at least and at most
WORDS_WIDTH = 76  # columns that names, numbers and words beside a bar usually take
LINES_KEPT = 4  # of the terminal, for the whole, the line of what does not fit, and what was said before
FIRST_GUESS = 0.1  # of a run must be done before its pace says anything
COLUMNS_WITH_SERVER = 100  # a narrower terminal has no room to tell servers apart
FEWEST_COLUMNS = 60  # a narrower terminal would break the lines


_STATES = {"succeeding": "finishing", "completed": "saving", "submitting": "sending"}
_WAITING = {"queued", "submitting"}


def able() -> bool:
    """Whether stderr is a terminal that can redraw lines."""
    console = Console(stderr=True)
    return console.is_terminal and not console.is_dumb_terminal and console.width >= FEWEST_COLUMNS


class Bars(Report):
    """A bar for all runs and one for each that is in flight; paths scroll by above them."""

    def __init__(self, *, preview: Preview = NO_PREVIEW) -> None:
        super().__init__()
        self.console = Console(stderr=True, highlight=False)
        self.easel = preview.easel(self.console)
        self.previews = self.easel is not None
        self.preview: tuple[int, bytes] | None = None
        self.live = Live(console=self.console, auto_refresh=False, redirect_stdout=False, transient=True)
        self.name = ""
        self.total = 0
        self.before = 0
        self.done = 0
        self.began = time.monotonic()
        self.failures = 0
        self.flying: dict[int, tuple[PlacedJob, Place]] = {}

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()
        if self.easel is not None:
            self.console.file.write(self.easel.wiped())
            self.console.file.flush()

    def begin(self, name: str, total: int, done: int) -> None:
        """The bar of the whole."""
        super().begin(name, total, done)
        self.name, self.total, self.before, self.done = name, total, done, done
        self.began = time.monotonic()

    def submitted(self, index: int, job: PlacedJob, place: Place) -> None:
        """One more bar."""
        self.flying[index] = (job, place)
        self.places.add(place)

    def placed(self, index: int, prompt_id: str, server: str) -> None:
        """Its bar will say so."""
        return

    async def follow(self, index: int, job: PlacedJob) -> None:
        """Keeps its newest preview, of whichever job has one last."""
        if not self.previews:
            return
        with suppress(ComfyError):  # who awaits the job hears of it
            async for preview in job.previews():
                self.preview = (index, preview.data)

    async def watch(self) -> None:
        """Draws, until cancelled."""
        while True:
            self._draw()
            await anyio.sleep(PAUSE_S)

    def saved(self, index: int, result: Result, paths: Sequence[Path]) -> None:
        """One bar less, and the paths above."""
        self._land(index)
        super().saved(index, result, paths)

    def failed(self, index: int, error: ComfyError) -> None:
        """One bar less, and the reason above."""
        self.failures += 1
        self._land(index)
        super().failed(index, error)

    def print(self, line: str) -> None:
        """Above the bars where stdout is this terminal, else where stdout goes."""
        if sys.stdout.isatty():
            self.note(line)
        else:
            super().print(line)

    def note(self, line: str) -> None:
        """Above the bars."""
        self.console.print(Text(clean(line)), soft_wrap=True)

    def _land(self, index: int) -> None:
        self.flying.pop(index, None)
        if self.preview is not None and self.preview[0] == index:
            self.preview = None
        self.done += 1
        self._draw()

    def _draw(self) -> None:
        self.live.update(Group(self.picture(), *self._preview()), refresh=True)

    def _preview(self) -> list[RenderableType]:
        if self.preview is None or self.easel is None:
            return []
        shown = self.easel.draw(self.preview[1], self.console.width)
        return [] if shown is None else [shown]

    def picture(self) -> Table:
        """What is shown right now: the whole, then what runs, then what waits, as far as there is room."""
        progress = {index: job.progress for index, (job, _) in self.flying.items() if job.state != "waiting"}
        waiting = len(self.flying) - len(progress)
        order = sorted(progress, key=lambda index: (progress[index].state in _WAITING, index))
        room = max(self.console.height - LINES_KEPT - (ROWS if self.preview is not None else 0), 1)
        table = self._table()
        self._add_whole(table, sum(one.fraction for one in progress.values()))
        for index in order[:room]:
            self._add_job(table, index, progress[index])
        if len(order) > room:
            table.add_row(f"  and {len(order) - room} more")
        if waiting:
            table.add_row("", "", "", Text(f"{waiting} wait for a server", style="dim"))
        return table

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for least in (6, self._bar_width, 4, None, None):
            table.add_column(no_wrap=True, overflow="ellipsis", min_width=least)
        return table

    def _add_whole(self, table: Table, in_flight: float) -> None:
        made = self.done + in_flight
        fraction = made / self.total if self.total else 0.0
        failed = f", {self.failures} failed" if self.failures else ""
        said = Text(f"{self.done} of {self.total} done{failed}{self._left(made)}")
        table.add_row(Text(clean(self.name), style="bold"), self._bar(fraction), f"{fraction:4.0%}", said)

    def _bar(self, fraction: float) -> ProgressBar:
        return ProgressBar(total=1.0, completed=fraction, width=self._bar_width, complete_style="cyan")

    @property
    def _bar_width(self) -> int:
        return min(max(self.console.width - WORDS_WIDTH, BAR_WIDTHS[0]), BAR_WIDTHS[1])

    def _left(self, made: float) -> str:
        """How long the rest takes at the pace so far, once there is one."""
        since = made - self.before
        if since < FIRST_GUESS or self.done == self.total:
            return ""
        return f", {clock((time.monotonic() - self.began) / since * (self.total - made))} left"

    def _add_job(self, table: Table, index: int, now: JobProgress) -> None:
        job, place = self.flying[index]
        connected = not isinstance(place, Session) or place.statistics().connected
        said = Text(doing(now, connected), style="dim" if now.state in _WAITING else "")
        several = len(self.places) > 1 or not isinstance(place, Session)
        shown = several and self.console.width >= COLUMNS_WITH_SERVER
        name = clean(server_of(job, place).rpartition("//")[2].rstrip("/")) if shown else ""
        bar = self._bar(now.fraction)
        table.add_row(f"  {index:04}", bar, f"{now.fraction:4.0%}", said, Text(name, style="dim"))


def doing(now: JobProgress, connected: bool = True) -> str:
    """What a job does, in words: its place in the queue, or node, steps, pace and time left."""
    if not connected:
        return "connection lost, trying again"
    if now.state == "queued":
        return "waiting" if now.ahead is None else f"waiting, {now.ahead} ahead" if now.ahead else "next"
    parts = [clean(now.title or now.class_type or _STATES.get(now.state, now.state))]
    if now.steps > 1:
        parts[0] += f" {now.step:g}/{now.steps:g}"
    if now.steps_per_s is not None and now.eta_s is not None:
        parts += [f"{now.steps_per_s:.1f} steps/s", f"{clock(now.eta_s)} left"]
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """Seconds as people read them: 0:07, 12:30, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
