"""`async-comfy cancel`: stops jobs by id, and no others."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from async_comfy.cli.exits import DONE, FAILED
from async_comfy.cli.number import finite
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean

if TYPE_CHECKING:
    from async_comfy import Session

INTERRUPTS_BY_ID = (0, 3, 60)  # an older server stops whatever runs (ComfyUI pull request 9607)
PAUSE_S = 0.5  # between requests: a cancel that comes right after the submission may be lost

EPILOG = """\b
Examples:
  async-comfy cancel 0b5c1d5e-6d0c-4c5e-9a53-3f6c8a2d7f10
  async-comfy queue | awk '/waiting/ {print $2}' | xargs async-comfy cancel

With --json each line is an object: prompt_id, cancelled (true or false), reason.

\b
Exit codes: 0 all are cancelled, 1 one is not, or was not there; 2, 3 and 4 as for every command.
"""


@click.command(epilog=EPILOG)
@click.argument("prompt_ids", nargs=-1, required=True, metavar="PROMPT_ID...")
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    callback=finite,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to ask for; a node looks up from its work at each step.",
)
@click.option("--force", is_flag=True, help="Also on a server too old to stop one job alone (before 0.3.60).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each job.")
@server_options
@click.pass_context
def cancel(
    context: click.Context,
    server: Server,
    prompt_ids: tuple[str, ...],
    timeout: float,
    force: bool,
    as_json: bool,
) -> None:
    """Cancel jobs by their prompt ids.

    Waiting or running, whoever submitted them; no other job is touched.
    """
    from async_comfy.cli.interrupt import drive

    context.exit(drive(_cancel(server, prompt_ids, timeout, force, as_json=as_json)))


async def _cancel(
    server: Server, prompt_ids: Sequence[str], timeout: float, force: bool, *, as_json: bool
) -> int:
    code = DONE
    async with server.session() as session:
        for prompt_id in prompt_ids:
            said = await _stop(session, prompt_id, timeout, force)
            code = FAILED if said else code
            told = {"prompt_id": prompt_id, "cancelled": not said, "reason": said}
            line = f"{prompt_id}: {said}" if said else f"{prompt_id} cancelled"
            click.echo(clean(json.dumps(told) if as_json else line), err=bool(said) and not as_json)
    return code


async def _stop(session: "Session", prompt_id: str, timeout: float, force: bool) -> str:
    """Asks until the job left the queue; why it did not, or was not there, else ""."""
    import anyio

    if not await _queued(session, prompt_id):
        return "neither runs nor waits there; `async-comfy queue` lists what does"
    with anyio.move_on_after(timeout):
        while await _queued(session, prompt_id):
            await _ask(session, prompt_id, force)
            await anyio.sleep(PAUSE_S)
        return ""
    return f"asked, but it has not stopped within {timeout:g} s; it will at its next step"


async def _queued(session: "Session", prompt_id: str) -> bool:
    ids = await session.queue.ids()
    return prompt_id in ids.running or prompt_id in ids.pending


async def _ask(session: "Session", prompt_id: str, force: bool) -> None:
    from async_comfy import NotFound

    try:
        await session.jobs.cancel(prompt_id)
    except NotFound:  # a server before 0.5 has no jobs API
        await session.queue.delete([prompt_id])
        if prompt_id not in (await session.queue.ids()).running:
            return
        await interrupt_one(session, prompt_id, force)


async def interrupt_one(session: "Session", prompt_id: str, force: bool) -> None:
    """Asks the server to stop this job, which runs. Raises: CallerError where it would stop another's."""
    from async_comfy import CallerError

    if not force and await session.system.version() < INTERRUPTS_BY_ID:
        raise CallerError(
            "This server is too old to stop one job: it would stop whatever runs.",
            hint="Update it, or use --force if nobody else uses it.",
        ) from None
    await session.system.interrupt(prompt_id)
