"""Many lean ComfyUI servers in one process: what they say is encoded beforehand, so they never limit.

Speaks just enough: /ws, POST /prompt, and what clients ask that poll. A run's messages go out one at
a time, each in a write of its own, all servers in turn at every beat. Orders come as JSON lines on
standard input; each is answered with one line on standard output (`benchmarks.fleet`).
"""

import asyncio
import base64
import hashlib
import json
import re
import sys
import time
import uuid
from collections import Counter, deque
from functools import partial
from itertools import chain, islice
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks import traffic

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
_PROMPT_ID = re.compile(rb'"prompt_id"\s*:\s*"([0-9a-f-]{36})"')
_CLIENT_ID = re.compile(rb'"client_id"\s*:\s*"([^"]*)"')
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_KEY = re.compile(rb"\r\nsec-websocket-key:\s*(\S+)", re.IGNORECASE)
_BLOCK = bytes(1 << 20)
_PICTURE = base64.b64decode(
    b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def frame(payload: bytes, head: int = _TEXT) -> bytes:
    """A whole unmasked WebSocket frame."""
    size = len(payload)
    if size < 126:
        return bytes([head, size]) + payload
    if size < 1 << 16:
        return bytes([head, 126]) + size.to_bytes(2, "big") + payload
    return bytes([head, 127]) + size.to_bytes(8, "big") + payload


def pieces(payload: bytes, head: int = _TEXT) -> list[bytes]:
    """A frame, cut where the prompt id belongs."""
    return frame(payload, head).split(traffic.HERE.encode())


ARRIVAL = frame(traffic.queue_changed()) * 2
INTERRUPTED = [pieces(payload) for payload in traffic.interrupted()]
RUN = [[pieces(payload) for payload in group] for group in traffic.run()]
KINDS = {
    kind: pieces(payload, _BINARY if kind.startswith("preview") else _TEXT)
    for kind, payload in traffic.KINDS.items()
}


class Server:
    """One ComfyUI: a queue of prompts, one running, sockets by client id."""

    def __init__(self, house: "House", number: int) -> None:
        self.house = house
        self.place = number
        self.sockets: dict[bytes, Connection] = {}
        self.queue: deque[tuple[bytes, bytes]] = deque()
        self.done: set[str] = set()
        self.held: dict[bytes, list[bytes]] = {}  # by client id: prompts that end only when cancelled
        self.number = 0
        self.wait = 0
        self._run: list[list[bytes]] = []  # what to write at each beat, the last first
        self._id = b""
        self._client = b""

    @property
    def busy(self) -> bool:
        """Whether there is anything to say."""
        return bool(self._run or self.queue)

    @property
    def running(self) -> bytes:
        """The id of the prompt that runs, if one does."""
        return self._id if self._run else b""

    def submit(self, body: bytes) -> bytes:
        """POST /prompt."""
        given, client = _PROMPT_ID.search(body), _CLIENT_ID.search(body)
        prompt = given[1] if given else str(uuid.uuid4()).encode()
        owner = client[1] if client else b""
        self.number += 1
        self.say(owner, ARRIVAL)
        if self.house.hold:
            self.held.setdefault(owner, []).append(prompt)
        else:
            self.queue.append((prompt, owner))
            self.house.wake(self)
        return b'{"prompt_id": "%s", "number": %d, "node_errors": {}}' % (prompt, self.number)

    def step(self) -> None:
        """Says what is due at this beat."""
        if self.wait:
            self.wait -= 1
            return
        if not self._run:
            self._begin()
        writes = self._run.pop()
        if not self._run:
            self.done.add(self._id.decode())
            for write in writes[:-1]:
                self.say(self._client, write)
            self.house.ends[self._id.decode()] = time.monotonic_ns()
            writes = writes[-1:]
        for write in writes:
            self.say(self._client, write)

    def say(self, client: bytes, data: bytes) -> None:
        """Writes to one client's socket."""
        if client in self.sockets:
            self.sockets[client].write(data)

    def flood(self, kind: str, together: int, client: bytes) -> None:
        """So many messages of one kind, of the prompt held for this client, in one write."""
        self.say(client, self.held[client][-1].join(KINDS[kind]) * together)

    def cancel(self, prompt: bytes) -> bool:
        """Ends a held prompt as an interrupt does."""
        for client, prompts in list(self.held.items()):
            if prompt in prompts:
                prompts.remove(prompt)
                self.say(client, b"".join(prompt.join(parts) for parts in INTERRUPTED))
                if not prompts:
                    del self.held[client]
                return True
        return False

    def _begin(self) -> None:
        self._id, self._client = self.queue.popleft()
        groups = [[self._id.join(parts) for parts in group] for group in RUN]
        if self.house.pace == "single":
            groups = [[message] for group in groups for message in group]
        elif self.house.pace == "burst":
            groups = [[b"".join(message for group in groups for message in group)]]
        self._run = groups[::-1]


class Connection(asyncio.Protocol):
    """A TCP connection to one of the servers: HTTP/1.1, until it becomes a WebSocket."""

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client: bytes | None = None
        self.pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=1 << 30)

    def data_received(self, data: bytes) -> None:
        self.pending += data
        while self.pending and (self._take_frame() if self.client is not None else self._take_request()):
            pass

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client is not None and self.server.sockets.get(self.client) is self:
            del self.server.sockets[self.client]

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def _take_request(self) -> bool:
        head, mark, rest = self.pending.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if not mark or len(rest) < size:
            return False
        self.pending = rest[size:]
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        self._answer(method, target, head, rest[:size])
        return True

    def _answer(self, method: str, target: str, head: bytes, body: bytes) -> None:
        parts = urlsplit(target)
        path = parts.path.removeprefix("/api")
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        house = self.server.house
        if path == "/ws":
            self._become_socket(head, query.get("clientId", ""))
            return
        house.requests[f"{method} /{path.split('/')[1]}"] += 1
        if path == "/view":
            self._send_file(query.get("filename", ""))
        elif (method, path) == ("POST", "/prompt"):
            house.uploaded += len(body)
            self._send(self.server.submit(body))
        elif path.startswith("/jobs/") and path.endswith("/cancel"):
            cancelled = self.server.cancel(path.split("/")[2].encode())
            self._send(json.dumps({"cancelled": cancelled}).encode())
        else:
            self._send(json.dumps(self._state(path)).encode())

    def _state(self, path: str) -> Any:
        server = self.server
        if path.startswith("/history/"):
            prompt = path.removeprefix("/history/")
            return {prompt: _entry(prompt)} if prompt in server.done else {}
        if path == "/history":
            return {prompt: _entry(prompt) for prompt in list(server.done)[-64:]}
        if path == "/queue":
            running = [server.running] if server.running else []
            waiting = [prompt for prompt, _ in server.queue] + list(chain(*server.held.values()))
            return {
                "queue_running": [[0, prompt.decode(), {}, {}, ["7"]] for prompt in running],
                "queue_pending": [[0, prompt.decode(), {}, {}, ["7"]] for prompt in waiting],
            }
        if path == "/prompt":
            return {"exec_info": {"queue_remaining": len(server.queue)}}
        if path == "/system_stats":
            return {"system": {"os": "posix", "comfyui_version": "0.33.0"}, "devices": []}
        return {}

    def _send(self, body: bytes, kind: bytes = b"application/json; charset=utf-8") -> None:
        self.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\nServer: lean\r\n\r\n%s"
            % (kind, len(body), body)
        )

    def _send_file(self, name: str) -> None:
        """A small picture; under a name like 20000000.bytes, so many of them."""
        if not name.endswith(".bytes"):
            self._send(_PICTURE, b'image/png\r\nContent-Disposition: filename="%s"' % name.encode())
            return
        size = int(name.removesuffix(".bytes"))
        self.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % size)
        for at in range(0, size, len(_BLOCK)):
            self.write(_BLOCK[: size - at])

    def _become_socket(self, head: bytes, client: str) -> None:
        key = _KEY.search(head)
        assert key is not None
        accept = base64.b64encode(hashlib.sha1(key[1] + _GUID).digest())  # noqa: S324  # RFC 6455 says so
        self.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept
        )
        self.client = (client or uuid.uuid4().hex).encode()
        self.server.house.connections += 1
        self.server.sockets[self.client] = self
        self.write(frame(traffic.greeting(self.client.decode())))

    def _take_frame(self) -> bool:
        data = self.pending
        if len(data) < 2:
            return False
        size, at = data[1] & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        if len(data) < at + 4 + size:
            return False
        mask, payload = data[at : at + 4], data[at + 4 : at + 4 + size]
        self.pending = data[at + 4 + size :]
        self._hear(data[0], bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)))
        return True

    def _hear(self, head: int, payload: bytes) -> None:
        if head == _PING:
            self.write(frame(payload, _PONG))
        elif head == _CLOSE:
            self.write(frame(payload, _CLOSE))
            self.transport.close()
        elif b"feature_flags" in payload:
            self.write(frame(traffic.flags()))


