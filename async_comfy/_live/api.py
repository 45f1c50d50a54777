"""The server's routes as calls, grouped as the server groups them. Each says what it asks for."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from async_comfy._live.http import Http
from async_comfy.errors import CallerError, NotComfyUI, NotFound, UnexpectedAnswer
from async_comfy.protocol.recovery import Entry, Queued, read_history, read_queue

HISTORY_ITEMS = 100  # unbounded, a long-lived server answers with hundreds of megabytes


class Queue:
    """GET and POST /queue: what runs and what waits, everybody's."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def ids(self) -> Queued:
        """The prompt ids that run and that wait. Raises: NotComfyUI and what `Http.get` does."""
        answer = await self._http.get("/queue")
        try:
            return read_queue(answer.body)
        except ValueError:
            answer.json("GET /queue")
            raise NotComfyUI("What answers there has no queue.", hint="Check the address.") from None

    async def items(self) -> dict[str, list[Any]]:
        """The whole queue as the server says it, prompts included."""
        return dict(_object(self._http, "GET /queue", (await self._http.get("/queue")).json("GET /queue")))

    async def remaining(self) -> int:
        """How many prompts run or wait (GET /prompt): the cheapest sign of life."""
        body = (await self._http.get("/prompt")).json("GET /prompt")
        try:
            return int(body["exec_info"]["queue_remaining"])
        except (TypeError, KeyError, ValueError):
            raise NotComfyUI(
                f"What answers at {self._http.access} is not ComfyUI.", hint="Check the address and the port."
            ) from None

    async def delete(self, prompt_ids: Sequence[str]) -> None:
        """Takes waiting prompts out; of those that run or are unknown nothing happens."""
        await self._http.post("/queue", {"delete": list(prompt_ids)})

    async def clear(self) -> None:
        """Takes out everything that waits, everybody's."""
        await self._http.post("/queue", {"clear": True})


class History:
    """GET and POST /history: what ended, and what it made."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def entry(self, prompt_id: str) -> Entry | None:
        """One prompt's end; None while it runs or where nobody knows it."""
        answer = await self._http.get(f"/history/{prompt_id}")
        try:
            return read_history(answer.body, prompt_id)
        except ValueError:
            raise NotComfyUI("The answer to GET /history is no history.", hint="Check the address.") from None

    async def get(self, prompt_id: str) -> dict[str, Any] | None:
        """One prompt's entry as the server says it, its prompt included; None where there is none."""
        body = (await self._http.get(f"/history/{prompt_id}")).json("GET /history")
        found = body.get(prompt_id) if isinstance(body, dict) else None
        return found if isinstance(found, dict) else None

    async def list(self, max_items: int = HISTORY_ITEMS) -> dict[str, Any]:
        """The newest entries by prompt id, verbatim."""
        answer = await self._http.get("/history", {"max_items": str(max_items)})
        return dict(_object(self._http, "GET /history", answer.json("GET /history")))

    async def delete(self, prompt_ids: Sequence[str]) -> None:
        """Forgets these entries; the files stay."""
        await self._http.post("/history", {"delete": list(prompt_ids)})

    async def clear(self) -> None:
        """Forgets all entries, everybody's."""
        await self._http.post("/history", {"clear": True})


class Jobs:
    """GET /api/jobs and their cancel: servers from 0.5 on."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(self) -> list[dict[str, Any]]:
        """The jobs that the server shows, pending, running and ended. Raises: NotFound on older servers."""
        body = (await self._http.get(self._path(""))).json("GET /api/jobs")
        return list(_object(self._http, "GET /api/jobs", body).get("jobs") or ())

    async def get(self, prompt_id: str) -> dict[str, Any] | None:
        """One job, None where the server knows none. Raises: NotFound on older servers."""
        try:
            body = (await self._http.get(self._path(f"/{prompt_id}"))).json("GET /api/jobs")
        except NotFound as error:
            if "Job not found" in error.body:
                return None
            raise
        return dict(_object(self._http, "GET /api/jobs", body))

    async def cancel(self, prompt_id: str) -> bool:
        """Asks to stop this job and no other; whether the server says that it did. Repeat until it is over.

        Raises: NotFound on older servers.
        """
        body = (await self._http.post(self._path(f"/{prompt_id}/cancel"), {})).json("POST /api/jobs")
        return bool(_object(self._http, "POST /api/jobs", body).get("cancelled"))

    def _path(self, rest: str) -> str:
        return f"/jobs{rest}" if self._http.access.cloud else f"/api/jobs{rest}"


class Nodes:
    """GET /object_info: what node classes the server has, and what they take."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._known: dict[str, dict[str, Any]] = {}

    async def get(self, class_type: str) -> dict[str, Any]:
        """One class's declaration, asked once. Raises: NotFound where the server has no such class."""
        if class_type not in self._known:
            body = (await self._http.get(f"/object_info/{class_type}")).json("GET /object_info")
            found = _object(self._http, "GET /object_info", body).get(class_type)
            if not isinstance(found, dict):
                raise NotFound(f"The server has no node class {class_type!r}.", status=404)
            self._known[class_type] = found
        return self._known[class_type]

    async def some(self, class_types: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The declarations of those classes that the server has, by class."""
        found: dict[str, dict[str, Any]] = {}
        for class_type in class_types:
            try:
                found[class_type] = await self.get(class_type)
            except NotFound:
                continue  # whoever wanted it says which node misses it
        return found

    async def all(self) -> dict[str, dict[str, Any]]:
        """Every class: over a megabyte, and the server's loop stands still meanwhile. Asked once."""
        body = (await self._http.get("/object_info")).json("GET /object_info")
        self._known.update(_object(self._http, "GET /object_info", body))
        return dict(self._known)


class System:
    """What the server is and has."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def stats(self) -> dict[str, Any]:
        """GET /system_stats: versions, memory, devices."""
        body = (await self._http.get("/system_stats")).json("GET /system_stats")
        return dict(_object(self._http, "GET /system_stats", body))

    async def features(self) -> dict[str, Any]:
        """GET /features: the server's flags; empty for servers that have none."""
        try:
            body = (await self._http.get("/features")).json("GET /features")
        except NotFound:
            return {}
        return dict(_object(self._http, "GET /features", body))

    async def version(self) -> tuple[int, ...]:
        """The server's version as numbers, (0, 33, 0); empty where it does not say."""
        system = (await self.stats()).get("system")
        text = str(system.get("comfyui_version", "")) if isinstance(system, dict) else ""
        parts = text.lstrip("v").split("-")[0].split(".")
        return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()

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


def _object(http: Http, what: str, body: Any) -> Mapping[str, Any]:
    if not isinstance(body, dict):
        raise UnexpectedAnswer(f"{what} at {http.access} gave {msgspec.json.encode(body)[:80]!r}.")
    return body
