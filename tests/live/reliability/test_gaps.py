"""Promises 1 and 2: every job ends once, rightly, and soon, whatever becomes of its events."""

import asyncio
import math

import pytest

from async_comfy import Ambiguous, Denied, Lost, Session
from async_comfy.testing import SimulatedServer
from tests.live.pictures import diffusion, picture
from tests.live.waiting import until

pytestmark = pytest.mark.anyio

CONNECTED_S = 2.0  # promised: so long after connectivity is back, a finished job has resolved
DEAF_S = 30.0  # promised: so long after its end, a job has resolved although no event comes


@pytest.mark.parametrize("late_s", [0.0, 0.05, 0.5, 5.0])
async def test_a_job_that_ended_in_a_gap_resolves_with_all_its_outputs(late_s: float) -> None:
    """Promise 2: within 2 s of connectivity coming back, or of history being written."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.faults.history_late_s = late_s
        server.hold("node")
        job = await session.submit(picture(1, batch=2))
        await server.until_at("node")
        server.faults.drop(lambda frame: True)
        await server.drop_sockets()
        server.release()
        await server.until_idle()
        server.faults.clear()
        await until(lambda: session.statistics().connections == 2)
        async with asyncio.timeout(late_s + CONNECTED_S):
            result = await job

    assert len(result.files) == 2
    assert server.executions == {job.id: 1}


async def test_a_job_whose_history_never_comes_is_lost_with_the_evidence(hasty: None) -> None:
    """Promise 1: absence is never "done", and it is named."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.faults.history_late_s = math.inf
        server.hold("node")
        job = await session.submit(picture(2))
        await server.until_at("node")
        server.faults.drop(lambda frame: True)
        await server.drop_sockets()
        server.release()
        with pytest.raises(Lost) as lost:
            await job

    assert any("in neither queue nor history" in seen for seen in lost.value.evidence)
    assert job.state == "lost"


async def test_a_job_whose_history_somebody_cleared_is_lost(hasty: None) -> None:
    """Promise 1: ended in a gap and cleared, nobody can say what it made."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("node")
        job = await session.submit(picture(3))
        await server.until_at("node")
        server.faults.drop(lambda frame: True)
        await server.drop_sockets()
        server.release()
        await server.until_idle()
        server.clear_history()
        with pytest.raises(Lost):
            await job


async def test_a_healthy_job_needs_no_history() -> None:
    """Promise 2: what the events told stands, though history was never written; and no read was made."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.faults.history_late_s = math.inf
        result = await session.run(picture(4))
        assert len(server.requests) == 1
        assert session.statistics().looks == 0

    assert len(result.files) == 1


async def test_a_restart_in_the_middle_of_a_run_is_lost_with_the_evidence(hasty: None) -> None:
    """Promise 1: the pending and the running job are lost; the session goes on with the new server."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("node")
        jobs = [await session.submit(picture(color)) for color in (5, 6)]
        await server.until_at("node")
        server.release()
        server.hold("prompt")
        await server.restart()
        server.release()
        ends = await asyncio.gather(*jobs, return_exceptions=True)
        assert (await session.run(picture(7))).files

    assert [type(end) for end in ends] == [Lost, Lost]
    assert all("the event socket was away" in end.evidence for end in ends if isinstance(end, Lost))


async def test_a_server_that_is_away_for_long_is_waited_for(hasty: None) -> None:
    """Promise 1: not reachable is not lost. Only the new server, which lacks it, makes it lost."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("prompt")
        job = await session.submit(picture(8))
        await server.crash()
        await until(lambda: not session.statistics().connected)
        await until(lambda: session.statistics().requests >= 4)
        assert not job.done
        server.release()
        await server.restart()
        with pytest.raises(Lost):
            await job


async def test_a_deaf_socket_is_noticed_after_our_own_post_and_healed() -> None:
    """Promise 2: no `status` after an accepted prompt: the job resolves by asking, the next one by events."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.deafen()
        async with asyncio.timeout(DEAF_S):
            result = await session.run(picture(9))
        await until(lambda: session.statistics().connections == 2)
        looks = session.statistics().looks
        again = await session.run(picture(10))
        assert session.statistics().looks == looks

    assert result.files
    assert again.files
    assert set(server.executions.values()) == {1}


async def test_a_socket_that_goes_deaf_while_a_job_runs_is_noticed_by_its_silence(hasty: None) -> None:
    """Promise 2: the job ends by asking; that nobody told of its end heals the socket."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("node", "prompt")
        server.advance()
        first = await session.submit(picture(11))
        await server.until_at("node")
        second = await session.submit(picture(12))
        await until(lambda: first.state == "running")
        server.deafen()
        server.advance(2)
        assert (await first).files
        await until(lambda: session.statistics().connections == 2)
        server.release()
        assert (await second).files


async def test_an_old_half_open_socket_that_ends_late_costs_nothing() -> None:
    """Promise 2: an old socket with our client id ends at last, and the server forgets the new one."""
    async with SimulatedServer() as server, Session(server.url) as session:
        async with Session(server.url, client_id=session.client_id):
            pass  # the newer of the two took over, and ended: now the older is deaf
        async with asyncio.timeout(DEAF_S):
            assert (await session.run(picture(13))).files
        await until(lambda: session.statistics().connections == 2)
        assert (await session.run(picture(14))).files


