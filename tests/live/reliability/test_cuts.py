"""The connection cut everywhere: at every message boundary of a run, and at every byte of the POST exchange.

The oracle is the server's own count of executions by prompt id, and a nonce in each job's file name.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest

from async_comfy import Session, Unreachable, Workflow
from async_comfy._live import submission
from async_comfy.protocol import recovery
from async_comfy.testing import FaultProxy, SimulatedServer
from tests.live.reliability.tally import tally
from tests.live.waiting import until

pytestmark = [
    pytest.mark.anyio,
    # asyncio says so of the proxy's ends that were reset before they were wrapped up.
    pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning"),
]

AT_ONCE = 80  # cut connections at the same time, each with a proxy of its own


def named(nonce: str) -> Workflow:
    """A picture that only one job makes."""
    workflow = Workflow()
    paper = workflow.add("EmptyImage", width=8, height=8, batch_size=1, color=0)
    workflow.add("SaveImage", images=paper[0], filename_prefix=nonce)
    return workflow


@asynccontextmanager
async def through(server: SimulatedServer) -> AsyncIterator[tuple[FaultProxy, Session]]:
    """A session whose every connection goes through a proxy."""
    async with FaultProxy(server.url) as proxy, Session(proxy.url) as session:
        yield proxy, session


async def run_once(server: SimulatedServer, session: Session, nonce: str) -> None:
    """One job: its own picture, and one execution."""
    result = await session.run(named(nonce))
    assert [file.filename.startswith(f"{nonce}_") for file in result.files] == [True]
    assert server.executions[result.prompt_id] == 1


async def boundaries(server: SimulatedServer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """After how many bytes of an event socket each message of a run ends, in an undisturbed run."""
    sizes: list[int] = []
    async with through(server) as (proxy, session):
        await until(lambda: session.statistics().frames == 2)  # the greeting and the flags
        before = proxy.passed["down"]
        take = session._router.take_text

        def note(raw: bytes, now: float) -> object:
            sizes.append(len(raw) + (2 if len(raw) < 126 else 4))
            return take(raw, now)

        monkeypatch.setattr(session._router, "take_text", note)
        await run_once(server, session, "record")
        await server.until_idle()
        await until(lambda: session.statistics().open_jobs == 0)
    monkeypatch.undo()
    ends = [before]
    for size in sizes:
        ends.append(ends[-1] + size)
    return ends


async def test_the_event_socket_may_end_at_every_message_boundary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promises 1, 2 and 3: from the server to us, before and after each message, and inside it."""
    async with SimulatedServer() as server:
        ends = await boundaries(server, monkeypatch)
        places = sorted({place for end in ends for place in (end - 1, end, end + 1)})

        async def cut_at(place: int) -> None:
            async with through(server) as (proxy, session):
                proxy.cut("down", place, after=b"GET /ws")
                await run_once(server, session, f"cut_{place}")

        await crowd([cut_at(place) for place in places])
        tally("runs whose event socket was cut at a message boundary, or a byte beside it", len(places))
    assert len(ends) > 10
    assert set(server.executions.values()) == {1}


@pytest.mark.parametrize("profile", ["0.33", "next"])
async def test_a_handshake_may_be_cut_at_every_byte(profile: str) -> None:
    """Promises 1 and 2: connecting again in the middle of a run, our handshake and hello cut anywhere."""
    async with SimulatedServer(profile=profile) as server:
        async with through(server) as (proxy, _):
            length = proxy.passed["up"]

        async def cut_at(place: int) -> None:
            async with through(server) as (proxy, session):
                job = await session.submit(named(f"shake_{place}"))
                connections = session.statistics().connections
                proxy.cut("up", place, after=b"GET /ws")
                await server.drop_sockets(session.client_id)
                await until(lambda: session.statistics().connections > connections)
                result = await job
                assert result.files[0].filename.startswith(f"shake_{place}_")

        places = range(1, length + 1, 8)
        await crowd([cut_at(place) for place in places])
        tally("reconnects whose handshake was cut", len(places))
    assert set(server.executions.values()) == {1}


