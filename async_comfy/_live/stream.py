"""One WebSocket: frames out of a byte stream, as fast as it comes, whatever its reader does.

The handshake, control frames, fragments, compression and the close are the websockets package's own
(RFC 6455). What almost all traffic is made of, whole uncompressed data frames, is cut out of the
buffer right here, because the way through a queue and a task costs more than all that follows.
Nothing here ever pauses reading: a client that stops reading stalls the server for everybody.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import websockets.asyncio.client as ws
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.frames import DATA_OPCODES, CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event, State

from async_comfy._live.access import Access, way_to
from async_comfy._live.http import denied, unreachable
from async_comfy._live.landing import landing
from async_comfy.errors import ComfyError, Denied, NotComfyUI, Unreachable

FRAME_BYTES = 1 << 30  # one `executed` was seen above 4 MiB; this only stops a runaway
OPEN_S = 15.0  # a server that loads a model answers the handshake late
CLOSE_S = 1.0  # for the closing handshake; the job of closing in 5 s is shared with others

_PASSING = frozenset({408, 425, 429})  # a time-out, too early, too many: said by what is before the server
_TEXT, _BINARY = 0x80 | Opcode.TEXT, 0x80 | Opcode.BINARY

# websockets writes handshakes, and with them credentials, to its log at DEBUG: this one never does.
_log = logging.getLogger("async_comfy.websocket")
_log.setLevel(logging.INFO)


class Reader(Protocol):
    """Who takes the frames. Called inside the read; must neither raise nor wait."""

    def take_text(self, raw: bytes, now: float) -> object:
        """The payload of a text message; `now`: when it was read, by the monotonic clock."""
        ...

    def take_binary(self, raw: bytes, now: float) -> object:
        """The payload of a binary message."""
        ...


class Stream(ws.ClientConnection, asyncio.BufferedProtocol):
    """A WebSocket whose messages go straight to a `Reader`. `on_lost` is called when none will come any more.

    Invariant: the core is only ever given whole frames, so between two calls it stands at a frame
    boundary, and this class may take the next frame itself.
    """

    reader: Reader
    on_lost: Callable[[], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._view = landing()
        self._ours = False  # frames are: after the handshake, until the core ends it
        self._shaken = False  # the head of the answer to the handshake is through
        self._head = b""  # its last bytes
        self._pending = bytearray()  # of a frame, not yet whole
        self._wanted = 0  # bytes until the pending frame is whole, where its head told
        self._fragments: list[bytes] = []
        self._fragments_are_text = False
        self.quiet = False  # set it to learn later whether anything came, a pong included

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read into; asyncio calls it."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes were read; asyncio calls it."""
        self.data_received(self._view[:nbytes].tobytes())

    def data_received(self, data: bytes) -> None:
        """Cuts frames."""
        self.quiet = False
        if not self._ours:
            data = self._take_outside(data)
        if self._pending:
            self._pending += data
            if len(self._pending) < self._wanted:
                return  # before joining: a large frame comes in hundreds of pieces
            data = bytes(self._pending)
            self._pending.clear()
        self._wanted = 0
        at = self._take_frames(data)
        if at < len(data):
            self._pending += memoryview(data)[at:]

    def process_event(self, event: Event) -> None:
        """What the core made of a frame that was not taken in the fast lane."""
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            self._take_slowly(event)
        else:
            super().process_event(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio calls it, once."""
        super().connection_lost(exc)
        self.on_lost()

    def _take_outside(self, data: bytes) -> bytes:
        """Before the handshake and after the close all is the core's; what follows the handshake is ours."""
        if self._shaken:
            pending = bytes(self._pending)
            self._pending.clear()
            self._take_by_core(pending + data)
            return b""
        seen = self._head + data
        end = seen.find(b"\r\n\r\n") + 4
        self._head = seen[-3:]
        if end < 4:
            self._take_by_core(data)
            return b""
        self._shaken = True
        cut = len(data) - (len(seen) - end)
        self._take_by_core(data[:cut])
        if self.protocol.state is State.OPEN:
            self._ours = True
            return data[cut:]
        self._take_by_core(data[cut:])  # the body of a refusal
        return b""

    def _take_frames(self, data: bytes) -> int:
        """Takes every whole frame; where the first unfinished one begins."""
        at, end, now = 0, len(data), time.monotonic()
        take_text, fragments = self.reader.take_text, self._fragments
        while end - at >= 2:
            length, start = data[at + 1], at + 2
            if length == 126:
                start = at + 4
                if start > end:
                    return at
                length = data[at + 2] << 8 | data[at + 3]
            elif length == 127:
                start = at + 10
                if start > end:
                    return at
                length = int.from_bytes(data[at + 2 : start])
            elif length > 127:
                # A server must not mask its frames: the core will say so, and close.
                self._hand_over(data[at:])
                return end
            if length > FRAME_BYTES:
                self._hand_over(data[at:start])
                return end
            stop = start + length
            if stop > end:
                self._wanted = stop - at
                return at
            head = data[at]
            if head == _TEXT and not fragments:
                take_text(data[start:stop], now)
            elif head == _BINARY and not fragments:
                self.reader.take_binary(data[start:stop], now)
            else:
                self._take_by_core(data[at:stop])
                if self.protocol.state is not State.OPEN:  # that frame ended it
                    self._hand_over(data[stop:])
                    return end
            at = stop
        return at

    def _take_by_core(self, data: bytes) -> None:
        if data:
            super().data_received(data)

    def _hand_over(self, data: bytes) -> None:
        """The rest is the core's. No message comes any more, whether or not the other end hangs up."""
        self._ours = False
        self._take_by_core(data)
        self.on_lost()

    def _take_slowly(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self._fragments_are_text = frame.opcode is Opcode.TEXT
        self._fragments.append(bytes(frame.data))
        if not frame.fin:
            return
        whole = b"".join(self._fragments)
        self._fragments.clear()
        if self._fragments_are_text:
            self.reader.take_text(whole, time.monotonic())
        else:
            self.reader.take_binary(whole, time.monotonic())

    def check_refusal(self) -> None:
        """Raises: Denied, where the server closed because of who we are: trying again would not help."""
        said = self.protocol.close_rcvd  # known before it hangs up
        if said is not None and said.code == CloseCode.POLICY_VIOLATION:
            raise Denied(
                "The server closed the event socket (1008).", status=1008, hint="Mend the credentials."
            )

    async def ask_pulse(self) -> None:
        """Sends a ping whose pong nobody waits for: any sign of life counts."""
        with contextlib.suppress(ConnectionClosed):  # of which `on_lost` tells
            async with self.send_context():
                self.protocol.send_ping(b"")

    async def answers(self) -> bool:
        """Sends a ping and waits: True with its pong, False with the end."""
        try:
            await (await self.ping())
        except ConnectionClosed:
            return False
        return True


class _Opening(ws.connect):
    """Opens a `Stream`. Redirects are not followed: an event socket elsewhere is another server's."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def open_stream(
    access: Access,
    client_id: str,
    hellos: Sequence[bytes],
    reader: Reader,
    on_lost: Callable[[], None],
    *,
    compress: bool = False,
) -> Stream:
    """Connects, and sends `hellos` before anything else.

    Raises: Unreachable, Denied (401, 403), NotComfyUI (any other refusal of the upgrade)
    """

    def make(*args: Any, **kwargs: Any) -> Stream:
        stream = Stream(*args, **kwargs)
        stream.reader, stream.on_lost = reader, on_lost
        return stream

    options: dict[str, Any] = {"ssl": access.ssl} if access.ssl and access.url.scheme == "https" else {}
    try:
        async with asyncio.timeout(OPEN_S):
            if access.proxy is None:
                options |= await way_to(access.url)
            stream = await _Opening(
                access.socket(client_id),
                additional_headers=access.socket_headers(),
                compression="deflate" if compress else None,
                proxy=access.proxy,
                open_timeout=None,
                close_timeout=CLOSE_S,
                ping_interval=None,
                max_size=FRAME_BYTES,
                logger=_log,
                create_connection=make,  # type: ignore[arg-type]  # a factory does where a class is asked for
                **options,
            )
    except (OSError, InvalidHandshake, InvalidURI, EOFError) as error:
        raise _refusal(access, error) from None
    assert isinstance(stream, Stream)  # noqa: S101  # for the type checker: `make` made it
    await _greet(stream, hellos, access)
    return stream


async def _greet(stream: Stream, hellos: Sequence[bytes], access: Access) -> None:
    try:
        for hello in hellos:
            await stream.send(hello, text=True)
    except BaseException as error:
        stream.transport.abort()  # nobody else knows it yet
        if isinstance(error, ConnectionClosed):
            stream.check_refusal()
            raise unreachable(access, error) from None
        raise


def _refusal(access: Access, error: Exception) -> ComfyError:
    if isinstance(error, InvalidStatus):
        return _refused_by(error.response)
    if isinstance(error, InvalidMessage) and isinstance(error.__cause__, EOFError | OSError):
        return unreachable(access, error.__cause__)
    if isinstance(error, OSError | EOFError):
        return unreachable(access, error)
    if isinstance(error, ProxyError):
        status = error.response.status_code if isinstance(error, InvalidProxyStatus) else "nonsense"
        return Unreachable(
            f"The proxy before {access} answers {status}.",
            hint="Is ComfyUI up behind it, and does it let you through (credentials go into its address)?",
        )
    return NotComfyUI(
        f"What answers at {access} speaks no WebSocket.", hint="Check the address and the port."
    )


def _refused_by(response: Response) -> ComfyError:
    status = response.status_code
    if status in {401, 403}:
        return denied(status)
    if status >= 500 or status in _PASSING:
        return Unreachable(
            f"Something before the server answers {status}.", hint="Is ComfyUI up behind its proxy?"
        )
    return NotComfyUI(
        f"What answers there is not ComfyUI: its /ws gave {status} and no WebSocket.",
        hint="Check the address, the port and the path; a proxy must pass WebSocket upgrades on.",
    )
