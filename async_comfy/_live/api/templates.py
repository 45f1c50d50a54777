"""Workflows that come with the server: templates of custom nodes, and subgraphs to build with."""

from typing import Any

import msgspec

from async_comfy._live.api.answers import as_object, segment, shaped, under_api
from async_comfy._live.http import Http
from async_comfy.errors import NotFound

_Names = list[str]


class EditorTemplate(msgspec.Struct, frozen=True):
    """A template of the editor's own. `models`: what the makers call them, no file names."""

    name: str
    title: str = ""
    description: str = ""
    models: list[str] = []


class _Category(msgspec.Struct):
    templates: list[EditorTemplate] = []


_EditorTemplates = list[EditorTemplate]
_Categories = list[_Category]


class Templates:
    """/workflow_templates: the example workflows of custom nodes; /templates: those of the editor."""

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

    async def editor(self) -> _EditorTemplates:
        """Those that the editor offers, in its order; empty for a server that comes without them.

        Source: ComfyUI server.py, which serves the package ``comfyui-workflow-templates`` below /templates.
        """
        try:
            answer = await self._http.get("/templates/index.json")
        except NotFound:
            return []
        listed = shaped(answer, "GET /templates/index.json", _Categories)
        return list({one.name: one for category in listed for one in category.templates}.values())

    async def from_editor(self, name: str) -> dict[str, Any]:
        """One of the editor's, as it saves it: `Workflow.load` reads it. Raises: NotFound."""
        return as_object(await self._http.get(f"/templates/{segment(name)}.json"), "GET /templates")


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
