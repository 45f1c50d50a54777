"""`async-comfy queue`: what runs and what waits on a server."""

import json
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Any

import click

from async_comfy import NotComfyUI
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean

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

    rows = drive(_list(server))
    for row in rows:
        click.echo(json.dumps(row) if as_json else _line(row))
    if not rows and not as_json:
        click.echo("Nothing runs, nothing waits.", err=True)


async def _list(server: Server) -> list[dict[str, Any]]:
    async with server.session() as session:
        try:
            return list(_rows(await session.queue.items()))
        except (KeyError, TypeError, ValueError):
            raise NotComfyUI("What answers there has no queue.", hint="Check the address.") from None


def _rows(items: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """The server's lists [number, prompt id, prompt, ...] by name, the next one first."""
    for state, key in (("running", "queue_running"), ("waiting", "queue_pending")):
        for number, prompt_id, prompt, *_ in sorted(items[key], key=itemgetter(0)):
            yield {"state": state, "prompt_id": prompt_id, "number": number, "nodes": len(prompt)}


def _line(row: Mapping[str, Any]) -> str:
    return clean(f"{row['state']}  {row['prompt_id']}  {row['nodes']} nodes")
