"""The server's asset database: files by id and content, with tags (servers started with --enable-assets)."""

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Literal

import aiohttp
import msgspec

from async_comfy._live.api.answers import answer_to, query, segment, shaped, under_api
from async_comfy._live.download import Downloads
from async_comfy._live.http import Answer, Http, unexpected
from async_comfy._live.places import FOLDERS
from async_comfy._live.sources import Borrowed, opened
from async_comfy.errors import CallerError, ComfyError, NotFound, UnexpectedAnswer
from async_comfy.filenames import safe_name
from async_comfy.protocol.outcome import media_type
from async_comfy.results import OutputFile
from async_comfy.workflow import File

ASSETS_PAGE = 100  # assets in one answer; the server gives at most 500

AssetOrder = Literal["name", "created_at", "updated_at", "size", "last_access_time"]
Root = Literal["models", "input", "output"]


class Asset(msgspec.Struct, frozen=True):
    """A file that the database knows. `size` in bytes; `hash` "blake3:..." where it was computed."""

    id: str
    name: str
    hash: str | None = None
    size: int | None = None
    mime_type: str | None = None
    tags: list[str] = []
    display_name: str | None = None
    loader_path: str | None = None
    preview_url: str | None = None
    preview_id: str | None = None
    user_metadata: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    is_immutable: bool = False
    created_at: str | None = None
    updated_at: str | None = None
    last_access_time: str | None = None
    created_new: bool | None = None


class AssetPage(msgspec.Struct, frozen=True):
    """Some assets, of `total`; `next_cursor` goes into `after` of the next call."""

    assets: list[Asset]
    total: int = 0
    has_more: bool = False
    next_cursor: str | None = None


class TagUsage(msgspec.Struct, frozen=True):
    """A tag and how many assets have it."""

    name: str
    count: int = 0


class TagPage(msgspec.Struct, frozen=True):
    """Some tags, of `total`."""

    tags: list[TagUsage]
    total: int = 0
    has_more: bool = False


class TagChange(msgspec.Struct, frozen=True):
    """What a change of tags did, and the tags that the asset has now."""

    total_tags: list[str]
    added: list[str] = []
    already_present: list[str] = []
    removed: list[str] = []
    not_present: list[str] = []


class AssetScanProgress(msgspec.Struct, frozen=True):
    """Counts of files."""

    scanned: int = 0
    total: int = 0
    created: int = 0
    skipped: int = 0


class AssetScan(msgspec.Struct, frozen=True):
    """How the scan of folders stands: `state` "IDLE", "RUNNING", ..."""

    state: str
    progress: AssetScanProgress | None = None
    errors: list[Any] = []


class _Tally(msgspec.Struct, frozen=True):
    tag_counts: dict[str, int]


class _Pruned(msgspec.Struct, frozen=True):
    marked: int = 0


class _Contents(Downloads):
    """The bytes of assets. The route gives them whole, whatever part is asked for: what is known is cut."""

    changes = False

    def _route(self, file: OutputFile) -> tuple[str, Mapping[str, str] | None]:
        return under_api(self._http, _place(str(file.more["id"]), "/content")), None


