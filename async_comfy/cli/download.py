"""`async-comfy download`: what a job made, or a file by its name."""

import json
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast
from uuid import UUID

import click

from async_comfy import CallerError
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean
from async_comfy.filenames import numbered, safe_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO, Literal

    from async_comfy import Session
    from async_comfy.cli.ended import Made

FOLDERS = ("output", "temp", "input")

EPILOG = """\b
Examples:
  async-comfy download 0b5c1d5e-6d0c-4c5e-9a53-3f6c8a2d7f10
  async-comfy download foxes/fox_00001_.png input/mask.png -o pictures

A name is looked for in the server's output folder, unless it begins with input/ or temp/. A file that is here
already is kept: the new one is called "fox (1).png". Of a job that made more, previews are left out.

With --json each line is an object: path (here), node, kind, filename, subfolder, folder (there).

\b
Exit codes: 0 done, 1 the server has no such job or file; 2, 3 and 4 as for every command.
"""


@click.command(epilog=EPILOG)
@click.argument("what", nargs=-1, required=True, metavar="PROMPT_ID|NAME...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("output"),
    show_default=True,
    metavar="DIR",
    help="Where files go.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each file.")
@server_options
def download(server: Server, what: tuple[str, ...], output: Path, as_json: bool) -> None:
    """Download what a job made, or files by name.

    For each file stdout gets its path.
    """
    from async_comfy.cli.album import check_writable
    from async_comfy.cli.interrupt import drive

    check_writable(output)
    drive(_download(server, what, output, as_json=as_json))


async def _download(server: Server, what: "Sequence[str]", output: Path, *, as_json: bool) -> None:
    async with server.session() as session:
        for one in what:
            for file in await _meant(session, one):
                path = await _save(session, file, output)
                click.echo(clean(json.dumps({"path": str(path), **file.as_dict()}) if as_json else str(path)))


async def _meant(session: "Session", what: str) -> "list[Made]":
    """The files of a job, or the one of that name. Raises: NotFound where there is no such job."""
    from async_comfy.cli.history import look_up

    if _is_prompt_id(what):
        files = (await look_up(session, what)).files
        if not files:
            click.echo(clean(f"{what} made no files"), err=True)
        return [file for file in files if file.folder != "temp"] or files
    return [_named(what)]


def _named(what: str) -> "Made":
    """The file of that name. Raises: CallerError where it is none."""
    from async_comfy.cli.ended import Made

    folder, *parts = PurePosixPath(what).parts or ("",)
    if folder not in FOLDERS:
        folder, parts = "output", [folder, *parts]
    if not parts or not parts[-1]:
        hint = "`async-comfy history PROMPT_ID` lists a job's files."
        raise CallerError(f"{what!r} names no file.", hint=hint)
    return Made("", "", parts[-1], "/".join(parts[:-1]), folder)


def _is_prompt_id(what: str) -> bool:
    try:
        return str(UUID(what)) == what.lower()
    except ValueError:
        return False


async def _save(session: "Session", file: "Made", folder: Path) -> Path:
    """Raises: NotFound where the server no longer has it, CallerError where it cannot be written."""
    where = cast("Literal['input', 'output', 'temp']", file.folder)
    data = await session.files.view(file.filename, folder=where, subfolder=file.subfolder)
    try:
        return _write(data, folder / safe_name(PurePosixPath(file.filename).name))
    except OSError as error:
        raise CallerError(
            f"Cannot write to {folder}: {error.strerror or error}.", hint="Choose another --output."
        ) from None


def _write(data: bytes, target: Path) -> Path:
    """The first free name from `target` on; whole, or not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    name = PurePosixPath(target.name)
    numbers = (target.with_name(numbered(name, number).name) for number in count(1))
    path, disk = next(filter(None, map(_claimed, chain([target], numbers))))
    with disk:
        try:
            disk.write(data)
            disk.flush()
        except BaseException:
            path.unlink()
            raise
    return path


def _claimed(path: Path) -> "tuple[Path, BinaryIO] | None":
    try:
        return path, path.open("xb")
    except FileExistsError:
        return None
