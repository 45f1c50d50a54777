"""The asset database: /api/assets and /api/tags (ComfyUI app/assets/api/routes.py).

It is switched off unless ``server.flags["assets"]`` is set, as on a server without --enable-assets. What it
knows is forgotten at a restart; the real server keeps it.
"""

import functools
import json
import mimetypes
import re
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web
from blake3 import blake3

if TYPE_CHECKING:
    from async_comfy.testing.server import SimulatedServer

Handler = Callable[["AssetRoutes", web.Request], Awaitable[web.StreamResponse]]

ROOTS = ("models", "input", "output")
SORTS = ("name", "created_at", "updated_at", "size", "last_access_time")
PAGE = 20  # assets in an answer where nobody says how many
MOST = 500  # that may be asked for
HASH = re.compile(r"blake3:[0-9a-f]{64}")


def _now() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat()


@dataclass
class Asset:
    """A name and tags for some content."""

    name: str
    path: Path
    content: str
    tags: set[str]
    user_metadata: dict[str, Any]
    preview_id: str | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: str = field(default_factory=_now)
    updated_at: str = field(default_factory=_now)

    def told(self) -> dict[str, Any]:
        """What the server says of it."""
        return {
            "id": self.id,
            "name": self.name,
            "hash": self.content,
            "asset_hash": self.content,
            "loader_path": self.path.name,
            "display_name": self.path.name,
            "size": self.path.stat().st_size,
            "mime_type": mimetypes.guess_type(self.path.name)[0] or "application/octet-stream",
            "tags": sorted(self.tags),
            **({"preview_id": self.preview_id} if self.preview_id else {}),
            "user_metadata": self.user_metadata,
            "metadata": {},
            "is_immutable": False,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "last_access_time": self.created_at,
        }


def switched_on(handler: Handler) -> Handler:
    """503 while the database is off."""

    @functools.wraps(handler)
    async def guarded(routes: "AssetRoutes", request: web.Request) -> web.StreamResponse:
        if not routes.server.flags["assets"]:
            says = "Assets system is disabled. Start the server with --enable-assets to use this feature."
            return _error(503, "SERVICE_DISABLED", says)
        try:
            return await handler(routes, request)
        except _Refused as refused:
            return refused.answer

    return guarded


