"""Workflows that come with the server: templates of custom nodes, and subgraphs to build with."""

from typing import Any

import msgspec

from async_comfy._live.api.answers import as_object, segment, shaped, under_api
from async_comfy._live.http import Http
from async_comfy.errors import NotFound

_Names = list[str]


class Templates:
    """/workflow_templates: the example workflows of custom nodes."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(self) -> dict[str, list[str]]:
        """The names of workflows, by the custom node package that brings them."""
        answer = await self._http.get("/workflow_templates")
        return shaped(answer, "GET /workflow_templates", dict[str, _Names])

    async def get(self, package: str, name: str) -> dict[str, Any]:
        """One workflow, as the editor saves it: `Workflow.load` reads it. Raises: NotFound."""
        path = under_api(self._http, f"/workflow_templates/{segment(package)}/{segment(name)}.json")
        return as_object(await self._http.get(path), "GET /workflow_templates")


class Subgraph(msgspec.Struct, frozen=True):
    """A piece of workflow to build with. `data`: its JSON as text; a list of them leaves it out."""

    name: str
    source: str = ""
    info: dict[str, Any] = {}
    data: str | None = None


class Subgraphs:
    """/global_subgraphs: what the server and its custom nodes offer to build with."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(self) -> dict[str, Subgraph]:
        """All, by id, without their data; empty for servers that have no such route."""
        try:
            answer = await self._http.get("/global_subgraphs")
        except NotFound:
            return {}
        return shaped(answer, "GET /global_subgraphs", dict[str, Subgraph])

    async def get(self, subgraph_id: str) -> Subgraph | None:
        """One with its data; None where there is none (the server says 200 and null)."""
        answer = await self._http.get(f"/global_subgraphs/{segment(subgraph_id)}")
        what = "GET /global_subgraphs"
        return None if answer.json(what) is None else shaped(answer, what, Subgraph)
