"""`async-comfy templates`: the example workflows of a server, and a run of one."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from async_comfy import CallerError, NotFound
from async_comfy.cli.listing import Listing
from async_comfy.cli.run import run
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean
from async_comfy.filenames import safe_name

if TYPE_CHECKING:
    from async_comfy import Session

LISTS = "`async-comfy templates` lists what it has."

OF_RUN = {"settings", "seed", "count", "jobs", "output", "naming", "as_json", "preview", "no_preview"}
OF_RUN |= {"no_wait", "timeout", "partial", "front"}
"""The options that make sense for one workflow on one server."""

EPILOG = """\b
Examples:
  async-comfy templates list upscale
  async-comfy templates run image_z_image_turbo --set "Prompt.text=a red fox in snow" --seed random

Those of the editor go by their NAME, those of custom nodes by PACKAGE/NAME.
"""

LIST_EPILOG = """\b
Examples:
  async-comfy templates list
  async-comfy templates list video minimax --json

With --json each line is an object: template (as the other commands take it), package, name, title,
description, models.
"""

SHOW_EPILOG = """\b
Examples:
  async-comfy templates show image_z_image_turbo --save z_image.json
  async-comfy params z_image.json
  async-comfy templates show my_nodes/upscale --json

\b
Exit codes: 0 done, 1 the server has no such template; 2, 3 and 4 as for every command.
"""

RUN_EPILOG = """\b
Examples:
  async-comfy templates run image_z_image_turbo
  async-comfy templates run my_nodes/upscale --set "LoadImage.image=fox.png" --output foxes

The options, --json and Ctrl-C are as for `run`. Models that the server lacks are named before anything is
sent.

\b
Exit codes: 0 done, 1 the job failed, or the server has no such template, 2 usage, 3 server unreachable,
4 a model is missing, or the server refused, 130 interrupted.
"""


@click.group(cls=Listing, epilog=EPILOG)
def templates() -> None:
    """List, show and run the workflow templates of a server.

    Those of the editor, and those that custom nodes bring.
    """


@templates.command("list", epilog=LIST_EPILOG)
@click.argument("words", nargs=-1, metavar="[TEXT]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each template.")
@server_options
def list_(server: Server, words: tuple[str, ...], as_json: bool) -> None:
    """List the templates of a server.

    TEXT finds those that have all its words in their name, title, description or models.
    """
    from async_comfy.cli.interrupt import drive

    wanted = " ".join(words).lower().split()
    every = drive(_list(server))
    found = [one for one in every if all(word in json.dumps(one).lower() for word in wanted)]
    widest = max((len(one["template"]) for one in found), default=0)
    for one in found:
        line = f"{one['template'].ljust(widest)}  {one['title']}".rstrip()
        click.echo(clean(json.dumps(one) if as_json else line))
    if every and not found:
        raise CallerError(f"No template has {' '.join(words)!r} in it.", hint=LISTS)
    if not found and not as_json:
        click.echo("The server comes without templates.", err=True)


async def _list(server: Server) -> list[dict[str, Any]]:
    async with server.session() as session:
        brought = await session.templates.list()
        offered = await session.templates.editor()
    of_nodes = [
        _as_dict(f"{package}/{name}", package, str(name))
        for package, names in sorted(brought.items())
        for name in names
    ]
    of_editor = [_as_dict(one.name, "", one.name, one.title, one.description, one.models) for one in offered]
    return of_nodes + of_editor


def _as_dict(
    template: str, package: str, name: str, title: str = "", description: str = "", models: Sequence[str] = ()
) -> dict[str, Any]:
    about = {"title": title, "description": description, "models": list(models)}
    return {"template": template, "package": package, "name": name, **about}


@templates.command(epilog=SHOW_EPILOG)
@click.argument("template")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the workflow there, for `run`; a file that is there is kept.",
)
@click.option("--json", "as_json", is_flag=True, help="In one line.")
@server_options
def show(server: Server, template: str, save: Path | None, as_json: bool) -> None:
    """Show a TEMPLATE: the workflow, as the editor saves it."""
    from async_comfy.cli.interrupt import drive

    text = json.dumps(drive(_show(server, template)), ensure_ascii=as_json, indent=None if as_json else 2)
    click.echo(clean(text) if save is None else _save(text, save))


async def _show(server: Server, template: str) -> dict[str, Any]:
    async with server.session() as session:
        return await _get(session, template)


async def _get(session: "Session", template: str) -> dict[str, Any]:
    package, slash, name = template.rpartition("/")
    if not name or (slash and not package):
        raise CallerError(f"{template!r} is neither NAME nor PACKAGE/NAME.", hint=LISTS)
    try:
        if slash:
            return await session.templates.get(package, name)
        return await session.templates.from_editor(name)
    except NotFound:
        raise NotFound(f"The server has no template {template}.", status=404, hint=LISTS) from None


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


@templates.command("run", epilog=RUN_EPILOG)
@click.argument("template")
@server_options
@click.pass_context
def run_template(context: click.Context, /, server: Server, template: str, **given: Any) -> None:
    """Run a TEMPLATE and save what it makes.

    It is converted with the server's own list of nodes. For each run stdout gets one line, the paths that
    were saved.
    """
    from async_comfy.cli.interrupt import drive

    document = drive(_fit_to_run(server, template, given["settings"]))
    with TemporaryDirectory(prefix="async-comfy-") as folder:
        file = Path(folder) / f"{safe_name(template.rpartition('/')[2])}.json"
        file.write_text(json.dumps(document), encoding="utf-8")
        workflow = next(param for param in run.params if isinstance(param, click.Argument))
        files = str(file) if workflow.nargs == 1 else (str(file),)
        context.invoke(run, server=server, **{str(workflow.name): files}, **given)


run_template.params[1:1] = [option for option in run.params if option.name in OF_RUN]


async def _fit_to_run(server: Server, template: str, settings: Sequence[str]) -> dict[str, Any]:
    """The template, if it would run there. Raises: Rejected where not, NotFound, WorkflowError."""
    from async_comfy.cli.fitting import fit

    async with server.session() as session:
        document = await _get(session, template)
        await fit(session, document, template, settings)
    return document
