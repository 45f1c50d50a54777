"""The fast lane of the socket gives what the websockets package's own core gives, byte for byte."""

import asyncio
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import SERVER, Protocol, State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from async_comfy._live.stream import FRAME_BYTES, Stream
from tests import recording

ADDRESS = parse_uri("ws://127.0.0.1:8188/ws?clientId=me")


class Wire(asyncio.Transport):
    """A connection of which the other end is the test."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.paused = False

    def write(self, data: Any) -> None:
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


@dataclass
class Heard:
    """What came of a byte stream."""

    messages: list[tuple[str, bytes]] = field(default_factory=list)
    replies: list[tuple[Opcode, bytes]] = field(default_factory=list)
    status: int | None = None
    body: bytes | None = None
    state: State = State.CONNECTING
    closed: Close | None = None
    trouble: type[Exception] | None = None

    def take_text(self, raw: bytes, now: float) -> None:
        self.messages.append(("text", raw))

    def take_binary(self, raw: bytes, now: float) -> None:
        self.messages.append(("binary", raw))

    def conclude(self, core: ClientProtocol, response: Response | None, written: bytes) -> "Heard":
        """With what the core says in the end."""
        if response is not None:
            self.status, self.body = response.status_code, bytes(response.body or b"")
        self.state, self.closed = core.state, core.close_rcvd
        trouble = core.parser_exc or core.handshake_exc
        self.trouble = None if trouble is None else type(trouble)
        self.replies = replies_in(written)
        return self


def replies_in(written: bytes) -> list[tuple[Opcode, bytes]]:
    """The frames that a client wrote after its request."""
    server = Protocol(SERVER, max_size=None)
    server.receive_data(written.partition(b"\r\n\r\n")[2])
    return [
        (event.opcode, bytes(event.data)) for event in server.events_received() if isinstance(event, Frame)
    ]


def client(key: str, *, compress: bool) -> ClientProtocol:
    extensions = [ClientPerMessageDeflateFactory()] if compress else None
    core = ClientProtocol(ADDRESS, max_size=FRAME_BYTES, extensions=extensions)
    core.key = key
    return core


KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def request(*, compress: bool) -> Request:
    core = client(KEY, compress=compress)
    return core.connect()


def handshake(*, status: int = 101, name: str = "Python/3.11 aiohttp/3.14.5") -> bytes:
    """The server's answer to the upgrade."""
    response = ServerProtocol().accept(request(compress=False))
    response.headers["Server"] = name
    if status != 101:
        body = b"<html>no\r\n\r\n\x81\x05words</html>"
        headers = Headers({"Content-Length": str(len(body)), "Content-Type": "text/html"})
        response = Response(status, "No", headers, body)
    return response.serialize()


def through_the_core(data: bytes, *, compress: bool) -> Heard:
    """Fed whole to the plain core, its frames joined to messages."""
    core, heard, response = client(KEY, compress=compress), Heard(), None
    core.send_request(core.connect())
    written = b"".join(core.data_to_send())
    core.receive_data(data)
    kind, parts = "", list[bytes]()
    for event in core.events_received():
        if isinstance(event, Response):
            response = event
        elif isinstance(event, Frame) and event.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
            kind = event.opcode.name.lower() if event.opcode is not Opcode.CONT else kind
            parts.append(bytes(event.data))
            if event.fin:
                heard.messages.append((kind, b"".join(parts)))
                parts.clear()
    return heard.conclude(core, response, written + b"".join(core.data_to_send()))


def through_the_stream(chunks: Iterable[bytes], *, compress: bool) -> Heard:
    """Fed as it comes to the stream."""

    async def feed() -> Heard:
        core, wire, heard = client(KEY, compress=compress), Wire(), Heard()
        stream = Stream(core, ping_interval=None)
        stream.reader, stream.on_lost = heard, lambda: None
        stream.connection_made(wire)
        core.send_request(core.connect())
        stream.send_data()
        for chunk in chunks:
            stream.data_received(chunk)
        assert not wire.paused
        return heard.conclude(core, stream.response, bytes(wire.written))

    return asyncio.run(feed())


