"""Promises 8 and 9: waiters are failed, never cancelled; closing is quick and leaves nothing behind."""

import asyncio
import logging

import pytest

from async_comfy import Ambiguous, Closed, Session, Unreachable
from async_comfy.testing import SimulatedServer
from tests.live.pictures import diffusion, picture
from tests.live.reliability.census import nothing_left
from tests.live.waiting import until

pytestmark = pytest.mark.anyio

CLOSE_S = 5.0  # promised


async def test_waiters_watchers_and_cancellers_are_failed_and_never_cancelled() -> None:
    """Promise 8: a fresh exception each, one shared cause, whatever they were waiting in."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("prompt")
        job = await session.submit(picture(1))

        async def watch() -> None:
            async for _ in job:
                pass

        waiting = [
            asyncio.ensure_future(job),
            asyncio.create_task(job.wait(queued=60)),
            asyncio.create_task(watch()),
        ]
        await asyncio.sleep(0)
        await session.close()
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        server.release()
    assert [type(error) for error in errors] == [Closed] * 3
    assert len({id(error) for error in errors}) == 3
    assert {id(error.__cause__) for error in errors if isinstance(error, Closed)} == {id(session.failure)}


async def test_submissions_that_are_under_way_end_with_the_session() -> None:
    """Nobody can say of those that were sent; the others never are."""
    async with SimulatedServer() as server:
        server.faults.slow(("POST", "/prompt"), 30.0)
        async with Session(server.url, connections=2) as session:
            submits = [asyncio.ensure_future(session.submit(picture(number))) for number in range(5)]
            await until(lambda: server.requests.count("POST", "/prompt") == 2)
        async with asyncio.timeout(CLOSE_S):
            errors = await asyncio.gather(*submits, return_exceptions=True)
        assert sorted(type(error).__name__ for error in errors) == [Ambiguous.__name__] * 2 + ["Closed"] * 3
        assert server.requests.count("POST", "/prompt") == 2


@pytest.mark.parametrize("profile", ["0.3.40", "0.33", "next"])
async def test_a_session_that_did_everything_leaves_no_task_and_no_descriptor(profile: str) -> None:
    """Promise 9: after jobs, reconnects, cancels and downloads."""
    async with (
        SimulatedServer(profile=profile) as server,
        nothing_left(server),
        Session(server.url) as session,
    ):
        result = await session.run(picture(2))
        await result.files[0].read()
        await server.drop_sockets()
        await until(lambda: session.statistics().connections == 2)
        server.hold("prompt")
        job = await session.submit(picture(3))
        await job.cancel()
        server.release()
        await session.submit(diffusion(steps=3))


async def test_closing_does_not_wait_for_a_server_that_hangs() -> None:
    """Promise 9: requests without an answer and a socket without a goodbye: five seconds at most."""
    with SimulatedServer().in_thread() as server:
        async with nothing_left(server):
            session = await Session(server.url).open()
            server.faults.slow(("GET", "/queue"), 60.0)
            asking = asyncio.create_task(session.queue.ids())
            await until(lambda: server.requests.count("GET", "/queue"))
            async with asyncio.timeout(CLOSE_S):
                await session.close()
            with pytest.raises((Closed, Unreachable)):
                await asking


async def test_closing_while_connecting_again_is_quick() -> None:
    """Promise 9: the server is gone, the session is between two attempts."""
    async with SimulatedServer() as server:
        async with nothing_left(server):
            session = await Session(server.url).open()
            await server.crash()
            await until(lambda: not session.statistics().connected)
            async with asyncio.timeout(CLOSE_S):
                await session.close()
        await server.restart()


async def test_closing_twice_at_once_is_harmless() -> None:
    """Promise 9: both return, and the session stays closed."""
    async with SimulatedServer() as server, nothing_left(server):
        session = await Session(server.url).open()
        await asyncio.gather(session.close(), session.close())
        await session.close()
        with pytest.raises(Closed):
            await session.submit(picture(4))


async def test_a_connection_that_cannot_be_opened_leaves_nothing() -> None:
    """Promise 9: refused, denied, no ComfyUI: an error, and no task or socket."""
    async with SimulatedServer() as server:
        for trouble in (server.faults.deny, server.faults.demand_login):
            trouble()
            async with nothing_left(server):
                with pytest.raises(Exception, match=r"refused access|not ComfyUI"):
                    await Session(server.url).open()
            server.faults.clear()


async def test_an_error_of_our_own_fails_the_waiters_and_does_not_hang_them(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 8: even a bug in here ends in an exception for whoever waits."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("prompt")
        job = await session.submit(picture(5))
        monkeypatch.setattr(session._inquiry.recovery, "watch", lambda *_: 1 / 0, raising=False)
        with (
            caplog.at_level(logging.CRITICAL, "async_comfy"),
            pytest.raises(Exception, match="error of its own"),
        ):
            await job
        server.release()