class Assets:
    """/api/assets and /api/tags. Every call raises NotFound where the server keeps no assets."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(
        self,
        *,
        include_tags: Sequence[str] = (),
        exclude_tags: Sequence[str] = (),
        name_contains: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        sort: AssetOrder = "created_at",
        ascending: bool = False,
        limit: int = ASSETS_PAGE,
        offset: int = 0,
        after: str | None = None,
    ) -> AssetPage:
        """Those with all of `include_tags` and none of `exclude_tags`, a page of them, the newest first."""
        params = query(
            include_tags=include_tags,
            exclude_tags=exclude_tags,
            name_contains=name_contains,
            metadata_filter=None if metadata is None else json.dumps(dict(metadata)),
            sort=sort,
            order="asc" if ascending else "desc",
            limit=limit,
            offset=offset,
            after=after,
        )
        return shaped(await self._ask("GET", "/assets", params=params), "GET /api/assets", AssetPage)

    async def get(self, asset_id: str) -> Asset:
        """One asset. Raises: NotFound."""
        return shaped(await self._ask("GET", _place(asset_id)), "GET /api/assets", Asset)

    async def content(self, asset_id: str) -> bytes:
        """Its bytes, whole; a large one is better read with `open`. Raises: NotFound."""
        return (await self._ask("GET", _place(asset_id, "/content"))).body

    def open(self, asset: Asset) -> OutputFile:
        """An asset's content: to `read`, `stream` and `save` like the files of a result.

        Nothing is asked yet. Its `node` is empty, its `filename` the asset's name.
        """
        return OutputFile(
            node="",
            kind="assets",
            filename=asset.name,
            folder=next((tag for tag in asset.tags if tag in FOLDERS), "output"),
            media_type=asset.mime_type or media_type(asset.name),
            more={"id": asset.id},
            source=_Contents(self._http),
        )

    async def has(self, content_hash: str) -> bool:
        """Whether content with that hash ("blake3:" and 64 hex digits) is there. Raises: CallerError."""
        path = f"/assets/hash/{segment(content_hash)}"
        answer = await self._http.ask("HEAD", under_api(self._http, path))
        if answer.status == 400:
            raise CallerError(f"{content_hash!r} is no hash.", hint='It is "blake3:" and 64 hex digits.')
        if answer.status not in {200, 404}:
            raise _refusal("HEAD", path, answer)
        return answer.status == 200

    async def create(
        self,
        source: Any,
        name: str | None = None,
        *,
        tags: Sequence[str] = ("input",),
        metadata: Mapping[str, Any] | None = None,
    ) -> Asset:
        """Keeps a file; one with the same content is kept once.

        `source`: a path, bytes, an http(s) URL, a Pillow picture, an async iterator of bytes, or a `File`;
        it is streamed, however large. `name`: may be left out where `source` has one. One tag says where it
        goes: "input", "output", or "models" together with another for the kind ("model_type:loras").

        Raises: CallerError where it cannot be read or has no name; UnexpectedAnswer with the server's words
        where it refuses the tags, or an empty file
        """
        file: File | AsyncIterator[bytes] = (
            source if isinstance(source, File) or hasattr(source, "__aiter__") else File(source)
        )
        name = name or getattr(file, "suggested_name", None)
        if not name:
            raise CallerError("An asset needs a name.", hint="Pass `name`.")
        form = aiohttp.FormData(quote_fields=False)
        form.add_field("tags", json.dumps(list(tags)))
        form.add_field("name", name)
        form.add_field("user_metadata", json.dumps(dict(metadata or {})))
        path = under_api(self._http, "/assets")
        async with opened(file) as disk:
            disk.seek(0)
            form.add_field(
                "file", Borrowed(disk), filename=safe_name(name), content_type="application/octet-stream"
            )
            answer = await self._http.ask("POST", path, body=form)
        if answer.status not in {200, 201}:
            raise _refusal("POST", path, answer)
        return shaped(answer, "POST /api/assets", Asset)

    async def from_hash(
        self,
        content_hash: str,
        *,
        name: str | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Asset:
        """Another asset of content that is there, without sending it. Raises: NotFound."""
        body = {"hash": content_hash, "tags": list(tags), "user_metadata": dict(metadata or {})}
        answer = await self._ask(
            "POST",
            "/assets/from-hash",
            body=body | ({} if name is None else {"name": name}),
            statuses={200, 201},
        )
        return shaped(answer, "POST /api/assets/from-hash", Asset)

    async def update(
        self,
        asset_id: str,
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        preview_id: str | None = None,
    ) -> Asset:
        """Changes what is given and leaves the rest. Raises: NotFound; CallerError where nothing is given."""
        given = {"name": name, "user_metadata": metadata, "preview_id": preview_id}
        body = {key: value for key, value in given.items() if value is not None}
        if not body:
            raise CallerError("Nothing to change.", hint="Pass `name`, `metadata` or `preview_id`.")
        return shaped(await self._ask("PUT", _place(asset_id), body=body), "PUT /api/assets", Asset)

    async def delete(self, asset_id: str) -> None:
        """Forgets an asset; its file stays. Raises: NotFound."""
        await self._ask("DELETE", _place(asset_id), statuses={200, 204})

    async def add_tags(self, asset_id: str, tags: Sequence[str]) -> TagChange:
        """Gives it tags. Raises: NotFound."""
        answer = await self._ask("POST", _place(asset_id, "/tags"), body={"tags": list(tags)})
        return shaped(answer, "POST /api/assets/{id}/tags", TagChange)

    async def remove_tags(self, asset_id: str, tags: Sequence[str]) -> TagChange:
        """Takes tags from it. Raises: NotFound."""
        answer = await self._ask("DELETE", _place(asset_id, "/tags"), body={"tags": list(tags)})
        return shaped(answer, "DELETE /api/assets/{id}/tags", TagChange)

    async def tags(
        self, *, prefix: str | None = None, limit: int = ASSETS_PAGE, offset: int = 0, unused: bool = True
    ) -> TagPage:
        """GET /api/tags: the tags that there are, the most used first; with `unused` also those of none."""
        params = query(prefix=prefix, limit=limit, offset=offset, include_zero=unused)
        return shaped(await self._ask("GET", "/tags", params=params), "GET /api/tags", TagPage)

    async def tag_counts(
        self,
        *,
        include_tags: Sequence[str] = (),
        exclude_tags: Sequence[str] = (),
        name_contains: str | None = None,
    ) -> dict[str, int]:
        """GET /api/assets/tags/refine: which tags the assets have that a search finds, and how many."""
        params = query(include_tags=include_tags, exclude_tags=exclude_tags, name_contains=name_contains)
        answer = await self._ask("GET", "/assets/tags/refine", params=params)
        return shaped(answer, "GET /api/assets/tags/refine", _Tally).tag_counts

    async def seed(
        self, roots: Sequence[Root] = ("models", "input", "output"), *, wait: bool = False
    ) -> bool:
        """Looks for files that the database does not know; False where it does so already.

        `wait`: return when it is through, not when it begins.
        """
        answer = await self._ask(
            "POST",
            "/assets/seed",
            params=query(wait=wait),
            body={"roots": list(roots)},
            statuses={200, 202, 409},
        )
        return answer.status != 409

    async def scan(self) -> AssetScan:
        """GET /api/assets/seed/status: how the last `seed` stands."""
        return shaped(await self._ask("GET", "/assets/seed/status"), "GET /api/assets/seed/status", AssetScan)

    async def cancel_seed(self) -> bool:
        """Stops a `seed`; False where none runs."""
        answer = await self._ask("POST", "/assets/seed/cancel")
        return bool(answer.json("POST /api/assets/seed/cancel") != {"status": "idle"})

    async def prune(self) -> int:
        """Marks assets whose files lie nowhere any more; how many.

        Raises: UnexpectedAnswer while a `seed` runs
        """
        answer = await self._ask("POST", "/assets/prune")
        return shaped(answer, "POST /api/assets/prune", _Pruned).marked

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        statuses: Collection[int] = (200,),
    ) -> Answer:
        path = under_api(self._http, path)
        try:
            return await answer_to(self._http, method, path, params=params, body=body, statuses=statuses)
        except UnexpectedAnswer as error:
            raise _disabled(error.status) or error from None


def _refusal(method: str, path: str, answer: Answer) -> ComfyError:
    return _disabled(answer.status) or unexpected(method, path, answer)


def _disabled(status: int | None) -> NotFound | None:
    """The server has the routes and answers 503 where assets are switched off, as they are by default."""
    if status != 503:
        return None
    return NotFound("The server keeps no assets.", hint="Start it with --enable-assets.", status=503)


def _place(asset_id: str, rest: str = "") -> str:
    return f"/assets/{segment(asset_id)}{rest}"
