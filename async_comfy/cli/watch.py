"""`async-comfy watch`: everybody's jobs on a server, while they come and go."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from async_comfy import NetworkError
from async_comfy.cli.interrupt import Interrupted
from async_comfy.cli.queue import line, rows
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean

if TYPE_CHECKING:
    from async_comfy import Session

PAUSE_S = (
    1.0  # between looks: the server tells strangers' jobs to nobody, and shows its whole queue each time
)
LOOKS = 6  # without a trace before a job is gone: history was seen five seconds late

EPILOG = """\b
Examples:
  async-comfy watch
  async-comfy watch --json | grep failed

A job has a line when it comes, when it runs and when it ended. Ctrl-C ends it; no job is touched.

With --json the lines are objects: those of `queue --json` for what waits and runs, those of `history --json`
for what ended. A job that was taken out of the queue has the state "gone".
"""


@click.command(epilog=EPILOG)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each change.")
@server_options
def watch(server: Server, as_json: bool) -> None:
    """Watch all jobs of a server.

    Everybody's. In a terminal the queue stays at the bottom, and what ended scrolls by.
    """
    from async_comfy.cli.interrupt import drive

    try:
        drive(_watch(server, as_json=as_json))
    except Interrupted:
        return  # this is how it is meant to end


async def _watch(server: Server, *, as_json: bool) -> None:
    import anyio

    board = Board()
    async with server.session() as session:
        with _screen(as_json=as_json) as screen:
            while session.failure is None:
                try:
                    screen.show(await board.look(session), board)
                except NetworkError:
                    screen.away()
                await anyio.sleep(PAUSE_S)
    raise session.failure


class Board:
    """The jobs of a server as they were at the last look."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.missing: dict[str, int] = {}  # looks at those that left the queue and are in no history yet

    async def look(self, session: "Session") -> list[dict[str, Any]]:
        """What changed since: jobs that ended, then those that came or began to run."""
        now = {str(row["prompt_id"]): row for row in await rows(session)}
        self.missing.update({prompt_id: 0 for prompt_id in self.jobs if prompt_id not in now})
        begun = [row for key, row in now.items() if row["state"] != self.jobs.get(key, {}).get("state")]
        self.jobs = now
        ended = [await self._end(session, prompt_id) for prompt_id in list(self.missing)]
        return [job for job in ended if job is not None] + begun

    async def _end(self, session: "Session", prompt_id: str) -> dict[str, Any] | None:
        """How it ended; None while its history may still be written."""
        from async_comfy.cli.ended import read

        entry = await session.history.get(prompt_id)
        self.missing[prompt_id] += 1
        if entry is None and self.missing[prompt_id] < LOOKS:
            return None
        del self.missing[prompt_id]
        return (
            {"state": "gone", "prompt_id": prompt_id} if entry is None else read(prompt_id, entry).as_dict()
        )


class Screen:
    """A line for each change."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.lost = False

    def show(self, changes: list[dict[str, Any]], board: Board) -> None:
        """Tells what changed."""
        self.lost = False
        for change in changes:
            click.echo(clean(json.dumps(change)) if self.as_json else told(change))

    def away(self) -> None:
        """The server does not answer; said once."""
        if not self.lost:
            click.echo("connection lost, trying again", err=True)
        self.lost = True


@contextmanager
def _screen(*, as_json: bool) -> Iterator[Screen]:
    if as_json or not sys.stdout.isatty():
        yield Screen(as_json=as_json)
        return
    from async_comfy.cli.live_queue import LiveQueue

    with LiveQueue() as screen:
        yield screen


def told(job: dict[str, Any]) -> str:
    """A change in one line, for people."""
    if job["state"] in {"running", "waiting"}:
        return line(job)
    took = f"  {job['ran_s']:.1f} s" if job.get("ran_s") is not None else ""
    reason = f"  {job['reason']}" if job.get("reason") else ""
    return clean(f"{job['state']}  {job['prompt_id']}{took}{reason}")
