"""The server's files by name: /view, /internal/files, and what a video is made of."""

from typing import Any, Literal

from async_comfy._live.api.answers import as_object, query, shaped
from async_comfy._live.http import Http
from async_comfy.errors import NotFound

Folder = Literal["input", "output", "temp"]
Channel = Literal["rgb", "a", "rgba"]
_Names = list[str]


class Files:
    """What lies in the input, output and temp folders. To send one: `Session.upload`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def view(
        self,
        filename: str,
        *,
        folder: Folder = "output",
        subfolder: str = "",
        preview: str | None = None,
        channel: Channel | None = None,
    ) -> bytes:
        """GET /view: a file whole. `preview`: smaller, as "webp;80" or "jpeg;50" (a format and a quality).

        `channel`: the picture without its alpha, or its alpha alone. Large files: `OutputFile.stream`.

        Raises: NotFound, UnexpectedAnswer for names that lead elsewhere
        """
        params = query(filename=filename, type=folder, subfolder=subfolder, preview=preview, channel=channel)
        try:
            return (await self._http.get("/view", params)).body
        except NotFound:
            raise NotFound(f"The server has no file {filename!r} in {folder}.", status=404) from None

    async def list(self, folder: Folder = "output") -> list[str]:
        """GET /internal/files: the names in the folder itself, the newest first."""
        answer = await self._http.get(f"/internal/files/{folder}")
        names = shaped(answer, "GET /internal/files", _Names)
        return [name.removesuffix(f" [{folder}]") for name in names]  # it tells the folder with each

    async def video(self, filename: str) -> dict[str, Any]:
        """GET /vhs/queryvideo: frames, rate, size and seconds of a video, from the VideoHelperSuite nodes.

        Raises: NotFound where the server has them not.
        """
        answer = await self._http.get("/vhs/queryvideo", {"filename": filename})
        return as_object(answer, "GET /vhs/queryvideo")
