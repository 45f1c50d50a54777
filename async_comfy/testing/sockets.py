"""The event sockets: who is connected under which client id, and what is sent to whom.

All frames go through one queue and one publisher, as on the real server: their order is the same for
everybody, and a client that stops reading holds up everybody else (ComfyUI server.py, publish_loop).
"""

import asyncio
import json
import struct
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, WSMsgType, web

from async_comfy.testing.faults import Faults, Frame
from async_comfy.testing.profiles import Profile
from async_comfy.testing.pulse import Pulse

if TYPE_CHECKING:
    from collections.abc import Callable

CREDENTIAL_S = 5.0  # how long a "next" server waits for the credential of a known client id
STALL_LOOK_S = 0.01  # how often a stalled publisher looks whether it may go on: the switch tells nobody
PREVIEW, TEXT, PREVIEW_WITH_METADATA = 1, 3, 4  # binary kinds that the core server sends
FORMATS = {"JPEG": 1, "PNG": 2}  # image formats by their number in a preview frame

FLAGS: dict[str, Any] = {
    "supports_preview_metadata": True,
    "supports_model_type_tags": True,
    "max_upload_size": 104857600,
    "extension": {"manager": {"supports_v4": True}},
    "node_replacements": True,
    "assets": False,
}
"""What a 0.33 server says of itself: at /features and in answer to `feature_flags`."""


class Socket:
    """One open WebSocket and the client id it came with."""

    def __init__(self, ws: web.WebSocketResponse, request: web.Request, client_id: str) -> None:
        self.ws = ws
        self.request = request
        self.client_id = client_id

    async def send(self, payload: str | bytes) -> None:
        """Sends one frame; a socket that is gone takes it silently, as on the real server."""
        try:
            if isinstance(payload, str):
                await self.ws.send_str(payload)
            else:
                await self.ws.send_bytes(payload)
        except (ConnectionError, RuntimeError):
            return  # it ended between our look and our write; its own handler notices

    def cut(self) -> None:
        """Ends the TCP connection at once: no close frame, the client sees 1006."""
        if self.request.transport is not None:
            self.request.transport.abort()


