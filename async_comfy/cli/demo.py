"""`async-comfy demo`: two simulated servers, eight pictures at once, live bars."""

from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from async_comfy.cli.exits import DONE
from async_comfy.cli.interrupt import drive
from async_comfy.cli.naming import Naming
from async_comfy.cli.preview import Preview, preview_options
from async_comfy.cli.simulate import startable

if TYPE_CHECKING:
    from async_comfy.cli.batch import Batch
    from async_comfy.cli.report import Report

EXAMPLE = Path(__file__).with_name("sdxl_text_to_image.json")
PICTURES = 8
SERVERS = 2
STEP_S = 0.1  # twenty steps take two seconds: time to watch, none to wait
LOAD_S = 1.5

CLOSING = "Made by two simulated servers. With a real one: async-comfy run WORKFLOW --server URL"

EPILOG = """\b
Example:
  async-comfy demo --output demo-output

With --json each line on stdout is an object as of `run --json`.
"""


@click.command(epilog=EPILOG)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    metavar="DIR",
    help="Where the pictures go.",
)
@click.option(
    "--workflow",
    default=EXAMPLE,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What to run instead of SDXL text to image.",
)
@click.option("--json", "as_json", is_flag=True, help="Events as JSON lines on stdout.")
@preview_options
@click.pass_context
def demo(context: click.Context, /, output: Path, workflow: Path, as_json: bool, preview: Preview) -> None:
    """Make eight pictures on two simulated servers.

    No GPU and no model needed.
    """
    from async_comfy.cli.album import check_writable
    from async_comfy.cli.report import choose_report

    batch = _batch(workflow, output, choose_report(json=as_json, verbose=False, preview=preview))
    check_writable(output)
    with ExitStack() as stack:
        with startable():
            urls = [stack.enter_context(_server()) for _ in range(SERVERS)]
        code = drive(_paint(batch, workflow.stem, urls), on_interrupt=batch.interrupted)
    if code == DONE and not as_json:
        batch.report.note(CLOSING)
    context.exit(code)


def _batch(file: Path, output: Path, report: "Report") -> "Batch":
    from async_comfy.cli.album import Album, new_record
    from async_comfy.cli.batch import Batch
    from async_comfy.cli.order import Order

    order = Order([str(file)], (), "+1", PICTURES, output, Naming("{index:02}_{seed}"))
    order.load()
    record = new_record("demo")
    album = Album(output, order.naming, record=record, remember=False, existing="overwrite")
    variants = order.variants(order.templates(()), record)
    asked = {"preview": "auto"} if report.previews else {}
    return Batch(variants, album, report, options=asked)


@contextmanager
def _server() -> Iterator[str]:
    """A simulated server in a thread of its own: its address."""
    from async_comfy.testing import SimulatedServer

    with SimulatedServer(step_s=STEP_S, load_s=LOAD_S).in_thread() as server:
        yield server.url


async def _paint(batch: "Batch", name: str, urls: Sequence[str]) -> int:
    from async_comfy import Session

    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(Session(url)) for url in urls]
        with batch.report:
            batch.report.begin(name, PICTURES, 0)
            return await batch.run(sessions, PICTURES // SERVERS)