class _Refused(Exception):
    """An answer that ends a request early."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.answer = _error(status, code, message)


class AssetRoutes:
    """The assets of one server's life."""

    def __init__(self, server: "SimulatedServer") -> None:
        self.server = server
        self.assets: dict[str, Asset] = {}
        self.known_tags: set[str] = set(ROOTS)
        self.progress = {"scanned": 0, "total": 0, "created": 0, "skipped": 0}

    def table(self) -> list[web.RouteDef]:
        """All of them. They live under /api only."""
        one = "/api/assets/{id:[0-9a-fA-F-]{36}}"
        return [
            web.get("/api/assets", self.list, allow_head=False),
            web.post("/api/assets", self.create),
            web.post("/api/assets/from-hash", self.from_hash),
            web.head("/api/assets/hash/{hash}", self.has),
            web.get("/api/assets/tags/refine", self.refine),
            web.post("/api/assets/seed", self.seed),
            web.get("/api/assets/seed/status", self.seed_status),
            web.post("/api/assets/seed/cancel", self.cancel_seed),
            web.post("/api/assets/prune", self.prune),
            web.get(one, self.get),
            web.put(one, self.update),
            web.delete(one, self.delete),
            web.get(f"{one}/content", self.content),
            web.post(f"{one}/tags", self.add_tags),
            web.delete(f"{one}/tags", self.remove_tags),
            web.get("/api/tags", self.tags),
        ]

    @switched_on
    async def list(self, request: web.Request) -> web.Response:
        """GET /api/assets: a page of those that a search finds. Cursors are not simulated."""
        query = request.query
        limit, offset = _number(query, "limit", PAGE), _number(query, "offset", 0)
        sort = query.get("sort", "created_at")
        if not 1 <= limit <= MOST or offset < 0 or sort not in SORTS:
            raise _Refused(400, "INVALID_QUERY", "Validation failed.")
        found = sorted(self._found(query), key=lambda asset: (asset.told()[sort], asset.id))
        if query.get("order", "desc") == "desc":
            found.reverse()
        shown = found[offset : offset + limit]
        more = offset + len(shown) < len(found)
        told = [asset.told() for asset in shown]
        return web.json_response({"assets": told, "total": len(found), "has_more": more})

    @switched_on
    async def get(self, request: web.Request) -> web.Response:
        """GET /api/assets/{id}: one."""
        return web.json_response(self._named(request).told())

    @switched_on
    async def content(self, request: web.Request) -> web.StreamResponse:
        """GET /api/assets/{id}/content: its bytes, all of them: Range is ignored, as by the real one."""
        asset = self._named(request)
        return web.Response(body=asset.path.read_bytes(), content_type=asset.told()["mime_type"])

    @switched_on
    async def has(self, request: web.Request) -> web.Response:
        """HEAD /api/assets/hash/{hash}: whether there is such content."""
        wanted = request.match_info["hash"].lower()
        if HASH.fullmatch(wanted) is None:
            raise _Refused(400, "INVALID_HASH", "hash must be like 'blake3:<hex>'")
        return web.Response(status=200 if self._with(wanted) else 404)

    @switched_on
    async def create(self, request: web.Request) -> web.Response:
        """POST /api/assets: a file under a name made of its content, in the folder that a tag names."""
        post = await request.post()
        file = post.get("file")
        if not isinstance(file, web.FileField):
            raise _Refused(400, "MISSING_FILE", "Form must include a 'file' part or a known 'hash'.")
        tags = _tags(str(post.get("tags", "")))
        roots = [tag for tag in tags if tag in ROOTS]
        if len(roots) != 1:
            raise _Refused(400, "INVALID_BODY", "uploads require exactly one destination role tag")
        with file.file as sent:
            data = sent.read()
        content = _hash(data)
        known = self._with(content)
        path = known.path if known else self._written(roots[0], content, file.filename, data)
        about = json.loads(str(post.get("user_metadata") or "{}"))
        name = str(post.get("name") or file.filename)
        asset = self._add(Asset(name, path, content, {*tags, "uploaded"}, about))
        told = {**asset.told(), "created_new": known is None}
        return web.json_response(told, status=200 if known else 201)

    @switched_on
    async def from_hash(self, request: web.Request) -> web.Response:
        """POST /api/assets/from-hash: another asset of known content."""
        body = await request.json()
        known = self._with(body["hash"])
        if known is None:
            raise _Refused(404, "ASSET_NOT_FOUND", f"Asset content {body['hash']} does not exist")
        about = (set(body.get("tags") or ()), body.get("user_metadata") or {})
        asset = self._add(Asset(body.get("name") or known.path.name, known.path, known.content, *about))
        return web.json_response({**asset.told(), "created_new": False}, status=201)

    @switched_on
    async def update(self, request: web.Request) -> web.Response:
        """PUT /api/assets/{id}: name, user_metadata, preview_id."""
        asset, body = self._named(request), await request.json()
        asset.name = body.get("name") or asset.name
        asset.user_metadata = body.get("user_metadata") or asset.user_metadata
        asset.preview_id = body.get("preview_id") or asset.preview_id
        asset.updated_at = _now()
        return web.json_response(asset.told())

    @switched_on
    async def delete(self, request: web.Request) -> web.Response:
        """DELETE /api/assets/{id}: the asset goes, its file stays."""
        del self.assets[self._named(request).id]
        return web.Response(status=204)

    @switched_on
    async def add_tags(self, request: web.Request) -> web.Response:
        """POST /api/assets/{id}/tags: more of them."""
        asset, tags = self._named(request), (await request.json())["tags"]
        added = [tag for tag in tags if tag not in asset.tags]
        there = [tag for tag in tags if tag in asset.tags]
        asset.tags |= set(tags)
        self.known_tags |= asset.tags
        answer = {"added": added, "already_present": there, "total_tags": sorted(asset.tags)}
        return web.json_response(answer)

    @switched_on
    async def remove_tags(self, request: web.Request) -> web.Response:
        """DELETE /api/assets/{id}/tags: fewer."""
        asset, tags = self._named(request), (await request.json())["tags"]
        removed = [tag for tag in tags if tag in asset.tags]
        missed = [tag for tag in tags if tag not in asset.tags]
        asset.tags -= set(tags)
        answer = {"removed": removed, "not_present": missed, "total_tags": sorted(asset.tags)}
        return web.json_response(answer)

    @switched_on
    async def tags(self, request: web.Request) -> web.Response:
        """GET /api/tags: the most used first."""
        query = request.query
        limit, offset = _number(query, "limit", 100), _number(query, "offset", 0)
        counts = self._counts(self.assets.values())
        unused = query.get("include_zero", "true") == "true"
        names = [name for name in self.known_tags if name.startswith(query.get("prefix", ""))]
        found = [{"name": name, "count": counts[name]} for name in sorted(names) if unused or counts[name]]
        found.sort(key=lambda tag: -counts[str(tag["name"])])
        shown = found[offset : offset + limit]
        more = offset + len(shown) < len(found)
        return web.json_response({"tags": shown, "total": len(found), "has_more": more})

    @switched_on
    async def refine(self, request: web.Request) -> web.Response:
        """GET /api/assets/tags/refine: the tags of what a search finds."""
        return web.json_response({"tag_counts": dict(self._counts(self._found(request.query)))})

    @switched_on
    async def seed(self, request: web.Request) -> web.Response:
        """POST /api/assets/seed: looks for files at once, so it never runs already."""
        body = await request.json() if request.can_read_body else {}
        roots = [root for root in body.get("roots", ROOTS) if root in ROOTS]
        if not roots:
            raise _Refused(400, "INVALID_BODY", "No valid roots specified")
        self._scan(roots)
        if request.query.get("wait") == "true":
            return web.json_response({"status": "completed", "progress": self.progress, "errors": []})
        return web.json_response({"status": "started"}, status=202)

    @switched_on
    async def seed_status(self, request: web.Request) -> web.Response:
        """GET /api/assets/seed/status: idle, and what the last one found."""
        return web.json_response({"state": "IDLE", "progress": self.progress, "errors": []})

    @switched_on
    async def cancel_seed(self, request: web.Request) -> web.Response:
        """POST /api/assets/seed/cancel: nothing runs."""
        return web.json_response({"status": "idle"})

    @switched_on
    async def prune(self, request: web.Request) -> web.Response:
        """POST /api/assets/prune: every asset lies in one of our folders, so none is marked."""
        return web.json_response({"status": "completed", "marked": 0})

    def _named(self, request: web.Request) -> Asset:
        asset_id = request.match_info["id"]
        if asset_id not in self.assets:
            raise _Refused(404, "ASSET_NOT_FOUND", f"AssetReference {asset_id} not found")
        return self.assets[asset_id]

    def _with(self, content: str) -> Asset | None:
        return next((asset for asset in self.assets.values() if asset.content == content), None)

    def _found(self, query: Mapping[str, str]) -> Iterable[Asset]:
        """Those with all tags asked for, none of those excluded, the text in the name, the metadata."""
        wanted, unwanted = set(_tags(query.get("include_tags", ""))), _tags(query.get("exclude_tags", ""))
        about = json.loads(query.get("metadata_filter", "{}")).items()
        for asset in self.assets.values():
            named = query.get("name_contains", "").lower() in asset.name.lower()
            tagged = wanted <= asset.tags and not asset.tags & set(unwanted)
            if named and tagged and about <= asset.user_metadata.items():
                yield asset

    def _counts(self, assets: Iterable[Asset]) -> Counter[str]:
        return Counter(tag for asset in assets for tag in asset.tags)

    def _add(self, asset: Asset) -> Asset:
        self.assets[asset.id] = asset
        self.known_tags |= asset.tags
        return asset

    def _written(self, root: str, content: str, filename: str, data: bytes) -> Path:
        folder = self.server.folders.root / root
        folder.mkdir(exist_ok=True)
        path = folder / (content.partition(":")[2] + Path(filename).suffix)
        path.write_bytes(data)
        return path

    def _scan(self, roots: Iterable[str]) -> None:
        files = [
            (root, path)
            for root in roots
            for path in (self.server.folders.root / root).rglob("*")
            if path.is_file()
        ]
        known = {asset.path for asset in self.assets.values()}
        new = [(root, path) for root, path in files if path not in known]
        for root, path in new:
            self._add(Asset(path.name, path, _hash(path.read_bytes()), {root}, {"filename": path.name}))
        told = (len(files), len(files), len(new), len(files) - len(new))
        self.progress = dict(zip(self.progress, told, strict=True))


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message, "details": {}}}, status=status)


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    try:
        return int(query.get(name, default))
    except ValueError:
        raise _Refused(400, "INVALID_QUERY", f"{name} must be an integer") from None


def _tags(text: str) -> list[str]:
    """Tags as a JSON list or with commas."""
    found = json.loads(text) if text.startswith("[") else text.split(",")
    return [str(tag).strip() for tag in found if str(tag).strip()]


def _hash(data: bytes) -> str:
    return f"blake3:{blake3(data).hexdigest()}"
