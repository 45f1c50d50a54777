"""The servers of a fleet as a table."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from async_comfy.cli.observer import Sight
from async_comfy.cli.terminal import clean

if TYPE_CHECKING:
    from async_comfy.cli.fleet import Watch

GIB = 2**30
BAR = 8  # columns; with the percentage it fits where there is least room
LINES_KEPT = 7  # of the terminal, for the summary, a note, the head with its lines, and what does not fit
STYLES = {"idle": "green", "busy": "cyan", "draining": "yellow", "drained": "yellow", "away": "red"}
UNKNOWN = "-"

Cell = Callable[[Sight], Text | Table]


def table(sights: Sequence[Sight], width: int, note: str = "", height: int | None = None) -> Group:
    """All of them, or as many as there is room for; with the columns that there is room for."""
    room = len(sights) if height is None else max(height - LINES_KEPT, 1)
    found = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, header_style="bold")
    for title, least, options, _ in _COLUMNS:
        if width >= least:
            # Rich takes room from columns that may wrap; what is in these does not.
            found.add_column(title, **{"min_width": len(title), "no_wrap": True, **options})
    for sight in sights[:room]:
        found.add_row(*(cell(sight) for _, least, _, cell in _COLUMNS if width >= least))
    notes = [Text(clean(note), style="red")] if note else []
    more = [Text(f"and {len(sights) - room} more")] if len(sights) > room else []
    return Group(Text(summary(sights)), *notes, found, *more)


def show(sights: Sequence[Sight]) -> None:
    """On stdout, once; without colours where that is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200, color_system=None)
    console.print(table(sights, console.width))


class Screen:
    """The table, drawn again and again; the last one stays.

    On the terminal's other screen: lines that a terminal wraps while it is made narrower would stay behind
    on the usual one.
    """

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.live = Live(console=self.console, auto_refresh=False, screen=True)
        self.last: Group | None = None

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()
        if self.last is not None:
            self.console.print(self.last)

    def __call__(self, watch: "Watch") -> None:
        """One picture."""
        sights, (width, height) = watch.sights(), self.console.size
        self.last = table(sights, width, watch.trouble)
        self.live.update(table(sights, width, watch.trouble, height), refresh=True)


def summary(sights: Sequence[Sight]) -> str:
    """The fleet in one line."""
    states = Counter(sight.state for sight in sights)
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    todo = sum(sight.queue or 0 for sight in sights)
    servers = f"{len(sights)} server{'' if len(sights) == 1 else 's'}"
    return f"{servers}: {told}; {todo} prompt{'' if todo == 1 else 's'} to do"


def _text(text: object, style: str = "") -> Text:
    known = text not in (None, "")
    said = clean(str(text)) if known else UNKNOWN
    return Text(said, style=style if known else "dim", no_wrap=True, overflow="ellipsis")


def _state(sight: Sight) -> Text:
    return _text(sight.state, STYLES.get(sight.state, "dim"))


def _job(sight: Sight) -> "Text | Table":
    if sight.trouble is not None:
        return _text(sight.trouble, "dim")
    if sight.running is None:
        return _text(None)
    took = f"{sight.running_s:.0f} s" if sight.running_s is not None else ""
    name = f"{sight.running[:8]}  {took}"
    if sight.fraction is None:
        return _text(name)
    row = Table.grid(padding=(0, 1))
    for gives_room in (False, False, True):
        row.add_column(no_wrap=not gives_room)
    bar = ProgressBar(total=1.0, completed=sight.fraction, width=BAR, complete_style="cyan")
    row.add_row(f"{sight.fraction:4.0%}", bar, _text(f"{sight.doing}  {name}"))
    return row


def _models(sight: Sight) -> Text:
    names = [name.replace("\\", "/").rpartition("/")[2] for name in sight.models]
    return _text(", ".join(name.rpartition(".")[0] or name for name in names))


def _vram(sight: Sight) -> Text:
    if sight.vram_free is None or not sight.vram_total:
        return _text(None)
    used = (sight.vram_total - sight.vram_free) / GIB
    return _text(f"{used:.1f}/{sight.vram_total / GIB:.1f}")


_RIGHT = {"justify": "right"}
_COLUMNS: list[tuple[str, int, dict[str, Any], Cell]] = [
    ("Server", 0, {"no_wrap": False}, lambda sight: _text(sight.server, "bold")),
    ("State", 0, {"min_width": 8}, _state),
    ("Lanes", 136, {}, lambda sight: _text(", ".join(sight.lanes) or "all")),
    ("Queue", 0, _RIGHT, lambda sight: _text(sight.queue)),
    ("Running", 60, {"min_width": 14, "no_wrap": False}, _job),
    ("Models", 120, {"min_width": 12, "no_wrap": False}, _models),
    ("VRAM GiB", 92, _RIGHT, _vram),
    ("ms/step", 76, _RIGHT, lambda sight: _text(f"{sight.ms_per_step:.0f}" if sight.ms_per_step else None)),
    ("Done", 104, _RIGHT, lambda sight: _text(sight.done)),
    ("Failed", 0, _RIGHT, lambda sight: _text(sight.failed, "red" if sight.failed else "")),
]
