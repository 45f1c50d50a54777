"""`async-comfy run`: a workflow, once or a hundred times, into well-ordered folders."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from async_comfy import ComfyError, NetworkError
from async_comfy.cli.exits import DONE
from async_comfy.cli.naming import DEFAULT, Naming
from async_comfy.cli.server import Server, server_options

if TYPE_CHECKING:
    from async_comfy import Session, Workflow
    from async_comfy.cli.batch import Batch
    from async_comfy.cli.order import Order
    from async_comfy.cli.report import Report

IN_FLIGHT = 3  # one runs, one waits so that the GPU never does, one is being downloaded

EPILOG = """\b
Examples:
  async-comfy run workflow.json --set "6.text=a red fox in snow"
  async-comfy run workflow.json --count 100 --seed random --output foxes

Ctrl-C cancels the jobs on the server; the same command again goes on where it stopped.

With --json each line on stdout is an object with a "type":

\b
  begin      workflow, total, done (by an earlier call that was interrupted)
  submitted  index (from 1), prompt_id, number, server
  progress, executing, executed, ...
             the server's events: their fields, index and prompt_id;
             of a preview's "data" only {"bytes": how many}
  result     index, prompt_id, paths, seeds, cached, texts, dropped,
             queued_s, ran_s: this run is done
  failed     index, error, message, hint, prompt_id, problems, exit:
             this run ended badly, the others go on
  error      as failed, without index: the command gives up
  note       text, for people

\b
Exit codes: 0 done, 1 a job failed, 2 usage, 3 server unreachable, 4 refused,
130 interrupted.
"""


class SeedRule(click.ParamType[str]):
    """How seeds vary over the runs."""

    name = "seed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The rule as it was written. Raises: click.BadParameter."""
        text = str(value)
        number = text.removeprefix("+")
        if text not in {"random", "fixed"} and not (number.isascii() and number.isdecimal()):
            self.fail(f'{text!r} is no seed: write a number, "random", "fixed" or "+1".', param, ctx)
        return text


def _settings(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    for text in given:
        if "." not in text.partition("=")[0] or "=" not in text:
            raise click.BadParameter(f'{text!r} is not NODE.INPUT=VALUE, such as "6.text=a red fox".')
    return given


def _naming(context: click.Context, option: click.Parameter, given: str) -> Naming:
    return Naming(given)


@click.command(epilog=EPILOG)
@click.argument("workflow")
@click.option(
    "--set",
    "settings",
    multiple=True,
    callback=_settings,
    metavar="NODE.INPUT=VALUE",
    help='Set an input, the node by id, title or class: "6.text=a fox", KSampler.steps=30. Repeatable.',
)
@click.option(
    "--seed",
    type=SeedRule(),
    metavar="N|random|+1|fixed",
    help="N: N for the first run, N+1 for the next. random: another for each. +1: the workflow's own for the "
    "first, 1 more for each next. fixed: the workflow's own.  [default: random with --count, else fixed]",
)
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="How many runs.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    default=IN_FLIGHT,
    show_default=True,
    help="How many runs to give to the server at a time.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("output"),
    show_default=True,
    metavar="DIR",
    help="Where files go; async-comfy.jsonl there remembers what is done.",
)
@click.option(
    "--name",
    "naming",
    callback=_naming,
    default=DEFAULT,
    show_default=True,
    metavar="TEMPLATE",
    help="What files are called; {filename}, {stem}, {node}, {title} and {prompt_id} may be used, too.",
)
@click.option("--json", "as_json", is_flag=True, help="Events as JSON lines on stdout, see below.")
@click.option("--no-preview", is_flag=True, help="No pictures in the making, which some terminals can show.")
@click.option("--no-wait", is_flag=True, help="Submit, print the prompt ids, and leave.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Cancel a job that runs longer; waiting in the queue does not count.",
)
@click.option("--partial", is_flag=True, help="Go on without the outputs that the server finds wrong.")
@click.option("--front", is_flag=True, help="Before everything that waits in the queue.")
@server_options
@click.pass_context
def run(
    context: click.Context,
    /,
    server: Server,
    workflow: str,
    settings: tuple[str, ...],
    seed: str | None,
    count: int,
    output: Path,
    naming: Naming,
    as_json: bool,
    jobs: int,
    no_preview: bool,
    no_wait: bool,
    timeout: float | None,
    **submit: bool,
) -> None:
    """Run a WORKFLOW and save what it makes.

    WORKFLOW is a file: API format, the editor's format, or a picture, video or sound that ComfyUI made.
    For each run stdout gets one line, the paths that were saved.
    """
    from async_comfy.cli.interrupt import drive
    from async_comfy.cli.order import Order
    from async_comfy.cli.report import choose_report

    order = Order(workflow, settings, seed, count, output, naming)
    verbose = bool(context.find_root().params.get("verbose"))
    report = choose_report(json=as_json, verbose=verbose, previews=not (no_preview or no_wait))
    asked = {"preview": "auto"} if report.previews else {}  # most servers make none unless asked
    errand = Errand(order, server, report, {**submit, **asked})
    work = errand.send() if no_wait else errand.finish(jobs, timeout)
    context.exit(drive(work, on_interrupt=errand.interrupted))


class Errand:
    """One call of `run`, from the file to the saved pictures. `submit`: options of `Session.submit`."""

    def __init__(self, order: "Order", server: Server, report: "Report", submit: dict[str, Any]) -> None:
        self.order = order
        self.server = server
        self.report = report
        self.submit = submit
        self.batch: Batch | None = None

    async def send(self) -> int:
        """Submits and leaves; the exit code. Raises: ComfyError."""
        async with self._ready() as (session, workflow):
            for index, seed in enumerate(self.order.seeds(), start=1):
                job = await session.submit(workflow.with_seed(seed), **self.submit)
                self.report.left(index, job, session)
        return DONE

    async def finish(self, in_flight: int, timeout: float | None) -> int:
        """Submits, watches and saves; the exit code. Raises: ComfyError."""
        from async_comfy.cli.batch import Batch
        from async_comfy.cli.order import variants

        async with self._ready() as (session, workflow):
            record = self.order.record(workflow)
            left = variants(workflow, record)
            self.batch = Batch(left, self.order.album(record), self.report, timeout, self.submit)
            with self.report:
                self.report.begin(self.order.name, self.order.count, len(record.done))
                return await self.batch.run([session], in_flight)

    def interrupted(self) -> None:
        """Ctrl-C was pressed."""
        if self.batch is not None:
            self.batch.interrupted()

    @asynccontextmanager
    async def _ready(self) -> "AsyncIterator[tuple[Session, Workflow]]":
        """A connection, and the workflow in a form that runs there. What is fatal is told to the report."""
        try:
            workflow = self.order.load()
            async with self._connected(workflow) as session:
                yield session, await self.order.resolve(workflow, session)
        except ComfyError as error:
            self.report.fatal(error)
            raise

    @asynccontextmanager
    async def _connected(self, workflow: "Workflow") -> "AsyncIterator[Session]":
        session = self.server.session()
        try:
            await session.open()
        except NetworkError as error:
            if workflow.format == "ui":
                error.hint += NEEDS_SERVER
            raise
        try:
            yield session
        finally:
            await session.close()


NEEDS_SERVER = (
    " The file is in the editor's format, which is converted with a server's list of nodes; "
    "or choose Workflow > Export (API) in the editor, and run that file."
)
