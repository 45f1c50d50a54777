"""What the server writes to its log: /internal/logs, and line by line over a socket."""

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncGenerator

import msgspec

from async_comfy._live.api.answers import answer_to, shaped
from async_comfy._live.http import Http
from async_comfy._live.stream import open_stream
from async_comfy.errors import Unreachable

LOG_LINES = 10_000  # that wait for a slow reader; older ones go


class LogEntry(msgspec.Struct, frozen=True, rename={"time": "t", "text": "m"}):
    """A piece of the log, mostly a line: its ISO time at the server, and the text, colours and all."""

    time: str | float = ""
    text: str = ""


class _Entries(msgspec.Struct, frozen=True):
    entries: list[LogEntry]


class _Message(msgspec.Struct, frozen=True):
    type: str
    data: _Entries | None = None


class Logs:
    """The server's log. It lives at /internal, which some proxies do not pass on."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def text(self) -> str:
        """GET /internal/logs: what the server still remembers, as one text (it keeps some hundred lines)."""
        return shaped(await self._http.get("/internal/logs"), "GET /internal/logs", str)

    async def entries(self) -> list[LogEntry]:
        """GET /internal/logs/raw: the same, piece by piece."""
        answer = await self._http.get("/internal/logs/raw")
        return shaped(answer, "GET /internal/logs/raw", _Entries).entries

    async def follow(self) -> AsyncGenerator[LogEntry, None]:
        """What is logged from now on, over a socket and a client id of its own, so no job is held up.

        Goes on until you leave the loop; it does not connect again, and does not end with the session.
        A reader that is too slow misses the oldest of `LOG_LINES` pieces.

        Raises: Unreachable where the connection breaks; Denied, NotComfyUI, NotFound
        """
        tail = _Tail()
        client_id = str(uuid.uuid4())
        stream = await open_stream(self._http.access, client_id, [], tail, tail.end)
        try:
            await tail.news()  # greeted: before that, the server would forget the subscription
            await self._subscribe(client_id)
            while True:
                while tail.waiting:
                    yield tail.waiting.popleft()
                if tail.ended:
                    raise Unreachable("The server's log broke off.", hint="Is the server still up?")
                await tail.news()
        finally:
            await stream.close()  # the server ends the subscription of a client that is gone

    async def _subscribe(self, client_id: str) -> None:
        body = {"clientId": client_id, "enabled": True}
        await answer_to(self._http, "PATCH", "/internal/logs/subscribe", body=body)


class _Tail:
    """Takes the frames of a log socket; keeps the entries until they are read."""

    def __init__(self) -> None:
        self.waiting: deque[LogEntry] = deque(maxlen=LOG_LINES)
        self.ended = False
        self._changed = asyncio.Event()

    async def news(self) -> None:
        """Returns when something came since the last time, or the end."""
        await self._changed.wait()
        if not self.ended:
            self._changed.clear()

    def end(self) -> None:
        """No more will come."""
        self.ended = True
        self._changed.set()

    def take_text(self, raw: bytes, now: float) -> None:
        """Reader: keeps what is of the log."""
        try:
            message = msgspec.json.decode(raw, type=_Message)
        except (msgspec.MsgspecError, UnicodeError):
            message = _Message("")  # an event of another kind, of whatever shape
        if message.type == "logs" and message.data is not None:
            self.waiting.extend(message.data.entries)
        self._changed.set()

    def take_binary(self, raw: bytes, now: float) -> None:
        """Reader: there are no pictures in a log."""
