"""Files from here to the server's input folder, under a name made of their content, each once.

The name that the server answers with is the only truth (ComfyUI server.py, image_upload): it keeps the
name for the same bytes and numbers it for others. A name made of the content makes both moot.
"""

import io
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import aiohttp
import anyio
from anyio.to_thread import run_sync
from blake3 import blake3

from async_comfy._live.http import CHUNK_BYTES, Http, unexpected
from async_comfy.errors import CallerError, NotComfyUI, NotFound
from async_comfy.filenames import safe_name
from async_comfy.workflow import File

SPOOL_BYTES = 8 << 20  # a stream up to this stays in memory until its name is known
HASH_CHARS = 32  # 128 bits of BLAKE3: no two files will share a name


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Where a file lies on the server: `name` in `subfolder` of `folder` ("input", "temp", "output")."""

    name: str
    subfolder: str = ""
    folder: str = "input"

    def __str__(self) -> str:
        return self.path

    @property
    def path(self) -> str:
        """What a LoadImage input takes."""
        path = f"{self.subfolder}/{self.name}" if self.subfolder else self.name
        return path if self.folder == "input" else f"{path} [{self.folder}]"


class Uploads:
    """What one session has sent to one server."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._sent: dict[tuple[str, ...], Uploaded] = {}
        self._locks: dict[tuple[str, ...], anyio.Lock] = {}

    def __repr__(self) -> str:
        return f"<Uploads to {self._http.access}, {len(self._sent)} files>"

    async def send(self, source: Any, *, mask_of: Uploaded | None = None) -> Uploaded:
        """Sends a `File`, or what one can be made of, or an async iterator of bytes, unless it is there.

        With `mask_of` it goes as the mask of that picture (POST /upload/mask).

        Raises: CallerError where it cannot be read; Unreachable, Denied, UnexpectedAnswer
        """
        file = source if isinstance(source, File) or hasattr(source, "__aiter__") else File(source)
        async with _opened(file) as disk:
            return await self._send_once(disk, file, mask_of)

    async def _send_once(
        self, disk: IO[bytes], file: File | AsyncIterator[bytes], mask_of: Uploaded | None
    ) -> Uploaded:
        digest = await run_sync(_digest, disk)
        folder, subfolder = (file.folder, file.subfolder) if isinstance(file, File) else ("input", "")
        name = _name(digest, file, disk)
        key = (folder, subfolder, name, digest, str(mask_of))
        async with self._locks.setdefault(key, anyio.Lock()):
            if key not in self._sent:
                place = Uploaded(name, subfolder, folder)
                there = mask_of is None and digest in name and await self._is_there(place)
                self._sent[key] = place if there else await self._post(disk, place, mask_of)
                if mask_of is not None and not await self._is_there(self._sent[key]):
                    del self._sent[key]  # a server that does not find the picture says 200 and writes nothing
                    raise NotFound(f"The server has no {mask_of.path} to mask.", status=404)
            return self._sent[key]

    async def _is_there(self, place: Uploaded) -> bool:
        """Whether an earlier session sent it: its name tells its content, so one byte is enough."""
        params = {"filename": place.name, "subfolder": place.subfolder, "type": place.folder}
        async with self._http.open("GET", "/view", params=params, headers={"Range": "bytes=0-0"}) as answer:
            return answer.status in {200, 206}

    async def _post(self, disk: IO[bytes], place: Uploaded, mask_of: Uploaded | None) -> Uploaded:
        # The server reads names verbatim; quoting would percent-encode them.
        form = aiohttp.FormData(quote_fields=False)
        await run_sync(disk.seek, 0)
        form.add_field("image", _Borrowed(disk), filename=place.name, content_type="application/octet-stream")
        form.add_field("type", place.folder)
        form.add_field("subfolder", place.subfolder)
        if mask_of is not None:
            original = {"filename": mask_of.name, "subfolder": mask_of.subfolder, "type": mask_of.folder}
            form.add_field("original_ref", json.dumps(original))
        path = "/upload/mask" if mask_of is not None else "/upload/image"
        answer = await self._http.ask("POST", path, body=form)
        if answer.status != 200:
            raise unexpected("POST", path, answer)
        return _placed(answer.json(f"POST {path}"))


def _placed(body: Any) -> Uploaded:
    if not isinstance(body, dict) or not isinstance(body.get("name"), str):
        raise NotComfyUI("The answer to an upload names no file.", hint="Is this a ComfyUI?")
    return Uploaded(body["name"], str(body.get("subfolder") or ""), str(body.get("type") or "input"))


class _Borrowed(io.BufferedIOBase):
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
async def _opened(file: File | AsyncIterator[bytes]) -> AsyncIterator[IO[bytes]]:
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
    except (aiohttp.ClientError, TimeoutError) as error:
        raise CallerError(f"Cannot fetch {file!r}: {type(error).__name__}.", hint="Check the URL.") from None


def _png(image: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, format="PNG")
    return data.getvalue()


def _digest(disk: IO[bytes]) -> str:
    disk.seek(0)
    digest = blake3()
    while chunk := disk.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()[:HASH_CHARS]


def _name(digest: str, file: File | AsyncIterator[bytes], disk: IO[bytes]) -> str:
    """The caller's own name where one was given; else the content's, with the suffix that fits."""
    if isinstance(file, File) and file.name is not None:
        return safe_name(file.name)
    named = file.suggested_name if isinstance(file, File) else None
    suffix = PurePosixPath(safe_name(named)).suffix if named else ""
    if isinstance(file, File) and file.kind == "image":
        suffix = ".png"
    return digest + (suffix or _suffix(disk))


def _suffix(disk: IO[bytes]) -> str:
    """What the first bytes say: some loaders go by the suffix."""
    disk.seek(0)
    head = disk.read(16)
    signs = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"fLaC": ".flac", b"OggS": ".ogg"}
    if head[:4] == b"RIFF":
        return {b"WEBP": ".webp", b"WAVE": ".wav"}.get(head[8:12], "")
    if head[4:8] == b"ftyp":
        return ".mp4"
    return next((suffix for sign, suffix in signs.items() if head.startswith(sign)), "")
