"""Four ways to have a prompt run and to hear of it. All of them submit with aiohttp.

`Raw` is the limit: an asyncio.Protocol that looks for the end mark in whatever bytes come, and for
all events counts them without decoding. `Typed` reads with the websockets package and decodes into
our own types. `Queued` is how clients usually do it: aiohttp's WebSocket, json, a Queue per prompt.
"""

import asyncio
import base64
import json
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import websockets.asyncio.client as ws

from async_comfy import Event, Executing, Session, Workflow
from async_comfy.protocol import frames
from benchmarks import traffic

_BODY = json.dumps(
    {
        "prompt": traffic.WORKFLOW,
        "client_id": traffic.HERE,
        "prompt_id": "PROMPT",
        "extra_data": {"preview_method": "none"},
    }
)


class Contestant(ABC):
    """Connected to all servers; runs prompts on them."""

    name: str

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = urls
        self.stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {len(self.urls)} servers>"

    async def __aenter__(self) -> Self:
        await self.stack.__aenter__()
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stack.__aexit__(kind, error, trace)

    @abstractmethod
    async def open(self) -> None:
        """Connects."""

    @abstractmethod
    async def result(self, server: int) -> str:
        """Runs a prompt and waits for its end; the prompt id."""

    @abstractmethod
    async def stream(self, server: int) -> tuple[str, int]:
        """Runs a prompt and looks at every event of its own; the prompt id and their number."""


class Ours(Contestant):
    """This package."""

    name = "async_comfy"

    async def open(self) -> None:
        self.workflow = Workflow.load(traffic.WORKFLOW)
        self.sessions = [await self.stack.enter_async_context(Session(url)) for url in self.urls]

    async def result(self, server: int) -> str:
        return (await self.sessions[server].run(self.workflow)).prompt_id

    async def stream(self, server: int) -> tuple[str, int]:
        job = await self.sessions[server].submit(self.workflow)
        heard = 0
        async for _event in job:
            heard += 1
        return (await job).prompt_id, heard


class Poster(Contestant):
    """What the others share: one aiohttp session for all servers, and an id for each."""

    async def open(self) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        self.http = await self.stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        self.clients = [str(uuid.uuid4()) for _ in self.urls]
        bodies = [_BODY.replace(traffic.HERE, client).encode().split(b"PROMPT") for client in self.clients]
        self.bodies = bodies
        self.prompt_urls = [f"{url}/prompt" for url in self.urls]
        self.waiting: dict[str, asyncio.Future[int]] = {}
        await self.connect()

    @abstractmethod
    async def connect(self) -> None:
        """Opens the event sockets."""

    def socket_url(self, server: int) -> str:
        return f"ws{self.urls[server].removeprefix('http')}/ws?clientId={self.clients[server]}"

    def listen(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.stack.push_async_callback(_stop, task)

    async def post(self, server: int, prompt_id: str) -> None:
        head, tail = self.bodies[server]
        body = head + prompt_id.encode() + tail
        kind = {"Content-Type": "application/json"}
        async with self.http.post(self.prompt_urls[server], data=body, headers=kind) as response:
            await response.read()

    async def result(self, server: int) -> str:
        prompt_id = str(uuid.uuid4())
        self.waiting[prompt_id] = asyncio.get_running_loop().create_future()
        await self.post(server, prompt_id)
        await self.waiting[prompt_id]
        del self.waiting[prompt_id]
        return prompt_id


async def _stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])


class RawSocket(asyncio.Protocol):
    """Bytes come; the end marks in them are found."""

    MARK = traffic.end_mark().split(traffic.HERE.encode())[0]

    def __init__(self, url: str, waiting: dict[str, "asyncio.Future[int]"]) -> None:
        self.url = urlsplit(url)
        self.waiting = waiting
        self.tail = b""
        self.bytes = 0
        self.shaken = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET {self.url.path}?{self.url.query} HTTP/1.1\r\nHost: {self.url.netloc}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        data = self.tail + data
        at = data.find(self.MARK)
        while at >= 0:
            at += len(self.MARK)
            waiter = self.waiting.get(data[at : at + 36].decode())
            if waiter is not None and not waiter.done():
                waiter.set_result(traffic.EVENTS)
            at = data.find(self.MARK, at)
        self.tail = data[-120:]  # an end mark may be cut in two
        if not self.shaken.done():
            self.shaken.set_result(None)


