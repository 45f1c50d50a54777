"""Answers keep to the published schemas: recorded ones, and those of the simulated server.

native_schemas.json: the JSON answers of ComfyUI's OpenAPI document for the routes that we cover. It describes
the cloud first of all; where a local server says otherwise, `LOCAL` says so.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from async_comfy import Session
from async_comfy.testing import SimulatedServer
from tests.live.pictures import picture
from tests.live.rest.test_recorded import ANSWERS
from tests.live.rest.test_table import shape

SCHEMAS: dict[str, Any] = json.loads((Path(__file__).parent / "native_schemas.json").read_text())
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}
LOCAL = {
    "GET /internal/folder_paths .*[]: no array",
    "GET /internal/logs/raw .entries[].t: no number",
    "GET /jobs .jobs[].execution_error.current_outputs: no object",
    "GET /jobs .pagination.limit: no integer",
    "GET /jobs/{} .update_time: missing",
    "GET /userdata []: no object",
    "GET /users .migrated: missing",
    "POST /userdata/{} : no object",
    "POST /userdata/{}/move/{} : no object",
}
"""Where a local server's answer is not what the document says."""


def complaints(value: Any, schema: Any, at: str = "") -> Iterator[str]:
    """What is wrong with a value by a schema, as far as ours use them."""
    if not isinstance(schema, dict) or (value is None and schema.get("nullable")):
        return
    for part in schema.get("allOf", ()):
        yield from complaints(value, part, at)
    for choice in ("anyOf", "oneOf"):
        if choice in schema and all(list(complaints(value, part, at)) for part in schema[choice]):
            yield f"{at}: none of the choices"
    kind = schema.get("type")
    fits = isinstance(value, TYPES.get(kind or "", object)) and not (
        isinstance(value, bool) and kind != "boolean"
    )
    if kind is not None and not fits:
        yield f"{at}: no {kind}"
    elif isinstance(value, dict):
        yield from (f"{at}.{name}: missing" for name in schema.get("required", ()) if name not in value)
        for name, inner in value.items():
            known = schema.get("properties", {})
            below = f"{at}.{name}" if name in known else f"{at}.*"
            yield from complaints(inner, known.get(name, schema.get("additionalProperties")), below)
    elif isinstance(value, list):
        for inner in value:
            yield from complaints(inner, schema.get("items"), f"{at}[]")


def route_of(request: str) -> str | None:
    """The route with a schema that a request went to."""
    method, path = request.split(" ")
    path = path.partition("?")[0].removeprefix("/api")
    for route in sorted(SCHEMAS, key=lambda route: route.count("{}")):
        if re.fullmatch(route.replace("{}", "[^/]+"), f"{method} {path}"):
            return route
    return None


def judged(request: str, body: Any) -> set[str]:
    route = route_of(request)
    return set() if route is None else {f"{route} {what}" for what in complaints(body, SCHEMAS[route])}


def test_the_checker_sees_what_is_wrong() -> None:
    """A missing name, a wrong type deep inside, and nothing where all is well."""
    schema = {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"type": "array", "items": {"type": "integer"}}},
    }
    assert list(complaints({}, schema)) == [".a: missing"]
    assert list(complaints({"a": [1, "2", True]}, schema)) == [".a[]: no integer"] * 2
    assert list(complaints({"a": [1]}, schema)) == []


def test_recorded_answers_keep_to_the_document_but_where_told() -> None:
    """Exactly the differences that `LOCAL` names: one that is gone must go from there too."""
    found = set()
    for name, line in ANSWERS.items():
        if line["type"] == "application/json":
            found |= judged(name.partition(" ")[2], line["body"])
    assert found == LOCAL


@pytest.mark.anyio
async def test_the_simulated_server_differs_only_where_the_real_one_does() -> None:
    """Every GET route of the document without a name in it, after a job."""
    server = SimulatedServer()
    server.flags["assets"] = True
    async with server, Session(server.url) as session, aiohttp.ClientSession() as client:
        await session.run(picture(1))
        await session.assets.create(b"1", "one.txt")
        found, asked = set(), 0
        for route in SCHEMAS:
            if not route.startswith("GET ") or shape(route).count("{}"):
                continue
            path = route.removeprefix("GET ")
            prefix = "" if path.startswith("/internal") else "/api"
            async with client.get(f"{server.url}{prefix}{path}") as answer:
                if answer.status == 200:
                    found |= judged(route, await answer.json())
                    asked += 1
    assert asked >= 15
    assert found - LOCAL == set()