async def test_an_opening_handshake_that_is_cut_is_unreachable() -> None:
    """A session that cannot be opened says so, wherever the handshake broke."""
    async with SimulatedServer() as server, FaultProxy(server.url) as proxy:
        for place in range(1, 120, 7):
            proxy.cut("up", place, after=b"GET /ws")
            with pytest.raises(Unreachable):
                await Session(proxy.url).open()
        await until(lambda: proxy.open_connections == 0)


@pytest.mark.parametrize("way", ["up", "down"])
async def test_the_post_exchange_may_be_cut_at_every_byte(
    way: Literal["up", "down"], hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 3: each byte of the request, each byte of the answer: the job resolves, and runs once."""
    # So many at once, on a busy machine, are slow to arrive and to be asked for.
    monkeypatch.setattr(recovery, "SETTLE_S", 1.5)
    monkeypatch.setattr(submission, "AMBIGUOUS_S", 60.0)
    async with SimulatedServer() as server:
        async with through(server) as (proxy, session):
            before = proxy.passed[way]
            server.faults.drop(lambda frame: True)  # so that only the exchange is counted
            job = await session.submit(named("post_0000"))
            length = proxy.passed[way] - before
            server.faults.clear()
            await job

        async def cut_at(place: int) -> None:
            async with through(server) as (proxy, session):
                proxy.cut(way, place, after=b"POST /prompt")
                await run_once(server, session, f"post_{place:04}")

        await crowd([cut_at(place) for place in range(length + 1)])
        tally(f"POST exchanges cut at a byte of the {'request' if way == 'up' else 'answer'}", length + 1)
    assert length > 100
    assert set(server.executions.values()) == {1}


async def test_every_byte_may_come_alone() -> None:
    """One-byte segments, both ways: nothing but time is different."""
    async with SimulatedServer() as server, through(server) as (proxy, session):
        proxy.segment_bytes = 1
        await run_once(server, session, "bytes")
        assert session.statistics().looks == 0


async def test_a_network_that_stalls_and_comes_back_resolves_the_job() -> None:
    """Promise 2: nothing passes towards us for a while, and nobody is told; then all of it."""
    async with SimulatedServer() as server, through(server) as (proxy, session):
        server.hold("node")
        job = await session.submit(named("stalled"))
        await server.until_at("node")
        proxy.stall("down")
        server.release()
        await server.until_idle()
        assert not job.done
        proxy.clear()
        async with asyncio.timeout(2.0):
            assert (await job).files
    assert set(server.executions.values()) == {1}


async def test_a_half_open_connection_does_not_hide_the_end_of_a_job(hasty: None) -> None:
    """Promise 2: the server's side is gone and we were never told: silence makes us ask."""
    async with SimulatedServer() as server, through(server) as (proxy, session):
        server.hold("node")
        job = await session.submit(named("half"))
        await server.until_at("node")
        proxy.half_open("server")
        server.release()
        assert (await job).files
    assert set(server.executions.values()) == {1}


async def test_a_port_that_refuses_for_a_while_is_waited_for() -> None:
    """Promise 2: refused again and again, then open: the job resolves with its picture."""
    async with SimulatedServer() as server, through(server) as (proxy, session):
        server.hold("node")
        job = await session.submit(named("refused"))
        await server.until_at("node")
        await proxy.refuse()
        proxy.reset()
        await until(lambda: not session.statistics().connected)
        server.release()
        await server.until_idle()
        await proxy.accept()
        assert (await job).files
    assert set(server.executions.values()) == {1}


async def crowd(doings: list[object]) -> None:
    """All of them, so many at a time; the first that fails ends the test."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(doing: object) -> None:
        async with limit:
            await doing  # type: ignore[misc]  # a coroutine

    async with asyncio.TaskGroup() as group:
        for doing in doings:
            group.create_task(one(doing))
