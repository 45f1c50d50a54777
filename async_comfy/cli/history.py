"""`async-comfy history`: what ended on a server, and what it made."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from async_comfy import NotFound
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean

if TYPE_CHECKING:
    from async_comfy import Session
    from async_comfy.cli.ended import Ended

SHOWN = 20  # a screenful; a long-lived server keeps ten thousand

EPILOG = """\b
Examples:
  async-comfy history --max 5
  async-comfy history 0b5c1d5e-6d0c-4c5e-9a53-3f6c8a2d7f10
  async-comfy history --json

With --json each line is an object: prompt_id, state (completed, failed, cancelled), number, nodes, ran_s,
files (node, kind, filename, subfolder, folder), texts, reason.

\b
Exit codes: 0 done, 1 it is not in the history; 2, 3 and 4 as for every command.
"""


@click.command(epilog=EPILOG)
@click.argument("prompt_id", required=False)
@click.option(
    "--max",
    "most",
    type=click.IntRange(1),
    default=SHOWN,
    show_default=True,
    metavar="N",
    help="At most so many, the newest.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each job.")
@server_options
def history(server: Server, prompt_id: str | None, most: int, as_json: bool) -> None:
    """List the jobs that ended.

    Everybody's, the newest first. With a PROMPT_ID that one, with its files.
    """
    from async_comfy.cli.interrupt import drive

    found = drive(_one(server, prompt_id) if prompt_id else _newest(server, most))
    for ended in found:
        for line in [json.dumps(ended.as_dict())] if as_json else lines(ended, whole=bool(prompt_id)):
            click.echo(clean(line))
    if not found and not as_json:
        click.echo("Nothing ended yet.", err=True)


async def _newest(server: Server, most: int) -> "list[Ended]":
    from async_comfy.cli.ended import read

    async with server.session() as session:
        entries = await session.history.list(most)
    ended = [read(prompt_id, entry) for prompt_id, entry in entries.items() if isinstance(entry, dict)]
    return ended[::-1]


async def _one(server: Server, prompt_id: str) -> "list[Ended]":
    async with server.session() as session:
        return [await look_up(session, prompt_id)]


async def look_up(session: "Session", prompt_id: str) -> "Ended":
    """One job that ended. Raises: NotFound, which says where it is instead."""
    from async_comfy.cli.ended import read

    entry = await session.history.get(prompt_id)
    if entry is not None:
        return read(prompt_id, entry)
    ids = await session.queue.ids()
    if prompt_id in ids.running or prompt_id in ids.pending:
        raise NotFound(f"{prompt_id} has not ended yet.", status=404, hint="`async-comfy queue` lists it.")
    raise NotFound(
        f"The server's history has no {prompt_id}.",
        status=404,
        hint="`async-comfy history` lists what it has.",
    )


def lines(ended: "Ended", *, whole: bool) -> Iterator[str]:
    """A job for people: one line, or with all that it made."""
    took = "" if ended.ran_s is None else f"  {ended.ran_s:.1f} s"
    count = len(ended.files)
    made = "" if whole or not count else f"  {count} file{'s' if count > 1 else ''}"
    reason = f"  {ended.reason}" if ended.reason else ""
    yield f"{ended.state:<9}  {ended.prompt_id}  {ended.nodes} nodes{took}{made}{reason}"
    if whole:
        yield from (f"  {file.path}" for file in ended.files)
        yield from (f"  {text}" for text in ended.texts)
