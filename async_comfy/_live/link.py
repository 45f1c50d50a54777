"""One event socket, kept: connected, greeted, listened for signs of life, connected again.

Never two at once: a server that sees a second socket with our client id goes deaf on it when the first
one ends (ComfyUI server.py, websocket_handler). So where nobody can tell whether the server knows of the
first one's end, the next has another client id: what runs under the old one is looked at instead.
"""

import asyncio
import json
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio
from websockets.protocol import State

from async_comfy._live.access import Access
from async_comfy._live.stream import Reader, Stream, open_stream
from async_comfy.errors import ComfyError, NotComfyUI, Unreachable
from async_comfy.events import Status
from async_comfy.protocol import frames
from async_comfy.protocol.backoff import Backoff

PULSE_S = 20.0  # of silence, then a ping; the server itself never pings
PATIENCE_S = 60.0  # for the pong: a server that loads a model answers nobody
STRANGE_S = 60.0  # for what is no ComfyUI where there was one: gateways say 404 while it restarts
GREETING_S = 15.0  # for the first status, which every server sends at once

Pulse = Callable[[], Awaitable[bool]]
"""Asks the server whether it is there."""

_log = logging.getLogger("async_comfy")


class Keeper(Protocol):
    """Who is told how the link fares."""

    def link_up(self) -> None:
        """Connected and greeted."""
        ...

    def link_down(self) -> None:
        """The connection ended; another is on its way."""
        ...

    def link_moved(self) -> None:
        """The client id is another one: no event of what was sent under the old one will come."""
        ...

    def link_failed(self, error: ComfyError) -> None:
        """There will be no other connection."""
        ...


