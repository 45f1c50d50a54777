"""`async-comfy doctor`: why a server cannot be reached, one step after the other."""

import json
from typing import TYPE_CHECKING

import click

from async_comfy.cli.exits import DONE
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean

if TYPE_CHECKING:
    from async_comfy.cli.examination import Finding

EPILOG = """\b
Examples:
  async-comfy doctor --server https://comfy.example.org/gpu1/
  async-comfy doctor --json

What a later step needs is not tried once an earlier one failed.

With --json each line is an object: step, ok, found, hint.

\b
Exit codes: that of the first step that failed. 0 all is well, 1 an old version or a wrong clock,
2 no address, 3 it cannot be reached or is no ComfyUI, 4 access is denied.
"""


@click.command(epilog=EPILOG)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each step.")
@server_options
@click.pass_context
def doctor(context: click.Context, server: Server, as_json: bool) -> None:
    """Find out why a server cannot be reached.

    Proxy, name, connection, TLS, HTTP, version, clock, origin, event socket: each a line, with what to do.
    """
    from async_comfy.cli.interrupt import drive

    context.exit(drive(_examine(server, as_json=as_json)))


async def _examine(server: Server, *, as_json: bool) -> int:
    from async_comfy.cli.examination import examine

    code = DONE
    async for finding in examine(server):
        click.echo(clean(json.dumps(finding.as_dict()) if as_json else _line(finding)))
        code = code or finding.code
    return code


def _line(finding: "Finding") -> str:
    said = f"{finding.step:<10} {'failed' if finding.code else 'ok':<6} {finding.found}"
    return f"{said}\n{' ' * 18}{finding.hint}" if finding.hint else said
