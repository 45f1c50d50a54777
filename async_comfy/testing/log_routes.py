"""What the server logs, and where it works: /internal (ComfyUI api_server/routes/internal)."""

from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aiohttp import web

from async_comfy.testing.files import KINDS

if TYPE_CHECKING:
    from async_comfy.testing.server import SimulatedServer

REMEMBERED = 300  # pieces of log that the real server keeps


class LogRoutes:
    """The log of one server's life and who listens to it. Its routes exist without /api alone."""

    def __init__(self, server: "SimulatedServer") -> None:
        self.server = server
        self.entries: deque[dict[str, str]] = deque(maxlen=REMEMBERED)
        self.listeners: set[str] = set()

    def table(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get("/internal/logs", self.text),
            web.get("/internal/logs/raw", self.raw),
            web.patch("/internal/logs/subscribe", self.subscribe),
            web.get("/internal/folder_paths", self.folder_paths),
            web.get("/internal/files/{kind}", self.files),
        ]

    def write(self, text: str) -> None:
        """One more piece: kept, and sent to those who listen and are still there. On the server's loop."""
        entry = {"t": datetime.now(UTC).replace(tzinfo=None).isoformat(), "m": text}
        self.entries.append(entry)
        self.listeners &= self.server.sockets.known.keys()
        for client_id in sorted(self.listeners):
            self.server.sockets.say("logs", {"entries": [entry], "size": None}, client_id)

    async def text(self, request: web.Request) -> web.Response:
        """GET /internal/logs: all as one JSON string."""
        return web.json_response("".join(f"{entry['t']} - {entry['m']}" for entry in self.entries))

    async def raw(self, request: web.Request) -> web.Response:
        """GET /internal/logs/raw: piece by piece."""
        return web.json_response({"entries": list(self.entries), "size": {"cols": 80, "rows": 24}})

    async def subscribe(self, request: web.Request) -> web.Response:
        """PATCH /internal/logs/subscribe: a client id listens, or no more."""
        body = await request.json()
        (self.listeners.add if body["enabled"] else self.listeners.discard)(body["clientId"])
        self.server.pulse.beat()
        return web.Response()

    async def folder_paths(self, request: web.Request) -> web.Response:
        """GET /internal/folder_paths: where models are looked for."""
        root = self.server.folders.root / "models"
        return web.json_response({name: [str(root / name)] for name in self.server.catalog.models})

    async def files(self, request: web.Request) -> web.Response:
        """GET /internal/files/{kind}: names with their folder, the newest first."""
        kind = request.match_info["kind"]
        if kind not in KINDS:
            return web.json_response({"error": "Invalid directory type"}, status=400)
        files = [path for path in self.server.folders[kind].iterdir() if path.is_file()]
        files.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        return web.json_response([f"{path.name} [{kind}]" for path in files])
