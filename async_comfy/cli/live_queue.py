"""The queue at the bottom of a terminal; what ended scrolls by above it."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from async_comfy.cli.queue import line
from async_comfy.cli.watch import Board, Screen, told

LINES_KEPT = 3  # of the terminal, for the count and for what was said before


class LiveQueue(Screen):
    """Redraws the queue after each look."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(highlight=False)
        self.live = Live(console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def show(self, changes: list[dict[str, Any]], board: Board) -> None:
        """What ended goes above, what is there below."""
        self.lost = False
        for change in changes:
            if change["prompt_id"] not in board.jobs:
                self.console.print(Text(told(change)), soft_wrap=True)
        self.live.update(self.picture(board), refresh=True)

    def away(self) -> None:
        """In place of the queue, which would be stale."""
        self.live.update(Text("connection lost, trying again", style="bold"), refresh=True)

    def picture(self, board: Board) -> Text:
        """How many, then as many as there is room for."""
        jobs = list(board.jobs.values())
        room = max(self.console.height - LINES_KEPT, 1)
        shown = [Text(line(job), style="bold" if job["state"] == "running" else "dim") for job in jobs[:room]]
        more = [Text(f"and {len(jobs) - room} more")] if len(jobs) > room else []
        head = Text(f"{len(jobs)} to do" if jobs else "Nothing runs, nothing waits.")
        return Text("\n").join([head, *shown, *more])
