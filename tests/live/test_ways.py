"""The ways to a server: TLS with a context of one's own, and proxies, for requests and events alike."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme

from async_comfy import Session, Unreachable
from async_comfy.testing import SimulatedServer
from tests.live.pictures import picture

pytestmark = pytest.mark.anyio


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def _join(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int, first: bytes = b""
) -> None:
    there, back = await asyncio.open_connection(host, port)
    back.write(first)
    await asyncio.gather(_pump(reader, back), _pump(there, writer))


@asynccontextmanager
async def tls_before(server: SimulatedServer, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A port that speaks TLS and passes everything on to the server."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _join(reader, writer, server.host, server.port)

    # In debug mode asyncio reports a client that leaves in mid-handshake, which is what one here does.
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    async with await asyncio.start_server(take, "127.0.0.1", 0, ssl=context) as listening:
        yield listening.sockets[0].getsockname()[1]


@asynccontextmanager
async def proxy(seen: list[str]) -> AsyncIterator[str]:
    """A forward proxy: CONNECT for the socket, absolute addresses for requests."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        seen.append(f"{method} {target}")
        if method == "CONNECT":
            host, _, port = target.partition(":")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await _join(reader, writer, host, int(port))
            return
        host, _, port = target.removeprefix("http://").partition("/")[0].partition(":")
        await _join(reader, writer, host, int(port), head)

    async with await asyncio.start_server(take, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def test_a_context_that_trusts_the_server_s_authority_reaches_it() -> None:
    """`ssl=` is used for requests and for the event socket."""
    authority = trustme.CA()
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    authority.configure_trust(ours)
    async with (
        SimulatedServer() as server,
        tls_before(server, theirs) as port,
        Session(f"https://127.0.0.1:{port}", ssl=ours) as session,
    ):
        assert (await session.run(picture(1))).files


async def test_a_certificate_that_nobody_vouches_for_is_refused_and_said() -> None:
    """The message names the certificate and what to pass."""
    authority = trustme.CA()
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    async with SimulatedServer() as server, tls_before(server, theirs) as port:
        with pytest.raises(Unreachable, match="certificate"):
            await Session(f"https://127.0.0.1:{port}").open()


async def test_a_proxy_is_used_for_requests_and_for_events() -> None:
    """`proxy=` carries both."""
    seen: list[str] = []
    async with (
        SimulatedServer() as server,
        proxy(seen) as address,
        Session(server.url, proxy=address) as session,
    ):
        assert (await session.run(picture(2))).files
    assert seen[0].startswith("CONNECT ")
    assert any(line.startswith(f"POST {server.url}/prompt") for line in seen)
