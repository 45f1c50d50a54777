"""What is sent to a server: a file of whatever kind, as something to read twice."""

import io
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import IO, Any

import aiohttp
from anyio.to_thread import run_sync

from async_comfy._live.http import CHUNK_BYTES
from async_comfy.errors import CallerError
from async_comfy.workflow import File

SPOOL_BYTES = 8 << 20  # a stream up to this stays in memory until its name is known


class Borrowed(io.BufferedIOBase):
    """A file that aiohttp may read but not close: a retry reads it again."""

    def __init__(self, disk: IO[bytes]) -> None:
        self._disk = disk

    def read(self, size: int | None = -1, /) -> bytes:
        return self._disk.read(-1 if size is None else size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._disk.seek(offset, whence)

    def tell(self) -> int:
        return self._disk.tell()

    def close(self) -> None:
        pass


@asynccontextmanager
async def opened(file: File | AsyncIterator[bytes]) -> AsyncIterator[IO[bytes]]:
    """The bytes as something to read twice: once for the name, once to send."""
    try:
        async with AsyncExitStack() as stack:
            if isinstance(file, File) and file.kind == "path":
                # Opened here and not in a thread: what a cancelled await would open there, nobody closes.
                yield stack.enter_context(Path(file.value).open("rb"))  # noqa: ASYNC230, SIM115  # see above; the stack closes it
                return
            spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115  # the stack closes it
            disk = stack.enter_context(spool)
            async for chunk in _chunks(file):
                await run_sync(disk.write, chunk)
            yield disk
    except OSError as error:
        name = getattr(file, "suggested_name", None) or "the file"
        raise CallerError(f"Cannot read {name}: {error.strerror or error}.", hint="Check the path.") from None


async def _chunks(file: File | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if not isinstance(file, File):
        async for chunk in file:
            yield chunk
    elif file.kind == "url":
        async for chunk in _fetched(file):
            yield chunk
    elif file.kind == "image":
        yield await run_sync(_png, file.value)
    else:
        yield file.value


async def _fetched(file: File) -> AsyncIterator[bytes]:
    """A file of the web, asked for with none of the server's credentials."""
    try:
        async with (
            aiohttp.ClientSession(trust_env=True) as client,
            client.get(file.value, raise_for_status=True) as response,
        ):
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                yield chunk
    except (aiohttp.ClientError, TimeoutError, UnicodeError) as error:  # the last: of a host's name
        raise CallerError(f"Cannot fetch {file!r}: {type(error).__name__}.", hint="Check the URL.") from None


def _png(image: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, format="PNG")
    return data.getvalue()
