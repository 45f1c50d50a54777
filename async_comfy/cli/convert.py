"""`async-comfy convert`: the editor's format made into the one that servers run."""

import json
from pathlib import Path

import click

from async_comfy.cli.node_list import node_list, object_info_option
from async_comfy.cli.server import Server, server_options

EPILOG = """\b
Examples:
  async-comfy convert workflow.json -o workflow_api.json
  async-comfy convert picture.png --object-info object_info.json
  async-comfy convert workflow.json --python -o fox.py
"""


@click.command(epilog=EPILOG)
@click.argument("workflow", type=click.Path())
@object_info_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write it there instead of stdout.",
)
@click.option("--guess", is_flag=True, help="Make the best of what cannot be converted with certainty.")
@click.option(
    "--python",
    "as_python",
    is_flag=True,
    help="As a Python program that makes it, with the typed functions of `nodes --stubs`.",
)
@server_options
def convert(
    server: Server,
    workflow: str,
    object_info: Path | None,
    output: Path | None,
    guess: bool,
    as_python: bool,
) -> None:
    """Convert a WORKFLOW to API format, or to Python.

    As the editor's own export does, with the list of nodes of a server.
    """
    from async_comfy import Workflow
    from async_comfy.workflow.document import write

    found = Workflow.load(workflow)
    known = node_list(found, server, object_info) if found.format == "ui" or as_python else {}
    found = found.resolve(known, strict=not guess)
    text = found.to_python(known) if as_python else json.dumps(found.to_api(), indent=2, ensure_ascii=False)
    if output is None:
        click.echo(text.rstrip("\n"))
        return
    if as_python:
        write(output, text.encode())
    else:
        found.save(output)
    click.echo(str(output))
