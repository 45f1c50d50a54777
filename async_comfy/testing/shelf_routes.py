"""What lies on the server's shelves: model files, templates, subgraphs, replacements.

Sources: ComfyUI app/model_manager.py, custom_node_manager.py, subgraph_manager.py, server.py. Model names
come from the catalog. What lies under ``models``, ``custom_nodes`` and ``templates`` of the server's folder
is served too.
"""

import hashlib
import io
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from async_comfy.testing.server import SimulatedServer

SUFFIXES = [".bin", ".ckpt", ".pkl", ".pt", ".pt2", ".pth", ".safetensors", ".sft"]
PICTURES = (".png", ".jpg", ".jpeg", ".webp")  # that may lie beside a model, as its preview
REPLACEMENTS: dict[str, Any] = {
    "ImageBatch": [
        {
            "new_node_id": "BatchImagesNode",
            "old_node_id": "ImageBatch",
            "old_widget_ids": None,
            "input_mapping": [
                {"new_id": "images.image0", "old_id": "image1"},
                {"new_id": "images.image1", "old_id": "image2"},
            ],
            "output_mapping": None,
        }
    ]
}
"""One of those that a 0.33 server names."""


class ShelfRoutes:
    """The shelves of one server."""

    def __init__(self, server: "SimulatedServer") -> None:
        self.server = server
        self.models = server.folders.root / "models"
        self.packages = server.folders.root / "custom_nodes"

    def table(self) -> list[web.RouteDef]:
        """All of them; the server adds each a second time under /api."""
        routes = [
            web.get("/experiment/models", self.model_folders),
            web.get("/experiment/models/{folder}", self.model_files),
            web.get("/experiment/models/preview/{folder}/{path_index}/{filename:.*}", self.model_preview),
            web.get("/view_metadata/{folder}", self.metadata),
            web.get("/workflow_templates", self.templates),
            web.get("/i18n", self.translations),
        ]
        newer = [
            web.get("/node_replacements", self.replacements),
            web.get("/global_subgraphs", self.subgraphs),
            web.get("/global_subgraphs/{id}", self.subgraph),
        ]
        return [*routes, *newer] if self.server.profile.assets else routes

    def templates_table(self) -> list[web.RouteDef]:
        """What is served under one name alone: /api, or without it."""
        return [
            web.get("/api/workflow_templates/{package}/{file}", self.template),
            web.get("/templates/{file}", self.editor_template),
        ]

    async def model_folders(self, request: web.Request) -> web.Response:
        """GET /experiment/models: the folders and where they are, without "configs"."""
        names = [name for name in self.server.catalog.models if name != "configs"]
        return web.json_response(
            [{"name": n, "folders": [str(self.models / n)], "extensions": SUFFIXES} for n in names]
        )

    async def model_files(self, request: web.Request) -> web.Response:
        """GET /experiment/models/{folder}: files with size and times; those without a real file have 0."""
        folder = request.match_info["folder"]
        names = self.server.catalog.models.get(folder)
        if names is None:
            return web.Response(status=404)
        return web.json_response([_model(name, self.models / folder / name) for name in names])

    async def model_preview(self, request: web.Request) -> web.Response:
        """GET /experiment/models/preview/...: the picture beside a model, as WebP."""
        folder, name = request.match_info["folder"], request.match_info["filename"]
        model = self._model(folder, name)
        if request.match_info["path_index"] != "0" or model is None:
            return web.Response(status=404)
        found = next((p for s in PICTURES if (p := model.with_suffix(s)).is_file()), None)
        if found is None:
            return web.Response(status=404)
        return web.Response(body=_webp(found), content_type="image/webp")

    async def metadata(self, request: web.Request) -> web.Response:
        """GET /view_metadata/{folder}: what the head of a safetensors file says; 404 where nothing."""
        name = request.query.get("filename")
        path = self._model(request.match_info["folder"], name) if name else None
        found = _head(path) if path is not None and path.is_file() else None
        return web.Response(status=404) if found is None else web.json_response(found)

    async def templates(self, request: web.Request) -> web.Response:
        """GET /workflow_templates: names by package."""
        found: dict[str, list[str]] = {}
        for path in sorted(self.packages.glob("*/example_workflows/*.json")):
            found.setdefault(path.parent.parent.name, []).append(path.stem)
        return web.json_response(found)

    async def template(self, request: web.Request) -> web.StreamResponse:
        """GET /api/workflow_templates/{package}/{file}: a workflow as it was saved."""
        wanted = (request.match_info["package"], request.match_info["file"])
        for path in self.packages.glob("*/example_workflows/*.json"):
            if (path.parent.parent.name, path.name) == wanted:
                return web.FileResponse(path)
        return web.Response(status=404)

    async def editor_template(self, request: web.Request) -> web.StreamResponse:
        """GET /templates/{file}: the editor's own, from ``templates`` of the server's folder."""
        path = self.server.folders.root / "templates" / Path(request.match_info["file"]).name
        return web.FileResponse(path) if path.is_file() else web.Response(status=404)

    async def translations(self, request: web.Request) -> web.Response:
        """GET /i18n: no package brings any."""
        return web.json_response({})

    async def replacements(self, request: web.Request) -> web.Response:
        """GET /node_replacements: by the class that is gone."""
        return web.json_response(REPLACEMENTS)

    async def subgraphs(self, request: web.Request) -> web.Response:
        """GET /global_subgraphs: by id, without their data."""
        return web.json_response({key: about for key, (about, _) in self._subgraphs().items()})

    async def subgraph(self, request: web.Request) -> web.Response:
        """GET /global_subgraphs/{id}: with its data; 200 and null for an unknown one."""
        found = self._subgraphs().get(request.match_info["id"])
        return web.json_response(None if found is None else {**found[0], "data": found[1].read_text()})

    def _subgraphs(self) -> dict[str, tuple[dict[str, Any], Path]]:
        found = {}
        for path in sorted(self.packages.glob("*/subgraphs/*.json")):
            package = path.parent.parent.name
            key = hashlib.sha256(f"{package}/{path.name}".encode()).hexdigest()
            about = {
                "source": "custom_node",
                "name": path.stem,
                "info": {"node_pack": f"custom_nodes.{package}"},
            }
            found[key] = (about, path)
        return found

    def _model(self, folder: str, name: str) -> Path | None:
        """The file of a model; None where there is no such folder or the name leads out of it."""
        place = (self.models / folder).resolve()
        path = (place / name).resolve()
        known = folder in self.server.catalog.models and place in path.parents
        return path if known else None


def _model(name: str, path: Path) -> dict[str, Any]:
    about = path.stat() if path.is_file() else None
    times = {
        "modified": about.st_mtime if about else 0.0,
        "created": about.st_ctime if about else 0.0,
    }
    return {"name": name, "pathIndex": 0, **times, "size": about.st_size if about else 0}


def _head(path: Path) -> Any:
    """The `__metadata__` of a safetensors file: a length of 8 bytes, then JSON."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length)).get("__metadata__")


def _webp(path: Path) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    with Image.open(path) as picture:
        picture.save(out, "WEBP")
    return out.getvalue()
