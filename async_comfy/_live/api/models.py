"""The model files that the server has: /models, /embeddings, /experiment/models, /view_metadata."""

from typing import Any
from urllib.parse import quote

import msgspec

from async_comfy._live.api.answers import as_object, segment, shaped
from async_comfy._live.http import Http
from async_comfy.errors import NotFound

_Names = list[str]


class ModelFolder(msgspec.Struct, frozen=True):
    """A kind of model, the `folders` on the server's machine where it looks, the suffixes it takes."""

    name: str
    folders: list[str] = []
    extensions: list[str] = []


class ModelFile(msgspec.Struct, frozen=True, rename={"path_index": "pathIndex"}):
    """A model file. `path_index`: in which of its folders. Times in seconds since 1970, `size` in bytes."""

    name: str
    path_index: int = 0
    size: int | None = None
    modified: float | None = None
    created: float | None = None


class Models:
    """What lies in the server's model folders."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def folders(self) -> list[str]:
        """GET /models: the kinds of models, like "checkpoints" and "loras"."""
        return shaped(await self._http.get("/models"), "GET /models", _Names)

    async def embeddings(self) -> list[str]:
        """GET /embeddings: the names, without suffix, as prompts take them."""
        return shaped(await self._http.get("/embeddings"), "GET /embeddings", _Names)

    async def locations(self) -> list[ModelFolder]:
        """GET /experiment/models: the folders with where they are."""
        answer = await self._http.get("/experiment/models")
        return shaped(answer, "GET /experiment/models", list[ModelFolder])

    async def files(self, folder: str) -> list[ModelFile]:
        """GET /experiment/models/{folder}: the files with size and times. Raises: NotFound."""
        answer = await self._http.get(f"/experiment/models/{segment(folder)}")
        return shaped(answer, "GET /experiment/models", list[ModelFile])

    async def preview(self, folder: str, file: ModelFile) -> bytes | None:
        """The picture that lies beside a model, as WebP; None where there is none."""
        segment(file.name)
        place = f"{segment(folder)}/{file.path_index}/{quote(file.name)}"  # here a slash stays a slash
        try:
            return (await self._http.get(f"/experiment/models/preview/{place}")).body
        except NotFound:
            return None

    async def metadata(self, folder: str, name: str) -> dict[str, Any]:
        """GET /view_metadata: what a safetensors file says of itself; empty where there is nothing."""
        try:
            answer = await self._http.get(f"/view_metadata/{segment(folder)}", {"filename": name})
        except NotFound:
            return {}
        return as_object(answer, "GET /view_metadata")

    async def list(self, folder: str) -> list[str]:
        """GET /models/{folder}: the names, as node inputs take them. Raises: NotFound."""
        return shaped(await self._http.get(f"/models/{segment(folder)}"), "GET /models", _Names)
