"""`async-comfy models`: the model files that a server has."""

import json
from typing import TYPE_CHECKING

import click

from async_comfy import NotFound
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean

if TYPE_CHECKING:
    from async_comfy import Session

SHOWN = 12  # folders named where none is near; servers with custom nodes have fifty

EPILOG = """\b
Examples:
  async-comfy models
  async-comfy models loras
  async-comfy models --json

With --json each line is an object: folder, name.

\b
Exit codes: 0 done, 1 the server has no such folder; 2, 3 and 4 as for every command.
"""


@click.command(epilog=EPILOG)
@click.argument("folder", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each file.")
@server_options
def models(server: Server, folder: str | None, as_json: bool) -> None:
    """List the model files of a server.

    By the names that nodes take; all kinds, or those in FOLDER: checkpoints, loras, vae, ...
    """
    from async_comfy.cli.interrupt import drive

    found = drive(_list(server, folder))
    for kind, name in found:
        told = name if folder else f"{kind}/{name}"
        click.echo(clean(json.dumps({"folder": kind, "name": name}) if as_json else told))
    if not found and not as_json:
        click.echo("There are no model files.", err=True)


async def _list(server: Server, folder: str | None) -> list[tuple[str, str]]:
    async with server.session() as session:
        kinds = await session.models.folders()
        if folder is not None and folder not in kinds:
            raise _unknown(folder, kinds)
        wanted = [folder] if folder else kinds
        return [(kind, str(name)) for kind in wanted for name in await _files(session, kind)]


async def _files(session: "Session", kind: str) -> list[str]:
    try:
        return await session.models.list(kind)
    except NotFound:  # it lists folders that it then does not serve: those of custom nodes, and its own
        return []


def _unknown(folder: str, kinds: list[str]) -> NotFound:
    from async_comfy.workflow.spelling import nearest

    near = nearest(folder, kinds, most=3) or kinds[:SHOWN]
    hint = f"There are among others: {', '.join(near)}."
    return NotFound(f"The server has no model folder {folder!r}.", status=404, hint=hint)
