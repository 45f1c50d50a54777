"""Answers keep to the published schemas: recorded ones, and those of the simulated server.

The conformance tests judge the same of every answer that they get, real servers' included.
"""

import aiohttp
import pytest

from async_comfy import Session
from async_comfy.testing import SimulatedServer
from tests.live.pictures import picture
from tests.live.rest.schemas import LOCAL, SCHEMAS, complaints, judged
from tests.live.rest.test_recorded import ANSWERS
from tests.live.rest.test_table import shape


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
