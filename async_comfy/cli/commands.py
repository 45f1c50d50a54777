"""The commands by name, and what is common to them. Imports click alone: `--help` must be quick."""

import logging
from typing import Any

import click

from async_comfy import ComfyError, __version__
from async_comfy.cli import exits
from async_comfy.cli.cancel import cancel
from async_comfy.cli.check import check
from async_comfy.cli.completion import completion
from async_comfy.cli.convert import convert
from async_comfy.cli.demo import demo
from async_comfy.cli.doctor import doctor
from async_comfy.cli.download import download
from async_comfy.cli.drain import drain
from async_comfy.cli.fleet import fleet
from async_comfy.cli.free import free
from async_comfy.cli.history import history
from async_comfy.cli.interrupt import Interrupted
from async_comfy.cli.logs import logs
from async_comfy.cli.models import models
from async_comfy.cli.nodes import nodes
from async_comfy.cli.params import params
from async_comfy.cli.profiles import profiles
from async_comfy.cli.queue import queue
from async_comfy.cli.rerun import rerun
from async_comfy.cli.run import run
from async_comfy.cli.simulate import simulate
from async_comfy.cli.stats import stats
from async_comfy.cli.stop import interrupt
from async_comfy.cli.templates import templates
from async_comfy.cli.terminal import clean
from async_comfy.cli.upload import upload
from async_comfy.cli.warm import warm
from async_comfy.cli.watch import watch

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)

EPILOG = """\b
Examples:
  async-comfy demo
  async-comfy run workflow.json --server http://127.0.0.1:8188 --seed random --count 10
  async-comfy doctor --server https://comfy.example.org/gpu1/

`COMMAND --help` has examples of each. Which server is meant: --server with an address or a name that
`profiles` keeps, else ASYNC_COMFY_URL, else the default of `profiles`, else http://127.0.0.1:8188.

\b
Exit codes:
""" + "\n".join(f"  {number:<4} {text}" for number, text in exits.MEANINGS.items())


class Commands(click.Group):
    """A group whose commands end with a code and a clear line, whatever goes wrong on purpose."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """By what they are for, not by their letters."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return self._ended(ctx)
        except (OSError, BaseExceptionGroup) as error:
            trouble = _of_system(error)
            if trouble is None:
                raise
            if isinstance(trouble, BrokenPipeError):
                raise trouble from None  # whoever read along has left (`| head`): click ends without a word
            click.echo(clean(f"error: {_told(trouble)}."), err=True)
            ctx.exit(exits.FAILED)

    def _ended(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            click.echo(f"error: {error.format_message()}\n{_more_help(error, ctx)}", err=True)
            ctx.exit(exits.USAGE)
        except ComfyError as error:
            click.echo(exits.complaint(error), err=True)
            ctx.exit(exits.code(error))
        except Interrupted as interrupted:
            ctx.exit(interrupted.code)
        except KeyboardInterrupt:
            ctx.exit(exits.INTERRUPTED)


def _of_system(error: BaseException) -> OSError | None:
    """What the system said, also of one of many tasks: the disk is full, nobody reads. None for another."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_of_system, error.exceptions)), None)
    return error if isinstance(error, OSError) else None


def _told(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else f"Cannot write the output: {reason}"


def _more_help(error: click.UsageError, context: click.Context) -> str:
    return f"`{(error.ctx or context).command_path} --help` shows how it is used."


@click.group(
    cls=Commands,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="async-comfy")
@click.option("-v", "--verbose", count=True, help="Say what happens inside; -vv says more.")
def commands(verbose: int) -> None:
    """Drive ComfyUI from the command line."""
    if verbose:
        level = _LEVELS[min(verbose, len(_LEVELS) - 1)]
        logging.basicConfig(level=level, format="%(asctime)s %(name)s: %(message)s")


_COMMANDS = (
    run,
    rerun,
    queue,
    watch,
    history,
    cancel,
    interrupt,
    free,
    fleet,
    drain,
    warm,
    stats,
    upload,
    download,
    doctor,
    check,
    convert,
    params,
    nodes,
    models,
    logs,
    templates,
    profiles,
    simulate,
    demo,
    completion,
)
for _command in _COMMANDS:
    commands.add_command(_command)