async def connect_raw(poster: Poster) -> list[RawSocket]:
    """A raw socket to each server."""
    loop, sockets = asyncio.get_running_loop(), []
    for server, url in enumerate(poster.urls):
        parts, make = urlsplit(url), partial(RawSocket, poster.socket_url(server), poster.waiting)
        _, socket = await loop.create_connection(make, parts.hostname or "", parts.port or 80)
        await socket.shaken
        poster.stack.callback(socket.transport.close)
        sockets.append(socket)
    return sockets


class Raw(Poster):
    """The limit: no frames, no JSON, no types."""

    name = "raw asyncio.Protocol"

    async def connect(self) -> None:
        await connect_raw(self)

    async def stream(self, server: int) -> tuple[str, int]:
        return await self.result(server), traffic.EVENTS


class Typed(Poster):
    """The websockets package's `recv`, our types, a Queue for each prompt that is streamed."""

    name = "websockets recv + typed"

    async def connect(self) -> None:
        self.queues: dict[str, asyncio.Queue[Event]] = {}
        for server in range(len(self.urls)):
            socket = await self.stack.enter_async_context(
                ws.connect(self.socket_url(server), compression=None, max_size=None)
            )
            self.listen(self._read(socket))

    async def _read(self, socket: ws.ClientConnection) -> None:
        async for message in socket:
            event = frames.decode_text(message.encode() if isinstance(message, str) else message)
            prompt_id = event.prompt_id
            if prompt_id is None:
                continue
            if prompt_id in self.queues:
                self.queues[prompt_id].put_nowait(event)
            elif type(event) is Executing and event.node is None and prompt_id in self.waiting:
                self.waiting[prompt_id].set_result(0)

    async def stream(self, server: int) -> tuple[str, int]:
        prompt_id = str(uuid.uuid4())
        queue = self.queues[prompt_id] = asyncio.Queue()
        await self.post(server, prompt_id)
        heard = 0
        while True:
            event = await queue.get()
            heard += 1
            if type(event) is Executing and event.node is None:
                del self.queues[prompt_id]
                return prompt_id, heard


class Queued(Poster):
    """How clients usually do it: aiohttp's WebSocket, json, a Queue for each prompt."""

    name = "aiohttp + json + Queue"

    async def connect(self) -> None:
        self.queues: dict[str, asyncio.Queue[Any]] = {}
        for server in range(len(self.urls)):
            socket = await self.http.ws_connect(self.socket_url(server), max_msg_size=0)
            self.stack.push_async_callback(socket.close)
            self.listen(self._read(socket))

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            event = json.loads(message.data)
            queue = self.queues.get(event["data"].get("prompt_id"))
            if queue is not None:
                queue.put_nowait(event)

    async def post(self, server: int, prompt_id: str) -> None:
        body = {"prompt": traffic.WORKFLOW, "client_id": self.clients[server], "prompt_id": prompt_id}
        async with self.http.post(self.prompt_urls[server], json=body) as response:
            await response.json()

    async def result(self, server: int) -> str:
        return (await self.stream(server))[0]

    async def stream(self, server: int) -> tuple[str, int]:
        prompt_id = str(uuid.uuid4())
        queue = self.queues[prompt_id] = asyncio.Queue()
        await self.post(server, prompt_id)
        heard = 0
        while True:
            event = await queue.get()
            heard += 1
            if event["type"] == "executing" and event["data"]["node"] is None:
                del self.queues[prompt_id]
                return prompt_id, heard


ALL: tuple[type[Contestant], ...] = (Ours, Raw, Typed, Queued)
