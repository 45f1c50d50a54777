"""`async-comfy logs`: what a server writes to its log."""

import json

import click

from async_comfy.cli.interrupt import Interrupted
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean

EPILOG = """\b
Examples:
  async-comfy logs
  async-comfy logs -f

With --json each line is an object: time (of the server), text.
"""


@click.command(epilog=EPILOG)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is logged from now on, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each piece.")
@server_options
def logs(server: Server, follow: bool, as_json: bool) -> None:
    """Show the server's log.

    What the server still remembers: some hundred lines.
    """
    from async_comfy.cli.interrupt import drive

    try:
        drive(_tell(server, follow=follow, as_json=as_json))
    except Interrupted:
        if not follow:
            raise  # with --follow this is how it is meant to end


async def _tell(server: Server, *, follow: bool, as_json: bool) -> None:
    async with server.session() as session:
        for entry in await session.logs.entries():
            _show(entry.time, entry.text, as_json=as_json)
        if follow:
            async for entry in session.logs.follow():
                _show(entry.time, entry.text, as_json=as_json)


def _show(time: str | float, text: str, *, as_json: bool) -> None:
    """A piece as it was written: not each of them ends its line. A progress bar's returns become ends."""
    if as_json:
        click.echo(json.dumps({"time": time, "text": text}))
    else:
        click.echo(clean(click.unstyle(text).replace("\r\n", "\n").replace("\r", "\n")), nl=False)
