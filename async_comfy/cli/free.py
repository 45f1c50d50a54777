"""`async-comfy free`: gives the memory of a server, or of a fleet, back."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from async_comfy import ComfyError
from async_comfy.cli.exits import DONE, FAILED, code, complaint
from async_comfy.cli.server import Server, server_options

if TYPE_CHECKING:
    from async_comfy import Session

EPILOG = """\b
Examples:
  async-comfy free
  async-comfy free --keep-results
  async-comfy free --fleet fleet.toml

A server where anything runs or waits, of whoever, is left alone, since the next prompt there would have to
load again. With --force it is asked all the same: it frees as soon as the prompt that runs is through.

\b
Exit codes: 0 done, 1 a server was left alone; 2, 3 and 4 as for every command.
"""


@click.command(epilog=EPILOG)
@click.option(
    "--keep-results", is_flag=True, help="Unload the models, and keep what nodes made for later runs."
)
@click.option(
    "--fleet",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Every server of a fleet.toml, instead of one.",
)
@click.option("--force", is_flag=True, help="Also where something runs or waits.")
@click.option("--json", "as_json", is_flag=True, help="One object for each server: what was asked for.")
@server_options
@click.pass_context
def free(
    context: click.Context,
    /,
    server: Server,
    keep_results: bool,
    file: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Free a server's memory.

    Models are unloaded and results forgotten. No job is stopped.
    """
    from async_comfy.cli.interrupt import drive

    asked = {"unload_models": True, "free_memory": not keep_results}
    if file is None:
        context.exit(drive(_one(server.session(), server.url, asked, force=force, as_json=as_json)))
    context.exit(drive(_all(file, asked, force=force, as_json=as_json)))


async def _one(session: "Session", name: str, asked: dict[str, bool], *, force: bool, as_json: bool) -> int:
    """Asks one server; the exit code. Raises: ComfyError."""
    async with session:
        busy = await session.queue.remaining()
        left_alone = bool(busy) and not force
        if not left_alone:
            await session.system.free(**asked)
    if as_json:
        told: dict[str, Any] = {"server": name, "asked": None if left_alone else asked, "queue": busy}
        click.echo(json.dumps(told))
    else:
        click.echo(_told(name, busy, left_alone), err=True)
    return FAILED if left_alone else DONE


def _told(name: str, busy: int, left_alone: bool) -> str:
    if left_alone:
        return f"{name}: left alone, it has {busy} to do; --force asks it all the same"
    return f"{name}: asked, memory is freed {'once the running prompt is through' if busy else 'now'}"


async def _all(file: Path, asked: dict[str, bool], *, force: bool, as_json: bool) -> int:
    """Asks every server of a fleet; the worst exit code. One that is away does not keep the others."""
    from async_comfy import Session
    from async_comfy.cli.fleet_file import load

    worst = DONE
    for server in load(file).servers:
        try:
            ended = await _one(
                Session(server.url, **server.options), server.name, asked, force=force, as_json=as_json
            )
        except ComfyError as error:
            click.echo(f"{server.name}: {complaint(error)}", err=True)
            ended = code(error)
        worst = max(worst, ended)
    return worst
