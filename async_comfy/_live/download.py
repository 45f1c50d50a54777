"""Files from the server to the disk: streamed, resumed, whole or not there at all."""

import errno
import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath

from anyio.to_thread import run_sync

from async_comfy._live import telemetry
from async_comfy._live.crowd import crowd
from async_comfy._live.http import CHUNK_BYTES, Answer, Http, unexpected
from async_comfy.errors import CallerError, UnexpectedAnswer, Unreachable
from async_comfy.filenames import numbered
from async_comfy.results import Existing, OutputFile

AT_ONCE = 4  # downloads of one result; more only share the same wire
RESUMES = 3  # a download that breaks goes on where it was, so often in a row without a byte


class Downloads:
    """The files of one server. A `FileSource`."""

    changes = True
    """Whether a whole answer to a question for the rest of a file means that it changed meanwhile."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def __repr__(self) -> str:
        return f"<Downloads from {self._http.access}>"

    async def stream(self, file: OutputFile, *, start: int = 0) -> AsyncIterator[bytes]:
        """The bytes from `start` in chunks of up to 1 MiB; goes on after a break (GET /view, Range).

        Raises: NotFound, Unreachable, Denied, UnexpectedAnswer where the file changed meanwhile.
        """
        if file.data is not None:
            yield file.data[start:]
            return
        at, etag, tries = start, None, RESUMES
        while True:
            try:
                async for chunk, tag in self._part(file, at, etag):
                    etag, tries = tag, RESUMES
                    at += len(chunk)
                    yield chunk
                return
            except Unreachable:
                tries -= 1
                if tries < 0:
                    raise

    async def save(
        self,
        files: Sequence[OutputFile],
        names: Sequence[PurePosixPath],
        folder: Path,
        existing: Existing = "rename",
    ) -> list[Path]:
        """Streams each file to `folder`/name; each appears only when it is whole. The paths, in order.

        Raises: CallerError where nothing can be written there, or where a file exists and `existing` is
        "error"; and what `stream` raises.
        """
        pairs = zip(files, names, strict=True)
        with telemetry.downloading(len(files)):
            return await crowd([partial(self._save_one, f, n, folder, existing) for f, n in pairs], AT_ONCE)

    async def _part(
        self, file: OutputFile, at: int, etag: str | None
    ) -> AsyncIterator[tuple[bytes, str | None]]:
        headers = {"Range": f"bytes={at}-"} if at else {}
        if at and etag:
            headers["If-Range"] = etag
        path, params = self._route(file)
        async with self._http.open("GET", path, params=params, headers=headers) as response:
            if response.status == 416:
                return  # it ended exactly where we stopped
            if response.status not in {200, 206}:
                answer = Answer(response.status, response.headers, await response.read())
                raise unexpected("GET", f"file {file.filename!r}", answer)
            if at and response.status == 200 and self.changes:
                raise UnexpectedAnswer(f"The file {file.filename!r} changed while it was read.", status=200)
            tag = response.headers.get("ETag")
            known = at if response.status == 200 else 0
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                if known < len(chunk):
                    yield chunk[known:], tag
                known = max(0, known - len(chunk))

    def _route(self, file: OutputFile) -> tuple[str, Mapping[str, str] | None]:
        """Path and parameters of the question for a file's bytes."""
        return "/view", {"filename": file.filename, "subfolder": file.subfolder, "type": file.folder}

    async def _save_one(
        self, file: OutputFile, name: PurePosixPath, folder: Path, existing: Existing
    ) -> Path:
        try:
            target = await run_sync(_place, folder, name)
            if existing == "skip" and target.exists():
                return target
            handle, part = await run_sync(_begin, target)
        except OSError as error:
            raise _unwritable(folder, error) from error
        try:
            with os.fdopen(handle, "wb", buffering=0) as disk:
                async for chunk in self.stream(file):
                    await run_sync(_write, disk.fileno(), chunk)
            return await run_sync(_publish, part, target, existing)
        except OSError as error:
            raise _unwritable(folder, error) from error
        finally:
            # Also when cancelled, and without an await: nothing may come between a part and its end.
            part.unlink(missing_ok=True)


def _place(folder: Path, name: PurePosixPath) -> Path:
    """The path to write, its folder made. Links below `folder` must not lead out of it."""
    folder.mkdir(parents=True, exist_ok=True)
    root = folder.resolve()
    target = root / name
    if not target.parent.resolve().is_relative_to(root):
        raise CallerError(f"{name} would lead out of {folder}.", hint="A link in that folder points away.")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _begin(target: Path) -> tuple[int, Path]:
    part = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.part")
    return os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666), part


def _write(handle: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(handle, view) :]


def _publish(part: Path, target: Path, existing: Existing) -> Path:
    """Gives the whole file its name, in one step, without ever replacing one unasked."""
    if existing == "overwrite":
        part.replace(target)
        return target
    if _claim(part, target) or existing == "skip":
        return target
    if existing == "error":
        raise CallerError(f"{target} exists.", hint="Move it away, or choose another `existing`.")
    others = (target.with_name(numbered(PurePosixPath(target.name), number).name) for number in count(1))
    return next(other for other in others if _claim(part, other))


def _claim(part: Path, target: Path) -> bool:
    """Names the file `target` unless something has that name already."""
    try:
        os.link(part, target, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links: look, then rename
        if target.exists() or target.is_symlink():
            return False
        part.rename(target)
    return True


def _unwritable(folder: Path, error: OSError) -> CallerError:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    hint = "Make room there, or choose another folder." if full else "Choose a folder that you may write to."
    return CallerError(f"Cannot write to {folder}: {error.strerror or error}.", hint=hint)
