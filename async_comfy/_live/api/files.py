"""The server's files by name: /view, /internal/files, and what a video is made of."""

from typing import Any, Literal

from async_comfy._live.api.answers import as_object, query, shaped
from async_comfy._live.download import Downloads
from async_comfy._live.http import Http
from async_comfy._live.places import checked_folder, place
from async_comfy.errors import CallerError, NotFound, UnexpectedAnswer
from async_comfy.protocol.outcome import media_type
from async_comfy.results import OutputFile

Folder = Literal["input", "output", "temp"]
Channel = Literal["rgb", "a", "rgba"]
_Names = list[str]


class Files:
    """What lies in the input, output and temp folders. To send one: `Session.upload`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def open(self, filename: str, *, folder: Folder = "output", subfolder: str = "") -> OutputFile:
        """A file known by its name: to `read`, `stream` and `save` like the files of a result.

        `filename` may have its subfolder before it ("2026/a.png"). Nothing is asked yet: whether the server
        has it is known once it is read. Its `node` is empty.

        Raises: CallerError for a name that leads elsewhere, or for another folder
        """
        found = place(filename, subfolder, folder)
        return OutputFile(
            node="",
            kind="files",
            filename=found.name,
            subfolder=found.subfolder,
            folder=found.folder,
            media_type=media_type(found.name),
            source=Downloads(self._http),
        )

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

        `channel`: the picture without its alpha, or its alpha alone. Large files: `open`, then `stream`.

        Raises: NotFound; CallerError for names that lead elsewhere, and where `preview` or `channel` want a
        picture of what is none
        """
        found = place(filename, subfolder, folder)
        params = {**found.query(), **query(preview=preview, channel=channel)}
        try:
            return (await self._http.get("/view", params)).body
        except NotFound:
            raise NotFound(f"The server has no file {filename!r} in {folder}.", status=404) from None
        except UnexpectedAnswer as error:
            if error.status == 500 and (preview or channel):  # it stumbles over what Pillow does not read
                raise CallerError(
                    f"The server cannot show {filename!r} as a picture.",
                    hint="Leave out `preview` and `channel`, or ask for less than quality 100.",
                ) from None
            raise

    async def list(self, folder: Folder = "output") -> list[str]:
        """GET /internal/files: the names in the folder itself, the newest first.

        Raises: CallerError for another folder
        """
        answer = await self._http.get(f"/internal/files/{checked_folder(folder)}")
        names = shaped(answer, "GET /internal/files", _Names)
        return [name.removesuffix(f" [{folder}]") for name in names]  # it tells the folder with each

    async def video(self, filename: str) -> dict[str, Any]:
        """GET /vhs/queryvideo: frames, rate, size and seconds of a video, from the VideoHelperSuite nodes.

        Raises: NotFound where the server has them not.
        """
        answer = await self._http.get("/vhs/queryvideo", {"filename": filename})
        return as_object(answer, "GET /vhs/queryvideo")
