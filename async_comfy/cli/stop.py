"""`async-comfy interrupt`: stops what runs, and takes nothing out of the queue."""

import json
from collections.abc import Collection

import click

from async_comfy import NotFound
from async_comfy.cli.asking import agreed
from async_comfy.cli.cancel import interrupt_one
from async_comfy.cli.exits import DONE, FAILED
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean

EPILOG = """\b
Examples:
  async-comfy interrupt 0b5c1d5e-6d0c-4c5e-9a53-3f6c8a2d7f10
  async-comfy interrupt --anybody --yes

A node looks up from its work at each step; `cancel` waits until the job has stopped, this does not.

\b
Exit codes: 0 done, 1 that job does not run, or you said no; 2, 3 and 4 as for every command.
"""


@click.command(epilog=EPILOG)
@click.argument("prompt_id", required=False)
@click.option("--anybody", is_flag=True, help="Whatever runs, whoever submitted it; asks before it does.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also on a server too old to stop one job alone (before 0.3.60).")
@click.option("--json", "as_json", is_flag=True, help='One object for each job: "prompt_id", "asked".')
@server_options
@click.pass_context
def interrupt(
    context: click.Context,
    /,
    server: Server,
    prompt_id: str | None,
    anybody: bool,
    yes: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Interrupt the job that runs.

    The one with PROMPT_ID and no other, or with --anybody whatever runs. What waits goes on waiting.
    """
    from async_comfy.cli.interrupt import drive

    if bool(prompt_id) == anybody:
        raise click.UsageError("Give either a PROMPT_ID or --anybody.")
    targets = [prompt_id] if prompt_id else drive(_running(server))
    if not targets:
        click.echo("Nothing runs.", err=True)
    elif anybody and not yes and not agreed(_question(targets), "--yes interrupts"):
        context.exit(FAILED)
    for stopped in drive(_interrupt(server, targets, force or anybody)) if targets else ():
        told = json.dumps({"prompt_id": stopped, "asked": True}) if as_json else f"{stopped} asked to stop"
        click.echo(clean(told))
    context.exit(DONE)


async def _running(server: Server) -> list[str]:
    async with server.session() as session:
        return sorted((await session.queue.ids()).running)


def _question(targets: Collection[str]) -> str:
    return f"Interrupt {', '.join(targets)}, whoever submitted it?"


async def _interrupt(server: Server, targets: Collection[str], force: bool) -> list[str]:
    async with server.session() as session:
        running = (await session.queue.ids()).running
        for prompt_id in targets:
            if prompt_id not in running:
                raise NotFound(
                    f"{prompt_id} does not run.",
                    status=404,
                    hint="`async-comfy cancel` stops what waits, too.",
                )
            await interrupt_one(session, prompt_id, force)
    return list(targets)
