"""`async-comfy run`: workflows, once or for each of many parameters, into well-ordered folders."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from async_comfy.cli.naming import DEFAULT, Naming
from async_comfy.cli.number import check_seed, finite
from async_comfy.cli.preview import NO_PREVIEW, Preview, preview_options
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import short

if TYPE_CHECKING:
    from async_comfy.cli.place import AtFleet, AtServer

CREDENTIALS = {"api_key": "--api-key", "bearer": "--bearer", "headers": "--header"}
CREDENTIALS |= {"partner_key": "--partner-key"}
POOLED = ("lane", "priority", "deadline", "key", "retry")
MOST_DIGITS = 3  # of how often to try

EPILOG = """\b
Examples:
  async-comfy run workflow.json --set "6.text=a red fox in snow"
  async-comfy run workflow.json --count 100 --seed random --output foxes
  async-comfy run workflow.json --each params.csv --output foxes
  async-comfy run workflows/ --fleet fleet.toml --lane batch

Ctrl-C cancels the jobs on the server; the same command again goes on where it stopped. After a crash it
asks the servers first what became of the prompts that they had: nothing runs twice.

The columns of --each are the names that `async-comfy params` shows. All rows are checked before anything is
sent. With --each, or with several workflows, what is done stays done, and what failed is run again with
--retry-failed.

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
  end        done, failed, left: of many runs, the last line
  note       text, for people

\b
Exit codes: 0 done, 1 a job failed, 2 usage, 3 server unreachable, 4 refused,
130 interrupted, 143 ended by SIGTERM.
"""


class SeedRule(click.ParamType[str]):
    """How seeds vary over the runs."""

    name = "seed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The rule as it was written. Raises: click.BadParameter."""
        text = str(value)
        number = text.removeprefix("+")
        if text not in {"random", "fixed"} and not (number.isascii() and number.isdecimal()):
            self.fail(f'{short(text)!r} is no seed: write a number, "random", "fixed" or "+1".', param, ctx)
        check_seed(number, self, param, ctx)
        return text


class RetryRule(click.ParamType[str | int]):
    """When a pool runs again what had begun."""

    name = "retry"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        """The rule as `Pool.submit` takes it. Raises: click.BadParameter."""
        text = str(value)
        if text in {"never", "if_lost"}:
            return text
        if not (text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS):
            self.fail(f"{short(text)!r} is no rule: write never, if_lost, or how often.", param, ctx)
        return int(text)


def _settings(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    for text in given:
        if "." not in text.partition("=")[0] or "=" not in text:
            raise click.BadParameter(f'{short(text)!r} is not NODE.INPUT=VALUE, such as "6.text=a red fox".')
    return given


def _naming(context: click.Context, option: click.Parameter, given: str) -> Naming:
    return Naming(given)


@click.command(epilog=EPILOG)
@click.argument("workflows", nargs=-1, required=True, type=click.Path(), metavar="WORKFLOW...")
@click.option(
    "--each",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="One run for each row of a .csv, .tsv or .jsonl file, whose columns are parameters.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Do at most so many runs in this call.")
@click.option("--retry-failed", is_flag=True, help="Also the runs that failed in an earlier call.")
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
@click.option(
    "--count",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="How many runs; with --each, or of several workflows, of each.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    help="How many runs to give to a server at a time.  [default: 3; with --fleet 16, of which few are sent]",
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
@preview_options
@click.option("--no-wait", is_flag=True, help="Submit, print the prompt ids, and leave.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    callback=finite,
    metavar="SECONDS",
    help="Cancel a job that runs longer; waiting in the queue does not count.",
)
@click.option("--partial", is_flag=True, help="Go on without the outputs that the server finds wrong.")
@click.option("--front", is_flag=True, help="Before everything that waits in the queue.")
@click.option(
    "--fleet",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Run on the servers of a fleet.toml, each job where there is room; --server then names one of them.",
)
@click.option("--lane", metavar="NAME", help="With --fleet: the class of jobs that these are.")
@click.option(
    "--priority",
    type=float,
    callback=finite,
    metavar="N",
    help="With --fleet: worth a minute of waiting a point.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(0, min_open=True),
    callback=finite,
    metavar="SECONDS",
    help="With --fleet: from now, by when they should be done; it orders, it does not cancel.",
)
@click.option("--key", metavar="NAME", help="With --fleet: whose they are; a lane is shared among keys.")
@click.option(
    "--retry",
    type=RetryRule(),
    metavar="never|if_lost|N",
    help="With --fleet: run again what had begun: where its server died, or N times whatever failed.",
)
@server_options
@click.pass_context
def run(
    context: click.Context,
    /,
    server: Server,
    workflows: tuple[str, ...],
    each: Path | None,
    limit: int | None,
    retry_failed: bool,
    settings: tuple[str, ...],
    seed: str | None,
    count: int,
    output: Path,
    naming: Naming,
    as_json: bool,
    jobs: int | None,
    preview: Preview,
    no_wait: bool,
    timeout: float | None,
    fleet: Path | None,
    **submit: Any,
) -> None:
    """Run WORKFLOWs and save what they make.

    WORKFLOW is a file: API format, the editor's format, or a picture, video or sound that ComfyUI made. A
    folder stands for the *.json in it. For each run stdout gets one line, the paths that were saved.
    """
    from async_comfy.cli.each import Sheet
    from async_comfy.cli.errand import Errand
    from async_comfy.cli.interrupt import drive
    from async_comfy.cli.order import Order
    from async_comfy.cli.report import choose_report

    if no_wait and fleet is not None:
        raise click.UsageError("--no-wait cannot go with --fleet: the pool's queue is in this process.")
    sheet = Sheet(each) if each is not None else None
    order = Order(workflows, settings, seed, count, output, naming, sheet, retry_failed, limit)
    verbose = bool(context.find_root().params.get("verbose"))
    report = choose_report(json=as_json, verbose=verbose, preview=NO_PREVIEW if no_wait else preview)
    asked = _submit(context, server, submit, previews=report.previews, pooled=fleet is not None)
    errand = Errand(order, _place(server, fleet), report, asked)
    work = errand.send() if no_wait else errand.finish(jobs, timeout)
    context.exit(drive(work, on_interrupt=errand.interrupted))


def _place(server: Server, fleet: Path | None) -> "AtServer | AtFleet":
    from async_comfy.cli.place import AtFleet, AtServer

    return AtServer(server) if fleet is None else AtFleet(fleet)


def _submit(
    context: click.Context, server: Server, given: dict[str, Any], *, previews: bool, pooled: bool
) -> dict[str, Any]:
    """The options of `Session.submit`, or of `Pool.submit`. Raises: click.UsageError."""
    chosen = {name: value for name in POOLED if (value := given.pop(name)) is not None}
    if not pooled:
        if chosen:
            raise click.UsageError(f"--{next(iter(chosen))} needs --fleet: one server has no lanes.")
        # Most servers make no previews unless asked.
        return {**given, **({"preview": "auto"} if previews else {})}
    typed = [name for name in given if given[name] and name == "front"]
    if typed:
        raise click.UsageError("--front cannot go with --fleet: write --priority.")
    for name, option in CREDENTIALS.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option} cannot go with --fleet: its file says what each server needs.")
    if context.get_parameter_source("url") is ParameterSource.COMMANDLINE:
        chosen["server"] = server.url
    if previews:
        chosen["extra_data"] = {"preview_method": "auto"}
    return {**chosen, "partial": given["partial"]}
