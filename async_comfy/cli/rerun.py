"""`async-comfy rerun`: makes again what made a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from async_comfy.cli.naming import DEFAULT, Naming
from async_comfy.cli.number import check_seed, finite
from async_comfy.cli.preview import Preview, preview_options
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import short

if TYPE_CHECKING:
    from async_comfy.cli.batch import Batch

EPILOG = """\b
Examples:
  async-comfy rerun picture.png
  async-comfy rerun picture.png --seed random --output again

The seeds that were used are told on stderr, by the path that `run --set` takes. With --json each line on
stdout is an object as of `run --json`; its "result" has the seeds.

\b
Exit codes: 0 done, 1 the job failed, 2 usage, 3 server unreachable, 4 refused,
130 interrupted.
"""


class SeedChoice(click.ParamType[str]):
    """Which seeds to run again with."""

    name = "seed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The rule for `Order`. Raises: click.BadParameter."""
        text = str(value)
        if text == "same":
            return "fixed"
        if text != "random" and not (text.isascii() and text.isdecimal()):
            self.fail(f'{short(text)!r} is no seed: write "same", "random" or a number.', param, ctx)
        check_seed(text, self, param, ctx)
        return text


@click.command(epilog=EPILOG)
@click.argument("image", type=click.Path())
@click.option(
    "--seed",
    type=SeedChoice(),
    default="same",
    show_default=True,
    metavar="same|random|N",
    help="same: as in the picture. random: another one. N: that one.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("output"),
    show_default=True,
    metavar="DIR",
    help="Where files go.",
)
@click.option(
    "--name",
    "naming",
    callback=lambda context, option, given: Naming(given),
    default=DEFAULT,
    show_default=True,
    metavar="TEMPLATE",
    help="What files are called, as for `run`.",
)
@click.option("--json", "as_json", is_flag=True, help="Events as JSON lines on stdout.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    callback=finite,
    metavar="SECONDS",
    help="Cancel it if it runs longer; waiting in the queue does not count.",
)
@preview_options
@server_options
@click.pass_context
def rerun(
    context: click.Context,
    /,
    server: Server,
    image: str,
    seed: str,
    output: Path,
    naming: Naming,
    as_json: bool,
    timeout: float | None,
    preview: Preview,
) -> None:
    """Run again what made an IMAGE.

    IMAGE is a picture, video or sound that ComfyUI made, or a workflow file. With the same seeds, models and
    files on the server the same comes out.
    """
    from async_comfy.cli.errand import Errand
    from async_comfy.cli.interrupt import drive
    from async_comfy.cli.order import Order
    from async_comfy.cli.place import AtServer
    from async_comfy.cli.report import choose_report

    if Path(image).is_dir():
        raise click.UsageError(f"{image} is a folder. `async-comfy run` takes the workflows in one.")
    verbose = bool(context.find_root().params.get("verbose"))
    report = choose_report(json=as_json, verbose=verbose, preview=preview)
    order = Order([image], (), seed, 1, output, naming)
    asked = {"preview": "auto"} if report.previews else {}  # most servers make none unless asked
    errand = Errand(order, AtServer(server), report, asked)
    code = drive(errand.finish(1, timeout), on_interrupt=errand.interrupted)
    if not as_json:
        for line in _seeds(errand.batch):
            report.note(line)
    context.exit(code)


def _seeds(batch: "Batch | None") -> list[str]:
    """What was sent, seed by seed."""
    seeds = batch.last.workflow.seeds() if batch is not None and batch.last is not None else {}
    return [f"seed {path}={seed}" for path, seed in seeds.items()] or ["it has no seeds"]
