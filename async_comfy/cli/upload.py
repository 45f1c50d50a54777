"""`async-comfy upload`: files into the server's input folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from async_comfy import CallerError
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean

if TYPE_CHECKING:
    from async_comfy import Uploaded

EPILOG = """\b
Examples:
  async-comfy upload fox.png mask.png
  async-comfy run edit.json --set "1.image=$(async-comfy upload fox.png)"

For each file a line with the name that it has there, which LoadImage takes: where another file of its name is
there already, the server numbers it.

With --json each line is an object: file, path (what LoadImage takes), name, subfolder, folder.
"""


@click.command(epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--subfolder", default="", metavar="DIR", help="Below the server's input folder.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each file.")
@server_options
def upload(server: Server, files: tuple[Path, ...], subfolder: str, as_json: bool) -> None:
    """Upload FILEs to the server's input folder.

    All of them are looked at before the first one is sent.
    """
    from async_comfy.cli.interrupt import drive

    for file in files:
        with _readable(file):
            file.open("rb").close()
    drive(_send(server, files, subfolder, as_json=as_json))


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CallerError(f"Cannot read {file}: {reason}.", hint="Check the path.") from None


async def _send(server: Server, files: tuple[Path, ...], subfolder: str, *, as_json: bool) -> None:
    from async_comfy import File

    async with server.session() as session:
        for file in files:
            placed = await session.upload(File(file, name=file.name, subfolder=subfolder))
            click.echo(clean(json.dumps(_as_dict(file, placed)) if as_json else placed.path))


def _as_dict(file: Path, placed: "Uploaded") -> dict[str, str]:
    where = {"name": placed.name, "subfolder": placed.subfolder, "folder": placed.folder}
    return {"file": str(file), "path": placed.path, **where}