async def test_a_client_id_that_goes_deaf_again_is_given_up(hasty: None) -> None:
    """Promise 2: reconnecting with the same id did not help, so the next connection has another one."""
    async with SimulatedServer() as server, Session(server.url) as session:
        before = session.client_id
        for color, connections in ((15, 2), (16, 3)):
            server.deafen()
            assert (await session.run(picture(color))).files
            server.hold("prompt")
            job = await session.submit(picture(color + 10))
            await until(lambda: session.statistics().connections == connections)  # noqa: B023  # awaited right here
            server.release()
            assert (await job).files
        assert session.client_id != before
        looks = session.statistics().looks
        assert (await session.run(picture(17))).files
        assert session.statistics().looks == looks


async def test_every_socket_deaf_for_ever_still_resolves_every_job(hasty: None) -> None:
    """Promise 2: events never come; each job ends by asking, with its outputs."""
    async with SimulatedServer() as server:
        server.faults.deaf = True
        async with Session(server.url) as session:
            results = await asyncio.gather(*(session.run(picture(color)) for color in range(20, 25)))
    assert all(len(result.files) == 1 for result in results)
    assert set(server.executions.values()) == {1}


async def test_a_history_that_makes_no_sense_costs_its_own_job_some_time_and_nobody_else_s(
    hasty: None,
) -> None:
    """Promise 2: one unreadable entry hides no other, and is asked for again, not at every turn."""
    async with SimulatedServer() as server:
        server.faults.deaf = True
        async with Session(server.url) as session:
            server.hold("prompt")
            odd, good = [await session.submit(picture(color)) for color in (50, 51)]
            server.faults.answer(lambda request: request.path.endswith(odd.id), 200, "[]", times=5)
            server.release()
            assert (await good).files
            assert (await odd).files
            assert len(server.requests) < 60


async def test_a_dead_worker_is_not_taken_for_an_end(hasty: None) -> None:
    """Promise 1: "running" for ever is running; patience is the caller's."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.faults.dead_worker = True
        job = await session.submit(picture(26))
        await until(lambda: session.statistics().looks >= 2)
        assert job.state == "running"


@pytest.mark.parametrize("lost", [0, 1, 2])
async def test_pictures_that_went_missing_do_not_look_complete(lost: int, hasty: None) -> None:
    """Promise 1: pictures over the socket come once; where one was not heard, the job is lost and says so."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.faults.drop(_Nth("binary:4", lost), times=1)
        with pytest.raises(Lost) as error:
            await session.run(picture(27, save="SaveImageWebsocket", batch=3))
    assert any("of the pictures that node 2 sent" in seen for seen in error.value.evidence)


class _Nth:
    """Matches the frame of a kind after so many others of it."""

    def __init__(self, kind: str, before: int) -> None:
        self.kind, self.before = kind, before

    def __call__(self, frame: object) -> bool:
        if getattr(frame, "kind", None) != self.kind:
            return False
        self.before -= 1
        return self.before < 0


async def test_pictures_sent_during_a_gap_do_not_look_complete(hasty: None) -> None:
    """Promise 1: history says success and holds none of them."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("node")
        job = await session.submit(picture(28, save="SaveImageWebsocket", batch=2))
        await server.until_at("node")
        server.faults.drop(lambda frame: True)
        await server.drop_sockets()
        server.release()
        await server.until_idle()
        server.faults.clear()
        with pytest.raises(Lost) as error:
            await job
    assert any("of the pictures" in seen for seen in error.value.evidence)


async def test_the_coming_server_is_reconnected_with_its_credential() -> None:
    """Promise 2: profile "next" closes 1008 on a known client id without its key; ours shows it."""
    async with SimulatedServer(profile="next") as server, Session(server.url) as session:
        server.hold("node")
        job = await session.submit(diffusion(3))
        await server.until_at("node")
        await server.drop_sockets()
        await until(lambda: session.statistics().connections == 2)
        server.release()
        assert (await job).files


async def test_credentials_that_do_not_hold_any_more_are_final() -> None:
    """Reconnecting into a 401 ends the session with `Denied`; each waiter gets its own, of one cause."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("prompt")
        job = await session.submit(picture(29))
        waiters = [asyncio.ensure_future(job) for _ in range(3)]
        await asyncio.sleep(0)
        server.faults.deny(401)
        await server.drop_sockets()
        errors = await asyncio.gather(*waiters, return_exceptions=True)
        with pytest.raises(Denied):
            await session.submit(picture(30))
        server.release()

    assert [type(error) for error in errors] == [Denied] * 3
    assert len({id(error) for error in errors}) == 3
    assert len({id(error.__cause__) for error in errors if isinstance(error, Denied)}) == 1
    assert {error.status for error in errors if isinstance(error, Denied)} == {401}


async def test_a_server_that_cannot_be_asked_makes_a_lost_answer_ambiguous(hasty: None) -> None:
    """Promise 1: neither lost nor failed: nobody can say whether it runs, and it was not sent again."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("prompt")
        server.faults.cut_after_queueing()
        server.faults.drop(lambda frame: True)
        server.faults.answer(lambda request: request.method == "GET", 500, "no", times=math.inf)
        with pytest.raises(Ambiguous) as error:
            await session.submit(picture(31))
        assert server.requests.count("POST", "/prompt") == 1
        server.release()
    assert error.value.evidence
