"""POSTs over connections of our own: kept, limited, cut when they must be, declined where they cannot be."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from async_comfy._live.access import access
from async_comfy._live.courier import Courier, Declined, _Line
from async_comfy._live.http import Http
from async_comfy.errors import Unreachable
from async_comfy.protocol.answer import Answered
from tests.live.addresses import GPU, black_hole, resolve
from tests.live.waiting import until

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Desk:
    """A server that takes requests as they come and lets the test answer."""

    def __init__(self) -> None:
        self.requests: list[tuple[asyncio.StreamWriter, bytes, bytes]] = []
        self.connections = 0
        self.open = 0
        self.answer: bytes | None = OK  # at once; None: the test writes it

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.requests.append((writer, head, body))
                if self.answer is not None:
                    writer.write(self.answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def desk() -> AsyncIterator[tuple[Desk, Callable[..., Courier]]]:
    """The server, and couriers to it."""
    at, couriers = Desk(), []
    server = await asyncio.start_server(at.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def courier(most: int = 4, answer_s: float = 60.0, url: str = "", **who: object) -> Courier:
        target = access(url or f"http://127.0.0.1:{port}", **who)  # type: ignore[arg-type]  # as a test says it
        made = Courier.to(target, most=most, connect_s=5.0, answer_s=answer_s)
        assert made is not None
        couriers.append(made)
        return made

    try:
        yield at, courier
    finally:
        for each in couriers:
            each.close()
        server.close()
        for writer, _, _ in at.requests:
            writer.close()
        await until(lambda: at.open == 0)


async def test_one_connection_is_kept_for_one_prompt_after_the_other() -> None:
    async with desk() as (at, courier):
        post = courier().post
        answers = [await post("/prompt", b"{%d}" % number) for number in range(5)]
        assert [(each.status, each.body) for each in answers] == [(200, b"ok")] * 5
        assert [body for _, _, body in at.requests] == [b"{%d}" % number for number in range(5)]
        assert at.connections == 1


async def test_the_head_says_who_asks_and_what_comes() -> None:
    async with desk() as (at, courier):
        await courier(bearer="s3cret", cookies={"sid": "c00kie"}, headers={"X-Team": "blue"}).post(
            "/prompt", b"{}"
        )
        lines = at.requests[0][1].decode().split("\r\n")
        assert lines[0] == "POST /prompt HTTP/1.1"
        assert {"Authorization: Bearer s3cret", "Cookie: sid=c00kie", "X-Team: blue"} <= set(lines)
        assert {"Content-Type: application/json", "Content-Length: 2", "Accept-Encoding: identity"} <= set(
            lines
        )
        assert lines[1].startswith("Host: 127.0.0.1:")


async def test_a_header_of_the_users_own_stands_once() -> None:
    async with desk() as (at, courier):
        await courier(headers={"host": "gpu.example"}).post("/prompt", b"{}")
        assert at.requests[0][1].lower().count(b"host:") == 1
        assert b"gpu.example" in at.requests[0][1]


async def test_a_path_prefix_is_kept() -> None:
    async with desk() as (at, courier):
        port = courier()._access.url.port
        await courier(url=f"http://127.0.0.1:{port}/comfy/a b").post("/prompt", b"{}")
        assert at.requests[0][1].startswith(b"POST /comfy/a%20b/prompt HTTP/1.1\r\n")


async def test_no_more_connections_than_allowed_and_everybody_has_a_turn() -> None:
    async with desk() as (at, courier):
        at.answer = None
        carrier = courier(most=3)
        posts = [asyncio.ensure_future(carrier.post("/prompt", b"%d" % number)) for number in range(10)]
        answered = 0
        while answered < 10:
            await until(lambda: len(at.requests) > answered)  # noqa: B023  # awaited at once
            assert len(at.requests) - answered <= 3
            at.requests[answered][0].write(OK)
            answered += 1
        assert [each.status for each in await asyncio.gather(*posts)] == [200] * 10
        assert at.connections == 3


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again() -> None:
    async with desk() as (at, courier):
        carrier = courier()
        await carrier.post("/prompt", b"1")
        at.requests[0][0].close()
        await until(lambda: not carrier._lines)
        assert (await carrier.post("/prompt", b"2")).status == 200
        assert at.connections == 2


@pytest.mark.parametrize("last", [b"Connection: close\r\n", b"X: y\r\n"])
async def test_a_connection_that_ends_with_its_answer(last: bytes) -> None:
    async with desk() as (at, courier):
        head = b"HTTP/1.1 400 Bad Request\r\n" + last
        at.answer = None
        carrier = courier()
        post = asyncio.ensure_future(carrier.post("/prompt", b"1"))
        await until(lambda: len(at.requests) == 1)
        length = b"Content-Length: 4\r\n" if b"close" in last else b""
        at.requests[0][0].write(head + length + b"\r\nsaid")
        if not length:
            at.requests[0][0].close()
        answered = await post
        assert (answered.status, answered.body) == (400, b"said")
        await until(lambda: not carrier._lines)


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"]
)
async def test_a_connection_that_breaks_before_the_answer_is_whole(said: bytes) -> None:
    async with desk() as (at, courier):
        at.answer = None
        post = asyncio.ensure_future(courier().post("/prompt", b"1"))
        await until(lambda: len(at.requests) == 1)
        at.requests[0][0].write(said)
        at.requests[0][0].close()
        with pytest.raises(ConnectionError):
            await post


async def test_what_is_no_answer_breaks_the_connection() -> None:
    async with desk() as (at, courier):
        at.answer = b"SSH-2.0-OpenSSH_9.2\r\n\r\n"
        carrier = courier()
        with pytest.raises(ConnectionError, match="no HTTP"):
            await carrier.post("/prompt", b"1")
        await until(lambda: at.open == 0)


async def test_an_answer_that_was_compressed_unasked_is_read() -> None:
    async with desk() as (at, courier):
        said = gzip.compress(b"said")
        head = b"HTTP/1.1 400 Bad Request\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
        at.answer = head % len(said) + said
        carrier = courier()
        assert [(await carrier.post("/prompt", b"1")).body for _ in range(2)] == [b"said"] * 2
        assert at.connections == 1


async def test_a_compressed_answer_that_ends_too_soon_is_told_as_what_it_is() -> None:
    """With the connection, where no length was said."""
    async with desk() as (at, courier):
        at.answer = None
        url = f"http://127.0.0.1:{courier()._access.url.port}"
        async with Http(access(url)) as http:
            post = asyncio.ensure_future(http.deliver("/prompt", b"1"))
            await until(lambda: len(at.requests) == 1)
            at.requests[0][0].write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b")
            at.requests[0][0].close()
            with pytest.raises(Unreachable, match="its answer is broken") as broken:
                await post
        assert broken.value.sent


async def test_bytes_that_nobody_asked_for_break_the_connection() -> None:
    async with desk() as (at, courier):
        carrier = courier()
        await carrier.post("/prompt", b"1")
        at.requests[0][0].write(OK)
        await until(lambda: not carrier._lines)
        assert (await carrier.post("/prompt", b"2")).body == b"ok"
        assert at.connections == 2


async def test_a_caller_that_gives_up_takes_its_connection_along() -> None:
    async with desk() as (at, courier):
        at.answer = None
        carrier = courier(most=1)
        post = asyncio.ensure_future(carrier.post("/prompt", b"1"))
        await until(lambda: len(at.requests) == 1)
        post.cancel()
        await until(lambda: at.open == 0)
        at.answer = OK
        assert (await carrier.post("/prompt", b"2")).status == 200  # and its turn is free again


async def test_a_caller_cancelled_right_after_its_answer_cuts_nobody_elses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next prompt is posted between the answer and the moment in which its caller would have read it."""
    posts: list[asyncio.Future[Answered]] = []
    async with desk() as (at, courier):
        carrier, done, loop = courier(), _Line._done, asyncio.get_running_loop()

        def next_post(line: _Line) -> None:
            if len(posts) == 1:
                loop.call_soon(posts[0].cancel)
                posts.append(asyncio.ensure_future(carrier.post("/prompt", b"2")))
            done(line)

        monkeypatch.setattr(_Line, "_done", next_post)
        posts.append(asyncio.ensure_future(carrier.post("/prompt", b"1")))
        await asyncio.wait(posts)
        assert posts[0].cancelled()
        assert (await posts[1]).status == 200
        assert [body for _, _, body in at.requests] == [b"1", b"2"]


