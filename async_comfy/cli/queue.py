"""`async-comfy queue`: what runs and what waits on a server."""

import json
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import click

from async_comfy import NotComfyUI
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean

if TYPE_CHECKING:
    from async_comfy import Session

EPILOG = """\b
Example:
  async-comfy queue --server http://127.0.0.1:8188
"""


@click.command(epilog=EPILOG)
@click.option(
    "--json", "as_json", is_flag=True, help='One object a line: "state", "prompt_id", "number", "nodes".'
)
@server_options
def queue(server: Server, as_json: bool) -> None:
    """List the jobs that run and wait.

    Everybody's, in the order in which they run.
    """
    from async_comfy.cli.interrupt import drive

    jobs = drive(_list(server))
    for job in jobs:
        click.echo(json.dumps(job) if as_json else line(job))
    if not jobs and not as_json:
        click.echo("Nothing runs, nothing waits.", err=True)


async def _list(server: Server) -> list[dict[str, Any]]:
    async with server.session() as session:
        return await rows(session)


async def rows(session: "Session") -> list[dict[str, Any]]:
    """What runs and waits, the next one first. Raises: NotComfyUI."""
    try:
        return list(_rows(await session.queue.items()))
    except (KeyError, TypeError, ValueError):
        raise NotComfyUI("What answers there has no queue.", hint="Check the address.") from None


def _rows(items: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """The server's lists [number, prompt id, prompt, ...] by name, the next one first."""
    for state, key in (("running", "queue_running"), ("waiting", "queue_pending")):
        for number, prompt_id, prompt, *_ in sorted(items[key], key=itemgetter(0)):
            yield {"state": state, "prompt_id": prompt_id, "number": number, "nodes": len(prompt)}


def line(row: Mapping[str, Any]) -> str:
    """One of the rows, for people."""
    return clean(f"{row['state']}  {row['prompt_id']}  {row['nodes']} nodes")
