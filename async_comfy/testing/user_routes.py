"""What the server keeps for its one user: files, settings (ComfyUI app/user_manager.py, app_settings.py)."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from async_comfy.testing.server import SimulatedServer

SETTINGS = "comfy.settings.json"  # a file like the others, as on the real server


class UserRoutes:
    """/userdata, /settings and /users of one server: one user, whose files outlive a restart."""

    def __init__(self, server: "SimulatedServer") -> None:
        self.root = (server.folders.root / "user" / "default").resolve()
        self.users: list[str] = []

    def table(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get("/users", self.list_users),
            web.post("/users", self.add_user),
            web.get("/settings", self.settings),
            web.post("/settings", self.update_settings),
            web.get("/settings/{id}", self.setting),
            web.post("/settings/{id}", self.set_setting),
            web.get("/userdata", self.list),
            web.get("/v2/userdata", self.tree),
            web.get("/userdata/{file}", self.get),
            web.post("/userdata/{file}", self.put),
            web.delete("/userdata/{file}", self.delete),
            web.post("/userdata/{file}/move/{dest}", self.move),
        ]

    async def list_users(self, request: web.Request) -> web.Response:
        """GET /users: a server of one user does not name it."""
        return web.json_response({"storage": "server", "migrated": False})

    async def add_user(self, request: web.Request) -> web.Response:
        """POST /users: an id made of the name."""
        name = (await request.json())["username"]
        if name in self.users:
            return web.json_response({"error": "Duplicate username."}, status=400)
        self.users.append(name)
        return web.json_response(f"{name}_{len(self.users)}")

    async def settings(self, request: web.Request) -> web.Response:
        """GET /settings: all that were made."""
        return web.json_response(self._settings())

    async def update_settings(self, request: web.Request) -> web.Response:
        """POST /settings: these, the others stay."""
        self._keep_settings(await request.json())
        return web.Response()

    async def setting(self, request: web.Request) -> web.Response:
        """GET /settings/{id}: null where it was never set."""
        return web.json_response(self._settings().get(request.match_info["id"]))

    async def set_setting(self, request: web.Request) -> web.Response:
        """POST /settings/{id}: any JSON."""
        self._keep_settings({request.match_info["id"]: await request.json()})
        return web.Response()

    async def list(self, request: web.Request) -> web.Response:
        """GET /userdata: the files of `dir`; described with `full_info`, in parts with `split`."""
        query = request.query
        if not query.get("dir"):
            return web.Response(status=400, text="Directory not provided")
        folder = self._within(query["dir"])
        if folder is None:
            return web.Response(status=403, text="Invalid directory")
        if not folder.exists():
            return web.Response(status=404, text="Directory not found")
        found = folder.rglob("*") if _says(query, "recurse") else folder.glob("*")
        files = sorted(path for path in found if path.is_file())
        if _says(query, "full_info"):
            return web.json_response([_info(path, folder) for path in files])
        names = [path.relative_to(folder).as_posix() for path in files]
        if _says(query, "split"):
            return web.json_response([[name, *name.split("/")] for name in names])
        return web.json_response(names)

    async def tree(self, request: web.Request) -> web.Response:
        """GET /v2/userdata: all that lies below `path`, folders too."""
        top = self._within(request.query.get("path", ""))
        if top is None:
            return web.Response(status=400, text="Invalid path requested")
        if not top.exists():
            return (
                web.json_response([])
                if top == self.root
                else web.Response(status=404, text="Requested path not found")
            )
        return web.json_response([self._entry(path) for path in sorted(top.rglob("*"))])

    async def get(self, request: web.Request) -> web.StreamResponse:
        """GET /userdata/{file}: the bytes."""
        path = self._within(request.match_info["file"])
        if path is None:
            return web.Response(status=403)
        return web.FileResponse(path) if path.is_file() else web.Response(status=404)

    async def put(self, request: web.Request) -> web.Response:
        """POST /userdata/{file}: keeps the body; 409 where there is one and `overwrite` is "false"."""
        path = self._within(request.match_info["file"])
        if path is None:
            return web.Response(status=403)
        if path.exists() and request.query.get("overwrite") == "false":
            return web.Response(status=409, text="File already exists")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(await request.read())
        return self._kept(request, path)

    async def delete(self, request: web.Request) -> web.Response:
        """DELETE /userdata/{file}: 204."""
        path = self._within(request.match_info["file"])
        if path is None:
            return web.Response(status=403)
        if not path.is_file():
            return web.Response(status=404)
        path.unlink()
        return web.Response(status=204)

    async def move(self, request: web.Request) -> web.Response:
        """POST /userdata/{file}/move/{dest}: another name; 409 as for a new file."""
        source, target = self._within(request.match_info["file"]), self._within(request.match_info["dest"])
        if source is None or target is None:
            return web.Response(status=403)
        if not source.is_file():
            return web.Response(status=404)
        if target.exists() and request.query.get("overwrite") == "false":
            return web.Response(status=409, text="File already exists")
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
        return self._kept(request, target)

    def _within(self, name: str) -> Path | None:
        """A path among the user's files; None where it would lead out."""
        path = Path(os.path.normpath(self.root / name))
        return path if path == self.root or self.root in path.parents else None

    def _kept(self, request: web.Request, path: Path) -> web.Response:
        told = _says(request.query, "full_info")
        return web.json_response(_info(path, self.root) if told else path.relative_to(self.root).as_posix())

    def _entry(self, path: Path) -> dict[str, Any]:
        entry = {"name": path.name, "path": path.relative_to(self.root).as_posix()}
        if path.is_dir():
            return {**entry, "type": "directory"}
        about = path.stat()
        return {**entry, "type": "file", "size": about.st_size, "modified": about.st_mtime}

    def _settings(self) -> dict[str, Any]:
        path = self.root / SETTINGS
        return json.loads(path.read_text()) if path.is_file() else {}

    def _keep_settings(self, values: dict[str, Any]) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / SETTINGS).write_text(json.dumps(self._settings() | values))


def _says(query: Any, name: str) -> bool:
    return bool(query.get(name, "").lower() == "true")


def _info(path: Path, folder: Path) -> dict[str, Any]:
    about = path.stat()
    times = {"modified": int(about.st_mtime * 1000), "created": int(about.st_ctime * 1000)}
    return {"path": path.relative_to(folder).as_posix(), "size": about.st_size, **times}
