"""`async-comfy warm`: loads a workflow's models before the first job comes."""

import json
from itertools import count
from pathlib import Path

import click

from async_comfy.cli.exits import FAILED
from async_comfy.cli.terminal import clean

PATIENCE_S = 5.0  # for servers to join: a pool opens with the first
PAUSE_S = 0.1  # between glances at who has joined; costs nothing

EPILOG = """\b
Examples:
  async-comfy warm workflow.json --fleet fleet.toml --servers 2

It runs the workflow once at each server, with one step and nothing saved. A pool in another process does not
know of that, but its first jobs there find the models loaded.

\b
Exit codes: 0 done, 1 it failed, or fewer servers than asked for hold them, 2 usage,
3 no server can be reached, 4 refused, 130 interrupted.
"""


@click.command(epilog=EPILOG)
@click.argument("workflow")
@click.option(
    "--fleet",
    "file",
    type=click.Path(path_type=Path),
    default=Path("fleet.toml"),
    show_default=True,
    metavar="FILE",
    help="The fleet's file.",
)
@click.option(
    "--servers", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="How many servers."
)
@click.option("--json", "as_json", is_flag=True, help='One object: {"servers": [names]}.')
@click.pass_context
def warm(context: click.Context, /, workflow: str, file: Path, servers: int, as_json: bool) -> None:
    """Have servers load the models of a WORKFLOW.

    Prints the names of those that hold them now.
    """
    from async_comfy.cli.interrupt import drive

    names = drive(_warm(workflow, file, servers))
    for line in [json.dumps({"servers": names})] if as_json else names:
        click.echo(clean(line))
    if len(names) < servers:
        said = f"Only {len(names)} of {servers} hold them: the fleet has no more servers that are ready."
        click.echo(clean(f"error: {said}\n`async-comfy fleet {file}` shows what each one does."), err=True)
        context.exit(FAILED)


async def _warm(file: str, fleet: Path, servers: int) -> list[str]:
    import anyio

    from async_comfy import Pool, Workflow
    from async_comfy.cli.fleet_file import load

    workflow = Workflow.load(file)
    load(fleet)
    async with Pool.from_file(fleet, follow=False) as pool:
        with anyio.move_on_after(PATIENCE_S):
            for _ in count():
                joined = [server for server in pool.stats().servers if server.state != "joining"]
                if len(joined) >= min(servers, len(pool.stats().servers)):
                    break
                await anyio.sleep(PAUSE_S)
        return await pool.warm(workflow, servers=servers)
