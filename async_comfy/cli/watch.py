"""`async-comfy watch`: everybody's jobs on a server, while they come and go."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from async_comfy import CallerError, NetworkError, NotFound, UnexpectedAnswer
from async_comfy.cli.download import FOLDERS
from async_comfy.cli.interrupt import Interrupted
from async_comfy.cli.preview import Preview, preview_options
from async_comfy.cli.queue import line, rows
from async_comfy.cli.server import Server, server_options
from async_comfy.cli.terminal import clean

if TYPE_CHECKING:
    from async_comfy import Session

PAUSE_S = (
    1.0  # between looks: the server tells strangers' jobs to nobody, and shows its whole queue each time
)
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
SERVERS_FAULT = 500  # from here on, a status says that the server or what is before it is in trouble
SMALLER = "jpeg;80"  # what the server makes of a picture before it sends it
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
@preview_options
@server_options
def watch(server: Server, as_json: bool, preview: Preview) -> None:
    """Watch all jobs of a server.

    Everybody's. In a terminal the queue stays at the bottom, with the newest picture that came out where the
    terminal can show it, and what ended scrolls by.
    """
    from async_comfy.cli.interrupt import drive

    try:
        drive(_watch(server, preview, as_json=as_json))
    except Interrupted:
        return  # this is how it is meant to end


async def _watch(server: Server, preview: Preview, *, as_json: bool) -> None:
    import anyio

    board = Board()
    async with server.session() as session:
        with _screen(preview, as_json=as_json) as screen:
            while session.failure is None:
                try:
                    changes = await board.look(session)
                    if screen.shows_pictures:
                        screen.picture = await _newest(session, changes) or screen.picture
                    screen.show(changes, board)
                except NetworkError:
                    screen.away("connection lost, trying again")
                except UnexpectedAnswer as error:
                    if error.status < SERVERS_FAULT:
                        raise
                    screen.away(f"the server answers {error.status}, trying again")
                await anyio.sleep(PAUSE_S)
    raise session.failure


async def _newest(session: "Session", changes: list[dict[str, Any]]) -> bytes | None:
    """The picture that came out last; None where none did, or the server no longer has it."""
    for change in reversed(changes):
        for file in reversed(change.get("files", ())):
            if file["folder"] in FOLDERS and file["filename"].lower().endswith(PICTURES):
                with suppress(NotFound, CallerError):
                    where = {"folder": file["folder"], "subfolder": file["subfolder"]}
                    return await session.files.view(file["filename"], preview=SMALLER, **where)
    return None


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
    """A line for each change. `picture`: the newest that came out, for those who show any."""

    @property
    def shows_pictures(self) -> bool:
        """Whether it shows any."""
        return False

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.lost = ""
        self.picture: bytes | None = None

    def show(self, changes: list[dict[str, Any]], board: Board) -> None:
        """Tells what changed."""
        if self.lost:
            click.echo("connected again", err=True)
        self.lost = ""
        for change in changes:
            click.echo(clean(json.dumps(change)) if self.as_json else told(change))

    def away(self, reason: str) -> None:
        """The server does not answer as it should; said once for each reason."""
        if self.lost != reason:
            click.echo(reason, err=True)
        self.lost = reason


@contextmanager
def _screen(preview: Preview, *, as_json: bool) -> Iterator[Screen]:
    if as_json or not sys.stdout.isatty():
        yield Screen(as_json=as_json)
        return
    from async_comfy.cli.live_queue import LiveQueue

    with LiveQueue(preview) as screen:
        yield screen


def told(job: dict[str, Any]) -> str:
    """A change in one line, for people."""
    if job["state"] in {"running", "waiting"}:
        return line(job)
    took = f"  {job['ran_s']:.1f} s" if job.get("ran_s") is not None else ""
    reason = f"  {job['reason']}" if job.get("reason") else ""
    return clean(f"{job['state']}  {job['prompt_id']}{took}{reason}")
