"""What the server is and has, and what it should do with itself."""

from typing import Any

from async_comfy._live.api.answers import as_object, shaped
from async_comfy._live.http import Http
from async_comfy.errors import CallerError, NotFound


class System:
    """What the server is and has."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def stats(self) -> dict[str, Any]:
        """GET /system_stats: versions, memory, devices."""
        return as_object(await self._http.get("/system_stats"), "GET /system_stats")

    async def features(self) -> dict[str, Any]:
        """GET /features: the server's flags; empty for servers that have none."""
        try:
            return as_object(await self._http.get("/features"), "GET /features")
        except NotFound:
            return {}

    async def version(self) -> tuple[int, ...]:
        """The server's version as numbers, (0, 33, 0); empty where it does not say."""
        system = (await self.stats()).get("system")
        text = str(system.get("comfyui_version", "")) if isinstance(system, dict) else ""
        parts = text.lstrip("v").split("-")[0].split(".")
        return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()

    async def folder_paths(self) -> dict[str, list[str]]:
        """GET /internal/folder_paths: where the server looks for models, by folder; paths of its machine."""
        answer = await self._http.get("/internal/folder_paths")
        return shaped(answer, "GET /internal/folder_paths", dict[str, list[str]])

    async def extensions(self) -> list[str]:
        """GET /extensions: the scripts that custom nodes add to the user interface, as URL paths."""
        return shaped(await self._http.get("/extensions"), "GET /extensions", list[str])

    async def translations(self) -> dict[str, Any]:
        """GET /i18n: the texts of custom nodes, by locale."""
        return as_object(await self._http.get("/i18n"), "GET /i18n")

    async def free(self, *, unload_models: bool = True, free_memory: bool = True) -> None:
        """Frees memory once the running prompt is through (POST /free)."""
        await self._http.post("/free", {"unload_models": unload_models, "free_memory": free_memory})

    async def interrupt(self, prompt_id: str) -> None:
        """Stops this prompt if it is the one that runs.

        A server before 0.3.60 would stop whatever runs: `Session.cancel` looks first, this does not.

        Raises: CallerError for an empty id, which would stop anybody's prompt.
        """
        if not prompt_id:
            raise CallerError(
                "An interrupt needs the id of its prompt.", hint="Without one it would stop anybody's."
            )
        await self._http.post("/interrupt", {"prompt_id": prompt_id})
