"""The event socket and servers that end it oddly."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha1

import pytest
from websockets.frames import Close, CloseCode, Frame, Opcode

from async_comfy import Denied, NotComfyUI, Session, Unreachable
from async_comfy._live import link
from tests.live.waiting import until

pytestmark = pytest.mark.anyio

STATUS = b'{"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "me"}}'


class Desk:
    """A server that greets every event socket, and says no more than the test says."""

    def __init__(self) -> None:
        self.sockets: list[asyncio.StreamWriter] = []
        self.greets = True
        self.refusals: list[bytes] = []  # said to the next ones, in place of a greeting

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"CONNECT") and not self.refusals:
            writer.write(b"HTTP/1.1 200 Go on\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
        if self.refusals:
            writer.write(b"HTTP/1.1 " + self.refusals.pop() + b"\r\nContent-Length: 0\r\n\r\n")
        elif head.startswith(b"GET /ws"):
            key = head.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
            accept = b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324  # RFC 6455 says so
            writer.write(
                b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            if self.greets:
                writer.write(Frame(Opcode.TEXT, STATUS).serialize(mask=False))
            self.sockets.append(writer)
            while await reader.read(65536):
                pass  # it never answers
        writer.close()


@asynccontextmanager
async def desk() -> AsyncIterator[tuple[Desk, str]]:
    at = Desk()
    server = await asyncio.start_server(at.serve, "127.0.0.1", 0)
    try:
        yield at, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in at.sockets:
            writer.close()


async def test_a_goodbye_after_which_the_connection_stays_ends_it_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server, or its proxy, that says goodbye and then never hangs up: no event would come any more."""
    monkeypatch.setattr("async_comfy._live.link.PULSE_S", 0.1)
    async with desk() as (at, url), Session(url) as session:
        goodbye = Close(CloseCode.GOING_AWAY, "").serialize()
        at.sockets[0].write(Frame(Opcode.CLOSE, goodbye).serialize(mask=False))
        await until(lambda: len(at.sockets) == 2 and session.statistics().connected)
        assert session.failure is None


@pytest.mark.parametrize("greeted", [True, False])
async def test_a_refusal_is_final_whether_or_not_the_server_hangs_up(greeted: bool) -> None:
    """1008: who we are is the trouble, and trying again would not help."""
    async with desk() as (at, url):
        at.greets = greeted
        session = Session(url)
        opening = asyncio.ensure_future(session.open())
        await until(lambda: at.sockets)
        if greeted:
            await opening
        refusal = Close(CloseCode.POLICY_VIOLATION, "").serialize()
        at.sockets[0].write(Frame(Opcode.CLOSE, refusal).serialize(mask=False))
        if greeted:
            await until(lambda: session.failure)
            assert isinstance(session.failure, Denied)
            await session.close()
        else:
            with pytest.raises(Denied):
                await opening
        assert len(at.sockets) == 1


@pytest.mark.parametrize(
    ("status", "proxy"),
    [(b"429 Too Many Requests", False), (b"404 Not Found", False), (b"502 Bad Gateway", True)],
    ids=["429", "404", "proxy"],
)
async def test_a_refusal_that_passes_is_waited_out(status: bytes, proxy: bool) -> None:
    """By what stands before a server that restarts: a gateway, or a proxy that is asked for the way."""
    async with desk() as (at, url), Session(url, proxy=url if proxy else None) as session:
        at.refusals = [status]
        at.sockets[0].close()
        await until(lambda: len(at.sockets) == 2 and session.statistics().connected)
        assert not at.refusals


async def test_what_stays_another_program_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway's 404 passes; this one does not, so whoever waits is told."""
    monkeypatch.setattr(link, "STRANGE_S", 0.0)
    async with desk() as (at, url), Session(url) as session:
        at.refusals = [b"404 Not Found"] * 10
        at.sockets[0].close()
        await until(lambda: session.failure is not None)
        assert isinstance(session.failure, NotComfyUI)


async def test_a_proxy_that_refuses_is_told_from_a_server_that_is_none() -> None:
    async with desk() as (at, url):
        at.refusals = [b"407 Proxy Authentication Required"]
        with pytest.raises(Unreachable, match=r"proxy .*407"):
            await Session(url, proxy=url).open()