def cut(data: bytes, at: Iterable[int]) -> Iterator[bytes]:
    edges = [0, *sorted({edge % (len(data) + 1) for edge in at}), len(data)]
    return (data[begin:end] for begin, end in pairwise(edges) if end > begin)


def assert_equal(data: bytes, chunks: Iterable[bytes], *, compress: bool = False) -> Heard:
    heard = through_the_stream(chunks, compress=compress)
    assert heard == through_the_core(data, compress=compress)
    return heard


def raw(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin=fin).serialize(mask=False)


sizes = st.sampled_from([0, 1, 2, 124, 125, 126, 127, 128, 300, 65_535, 65_536]) | st.integers(0, 200)
payloads = sizes.map(lambda size: (b"\x81\x05{}\r\n\r\n" * (size // 8 + 1))[:size]) | st.binary(max_size=40)
data_frames = st.builds(raw, st.sampled_from([Opcode.TEXT, Opcode.BINARY]), payloads)
small = st.binary(max_size=125)
control_frames = st.builds(raw, st.sampled_from([Opcode.PING, Opcode.PONG]), small)


@st.composite
def fragmented(draw: st.DrawFn) -> bytes:
    """A message in pieces, with control frames between them."""
    parts = draw(st.lists(payloads, min_size=2, max_size=4))
    frames = []
    for index, part in enumerate(parts):
        opcode = Opcode.CONT if index else draw(st.sampled_from([Opcode.TEXT, Opcode.BINARY]))
        frames.append(raw(opcode, part, fin=index == len(parts) - 1))
        frames.extend(draw(st.lists(control_frames, max_size=1)))
    return b"".join(frames)


illegal = st.sampled_from(
    [
        Frame(Opcode.TEXT, b"masked").serialize(mask=True),
        b"\xc1\x02ab",  # a reserved bit
        raw(Opcode.CONT, b"continues nothing"),
        raw(Opcode.TEXT, b"begins", fin=False) + raw(Opcode.TEXT, b"and begins again"),
        b"\x83\x02ab",  # an opcode of tomorrow
        b"\x09\x00",  # a ping in pieces
        b"\x89\x7e\x00\x80" + bytes(128),  # a ping that is too long
        b"\x82\x7f" + (FRAME_BYTES + 1).to_bytes(8) + b"\x81\x01x",
        b"\x82\x7f" + (1 << 63).to_bytes(8) + b"\x81\x01x",
        b"\x88\x01\x03",  # half a close code
        raw(Opcode.CLOSE, Close(1008, "who are you").serialize()),
        raw(Opcode.CLOSE, Close(1000, "").serialize()),
        raw(Opcode.CLOSE),
    ]
)
legal = st.one_of(data_frames, data_frames, control_frames, fragmented())
cuts = st.lists(st.integers(0, 1 << 20), max_size=12)


@given(st.lists(legal, max_size=6), cuts)
def test_messages_are_the_cores_own_however_the_bytes_are_split(frames: list[bytes], at: list[int]) -> None:
    data = handshake() + b"".join(frames)
    assert_equal(data, cut(data, at))


@given(st.lists(legal, max_size=3), illegal, st.lists(legal, max_size=3), cuts)
@example([], raw(Opcode.CLOSE), [raw(Opcode.TEXT, b"after the end")], [])
@example([], b"\x82\x7f" + (FRAME_BYTES + 1).to_bytes(8), [raw(Opcode.TEXT, b"x" * 8)], [140, 150])
def test_after_a_close_or_a_fault_nothing_more_is_taken(
    before: list[bytes], fault: bytes, after: list[bytes], at: list[int]
) -> None:
    data = handshake() + b"".join([*before, fault, *after])
    assert_equal(data, cut(data, at))


@given(st.integers(1, 300), st.lists(data_frames, max_size=2), cuts)
def test_the_answer_to_the_handshake_may_be_split_anywhere(
    size: int, frames: list[bytes], at: list[int]
) -> None:
    head = handshake(name="x" * size)
    data = head + b"".join(frames)
    assert_equal(data, cut(data, [edge % len(head) for edge in at]))


def test_a_handshake_of_any_length_may_come_one_byte_at_a_time() -> None:
    wrong = []
    for size in range(1, 130):
        data = handshake(name="x" * size) + raw(Opcode.TEXT, b"first")
        if through_the_stream((data[at : at + 1] for at in range(len(data))), compress=False).messages == []:
            wrong.append(size)
    assert wrong == []


@pytest.mark.parametrize("status", [101, 403])
def test_one_byte_at_a_time_is_the_same(status: int) -> None:
    frames = [raw(Opcode.TEXT, b"first"), raw(Opcode.PING, b"p"), raw(Opcode.BINARY, bytes(300))]
    data = handshake(status=status) + (b"".join(frames) if status == 101 else b"")
    heard = assert_equal(data, (data[at : at + 1] for at in range(len(data))))
    assert len(heard.messages) == (2 if status == 101 else 0)


def test_the_handshake_may_be_cut_once_at_any_byte() -> None:
    data = handshake() + raw(Opcode.TEXT, b"first") + raw(Opcode.BINARY, b"second")
    for edge in range(1, len(data)):
        assert len(assert_equal(data, cut(data, [edge])).messages) == 2


@given(cuts)
@example([len(handshake(status=403)) - 10])
def test_a_refusal_keeps_its_status_and_its_body_however_it_is_split(at: list[int]) -> None:
    data = handshake(status=403)
    assert assert_equal(data, cut(data, at)).status == 403


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=300)), max_size=6), cuts)
def test_compressed_messages_are_the_cores_own_too(messages: list[tuple[bool, bytes]], at: list[int]) -> None:
    server = ServerProtocol(extensions=[ServerPerMessageDeflateFactory()])
    server.send_response(server.accept(request(compress=True)))
    for as_text, payload in messages:
        if as_text:
            server.send_text(payload)
        else:
            server.send_binary(payload)
    data = b"".join(server.data_to_send())
    heard = assert_equal(data, cut(data, at), compress=True)
    assert heard.messages == [("text" if as_text else "binary", payload) for as_text, payload in messages]


