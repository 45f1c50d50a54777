"""`async-comfy params`: what one would want to set in a workflow."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from async_comfy import NetworkError
from async_comfy.cli.node_list import node_list, object_info_option
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean, short

if TYPE_CHECKING:
    from async_comfy import Workflow
    from async_comfy.workflow import Parameter

EPILOG = """\b
Examples:
  async-comfy params workflow.json
  async-comfy params workflow.json --object-info object_info.json --json
"""


@click.command(epilog=EPILOG)
@click.argument("workflow", type=click.Path())
@object_info_option
@click.option(
    "--rules", metavar="FILE", help="A sidecar, TOML or JSON, that renames, pins, hides and bounds them."
)
@click.option("--json", "as_json", is_flag=True, help="As a JSON Schema.")
@server_options
def params(server: Server, workflow: str, object_info: Path | None, rules: str | None, as_json: bool) -> None:
    """List what can be set in a WORKFLOW.

    Prompts, seeds, sizes, models, files: by name, with the path that `run --set` takes, the value, and what
    it may be. Ranges and choices come from a server or its object_info.
    """
    from async_comfy import Workflow

    loaded = Workflow.load(workflow)
    known = _known(loaded, server, object_info)
    ready = loaded.resolve(known) if known is not None else loaded
    found = ready.parameters(known, rules=rules)
    if as_json:
        click.echo(json.dumps(found.schema(Path(workflow).stem), indent=2))
        return
    for line in _lines(found):
        click.echo(clean(line))


def _known(workflow: "Workflow", server: Server, file: Path | None) -> Mapping[str, Any] | None:
    """The server's nodes; None without a server, where the workflow can do without."""
    try:
        return node_list(workflow, server, file)
    except NetworkError as error:
        if workflow.format == "ui":
            raise
        click.echo(f"{error.message} So there are no ranges and choices.", err=True)
        return None


def _lines(parameters: "Sequence[Parameter]") -> Iterator[str]:
    rows = [(one.name, one.path, _value(one), _takes(one)) for one in parameters]
    widths = [max(map(len, column), default=0) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _value(parameter: "Parameter") -> str:
    return short(json.dumps(parameter.default, ensure_ascii=False, default=repr))


def _takes(parameter: "Parameter") -> str:
    if parameter.choices is not None:
        return short(", ".join(map(str, parameter.choices)))
    if parameter.minimum is None and parameter.maximum is None:
        return ""
    return f"{_bound(parameter.minimum)} to {_bound(parameter.maximum)}"


def _bound(number: float | None) -> str:
    if number is None:
        return "any"
    return str(int(number)) if number == int(number) else str(number)
