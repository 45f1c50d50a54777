"""Requests whose session is closed under their feet."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from async_comfy import Closed, Unreachable
from async_comfy._live.access import access
from async_comfy._live.http import Http
from tests.live.waiting import PATIENCE_S, until

pytestmark = pytest.mark.anyio

CUT = [
    b"",
    b"HTTP/1.1 200 OK\r\nContent-Le",
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    b"HTTP/1.1 200 OK\r\n\r\nas much as comes",
]


@asynccontextmanager
async def saying(said: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that says so much and no more; its address, and what it was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(said)
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


@pytest.mark.parametrize("said", CUT)
@pytest.mark.parametrize("read", [0, 20])
async def test_closing_ends_whoever_reads_an_answer(said: bytes, read: int) -> None:
    """And nobody takes for the whole what was cut by us. Read: in so many turns of the loop."""
    async with saying(said) as (url, asked), asyncio.timeout(PATIENCE_S):
        async with Http(access(url)) as http:
            asking = asyncio.ensure_future(http.ask("POST", "/prompt"))
            downloading = asyncio.ensure_future(_download(http))
            await until(lambda: len(asked) == 2)
            for _ in range(read):
                await asyncio.sleep(0)
        with pytest.raises(Unreachable) as unanswered:
            await asking
        assert unanswered.value.sent
        with pytest.raises(Closed):
            await downloading


async def _download(http: Http) -> bytes:
    async with http.open("GET", "/view") as response:
        return await response.read()
