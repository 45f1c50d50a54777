"""`async-comfy templates`: the example workflows that a server's custom nodes bring."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from async_comfy import CallerError, NotFound
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean

EPILOG = """\b
Examples:
  async-comfy templates
  async-comfy templates my_nodes/upscale --save upscale.json
  async-comfy run upscale.json

With --json each line is an object: package, name; of one template the workflow itself.

\b
Exit codes: 0 done, 1 the server has no such template; 2, 3 and 4 as for every command.
"""


@click.command(epilog=EPILOG)
@click.argument("template", required=False, metavar="[PACKAGE/NAME]")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the workflow there, for `run`; a file that is there is kept.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each template.")
@server_options
def templates(server: Server, template: str | None, save: Path | None, as_json: bool) -> None:
    """List the workflow templates of a server.

    Those that its custom nodes bring. With PACKAGE/NAME that workflow itself, as the editor saves it.
    """
    from async_comfy.cli.interrupt import drive

    if template is None:
        if save is not None:
            raise click.UsageError("--save needs the PACKAGE/NAME of a template.")
        _show(drive(_list(server)), as_json=as_json)
        return
    text = json.dumps(drive(_get(server, template)), ensure_ascii=as_json, indent=None if as_json else 2)
    if save is None:
        click.echo(clean(text))
    else:
        click.echo(_save(text, save))


def _show(found: Sequence[tuple[str, str]], *, as_json: bool) -> None:
    for package, name in found:
        told = json.dumps({"package": package, "name": name}) if as_json else f"{package}/{name}"
        click.echo(clean(told))
    if not found and not as_json:
        click.echo("No custom node there brings templates.", err=True)


async def _list(server: Server) -> list[tuple[str, str]]:
    async with server.session() as session:
        found = await session.templates.list()
    return [(package, str(name)) for package, names in sorted(found.items()) for name in names]


async def _get(server: Server, template: str) -> dict[str, Any]:
    package, slash, name = template.partition("/")
    if not (package and slash and name):
        raise CallerError(f"{template!r} is not PACKAGE/NAME.", hint="`async-comfy templates` lists them.")
    async with server.session() as session:
        try:
            return await session.templates.get(package, name)
        except NotFound:
            hint = "`async-comfy templates` lists what it has."
            raise NotFound(f"The server has no template {template}.", status=404, hint=hint) from None


def _save(text: str, file: Path) -> str:
    try:
        with file.open("x", encoding="utf-8") as disk:
            disk.write(text)
    except FileExistsError:
        raise CallerError(f"{file} exists.", hint="Choose another --save.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CallerError(f"Cannot write {file}: {reason}.", hint="Choose another --save.") from None
    return clean(str(file))