class Sockets:
    """Every event socket of one server, and the queue of frames to send."""

    def __init__(
        self,
        profile: Profile,
        flags: Mapping[str, Any],
        faults: Faults,
        pulse: Pulse,
        remaining: "Callable[[], int]",
    ) -> None:
        self.profile = profile
        self.faults = faults
        self.pulse = pulse
        self.remaining = remaining
        self.known: dict[str, Socket] = {}
        self.flags = flags
        self.client_flags: dict[str, dict[str, Any]] = {}
        self.open: list[Socket] = []
        self.accepted = 0
        self.credentials: dict[str, str] = {}
        self.running: tuple[str | None, str | None] = (None, None)
        self.outbox: asyncio.Queue[Frame] = asyncio.Queue()

    def say(self, kind: str, data: Mapping[str, Any], to: str | None = None) -> None:
        """Queues a text frame to one client id, or to all. Unknown ids get nothing, and nobody is told."""
        self.outbox.put_nowait(Frame(to, kind, data, json.dumps({"type": kind, "data": data})))

    def show(self, kind: int, body: bytes, to: str | None = None) -> None:
        """Queues a binary frame of `kind`."""
        self.outbox.put_nowait(Frame(to, f"binary:{kind}", None, struct.pack(">I", kind) + body))

    def status(self) -> None:
        """Tells everybody how many prompts there are, everybody's, the running one too."""
        self.say("status", {"status": {"exec_info": {"queue_remaining": self.remaining()}}})

    def wants_metadata(self, client_id: str | None) -> bool:
        """Whether previews to this client carry metadata: it said so in its first frame."""
        flags = self.client_flags.get(client_id, {}) if isinstance(client_id, str) else {}
        return bool(flags.get("supports_preview_metadata"))

    async def publish(self) -> None:
        """Sends what is queued, for ever, one frame after the other."""
        while True:
            frame = await self.outbox.get()
            while self.faults.stalled_publisher:  # noqa: ASYNC110 - a plain field, set from any thread: no event
                await asyncio.sleep(STALL_LOOK_S)
            await self._deliver(frame)
            if self.outbox.empty():
                await self._flush()
            self.pulse.beat()

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """GET /ws: the life of one socket."""
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        client_id = request.query.get("clientId", "")
        returning = bool(client_id) and client_id in self.credentials
        socket = Socket(ws, request, client_id or uuid.uuid4().hex)
        self.accepted += 1
        self.open.append(socket)
        try:
            if returning and not await self._shows_credential(socket):
                await ws.close(code=WSCloseCode.POLICY_VIOLATION, message=b"credential_auth expected")
                return ws
            await self._greet(socket)
            await self._listen(socket)
        finally:
            self.open.remove(socket)
            if self.profile.deaf_sockets or self.known.get(socket.client_id) is socket:
                self.known.pop(socket.client_id, None)
                self.client_flags.pop(socket.client_id, None)
            self.pulse.beat()
        return ws

    def cut(self, client_id: str | None = None) -> None:
        """Cuts the TCP of all sockets, or of those of one client id."""
        for socket in list(self.open):
            if client_id in (None, socket.client_id):
                socket.cut()

    def forget(self, client_id: str | None = None) -> None:
        """Makes sockets deaf: they stay open and answer pings, and receive nothing more."""
        for name in [client_id] if client_id is not None else list(self.known):
            self.known.pop(name, None)

    async def _greet(self, socket: Socket) -> None:
        # Known before it is greeted, as on the real server: nothing that is said from now on is missed.
        status: dict[str, Any] = {
            "status": {"exec_info": {"queue_remaining": self.remaining()}},
            "sid": socket.client_id,
        }
        if self.profile.credential_key:
            status["credential_key"] = self.credentials.setdefault(socket.client_id, uuid.uuid4().hex)
        if not self.faults.deaf:
            self.known[socket.client_id] = socket
        self.client_flags[socket.client_id] = {}
        await socket.send(json.dumps({"type": "status", "data": status}))
        running, node = self.running
        if running == socket.client_id and node is not None:
            await socket.send(json.dumps({"type": "executing", "data": {"node": node}}))
        self.pulse.beat()

    async def _listen(self, socket: Socket) -> None:
        first = True  # the credential does not count: flags may follow it
        async for message in socket.ws:
            if message.type == WSMsgType.TEXT:
                await self._hear(socket, message.data, first=first)
                first = False

    async def _hear(self, socket: Socket, text: str, *, first: bool) -> None:
        # Only the FIRST frame of a connection negotiates; later ones are ignored in silence.
        try:
            message = json.loads(text)
            kind, data = message.get("type"), message.get("data", {})
        except (ValueError, AttributeError):
            return
        if first and kind == "feature_flags" and self.profile.feature_flags and isinstance(data, dict):
            self.client_flags[socket.client_id] = data
            # To whom the id belongs by now, not to who asked: a forgotten socket gets no answer.
            if (known := self.known.get(socket.client_id)) is not None:
                await known.send(json.dumps({"type": "feature_flags", "data": self.flags}))
            self.pulse.beat()

    async def _shows_credential(self, socket: Socket) -> bool:
        try:
            message = await socket.ws.receive_json(timeout=CREDENTIAL_S)
            shown = message["data"]["credential_key"] if message["type"] == "credential_auth" else None
        except (TypeError, ValueError, KeyError, TimeoutError):
            return False
        return bool(shown == self.credentials[socket.client_id])

    async def _deliver(self, frame: Frame) -> None:
        # A client id may be any JSON, since nobody checks it: what is no text is nobody's.
        addressee = self.known.get(frame.to) if isinstance(frame.to, str) else None
        for socket in list(self.known.values()) if frame.to is None else [addressee]:
            if socket is not None:
                for payload in self.faults.pass_on(socket.client_id, frame):
                    await socket.send(payload)

    async def _flush(self) -> None:
        for client_id, payload in self.faults.held_back():
            if (socket := self.known.get(client_id)) is not None:
                await socket.send(payload)
