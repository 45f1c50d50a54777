"""The published schemas of answers, and what in an answer is not as they say.

native_schemas.json: the JSON answers of ComfyUI's OpenAPI document for the routes that we cover. It describes
the cloud first of all; where a local server says otherwise, `LOCAL` says so.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
"""Where a local server's recorded answer is not what the document says."""
LIVE = LOCAL | {
    "GET /global_subgraphs/{} : no object",  # null for one that is not there
    "GET /object_info .*.display_name: no string",  # null
    "GET /object_info .*.output_is_list[]: no boolean",
    "GET /object_info .*.output_tooltips[]: no string",  # null
    "GET /settings/{} : no object",  # any JSON, as it was set
    "GET /userdata [].modified: no integer",  # 0.3.64 and older: seconds with a fraction
    "POST /jobs/cancel .cancelled: no array",  # whether any was
    "POST /userdata/{} .modified: no integer",
    "POST /userdata/{}/move/{} .modified: no integer",
}
"""The same of what servers said to the conformance tests: 0.3.40, 0.3.64, 0.28.0 and 0.33.0."""


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