def _entry(prompt: str) -> dict[str, Any]:
    messages = [
        ["execution_start", {"prompt_id": prompt}],
        ["execution_cached", {"nodes": [], "prompt_id": prompt}],
        ["execution_success", {"prompt_id": prompt}],
    ]
    return {
        "prompt": [0, prompt, traffic.WORKFLOW, {}, ["7"]],
        "outputs": {"7": traffic.OUTPUT},
        "status": {"status_str": "success", "completed": True, "messages": messages},
        "meta": {},
    }


class House:
    """All servers of this process, their common beat, and what was counted."""

    def __init__(self) -> None:
        self.servers: list[Server] = []
        self.ports: list[int] = []
        self.requests: Counter[str] = Counter()
        self.ends: dict[str, int] = {}
        self.connections = 0
        self.uploaded = 0
        self.hold = False
        self.pace = "single"
        self._tick_s = 0.001
        self._groups = 1
        self._ticks = 0
        self._busy: set[Server] = set()
        self._next = 0.0

    async def build(self, servers: int) -> None:
        """Opens the ports."""
        loop = asyncio.get_running_loop()
        for number in range(servers):
            server = Server(self, number)
            listener = await loop.create_server(partial(Connection, server), "127.0.0.1", 0)
            self.servers.append(server)
            self.ports.append(listener.sockets[0].getsockname()[1])

    def wake(self, server: Server) -> None:
        """This server has something to say from the next beat on."""
        if not self._busy:
            loop = asyncio.get_running_loop()
            self._next = loop.time() + self._tick_s
            loop.call_at(self._next, self._beat)
        self._busy.add(server)

    def _beat(self) -> None:
        self._ticks += 1
        for server in [each for each in self._busy if (each.place + self._ticks) % self._groups == 0]:
            server.step()
            if not server.busy:
                self._busy.discard(server)
        if self._busy:
            loop = asyncio.get_running_loop()
            self._next = max(self._next + self._tick_s, loop.time() - 5 * self._tick_s)
            loop.call_at(self._next, self._beat)

    async def obey(self, order: dict[str, Any]) -> Any:
        """One order of the fleet."""
        match order.pop("do"):
            case "reset":
                return self._reset(**order)
            case "flood":
                return await self._flood(**order)
            case _:
                return self._counted()

    def _reset(self, beat_us: int, pace: str, hold: bool = False) -> str:
        # Real servers are not in step: each millisecond another part of them speaks.
        self._groups = max(1, min(beat_us // 1000, len(self.servers)))
        self._tick_s = beat_us / self._groups / 1e6
        self.pace, self.hold = pace, hold
        self.requests.clear()
        self.ends.clear()
        self.connections = self.uploaded = 0
        for number, server in enumerate(self.servers):
            server.done.clear()
            server.held.clear()
            server.queue.clear()
            # Nor do they begin at the same time: each at another moment of a run.
            beats = {"single": traffic.EVENTS, "recorded": len(RUN)}.get(pace, 1)
            server.wait = number * beats // len(self.servers)
        return "ready"

    async def _flood(self, kind: str, times: int, together: int, beat_us: int, width: int) -> int:
        """So many writes of `together` messages to held prompts' sockets: to `width` of them each beat."""
        loop = asyncio.get_running_loop()
        held = deque((server, client) for server in self.servers for client in server.held)
        at = loop.time()
        for _ in range(times):
            for server, client in list(islice(held, width or len(held))):
                server.flood(kind, together, client)
            held.rotate(-width)
            at = max(at + beat_us / 1e6, loop.time() - 0.01)
            await asyncio.sleep(max(0, at - loop.time()))
        return times

    def _counted(self) -> dict[str, Any]:
        return {
            "requests": dict(self.requests),
            "connections": self.connections,
            "uploaded": self.uploaded,
            "sockets": sum(len(server.sockets) for server in self.servers),
            "ends": self.ends,
        }


async def main(servers: int) -> None:
    """Serves until standard input ends."""
    house = House()
    await house.build(servers)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    print(json.dumps(house.ports), flush=True)
    while line := await orders.readline():
        print(json.dumps(await house.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
