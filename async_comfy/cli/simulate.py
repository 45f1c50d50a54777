"""`async-comfy simulate`: a ComfyUI without a GPU, to try things on."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from async_comfy import CallerError
from async_comfy.cli.interrupt import Interrupted, drive
from async_comfy.cli.number import finite

CHOOSE = "Choose another --port, --host or --folder."

EPILOG = """\b
Example:
  async-comfy simulate --port 8188 --step-ms 100 --load-ms 2000

With --json the line is an object: url.
"""


@click.command(epilog=EPILOG)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8188, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--profile", default="0.33", show_default=True, help='Version to play: 0.3.40, 0.33 or "next".')
@click.option(
    "--step-ms",
    type=click.FloatRange(0),
    callback=finite,
    default=100.0,
    show_default=True,
    help="For one sampler step.",
)
@click.option(
    "--load-ms",
    type=click.FloatRange(0),
    callback=finite,
    default=1000.0,
    show_default=True,
    help="For a model's first use.",
)
@click.option(
    "--object-info",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="GET /object_info of a real server: its classes are accepted, checked and played.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where input, output and temp lie; without it they are removed at the end.",
)
@click.option("--json", "as_json", is_flag=True, help="The address as a JSON object.")
def simulate(step_ms: float, load_ms: float, **options: Any) -> None:
    """Start a simulated ComfyUI.

    Its address is the one line on stdout; Ctrl-C ends it.
    """
    try:
        with startable():
            drive(_serve(step_s=step_ms / 1000, load_s=load_ms / 1000, **options))
    except Interrupted:
        return  # this is how it is meant to end


async def _serve(*, as_json: bool, **options: Any) -> None:
    import asyncio

    from async_comfy.testing import SimulatedServer

    async with SimulatedServer(**options) as server:
        click.echo(json.dumps({"url": server.url}) if as_json else server.url)
        click.echo("Simulated ComfyUI; Ctrl-C ends it.", err=True)
        await asyncio.Event().wait()


@contextmanager
def startable() -> Iterator[None]:
    """Says in one line why a simulated server does not start. Raises: CallerError."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise CallerError(
            f"The simulated server needs {error.name}.", hint="Install it: pip install 'async-comfy[testing]'"
        ) from None
    except OSError as error:
        raise CallerError(f"The simulated server does not start: {_reason(error)}.", hint=CHOOSE) from None
    except ValueError as error:
        raise CallerError(f"The simulated server does not start: {error}.") from None


def _reason(error: OSError) -> str:
    """The system's own words; asyncio wraps them for the address that it cannot listen on."""
    return os.strerror(error.errno) if error.errno else str(error)
