"""What node classes the server has: /object_info and /node_replacements."""

from collections.abc import Sequence
from typing import Any

from async_comfy._live.api.answers import as_object, shaped
from async_comfy._live.http import Http
from async_comfy.errors import NotFound


class Nodes:
    """GET /object_info: what node classes the server has, and what they take."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._known: dict[str, dict[str, Any]] = {}

    def forget(self) -> None:
        """What was asked is asked again: after a reconnect another server may answer, or a newer one."""
        self._known.clear()

    async def get(self, class_type: str) -> dict[str, Any]:
        """One class's declaration, asked once. Raises: NotFound where the server has no such class."""
        if class_type not in self._known:
            answer = await self._http.get(f"/object_info/{class_type}")
            found = as_object(answer, "GET /object_info").get(class_type)
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
        """Every class: over a megabyte, and the server's loop stands still meanwhile."""
        self._known.update(as_object(await self._http.get("/object_info"), "GET /object_info"))
        return dict(self._known)

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
