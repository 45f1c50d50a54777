"""The table in docs/rest.md is true: it has every route, every call in it exists, each is tried."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from async_comfy import Session
from async_comfy.testing import SimulatedServer
from tests.conformance.test_routes import CALLS, NEWER

PAGE = (Path(__file__).parents[3] / "docs" / "rest.md").read_text()
TABLE, LEFT_OUT = PAGE.split("## Left out")
ROW = re.compile(r"^\| `([A-Z]+ /\S*)` \| `(\S+)` \|", re.MULTILINE)
ROUTES = dict(ROW.findall(TABLE))
OUT = set(re.findall(r"^\| `([A-Z]+ /\S*)` \|", LEFT_OUT, re.MULTILINE))
NATIVE = (Path(__file__).parent / "native_routes.txt").read_text().split("\n")
GROUPS = (
    """queue history jobs nodes system models files assets userdata settings users templates subgraphs logs"""
)


def shape(route: str) -> str:
    """A route without the names of what varies in it."""
    return re.sub(r"\{[^}]*\}", "{}", route)


def test_every_route_of_the_published_list_has_a_row_or_is_left_out() -> None:
    """The list: all operations of ComfyUI's OpenAPI document, those of its cloud too."""
    told = {shape(route) for route in {*ROUTES, *OUT}}
    assert {route for route in filter(None, NATIVE) if shape(route) not in told} == set()


def test_nothing_is_both_covered_and_left_out() -> None:
    assert {shape(route) for route in ROUTES} & {shape(route) for route in OUT} == set()


def test_the_column_of_versions_is_what_the_conformance_tests_hold_servers_to() -> None:
    """They want older servers to lack these routes, and to have all the others."""
    since = dict(re.findall(r"^\| `([A-Z]+ /\S*)` \| `\S+` \| (.*?) ?\|$", TABLE, re.MULTILINE))
    assert set(since) == set(ROUTES)
    told = {route for route, version in since.items() if version.strip()[:1].isdigit()}
    assert told == {route for route in ROUTES if route.split("/")[1] in NEWER.split()}


def test_each_row_is_tried_by_the_conformance_tests_and_nothing_else_is() -> None:
    assert set(CALLS) == set(ROUTES)


@pytest.mark.anyio
async def test_every_route_that_the_simulated_server_serves_has_a_row() -> None:
    """Its router is asked; left aside are the page, the socket, the rest, and the second name below /api."""
    async with SimulatedServer() as server:
        assert server._runner is not None
        served = {
            f"{route.method} {shape(route.resource.canonical.removeprefix('/api'))}"
            for route in server._runner.app.router.routes()
            if route.resource is not None
            and not (route.method == "HEAD" and "hash" not in str(route.resource))
        }
    aside = {"GET /", "GET /ws", "GET /{}"}
    assert served - aside - {shape(route) for route in ROUTES} == set()


@pytest.mark.parametrize("call", sorted(set(ROUTES.values())))
def test_a_call_in_the_table_exists(call: str) -> None:
    """On a session that was never opened, since they are attributes of it."""
    found: Any = Session("http://127.0.0.1:1")
    for name in call.split("."):
        found = getattr(found, name)
    assert inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found)


@pytest.mark.parametrize("group", GROUPS.split())
def test_every_call_of_a_group_is_told(group: str) -> None:
    """In a row, or in the sentence below the table."""
    methods = inspect.getmembers(type(getattr(Session("http://127.0.0.1:1"), group)), inspect.isfunction)
    public = {f"{group}.{name}" for name, _ in methods if not name.startswith("_")}
    assert {call for call in public if f"`{call}`" not in TABLE} == set()
