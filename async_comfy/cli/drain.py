"""`async-comfy drain`: no new work for a server of a fleet, and a word when it is empty."""

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from async_comfy import NetworkError
from async_comfy.cli.exits import DONE
from async_comfy.cli.server import GIVE_UP_S

if TYPE_CHECKING:
    from async_comfy import Server

PAUSE_S = 0.25  # between glances at what the server's events told; costs nothing
SETTLE_S = 11.0  # pools read the file every ten seconds: until then one may still send something

EPILOG = """\b
Examples:
  async-comfy drain gpu2 --fleet fleet.toml
  async-comfy drain gpu2 --undo

It writes `drain = true` to the server in the file. Pools that follow the file (they do unless told not to)
give it no new jobs then; what it has, it finishes. The command returns when nothing runs or waits there, of
whoever, and pools had the time to read the file. --undo takes the line out again, and the server works.

\b
Exit codes: 0 done, 2 there is no such server, or the file is wrong, 3 the server cannot be reached: the line
is written all the same; 130 interrupted: it stays written, too.
"""


@click.command(epilog=EPILOG)
@click.argument("server")
@click.option(
    "--fleet",
    "file",
    type=click.Path(path_type=Path),
    default=Path("fleet.toml"),
    show_default=True,
    metavar="FILE",
    help="The fleet's file; comments and layout stay as they are.",
)
@click.option("--undo", is_flag=True, help="It takes jobs again.")
@click.option("--no-wait", is_flag=True, help="Write it, and leave.")
@click.pass_context
def drain(context: click.Context, /, server: str, file: Path, undo: bool, no_wait: bool) -> None:
    """Give a SERVER of a fleet no new jobs.

    SERVER is its name in the fleet file, or its url. Returns when nothing runs or waits there.
    """
    from async_comfy.cli.fleet_file import load, meant, write
    from async_comfy.cli.interrupt import drive

    found = meant(load(file), server, file)
    write(file, found, draining=not undo)
    if undo:
        click.echo(f"{found.name} takes jobs again", err=True)
    elif no_wait:
        click.echo(f"{found.name} is given nothing new", err=True)
    else:
        context.exit(drive(_empty(found)))


async def _empty(server: "Server") -> int:
    """Returns when the server's queue is empty. Raises: NetworkError."""
    import anyio

    from async_comfy import Session

    until = anyio.current_time() + SETTLE_S
    click.echo(f"{server.name} is given nothing new; waiting until it is empty", err=True)
    try:
        async with Session(server.url, **{"give_up_s": GIVE_UP_S, **server.options}) as session:
            seen: int | None = None
            for _ in count():
                left = session.statistics().queue_remaining
                if session.failure is not None or (left == 0 and anyio.current_time() > until):
                    break
                if left != seen and left is not None:
                    click.echo(f"{left} to do", err=True)
                seen = left
                await anyio.sleep(PAUSE_S)
            if session.failure is not None:
                raise session.failure
    except NetworkError as error:
        error.hint = f"It is marked in the file all the same; `drain {server.name} --undo` takes that back."
        raise
    click.echo(f"{server.name} is empty", err=True)
    return DONE