class Link:
    """The socket of one client id. `run` keeps it until cancelled."""

    def __init__(
        self, access: Access, client_id: str, reader: Reader, keeper: Keeper, *, compress: bool = False
    ) -> None:
        self.client_id = client_id
        self.connections = 0
        self._access = access
        self._reader = reader
        self._keeper = keeper
        self._compress = compress
        self._stream: Stream | None = None
        self._lost = asyncio.Event()  # this connection is over, or of no use any more
        self._greeted = False
        self._greeted_or_lost = asyncio.Event()
        self._credential: str | None = None
        self._deaf = 0  # times that this client id was connected and heard nothing

    def __repr__(self) -> str:
        return f"<Link {self._access} {'up' if self.up else 'down'}>"

    @property
    def up(self) -> bool:
        """Whether events can come."""
        return self._stream is not None and self._greeted and not self._lost.is_set()

    async def connect(self) -> None:
        """Opens the socket and waits for the server's first status.

        Raises: Unreachable, Denied, NotComfyUI
        """
        lost = self._lost = asyncio.Event()
        self._greeted = False
        greeted_or_lost = self._greeted_or_lost = asyncio.Event()

        def end() -> None:
            lost.set()
            greeted_or_lost.set()

        self._stream = await open_stream(
            self._access, self.client_id, self._hellos(), self, end, compress=self._compress
        )
        try:
            await self._wait_for_greeting(self._stream)
        except BaseException:
            self._stream.transport.abort()
            raise
        self.connections += 1
        self._keeper.link_up()

    async def run(self, is_alive: Pulse, *, give_up_s: float | None) -> None:
        """Keeps an opened link until cancelled, or until it cannot be had any more."""
        while True:
            await self._listen(is_alive)
            self._keeper.link_down()
            try:
                if self._stream is not None:
                    self._stream.check_refusal()
                await self._part()
                await self._connect_again(give_up_s)
            except ComfyError as error:
                self._keeper.link_failed(error)
                return

    def renew(self) -> None:
        """The events stopped coming although the server lives: a new connection is the cure."""
        if self.up:
            _log.warning("%s sends no events any more: connecting again", self._access)
            self._deaf += 1
            self._lost.set()

    async def answers(self) -> bool:
        """Whether the server at the other end of this connection is there: the same one, all the while.

        Waits for as long as the connection neither answers a ping nor ends.
        """
        return self._stream is not None and self.up and await self._stream.answers()

    async def close(self) -> None:
        """Says goodbye, for about a second at most."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def _part(self) -> None:
        """Ends the old connection, if it did not end itself, before there is a new one.

        Where the server does not confirm it, or the same id went deaf twice, the new one has a new id.
        """
        stream = self._stream
        if stream is None or (stream.protocol.state is State.CLOSED and not self._deaf):
            return
        await stream.close()
        heard = stream.protocol.close_rcvd is not None
        if self._credential is None and (not heard or self._deaf > 1):
            self._move()

    def _move(self) -> None:
        self.client_id = str(uuid.uuid4())
        self._deaf = 0
        self._keeper.link_moved()

    def take_text(self, raw: bytes, now: float) -> None:
        """Reader, until the greeting is through: from then on frames go past the link."""
        self._reader.take_text(raw, now)
        event = _decoded(raw)
        if isinstance(event, Status):
            self.client_id = event.sid or self.client_id
            self._credential = frames.credential_key(raw) or self._credential
            self._greeted = True
            self._greeted_or_lost.set()

    def take_binary(self, raw: bytes, now: float) -> None:
        """Reader, until the greeting is through."""
        self._reader.take_binary(raw, now)

    async def _wait_for_greeting(self, stream: Stream) -> None:
        with anyio.move_on_after(GREETING_S):
            await self._greeted_or_lost.wait()
        if not self._greeted:
            stream.check_refusal()
            raise Unreachable(
                f"{self._access} opened the event socket and then said nothing.",
                hint="Is it ComfyUI, and does the proxy before it pass WebSockets on?",
            )
        stream.reader = self._reader

    async def _connect_again(self, give_up_s: float | None) -> None:
        """Raises: what makes every further attempt pointless."""
        backoff, since = Backoff(), time.monotonic()
        strange_since: float | None = None
        while True:
            await anyio.sleep(backoff.next_s(random.random()))  # noqa: S311  # jitter, no secret
            try:
                await self.connect()
            except (Unreachable, NotComfyUI) as error:
                now = time.monotonic()
                strange_since = (strange_since or now) if isinstance(error, NotComfyUI) else None
                if give_up_s is not None and now - since > give_up_s:
                    raise
                if strange_since is not None and now - strange_since > STRANGE_S:
                    raise
                _log.info("connecting again: %s", error)
            else:
                return

    async def _listen(self, is_alive: Pulse) -> None:
        """Returns when the connection is lost, or dead."""
        stream = self._stream
        while stream is not None and not self._lost.is_set():
            stream.quiet = True
            await self._lost_within(PULSE_S)
            if stream.quiet and not self._lost.is_set():
                await self._take_pulse(stream, is_alive)

    async def _take_pulse(self, stream: Stream, is_alive: Pulse) -> None:
        """Pings a quiet socket; without a pong the server gets one more chance, over HTTP."""
        await stream.ask_pulse()
        asked_at = time.monotonic()
        while stream.quiet and not self._lost.is_set() and time.monotonic() - asked_at < PATIENCE_S:
            await self._lost_within(PATIENCE_S / 60)  # any frame is a sign, and it wakes nobody
        if stream.quiet and not self._lost.is_set():
            await is_alive()
            # Alive or not: while it was asked the pong had its last chance.
            if stream.quiet:
                _log.warning("%s answers no ping: connecting again", self._access)
                self._lost.set()

    async def _lost_within(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._lost.wait()

    def _hellos(self) -> list[bytes]:
        if self._credential is None:
            return [frames.HELLO]
        proof = {"type": "credential_auth", "data": {"credential_key": self._credential}}
        return [json.dumps(proof).encode(), frames.HELLO]


def _decoded(raw: bytes) -> object:
    try:
        return frames.decode_text(raw)
    except frames.BrokenFrame:
        return None
