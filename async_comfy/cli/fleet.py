"""`async-comfy fleet`: the servers of a fleet file, and what they do now."""

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from async_comfy.cli.exits import DONE, UNREACHABLE
from async_comfy.cli.interrupt import Interrupted
from async_comfy.cli.number import finite
from async_comfy.cli.terminal import clean

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from async_comfy import Fleet
    from async_comfy.cli.observer import Observer, Sight

PAUSE_S = 0.25  # between pictures in a terminal
FOLLOW_S = 1.0  # between looks at whether the file changed
FIRST_LOOK_S = 10.0  # for the first look at all servers; a server that loads a model answers late

EPILOG = """\b
Examples:
  async-comfy fleet
  async-comfy fleet fleet.toml --once
  async-comfy fleet --json --every 10

A fleet file names servers, as [[server]] with a url each; `--fleet` of other commands takes it, too.

The table tells what anybody's prompts do there; how far one is, where its events are sent to everybody.
Models are those of the prompt that ran last. The pace in ms/step is that of the steps that are heard, else
of the last run as a whole. "Done" and "failed" count from when you began to watch. No job is touched.

With --json each line is an object: "at" (UTC), "servers": a list of objects with server, url, state, lanes,
queue, running, running_s, fraction, doing, models, vram_free, vram_total (bytes), ms_per_step, done, failed,
trouble; null where unknown.

\b
Exit codes: 0 done, 2 the file is wrong, 3 with --once: no server can be reached.
"""


@click.command(epilog=EPILOG)
@click.argument("file", type=click.Path(path_type=Path), default=Path("fleet.toml"), metavar="[FLEET.TOML]")
@click.option("--once", is_flag=True, help="One look, then the end; also where stdout is no terminal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each look.")
@click.option(
    "--every",
    type=click.FloatRange(0.1),
    callback=finite,
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="With --json: between two objects.",
)
@click.pass_context
def fleet(context: click.Context, /, file: Path, once: bool, as_json: bool, every: float) -> None:
    """Watch the servers of a fleet.

    State, queue, running job, models, memory, pace and failures of each, live; Ctrl-C ends it.
    """
    from async_comfy.cli.fleet_file import load
    from async_comfy.cli.interrupt import drive

    found = load(file)
    single = once or not (as_json or sys.stdout.isatty())
    try:
        work = _once(found, as_json=as_json) if single else _live(file, found, as_json=as_json, every=every)
        context.exit(drive(work))
    except Interrupted:
        return  # this is how it is meant to end


async def _once(fleet: "Fleet", *, as_json: bool) -> int:
    import anyio

    from async_comfy.cli.fleet_table import show

    async with anyio.create_task_group() as group:
        watch = Watch(group)
        watch.follow(fleet)
        with anyio.move_on_after(FIRST_LOOK_S):
            for observer in watch.observers.values():
                await observer.looked.wait()
        group.cancel_scope.cancel()
    if as_json:
        _tell(watch)
    else:
        show(watch.sights())
    return DONE if any(sight.queue is not None for sight in watch.sights()) else UNREACHABLE


async def _live(file: Path, fleet: "Fleet", *, as_json: bool, every: float) -> int:
    import anyio

    async with anyio.create_task_group() as group:
        watch = Watch(group)
        watch.follow(fleet)
        group.start_soon(watch.keep_up, file)
        with _screen(as_json) as screen:
            for _ in count():  # until it is cancelled
                screen(watch)
                await anyio.sleep(every if as_json else PAUSE_S)
    return DONE


class Watch:
    """The observers of a fleet, one for each server that its file names now."""

    def __init__(self, group: "TaskGroup") -> None:
        self.observers: dict[str, Observer] = {}
        self.trouble = ""
        self._group = group
        self._ends: dict[str, Any] = {}

    def follow(self, fleet: "Fleet") -> None:
        """From now on it is these servers."""
        import anyio

        from async_comfy.cli.observer import Observer

        servers = {server.name: server for server in fleet.servers}
        for name in [name for name in self.observers if name not in servers]:
            self._ends.pop(name).cancel()
            del self.observers[name]
        for name, server in servers.items():
            known = self.observers.get(name)
            if known is not None and known.server.url == server.url:
                known.change(server)
                continue
            if known is not None:
                self._ends.pop(name).cancel()
            self.observers[name] = Observer(server)
            self._ends[name] = anyio.CancelScope()
            self._group.start_soon(self._observe, self.observers[name], self._ends[name])
        self.observers = {name: self.observers[name] for name in servers}

    async def keep_up(self, file: Path) -> None:
        """Reads the file again when it changed, until cancelled."""
        import anyio
        from anyio.to_thread import run_sync

        from async_comfy import CallerError
        from async_comfy.cli.fleet_file import load

        seen = _stamp(file)
        while True:
            await anyio.sleep(FOLLOW_S)
            stamp = _stamp(file)
            if stamp == seen:
                continue
            seen = stamp
            try:
                self.follow(await run_sync(load, file))
                self.trouble = ""
            except CallerError as error:
                self.trouble = f"{error.message} The table shows what it said before."

    def sights(self) -> "list[Sight]":
        """Each server as it is seen now, in the order of the file."""
        return [observer.sight() for observer in self.observers.values()]

    @staticmethod
    async def _observe(observer: "Observer", scope: Any) -> None:
        with scope:
            await observer.watch()


def _stamp(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _tell(watch: Watch) -> None:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    click.echo(clean(json.dumps({"at": at, "servers": [asdict(sight) for sight in watch.sights()]})))


def _screen(as_json: bool) -> "AbstractContextManager[Callable[[Watch], None]]":
    """What shows the fleet."""
    if as_json:
        return nullcontext(_tell)
    from async_comfy.cli.fleet_table import Screen

    return Screen()
