"""`--preview` and `--no-preview`: whether and how pictures are shown."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from async_comfy.cli.capability import Kind
    from async_comfy.cli.easel import Easel

KINDS = ("kitty", "iterm2", "sixel", "blocks")


@dataclass(frozen=True, slots=True)
class Preview:
    """What was asked for. `kind`: None to choose what the terminal can."""

    wanted: bool = True
    kind: "Kind | None" = None

    def easel(self, console: "Console") -> "Easel | None":
        """Where to show pictures; None for nowhere. Raises: CallerError where Pillow is missing."""
        from async_comfy.cli.easel import easel

        return easel(console, self.kind) if self.wanted else None


NO_PREVIEW = Preview(wanted=False)


def preview_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the two options; the command gets them as one `preview`."""

    @wraps(command)
    def collected(**given: Any) -> Any:
        said = Preview(not given.pop("no_preview"), given.pop("preview"))
        if said.kind is not None and not said.wanted:
            raise click.UsageError("Give either --preview or --no-preview.")
        return command(preview=said, **given)

    collected = click.option(
        "--no-preview", is_flag=True, help="No pictures, which some terminals can show."
    )(collected)
    return click.option(
        "--preview",
        type=click.Choice(KINDS),
        help="Show pictures so; without it, as the terminal says that it can.",
    )(collected)