async def test_a_large_prompt_on_a_slow_way_is_not_late_while_it_goes_out() -> None:
    """And is, once nothing moves any more."""
    go, stuck, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def read_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(10_000_000)
            await stuck.wait()  # from here on nothing moves
        writer.close()
        ended.set()

    server = await asyncio.start_server(read_late, "127.0.0.1", 0)
    async with desk() as (_, courier):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        carrier = courier(answer_s=0.0, url=url)
        post = asyncio.ensure_future(carrier.post("/prompt", b"x" * 50_000_000))
        await until(lambda: any(line.waits for line in carrier._lines))
        (line,) = carrier._lines
        unsent = line.transport.get_write_buffer_size()
        go.set()
        await until(lambda: line.transport.get_write_buffer_size() < unsent)
        carrier._look()
        assert line.waits

        def given_up() -> bool:
            carrier._look()
            return not line.waits

        await until(given_up)
        with pytest.raises(TimeoutError):
            await post
        stuck.set()
        await ended.wait()
    server.close()


async def test_a_server_that_never_answers_is_given_up() -> None:
    async with desk() as (at, courier):
        at.answer = None
        carrier = courier(answer_s=0.0)
        post = asyncio.ensure_future(carrier.post("/prompt", b"1"))
        await until(lambda: len(at.requests) == 1)
        carrier._look()
        with pytest.raises(TimeoutError):
            await post


