"""A task cancelled at any await leaves the session usable, its job's fate known, and nothing behind.

Enumerated, not sampled: each doing is cancelled at its first suspension, at its second, and so on until it
comes to its end undisturbed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

from async_comfy import ComfyError, File, Job, Session
from async_comfy.testing import SimulatedServer
from tests.live.pictures import diffusion, picture
from tests.live.reliability.census import nothing_left
from tests.live.reliability.tally import tally

pytestmark = pytest.mark.anyio


class Doomed(Generator[Any, Any, Any]):
    """A coroutine whose task is cancelled as soon as it has been suspended so many times."""

    def __init__(self, doing: Coroutine[Any, Any, Any], suspensions: int) -> None:
        self._doing = doing
        self._left = suspensions

    def __await__(self) -> Generator[Any, Any, Any]:
        return self

    def send(self, value: Any) -> Any:
        return self._suspended(self._doing.send(value))

    def throw(self, *error: Any) -> Any:
        return self._suspended(self._doing.throw(*error))

    def _suspended(self, waits_for: Any) -> Any:
        if self._left == 0:
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)
        self._left -= 1
        return waits_for


async def cancelled_at(suspensions: int, doing: Coroutine[Any, Any, Any]) -> bool:
    """Whether it was cancelled there; False where it ended before."""

    async def live() -> None:
        await Doomed(doing, suspensions)

    try:
        await asyncio.create_task(live())
    except asyncio.CancelledError:
        return True
    return False


Doing = Callable[[Session, Path], Awaitable[object]]


async def submitting(session: Session, _: Path) -> None:
    await session.submit(picture(1))


async def submitting_a_file(session: Session, folder: Path) -> None:
    workflow = picture(2)
    source = folder / "source.png"
    if not source.exists():
        from PIL import Image

        Image.new("RGB", (8, 8)).save(source)
    loaded = workflow.add("LoadImage", image=File(source))
    workflow.add("PreviewImage", images=loaded[0])
    await session.submit(workflow)


async def running(session: Session, _: Path) -> None:
    await session.run(picture(3))


async def waiting(session: Session, _: Path) -> None:
    job = await session.submit(picture(4))
    await job.wait(queued=30, running=30)


async def iterating(session: Session, _: Path) -> None:
    job = await session.submit(diffusion(steps=2))
    async for _event in job:
        pass


async def in_a_block(session: Session, _: Path) -> None:
    async with await session.submit(picture(5)) as job:
        await job


async def downloading(session: Session, folder: Path) -> None:
    result = await session.run(picture(6))
    await result.save(folder / "saved")
    await result.files[0].read()


async def cancelling(session: Session, _: Path) -> None:
    job = await session.submit(picture(7))
    await job.cancel()


async def reading(session: Session, _: Path) -> None:
    await session.queue.ids()
    await session.nodes.get("SaveImage")


DOINGS = [
    submitting,
    submitting_a_file,
    running,
    waiting,
    iterating,
    in_a_block,
    downloading,
    cancelling,
    reading,
]


async def settled(server: SimulatedServer, session: Session) -> None:
    """What runs at the server runs out, and the session knows of every end."""
    await server.until_idle()
    for life in session._router.open():
        assert isinstance(life.listener, Job)
        try:
            await life.listener
        except ComfyError:
            continue


def whole(folder: Path) -> bool:
    """No part of a file lies where a file should be."""
    return all(path.read_bytes().endswith(b"IEND\xaeB`\x82") for path in folder.rglob("*") if path.is_file())


# aiohttp's server leaves the temporary file of an upload that is cut to the garbage collector.
@pytest.mark.filterwarnings("ignore:Unclosed file <tempfile.SpooledTemporaryFile:ResourceWarning")
@pytest.mark.parametrize("journal", [False, True], ids=["", "journal"])
@pytest.mark.parametrize("doing", DOINGS)
async def test_a_doing_may_be_cancelled_at_every_await(
    doing: Doing, journal: bool, tmp_path: Path, hasty: None
) -> None:
    """Promises 3, 7 and 9: usable after, each job run once at most, nothing left behind."""
    async with SimulatedServer() as server:
        suspensions, disturbed = 0, True
        while disturbed:
            async with nothing_left(server):
                kept = tmp_path / f"{suspensions}.sqlite" if journal else None
                async with Session(server.url, journal=kept) as session:
                    disturbed = await cancelled_at(suspensions, doing(session, tmp_path))  # type: ignore[arg-type]  # coroutine functions all
                    await settled(server, session)
                    assert server.queue_remaining == 0
                    assert (await session.run(picture(99))).files
                    assert session.statistics().open_jobs == 0
            assert whole(tmp_path / "saved")
            suspensions += 1
    tally("awaits at which a task was cancelled", suspensions - 1)
    assert suspensions > 2
    assert set(server.executions.values()) == {1}


@pytest.mark.parametrize("doing", [submitting, running, in_a_block])
async def test_a_job_that_is_held_at_the_server_is_gone_after_the_cancel(
    doing: Doing, tmp_path: Path, hasty: None
) -> None:
    """Cancelled before it was accepted, or in `run` and in a block: the server's queue is empty after."""
    async with SimulatedServer() as server:
        disturbed, suspensions = True, 0
        while disturbed:
            server.hold("node")
            async with Session(server.url) as session:
                task = asyncio.create_task(cancelled_at(suspensions, doing(session, tmp_path)))  # type: ignore[arg-type]  # coroutine functions all
                disturbed = await until_held(task)
                if disturbed or doing in {running, in_a_block}:
                    await server.until(lambda: server.queue_remaining == 0)
                server.release()
                await settled(server, session)
            suspensions += 1
    assert suspensions > 2
    assert max(server.executions.values(), default=1) == 1


async def until_held(task: asyncio.Task[bool]) -> bool:
    """Whether it was cancelled on its way; where it comes to wait for the held job, it is cancelled there."""
    await asyncio.wait({task}, timeout=1.0)
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return False


@pytest.mark.parametrize("profile", ["0.3.40", "0.33", "next"])
async def test_opening_and_closing_may_be_cancelled_at_every_await(profile: str) -> None:
    """Promise 9: no task and no socket, wherever the cancel hit; and closing is not stopped half way."""
    async with SimulatedServer(profile=profile) as server:

        async def live() -> None:
            async with Session(server.url) as session:
                await session.queue.ids()

        suspensions, disturbed = 0, True
        while disturbed:
            async with nothing_left(server):
                disturbed = await cancelled_at(suspensions, live())
            suspensions += 1
        tally("awaits of opening and closing at which a task was cancelled", suspensions - 1)
        assert suspensions > 5
        async with Session(server.url) as session:
            assert (await session.run(picture(1))).files


async def test_a_close_that_is_cancelled_over_and_over_still_closes() -> None:
    """Promise 9: a cancel at every one of its turns."""
    async with SimulatedServer() as server, nothing_left(server):
        session = await Session(server.url).open()
        closing = asyncio.create_task(session.close())
        while not closing.done():
            await asyncio.sleep(0)
            closing.cancel()
        assert closing.cancelled()
        assert repr(session).count("closed") == 1
