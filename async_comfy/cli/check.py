"""`async-comfy check`: what a server would refuse, before anything is sent."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from async_comfy.cli.exits import DONE, REFUSED
from async_comfy.cli.node_list import node_list, object_info_option
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean

if TYPE_CHECKING:
    from async_comfy.workflow import Finding

EPILOG = """\b
Examples:
  async-comfy check workflow.json --server http://127.0.0.1:8188
  async-comfy check workflow.json --object-info object_info.json --json

With --json each line is an object: severity (error, warning, note), kind, message, node, title,
class_type, input, given, allowed, hint.

\b
Exit codes: 0 nothing but warnings and notes, 4 the server would refuse it;
2 and 3 as for every command.
"""


@click.command(epilog=EPILOG)
@click.argument("workflow", type=click.Path())
@object_info_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each finding.")
@server_options
@click.pass_context
def check(
    context: click.Context, /, server: Server, workflow: str, object_info: Path | None, as_json: bool
) -> None:
    """Check a WORKFLOW without running it.

    Finds what the server's own validation would find, and what would surprise.
    """
    from async_comfy import Workflow

    found = Workflow.load(workflow)
    known = node_list(found, server, object_info)
    context.exit(_tell(found.check(known, api_key=server.partner_key is not None), as_json=as_json))


def _tell(findings: "Sequence[Finding]", *, as_json: bool) -> int:
    for finding in findings:
        click.echo(clean(json.dumps(finding.as_dict(), default=repr) if as_json else str(finding)))
    if not findings:
        click.echo("Nothing found: it should run.", err=True)
    return REFUSED if any(finding.severity == "error" for finding in findings) else DONE
