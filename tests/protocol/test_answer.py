"""Answers to POST /prompt: cut anywhere, in every shape that HTTP/1.1 knows, and as h11 reads them."""

import zlib

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_comfy.protocol import answer
from async_comfy.protocol.answer import Answered, BrokenAnswer

REQUEST = h11.Request(method="POST", target="/prompt", headers=[("Host", "gpu"), ("Content-Length", "0")])
names = st.sampled_from(["Server", "Content-Type", "X-Odd", "Retry-After", "Date"])
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12)
bodies = st.binary(max_size=200)
cuts = st.lists(st.integers(0, 600), max_size=6)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """A right answer as some server, or some proxy before it, would write it."""
    body = draw(bodies)
    status = draw(st.sampled_from([200, 204, 304, 400, 404, 413, 429, 500, 502]))
    lines = [
        f"HTTP/1.{draw(st.sampled_from('10'))} {status} {draw(st.sampled_from(['OK', 'Bad Request', '']))}"
    ]
    lines += [f"{name}:{draw(st.sampled_from(['', ' ', '  ']))}{value}" for name, value in draw(extras)]
    if draw(st.booleans()):
        lines.append(
            f"{draw(cased('connection'))}: {draw(st.sampled_from(['close', 'keep-alive', 'Close']))}"
        )
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    if framing == "chunked" and lines[0].startswith("HTTP/1.0"):
        framing = "close"  # there were no chunks then
    if framing == "length":
        lines.append(f"{draw(cased('content-length'))}: {len(body)}")
    elif framing == "chunked":
        lines.append(f"{draw(cased('transfer-encoding'))}: {draw(cased('chunked'))}")
        body = chunked(body, draw(cuts)) + draw(st.sampled_from([b"0\r\n\r\n", b"0\r\nX-Sum: 1\r\n\r\n"]))
    if status in {204, 304}:
        body = b""
    interim = draw(
        st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 x\r\nLink: y\r\n\r\n"])
    )
    return interim + "\r\n".join([*lines, "", ""]).encode() + body


CODINGS = ["gzip", "x-gzip", "GZIP", "deflate", "deflate raw"]
BITS = {"deflate": 15, "deflate raw": -15}  # RFC 9110, 8.4.1.2: some send it without the head that it has


def pack(body: bytes, coding: str) -> bytes:
    packer = zlib.compressobj(wbits=BITS.get(coding, 31))
    return packer.compress(body) + packer.flush()


extras = st.lists(st.tuples(names, values), max_size=4)


def cased(name: str) -> st.SearchStrategy[str]:
    return st.sampled_from([name, name.title(), name.upper()])


def chunked(body: bytes, at: list[int]) -> bytes:
    parts = [body[a:b] for a, b in zip([0, *sorted(at)], [*sorted(at), len(body)], strict=True)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part)


def by_h11(raw: bytes) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection can be used again, as h11 sees it."""
    client = h11.Connection(h11.CLIENT)
    client.send(REQUEST)
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    status, body, closed = 0, b"", False
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA and not closed:
            client.receive_data(b"")
            closed = True
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
    return status, body, client.our_state is h11.DONE and not closed


def pieces(raw: bytes, at: list[int]) -> list[bytes]:
    marks = sorted(min(mark, len(raw)) for mark in at)
    return [raw[a:b] for a, b in zip([0, *marks], [*marks, len(raw)], strict=True) if b > a]


@given(answers(), cuts)
def test_an_answer_cut_anywhere_is_read_as_h11_reads_it(raw: bytes, at: list[int]) -> None:
    status, body, keep = by_h11(raw)
    answered = Answered()
    whole = [answered.take(piece) for piece in pieces(raw, at)]
    assert True not in whole[:-1], "it was whole before all of it came"
    assert whole[-1] or answered.end()
    assert (answered.status, answered.body, answered.keep) == (status, body, keep)


@given(answers(), cuts)
def test_headers_come_with_their_names_and_values(raw: bytes, at: list[int]) -> None:
    answered = Answered()
    for piece in pieces(raw, at):
        answered.take(piece)
    client = h11.Connection(h11.CLIENT)
    client.send(REQUEST)
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    while not isinstance(event := client.next_event(), h11.Response):
        pass
    found = [(name.lower(), value.encode()) for name, value in answered.headers]
    assert [(name, value.lower()) for name, value in found] == [
        (name.decode(), value.lower()) for name, value in event.headers
    ]


@given(answers(), cuts, st.binary(min_size=1, max_size=20))
def test_a_connection_with_more_than_was_asked_for_is_not_used_again(
    raw: bytes, at: list[int], more: bytes
) -> None:
    answered = Answered()
    marks = [mark for mark in at if mark < len(raw)]  # the rest comes in one piece with the answer's end
    for piece in pieces(raw + more, marks):
        answered.take(piece)
    assert not answered.keep


@given(bodies, st.sampled_from(CODINGS), st.booleans(), cuts)
def test_an_answer_that_a_proxy_compressed_unasked_is_read_all_the_same(
    body: bytes, coding: str, framed: bool, at: list[int]
) -> None:
    packed = pack(body, coding)
    head = f"HTTP/1.1 400 x\r\nContent-Encoding: {coding.partition(' ')[0]}\r\n".encode()
    raw = head + (b"Content-Length: %d\r\n" % len(packed) if framed else b"") + b"\r\n" + packed
    answered = Answered()
    whole = [answered.take(piece) for piece in pieces(raw, at)]
    assert whole[-1] or answered.end()
    assert answered.body == body


@given(bodies, st.sampled_from(CODINGS), st.integers(1, 20))
def test_a_compressed_answer_that_is_cut_is_no_answer(body: bytes, coding: str, missing: int) -> None:
    packed = pack(body, coding)
    packed = packed[: max(1, len(packed) - missing)]
    answered = Answered()
    answered.take(
        f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding.partition(' ')[0]}\r\n\r\n".encode() + packed
    )
    with pytest.raises(BrokenAnswer):
        answered.end()


def test_a_compressed_answer_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "BODY_BYTES", 1000)
    packed = pack(b"x" * 1001, "gzip")
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    with pytest.raises(BrokenAnswer):
        Answered().take(head + packed)


def test_nothing_is_nothing_however_it_is_said_to_be_compressed() -> None:
    answered = Answered()
    assert answered.take(b"HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n")
    assert answered.body == b""


@given(st.binary(max_size=300), cuts)
def test_what_is_no_answer_is_refused_or_waited_for_and_nothing_else(raw: bytes, at: list[int]) -> None:
    answered = Answered()
    try:
        whole = [answered.take(piece) for piece in pieces(raw, at)]
    except BrokenAnswer:
        return
    assert True not in whole or raw.lower().startswith(b"http/1.")


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * (answer.HEAD_BYTES + 1),
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * answer.HEAD_BYTES,
    ],
)
def test_what_cannot_be_an_answer_is_refused(raw: bytes) -> None:
    with pytest.raises(BrokenAnswer):
        Answered().take(raw)


def test_lengths_and_chunks_together_close_the_connection() -> None:
    answered = Answered()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert answered.take(head + b"2\r\nab\r\n0\r\n\r\n")
    assert answered.body == b"ab"
    assert not answered.keep


def test_a_body_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "BODY_BYTES", 1000)
    answered = Answered()
    answered.take(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000)
    with pytest.raises(BrokenAnswer):
        answered.take(b"x")