@given(st.lists(payloads, min_size=1, max_size=4), cuts)
def test_while_we_close_what_still_comes_is_taken_rightly(late: list[bytes], at: list[int]) -> None:
    """A server may send for a while after our goodbye, pictures with any bytes in them too."""
    frames = b"".join(raw(Opcode.BINARY, payload) for payload in late) + raw(Opcode.CLOSE, b"\x03\xe8")

    async def close_and_feed() -> tuple[list[tuple[str, bytes]], State, Close | None]:
        core, heard = client(KEY, compress=False), Heard()
        stream = Stream(core, ping_interval=None)
        stream.reader, stream.on_lost = heard, lambda: None
        stream.connection_made(Wire())
        core.send_request(core.connect())
        stream.data_received(handshake() + frames[:1])
        core.send_close(1000)
        for chunk in cut(frames[1:], at):
            stream.data_received(chunk)
        return heard.messages, core.state, core.close_rcvd

    messages, state, closed = asyncio.run(close_and_feed())
    assert messages == [("binary", payload) for payload in late]
    assert (state, closed) == (State.CLOSING, Close(1000, ""))


@pytest.mark.parametrize("name", recording.NAMES)
def test_every_recorded_stream_comes_out_as_it_went_in(name: str) -> None:
    frames = list(recording.read(name).frames())
    opcodes = {False: Opcode.TEXT, True: Opcode.BINARY}
    data = handshake() + b"".join(raw(opcodes[frame.binary], frame.raw) for frame in frames)
    dice = random.Random(name)
    heard = assert_equal(data, cut(data, [dice.randrange(len(data)) for _ in range(len(frames))]))
    assert heard.messages == [("binary" if frame.binary else "text", frame.raw) for frame in frames]
