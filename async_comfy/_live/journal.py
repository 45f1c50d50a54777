"""Open jobs on disk, so that they are found again after this process is gone, however it went.

A job is written before its prompt is sent and removed once somebody was told its outcome. The prompt
itself is not kept, and no credential: only what following the job needs. Whoever finds a job here asks
the server what became of it and sends nothing, so no job runs twice.

SQLite works in a thread of its own; what is written is safe from the end of this process at once, and
from a power failure soon (write-ahead log, `synchronous` normal).
"""

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from async_comfy.errors import CallerError
from async_comfy.protocol.job import Life, Shape

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    prompt_id TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    written_at REAL NOT NULL,  -- seconds since 1970
    accepted INTEGER NOT NULL,  -- the server said 200
    about BLOB NOT NULL  -- JSON: what following the job needs
)
"""

_log = logging.getLogger("async_comfy")


class _Node(msgspec.Struct, frozen=True, array_like=True):
    class_type: str
    title: str
    steps: int
    leaf: bool


class _About(msgspec.Struct, frozen=True):
    shape: dict[str, _Node]
    seeds: dict[str, int]


@dataclass(frozen=True, slots=True)
class Kept:
    """A job that was open when it was last written. `written_at`: seconds since 1970."""

    prompt_id: str
    written_at: float
    accepted: bool
    shape: Shape
    seeds: Mapping[str, int]


class Journal:
    """The open jobs of one server in one file. Several sessions and processes may share the file."""

    def __init__(self, path: str | os.PathLike[str], url: str) -> None:
        self._path = os.fspath(path)
        self._url = url
        self._thread: ThreadPoolExecutor | None = None
        self._file: sqlite3.Connection | None = None

    def __repr__(self) -> str:
        return f"<Journal {self._path}>"

    async def open(self) -> None:
        """Opens the file; makes it where there is none. Raises: CallerError where it is no journal."""
        self._thread = ThreadPoolExecutor(1, "async-comfy-journal")
        try:
            await self._ask(self._open)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Everything that was asked for is written, then the file is closed."""
        thread, self._thread = self._thread, None
        if thread is not None:
            closed = thread.submit(self._close)
            thread.shutdown(wait=False)
            await asyncio.wrap_future(closed)

    async def write(self, life: Life, seeds: Mapping[str, int]) -> None:
        """Keeps a job; to be awaited before its prompt is sent. Raises: CallerError."""
        shape = {
            key: _Node(node.class_type, node.title, node.steps, node.leaf) for key, node in life.shape.items()
        }
        about = msgspec.json.encode(_About(shape, dict(seeds)))
        row = (life.prompt_id, self._url, time.time(), about)
        await self._ask(lambda file: file.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, 0, ?)", row))

    def accepted(self, prompt_id: str, now_id: str) -> None:
        """The server has it, under this id. Written soon; missing that costs only some certainty."""
        self._tell(
            "UPDATE OR REPLACE jobs SET accepted = 1, prompt_id = ? WHERE prompt_id = ?", now_id, prompt_id
        )

    def forget(self, prompt_id: str) -> None:
        """Its outcome was told. Written soon; should that be missed, the next who asks learns it again."""
        self._tell("DELETE FROM jobs WHERE prompt_id = ?", prompt_id)

    async def kept(self) -> list[Kept]:
        """The jobs that are open as far as the file knows, oldest first. Raises: CallerError."""
        return await self._ask(self._read)

    def _open(self, _: object) -> None:
        self._file = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = NORMAL")
        self._file.execute(_SCHEMA)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _read(self, file: sqlite3.Connection) -> list[Kept]:
        rows = file.execute(
            "SELECT prompt_id, written_at, accepted, about FROM jobs WHERE url = ? ORDER BY written_at",
            (self._url,),
        )
        return [_kept(*row) for row in rows]

    async def _ask(self, call: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await asyncio.wrap_future(self._submit(call))
        except (sqlite3.Error, msgspec.DecodeError) as error:
            raise CallerError(
                f"The journal {self._path} cannot be used: {error}.",
                hint="Name a file that can be written and is a journal, or none.",
            ) from None

    def _tell(self, order: str, *values: str) -> None:
        if self._thread is not None:
            self._submit(lambda file: file.execute(order, values)).add_done_callback(_complain)

    def _submit(self, call: Callable[[sqlite3.Connection], T]) -> "Future[T]":
        if self._thread is None:
            raise CallerError("This journal is not open.", hint="Use it with an open session.")
        return self._thread.submit(lambda: call(self._file))  # type: ignore[arg-type]  # None just to `_open`


def _kept(prompt_id: str, written_at: float, accepted: int, about: bytes) -> Kept:
    found = msgspec.json.decode(about, type=_About)
    return Kept(prompt_id, written_at, bool(accepted), found.shape, found.seeds)


def _complain(done: "Future[sqlite3.Cursor]") -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        _log.warning("the journal was not written: %s", error)
