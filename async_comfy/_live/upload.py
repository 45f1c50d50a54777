"""Files from here to the server's input folder, under a name made of their content, each once.

The name that the server answers with is the only truth (ComfyUI server.py, image_upload): it keeps the
name for the same bytes and numbers it for others. A name made of the content makes both moot.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import aiohttp
import anyio
from anyio.to_thread import run_sync
from blake3 import blake3

from async_comfy._live.http import CHUNK_BYTES, Http, unexpected
from async_comfy._live.places import checked_folder, checked_subfolder
from async_comfy._live.sources import Borrowed, opened
from async_comfy.errors import CallerError, NotComfyUI, NotFound
from async_comfy.filenames import safe_name
from async_comfy.workflow import File

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

        Raises: CallerError where it cannot be read, where folder or subfolder lead elsewhere, and where it is
        larger than the server takes; Unreachable, Denied, UnexpectedAnswer
        """
        file = source if isinstance(source, File) or hasattr(source, "__aiter__") else File(source)
        if isinstance(file, File):
            checked_folder(file.folder)
            checked_subfolder(file.subfolder)
        async with opened(file) as disk:
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
        form.add_field("image", Borrowed(disk), filename=place.name, content_type="application/octet-stream")
        form.add_field("type", place.folder)
        form.add_field("subfolder", place.subfolder)
        if mask_of is not None:
            original = {"filename": mask_of.name, "subfolder": mask_of.subfolder, "type": mask_of.folder}
            form.add_field("original_ref", json.dumps(original))
        path = "/upload/mask" if mask_of is not None else "/upload/image"
        answer = await self._http.ask("POST", path, body=form)
        if answer.status == 413:
            raise CallerError(
                f"{place.name} is larger than the server takes.",
                hint="Start it with a larger --max-upload-size, and raise the limit of a proxy before it.",
            )
        if answer.status != 200:
            raise unexpected("POST", path, answer)
        return _placed(answer.json(f"POST {path}"))


def _placed(body: Any) -> Uploaded:
    if not isinstance(body, dict) or not isinstance(body.get("name"), str):
        raise NotComfyUI("The answer to an upload names no file.", hint="Is this a ComfyUI?")
    return Uploaded(body["name"], str(body.get("subfolder") or ""), str(body.get("type") or "input"))


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
