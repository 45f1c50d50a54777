"""The server's log, live."""

import asyncio

import pytest

from async_comfy import Session, Unreachable
from async_comfy.testing import SimulatedServer

pytestmark = pytest.mark.anyio


async def test_lines_come_in_order_and_leaving_the_loop_ends_the_socket() -> None:
    """The server sees one socket more while it is followed, and none of its own afterwards."""
    async with SimulatedServer() as server, Session(server.url) as session:
        following = session.logs.follow()
        first = asyncio.ensure_future(anext(following))
        await server.until(lambda: server.logs.listeners)
        assert server.open_sockets == 2
        for line in ("one", "two", "three"):
            server.log(line)
        lines = [(await first).text, (await anext(following)).text, (await anext(following)).text]
        assert lines == ["one\n", "two\n", "three\n"]
        await following.aclose()
        await server.until(lambda: server.open_sockets == 1)


async def test_events_of_other_kinds_are_not_log_lines() -> None:
    """Status, pictures, garbage: passed over."""
    async with SimulatedServer() as server, Session(server.url) as session:
        following = session.logs.follow()
        line = asyncio.ensure_future(anext(following))
        await server.until(lambda: server.logs.listeners)
        server.inject("no JSON {")
        server.inject('{"type": "logs", "data": {"entries": 3}}')
        server.inject(b"\x00\x00\x00\x01 a picture")
        server.log("a line")
        assert (await line).text == "a line\n"
        await following.aclose()


async def test_a_server_that_dies_ends_the_log_with_an_error() -> None:
    """Unreachable, where a loop that just ended would look like a quiet server."""
    async with SimulatedServer() as server, Session(server.url) as session:
        following = session.logs.follow()
        line = asyncio.ensure_future(anext(following))
        await server.until(lambda: server.logs.listeners)
        await server.crash()
        with pytest.raises(Unreachable, match="broke off"):
            await line
