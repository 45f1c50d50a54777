"""The queue at the bottom of a terminal, with the newest picture; what ended scrolls by above it."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from async_comfy.cli.preview import NO_PREVIEW, Preview
from async_comfy.cli.queue import line
from async_comfy.cli.thumbnail import ROWS
from async_comfy.cli.watch import Board, Screen, told

LINES_KEPT = 3  # of the terminal, for the count and for what was said before


class LiveQueue(Screen):
    """Redraws the queue after each look."""

    def __init__(self, preview: Preview = NO_PREVIEW) -> None:
        super().__init__()
        self.console = Console(highlight=False)
        self.easel = preview.easel(self.console)
        self.live = Live(console=self.console, auto_refresh=False, transient=True)

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

    @property
    def shows_pictures(self) -> bool:
        """Whether this terminal can."""
        return self.easel is not None

    def show(self, changes: list[dict[str, Any]], board: Board) -> None:
        """What ended goes above, what is there below."""
        for change in changes:
            if change["prompt_id"] not in board.jobs:
                self.console.print(Text(told(change)), soft_wrap=True)
        self.live.update(Group(self.jobs(board), *self._painting()), refresh=True)

    def away(self, reason: str) -> None:
        """In place of the queue, which would be stale."""
        self.live.update(Text(reason, style="bold"), refresh=True)

    def _painting(self) -> list[RenderableType]:
        if self.easel is None or self.picture is None:
            return []
        drawn = self.easel.draw(self.picture, self.console.width)
        return [] if drawn is None else [drawn]

    def jobs(self, board: Board) -> Text:
        """How many, then as many as there is room for."""
        jobs = list(board.jobs.values())
        taken = LINES_KEPT + (ROWS if self.picture is not None else 0)
        room = max(self.console.height - taken, 1)
        shown = [Text(line(job), style="bold" if job["state"] == "running" else "dim") for job in jobs[:room]]
        more = [Text(f"and {len(jobs) - room} more")] if len(jobs) > room else []
        head = Text(f"{len(jobs)} to do" if jobs else "Nothing runs, nothing waits.")
        return Text("\n").join([head, *shown, *more])
