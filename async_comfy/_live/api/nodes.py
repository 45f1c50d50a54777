"""What node classes the server has: /object_info and /node_replacements."""

import logging
import time
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec
from anyio.to_thread import run_sync
from blake3 import blake3

from async_comfy._live.api.answers import as_object, shaped
from async_comfy._live.api.system import System
from async_comfy._live.crowd import crowd
from async_comfy._live.http import Answer, Http, unexpected
from async_comfy.errors import CallerError, NotFound, UnexpectedAnswer
from async_comfy.workflow.object_info import Declarations
from async_comfy.workflow.object_info_cache import DeclarationCache
from async_comfy.workflow.object_info_stream import Splitter

AT_ONCE = 8  # classes asked for at a time; the server answers one after the other, the wire need not wait
PIECE_BYTES = 1 << 16  # decoded at a time: a larger piece would stall the loop

_log = logging.getLogger("async_comfy")


class Nodes:
    """GET /object_info: what node classes the server has, and what they take."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._known: dict[str, dict[str, Any]] = {}
        self._all: Declarations | None = None

    def forget(self) -> None:
        """What was asked is asked again: after a reconnect another server may answer, or a newer one."""
        self._known, self._all = {}, None

    async def get(self, class_type: str) -> dict[str, Any]:
        """One class's declaration, asked once. Raises: NotFound where the server has no such class."""
        found = self._known.get(class_type)
        if found is None:
            known = self._known
            known[class_type] = found = await self._one(class_type)
        return found

    async def some(self, class_types: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The declarations of those classes that the server has, by class."""
        found = await crowd([partial(self._if_there, name) for name in class_types], AT_ONCE)
        pairs = zip(class_types, found, strict=True)
        return {name: declared for name, declared in pairs if declared is not None}

    async def all(
        self, *, cache: DeclarationCache | None = None, max_age_s: float | None = None
    ) -> Declarations:
        """Every class: one to a dozen megabytes, for which the server's loop stands still.

        A mapping that decodes a class when it is looked up. `cache`: kept on disk as well. `max_age_s`:
        with a cache, what was kept will do if it is no older (in seconds), and if the server's version, its
        command line and the scripts of its custom nodes are the same since. Lists of files in it, as the
        choices of a checkpoint, may then be out of date.

        Raises: NotComfyUI, UnexpectedAnswer for an answer that declares no classes
        """
        if self._all is not None and cache is None:
            return self._all
        version, fingerprint = ("", "") if cache is None else await self._fingerprint()
        if cache is not None and max_age_s is not None:
            kept = await run_sync(
                partial(cache.read, self._server, fingerprint=fingerprint, max_age_s=max_age_s)
            )
            if kept is not None:
                return kept
        asked_at = time.time()
        answer = await self._http.get("/object_info")
        self._all = found = await run_sync(self._declared, answer, version, asked_at)
        if cache is not None:
            try:
                await run_sync(partial(cache.write, found, fingerprint=fingerprint))
            except CallerError as error:  # what was asked for is here
                _log.warning("the node declarations were not kept: %s", error)
        return found

    async def each(self) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """Every class and its declaration as they come over the wire: never more than one of them in memory.

        Raises: NotComfyUI, UnexpectedAnswer for an answer that declares no classes
        """
        splitter = Splitter()
        async with self._http.open("GET", "/object_info") as response:
            if response.status != 200:
                answer = Answer(response.status, response.headers, await response.read())
                raise unexpected("GET", "/object_info", answer)
            try:
                async for piece in response.content.iter_chunked(PIECE_BYTES):
                    for name, declared in splitter.take(piece):
                        if isinstance(declared, dict):
                            yield name, declared
                splitter.end()
            except ValueError as error:
                raise UnexpectedAnswer(
                    f"GET /object_info declares no node classes: {error}.", status=200
                ) from None

    async def replacements(self) -> dict[str, list[dict[str, Any]]]:
        """What may stand in for classes that are gone, by old class (GET /node_replacements).

        Each has `new_node_id`, and how inputs and outputs move: `input_mapping`, `output_mapping`.
        Empty for servers that have no such route.
        """
        try:
            answer = await self._http.get("/node_replacements")
        except NotFound:
            return {}
        return shaped(answer, "GET /node_replacements", dict[str, list[dict[str, Any]]])

    @property
    def _server(self) -> str:
        return str(self._http.access)

    async def _one(self, class_type: str) -> dict[str, Any]:
        found: object = self._all.get(class_type) if self._all is not None else None
        if found is None and class_type not in {"", ".", ".."}:  # those would lead to another route
            answer = await self._http.get(f"/object_info/{quote(class_type, safe='')}")
            found = as_object(answer, "GET /object_info").get(class_type)
        if not isinstance(found, dict):
            raise NotFound(f"The server has no node class {class_type!r}.", status=404)
        return found

    async def _if_there(self, class_type: str) -> dict[str, Any] | None:
        try:
            return await self.get(class_type)
        except NotFound:
            return None  # whoever wanted it says which node misses it

    def _declared(self, answer: Answer, version: str, asked_at: float) -> Declarations:
        try:
            return Declarations(answer.body, server=self._server, version=version, asked_at=asked_at)
        except (ValueError, RecursionError):
            as_object(answer, "GET /object_info")
            raise UnexpectedAnswer("GET /object_info declares no node classes.", status=200) from None

    async def _fingerprint(self) -> tuple[str, str]:
        """The server's version, and a digest of what it shows of its version, options and custom nodes."""
        system = System(self._http)
        told = (await system.stats()).get("system")
        about = told if isinstance(told, dict) else {}
        try:
            scripts = sorted(await system.extensions())
        except NotFound:
            scripts = []
        version = str(about.get("comfyui_version") or "")
        seen = [version, about.get("python_version"), about.get("argv"), scripts]
        return version, blake3(msgspec.json.encode(seen)).hexdigest()
