"""What the server answers over HTTP: prompts, queue, history, interrupts, and what it knows of itself.

Sources: ComfyUI ``server.py``. Where the real server falls over a body that it did not expect and answers
500, so does this one, for the same reason: nothing is caught here.
"""

import json
import platform
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

from aiohttp import web

from async_comfy.testing.prompt_queue import Prompt
from async_comfy.testing.validation import complaint, judge

if TYPE_CHECKING:
    from async_comfy.testing.server import SimulatedServer

SECRETS = ("api_key_comfy_org", "auth_token_comfy_org")  # never shown again in /queue and /history
MEMORY_BYTES = 24 * 2**30  # what the simulated machine has, as RAM and as VRAM


class Routes:
    """The core routes of one server."""

    def __init__(self, server: "SimulatedServer") -> None:
        self.server = server

    def table(self) -> list[web.RouteDef]:
        """All of them; the server adds each a second time under /api."""
        profile = self.server.profile
        routes = [
            web.get("/", self.home),
            web.get("/ws", self.server.sockets_handler),
            web.get("/prompt", self.get_prompt),
            web.post("/prompt", self.post_prompt),
            web.get("/queue", self.get_queue),
            web.post("/queue", self.post_queue),
            web.get("/history", self.get_history),
            web.get("/history/{prompt_id}", self.get_history_of),
            web.post("/history", self.post_history),
            web.post("/interrupt", self.interrupt),
            web.post("/free", self.free),
            web.get("/object_info", self.object_info),
            web.get("/object_info/{name}", self.object_info_of),
            web.get("/system_stats", self.system_stats),
            web.get("/models", self.models),
            web.get("/models/{folder}", self.models_in),
            web.get("/embeddings", self.embeddings),
            web.get("/extensions", self.extensions),
        ]
        return [*routes, web.get("/features", self.features)] if profile.feature_flags else routes

    async def unknown(self, request: web.Request) -> web.Response:
        """GET of anything else: the real server looks for a file of its user interface, and has none."""
        return web.Response(status=404, content_type="application/octet-stream")

    async def home(self, request: web.Request) -> web.Response:
        """GET /: where the real server has its user interface."""
        page = (
            "<!doctype html><html><head><title>ComfyUI</title></head><body>A simulated ComfyUI.</body></html>"
        )
        return web.Response(text=page, content_type="text/html")

    async def get_prompt(self, request: web.Request) -> web.Response:
        """GET /prompt: a cheap sign of life."""
        return web.json_response({"exec_info": {"queue_remaining": len(self.server.queue)}})

    async def post_prompt(self, request: web.Request) -> web.Response:
        """POST /prompt: checks and queues."""
        body = await request.json()
        number = self._number(body)
        if "prompt" not in body:
            return _refused(complaint("no_prompt", "No prompt provided", "No prompt provided"))
        prompt_id = self._prompt_id(body)
        if prompt_id is None:
            return _refused(
                complaint(
                    "invalid_prompt_id",
                    "prompt_id must be a valid UUID",
                    "prompt_id must be a UUID string in canonical lowercase hyphenated form; "
                    "omit it to let the server generate one",
                )
            )
        server = self.server
        if server.profile.unique_prompt_ids and server.queue.knows(prompt_id):
            return _refused(
                complaint("duplicate_prompt_id", "prompt_id is already in use", prompt_id), status=409
            )
        graph = body["prompt"]
        verdict = judge(graph, server.catalog, server.profile, body.get("partial_execution_targets"))
        extra = dict(body["extra_data"]) if "extra_data" in body else {}
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        if verdict.error is not None:
            return _refused(verdict.error, verdict.node_errors)
        for secret in SECRETS:
            extra.pop(secret, None)
        if server.profile.jobs:
            extra["create_time"] = int(time.time() * 1000)
        server.queue.put(Prompt(number, prompt_id, graph, extra, verdict.outputs))
        server.logs.write("got prompt\n")
        return web.json_response(
            {"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors}
        )

    async def get_queue(self, request: web.Request) -> web.Response:
        """GET /queue: all prompts in full."""
        queue = self.server.queue
        return web.json_response(
            {
                "queue_running": [prompt.item() for prompt in queue.running.values()],
                "queue_pending": [prompt.item() for prompt in queue.pending],
            }
        )

    async def post_queue(self, request: web.Request) -> web.Response:
        """POST /queue: removes waiting prompts; a running one is left alone."""
        body = await request.json()
        if _says(body, "clear"):
            self.server.queue.clear()
        if "delete" in body:
            for prompt_id in body["delete"]:
                self.server.queue.delete(prompt_id)
        return web.Response()

    async def get_history(self, request: web.Request) -> web.Response:
        """GET /history: everything, or `max_items` from `offset`; without an offset the newest."""
        limit = int(request.query["max_items"]) if "max_items" in request.query else None
        offset = int(request.query.get("offset", -1))
        records = list(self.server.queue.records())
        if offset < 0 and limit is not None:
            offset = max(0, len(records) - limit)
        end = None if limit is None else max(0, offset) + max(0, limit)
        shown = records[max(0, offset) : end]
        return web.json_response({record.prompt.prompt_id: record.entry() for record in shown})

    async def get_history_of(self, request: web.Request) -> web.Response:
        """GET /history/{id}: `{}` for what is unknown, waits or runs."""
        record = self.server.queue.record(request.match_info["prompt_id"])
        return web.json_response({} if record is None else {record.prompt.prompt_id: record.entry()})

    async def post_history(self, request: web.Request) -> web.Response:
        """POST /history: forgets entries."""
        body = await request.json()
        if _says(body, "clear"):
            self.server.queue.forget()
        if "delete" in body:
            for prompt_id in body["delete"]:
                self.server.queue.forget(prompt_id)
        return web.Response()

    async def interrupt(self, request: web.Request) -> web.Response:
        """POST /interrupt: the prompt that is named if it runs; without a name, whatever runs."""
        try:
            body = await request.json()
        except json.JSONDecodeError:
            body = {}
        wanted = body.get("prompt_id") if self.server.profile.targeted_interrupt else None
        if not wanted or self.server.queue.find_running(wanted) is not None:
            self.server.interrupt()
        return web.Response()

    async def free(self, request: web.Request) -> web.Response:
        """POST /free: models are unloaded, with `free_memory` cached results are forgotten too."""
        body = await request.json()
        self.server.free(models=bool(body.get("unload_models")), results=bool(body.get("free_memory")))
        return web.Response()

    async def object_info(self, request: web.Request) -> web.Response:
        """GET /object_info: every class."""
        return web.json_response({name: self.server.catalog.info(name) for name in self.server.catalog})

    async def object_info_of(self, request: web.Request) -> web.Response:
        """GET /object_info/{class}: `{}` for an unknown one."""
        name = request.match_info["name"]
        return web.json_response(
            {name: self.server.catalog.info(name)} if name in self.server.catalog else {}
        )

    async def features(self, request: web.Request) -> web.Response:
        """GET /features: what `feature_flags` says on the socket."""
        return web.json_response(self.server.flags)

    async def system_stats(self, request: web.Request) -> web.Response:
        """GET /system_stats: the version and the devices."""
        memory = {"vram_total": MEMORY_BYTES, "vram_free": MEMORY_BYTES}
        memory |= {f"torch_{name}": size for name, size in memory.items()}
        system = {
            "os": sys.platform,
            "ram_total": MEMORY_BYTES,
            "ram_free": MEMORY_BYTES,
            "comfyui_version": self.server.profile.version,
            "required_frontend_version": None,
            "python_version": sys.version,
            "pytorch_version": f"simulated on {platform.python_implementation()}",
            "embedded_python": False,
            "argv": ["main.py"],
        }
        device = {"name": "cpu", "type": "cpu", "index": None, **memory}
        return web.json_response({"system": system, "devices": [device]})

    async def models(self, request: web.Request) -> web.Response:
        """GET /models: the folders."""
        return web.json_response(list(self.server.catalog.models))

    async def models_in(self, request: web.Request) -> web.Response:
        """GET /models/{folder}: the files."""
        files = self.server.catalog.models.get(request.match_info["folder"])
        return web.Response(status=404) if files is None else web.json_response(files)

    async def embeddings(self, request: web.Request) -> web.Response:
        """GET /embeddings: the names without their suffix."""
        return web.json_response(
            [name.rsplit(".", 1)[0] for name in self.server.catalog.models["embeddings"]]
        )

    async def extensions(self, request: web.Request) -> web.Response:
        """GET /extensions: no user interface, no extensions."""
        return web.json_response([])

    def _number(self, body: dict[str, Any]) -> float:
        if "number" in body:
            return float(body["number"])
        number, self.server.number = self.server.number, self.server.number + 1
        return -number if _says(body, "front") else number

    def _prompt_id(self, body: dict[str, Any]) -> str | None:
        """The id of the client's making, a new one, or None where the client's is not one."""
        given = body.get("prompt_id") if self.server.profile.client_prompt_ids else None
        if given is None:
            return str(uuid.uuid4())
        try:
            return given if isinstance(given, str) and str(uuid.UUID(given)) == given else None
        except ValueError:
            return None


def _says(body: Any, name: str) -> bool:
    """Whether a body switches something on. Lists and texts are asked too, and say no."""
    return name in body and bool(body[name])


def _refused(
    error: dict[str, Any], node_errors: dict[str, Any] | None = None, status: int = 400
) -> web.Response:
    return web.json_response({"error": error, "node_errors": node_errors or {}}, status=status)