async def test_idle_connections_are_closed_and_busy_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk() as (at, courier):
        carrier = courier()
        await carrier.post("/prompt", b"1")
        at.answer = None
        monkeypatch.setattr("async_comfy._live.courier.IDLE_S", -1.0)
        post = asyncio.ensure_future(carrier.post("/prompt", b"2"))
        await until(lambda: len(at.requests) == 2)
        carrier._look()
        at.requests[1][0].write(OK)
        assert (await post).status == 200
        await until(lambda: at.open == 0)


async def test_a_host_that_answers_no_connection_was_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("async_comfy._live.http.CONNECT_S", 0.2)
    with black_hole() as port:
        async with Http(access(f"http://127.0.0.1:{port}")) as http:
            with pytest.raises(Unreachable) as gone:
                await http.deliver("/prompt", b"{}")
    assert not gone.value.sent


async def test_a_dead_address_before_a_good_one_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk() as (at, courier):
        port = courier()._access.url.port
        assert port is not None
        with black_hole() as dead:
            resolve(monkeypatch, dead, port)
            assert (await courier(url=f"http://{GPU}:{port}").post("/prompt", b"{}")).status == 200
        assert at.connections == 1


async def test_a_name_of_dead_addresses_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk() as (_, courier):
        resolve(monkeypatch, 9, 10)
        with pytest.raises(Declined):
            await courier(url=f"http://{GPU}:9").post("/prompt", b"{}")


async def test_nobody_there_is_declined() -> None:
    async with desk() as (_, courier):
        with pytest.raises(Declined):
            await courier(url="http://127.0.0.1:9").post("/prompt", b"1")


@pytest.mark.parametrize(
    ("url", "who"),
    [
        ("https://127.0.0.1:1", {}),
        ("http://127.0.0.1:1", {"proxy": "http://127.0.0.1:2"}),
    ],
)
async def test_what_needs_more_than_plain_http_is_left_to_aiohttp(url: str, who: dict[str, object]) -> None:
    target = access(url, **who)  # type: ignore[arg-type]  # as the table says it
    assert Courier.to(target, most=1, connect_s=1.0, answer_s=1.0) is None


async def test_closing_tells_whoever_waits() -> None:
    async with desk() as (at, courier):
        at.answer = None
        carrier = courier()
        post = asyncio.ensure_future(carrier.post("/prompt", b"1"))
        await until(lambda: len(at.requests) == 1)
        carrier.close()
        with pytest.raises(ConnectionError):
            await post


async def test_closing_sends_nothing_more() -> None:
    """Neither of those that wait for a turn, nor of one that is still connecting."""
    async with desk() as (at, courier):
        at.answer = None
        carrier = courier(most=1)
        posts = [asyncio.ensure_future(carrier.post("/prompt", b"%d" % number)) for number in range(3)]
        await until(lambda: len(at.requests) == 1)
        other = courier()
        posts.append(asyncio.ensure_future(other.post("/prompt", b"3")))
        await asyncio.sleep(0)  # it begins to connect
        for each in (carrier, other):
            each.close()
        errors = await asyncio.gather(*posts, return_exceptions=True)
        assert [type(error) for error in errors] == [ConnectionResetError, Declined, Declined, Declined]
        assert len(at.requests) == 1
        assert not carrier._lines | other._lines


async def test_a_large_prompt_goes_out_whole() -> None:
    async with desk() as (at, courier):
        large = b"x" * 3_000_000
        assert (await courier().post("/prompt", large)).status == 200
        assert at.requests[0][2] == large


async def test_a_refusal_before_the_prompt_is_through_ends_the_connection() -> None:
    async with desk() as (at, courier):

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await gone.wait()
            writer.close()

        gone = asyncio.Event()
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        carrier = courier(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert (await carrier.post("/prompt", b"x" * 50_000_000)).status == 413
        await until(lambda: not carrier._lines)
        gone.set()
        server.close()
        assert at.connections == 0


async def test_no_secret_is_shown() -> None:
    async with desk() as (_, courier):
        carrier = courier(bearer="s3cret")
        await carrier.post("/prompt", b"1")
        assert "s3cret" not in repr(carrier) + repr(carrier._lines) + repr(Answered())
