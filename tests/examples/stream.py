"""Server-sent events, as a browser reads them."""

import json
from collections.abc import Iterator
from typing import Any

import httpx


def heard(stream: httpx.Response) -> Iterator[tuple[str, Any]]:
    """The events as (event, data), where data is JSON."""
    fields: dict[str, str] = {}
    for line in stream.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield fields["event"], json.loads(fields["data"])
            fields = {}
