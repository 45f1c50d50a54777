"""Where a server, or a proxy before it, sends us elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from async_comfy import CallerError, File, NotComfyUI, UnexpectedAnswer
from async_comfy._live.access import access
from async_comfy._live.http import Http
from async_comfy._live.sources import opened
from async_comfy._live.stream import open_stream

pytestmark = pytest.mark.anyio

NOWHERE = [
    b"http://[::1",
    b"http://[zz]/",
    b"http://host:99999999/",
    b"http://host:port/",
    b"http://a..b/",
    b"http://" + b"a" * 64 + b"/",
    b"http://\xff/",
    b"ftp://127.0.0.1/x",
    b"javascript:1",
]


@asynccontextmanager
async def redirecting(to: bytes) -> AsyncIterator[str]:
    """A server that sends everybody elsewhere; its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: " + to + b"\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("to", NOWHERE)
async def test_a_redirect_to_what_is_no_address_is_an_odd_answer(to: bytes) -> None:
    """Of a request and of a download alike."""
    async with redirecting(to) as url, Http(access(url)) as http:
        with pytest.raises(UnexpectedAnswer, match="redirects to"):
            await http.get("/queue")
        with pytest.raises(UnexpectedAnswer, match="redirects to"):
            async with http.open("GET", "/view"):
                pass


@pytest.mark.parametrize("to", NOWHERE)
async def test_a_file_of_the_web_that_is_redirected_nowhere_cannot_be_fetched(to: bytes) -> None:
    async with redirecting(to) as url:
        with pytest.raises(CallerError, match="Cannot fetch"):
            async with opened(File(f"{url}/cat.png")):
                pass


async def test_a_redirect_without_end_is_not_followed_for_ever() -> None:
    async with redirecting(b"/again") as url, Http(access(url)) as http:
        with pytest.raises(UnexpectedAnswer, match="without end"):
            await http.get("/queue")


async def test_what_follows_no_redirect_does_not_mind_where_it_leads() -> None:
    """A prompt, and the event socket."""
    async with redirecting(b"http://[::1") as url, Http(access(url)) as http:
        assert (await http.deliver("/prompt", b"{}")).status == 302
        with pytest.raises(UnexpectedAnswer, match="302"):
            await http.post("/interrupt", {})
        with pytest.raises(NotComfyUI, match="302"):
            await open_stream(access(url), "me", [], _Deaf(), lambda: None)


class _Deaf:
    def take_text(self, raw: bytes, now: float) -> None:
        """Reader."""

    def take_binary(self, raw: bytes, now: float) -> None:
        """Reader."""
