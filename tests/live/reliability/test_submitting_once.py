"""Promise 3: at most one execution. A lost POST answer is resolved by asking, never by sending blindly."""

import asyncio

import pytest

from async_comfy import Ambiguous, Session, UnexpectedAnswer, Unreachable
from async_comfy._live import submission
from async_comfy.testing import SimulatedServer
from tests.live.pictures import picture
from tests.live.reliability.network import network
from tests.live.waiting import until

pytestmark = pytest.mark.anyio

PROFILES = ["0.33", "next"]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("held", [False, True])
async def test_an_answer_that_was_cut_after_queueing_is_asked_for(profile: str, held: bool) -> None:
    """The prompt runs once, whether it ran to its end before anybody could ask, or still waits."""
    async with SimulatedServer(profile=profile) as server, Session(server.url) as session:
        server.faults.cut_after_queueing()
        if held:
            server.hold("prompt")
        job = await session.submit(picture(1))
        server.release()
        assert (await job).files
        assert server.requests.count("POST", "/prompt") == 1
    assert server.executions == {job.id: 1}


async def test_a_cut_answer_of_a_prompt_whose_events_are_not_heard_is_found_in_history() -> None:
    """Neither events nor an answer: queue, then history."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.faults.drop(lambda frame: True)
        server.faults.cut_after_queueing()
        server.faults.history_late_s = 0.5
        result = await session.run(picture(2))
    assert result.files
    assert set(server.executions.values()) == {1}


async def test_a_500_that_queued_all_the_same_is_no_failure() -> None:
    """The server stumbled after it took the prompt: it runs once."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.faults.fail_but_queue()
        assert (await session.run(picture(3))).files
        assert server.requests.count("POST", "/prompt") == 1
    assert set(server.executions.values()) == {1}


async def test_a_500_that_queued_nothing_is_an_error_and_nothing_runs(hasty: None) -> None:
    """Proven absent, it is said what the server answered; it is not sent again."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.faults.answer(("POST", "/prompt"), 500, "500 Internal Server Error")
        with pytest.raises(UnexpectedAnswer):
            await session.submit(picture(4))
        assert server.requests.count("POST", "/prompt") == 1
        assert session.statistics().open_jobs == 0
    assert not server.executions


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_request_that_was_cut_before_it_was_read_is_sent_again_once_it_is_proven_absent(
    profile: str, hasty: None
) -> None:
    """Absent from queue and history for the settle window: only then a second POST, with the same id."""
    async with SimulatedServer(profile=profile) as server, Session(server.url) as session:
        server.faults.cut(("POST", "/prompt"), served=False)
        job = await session.submit(picture(5))
        assert (await job).files
        assert server.requests.count("POST", "/prompt") == 2
    assert server.executions == {job.id: 1}


@pytest.mark.parametrize("restarts", [True, False])
async def test_while_the_event_socket_is_dead_absence_is_no_proof(
    restarts: bool, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have run on a server that has forgotten it since, of whose end nobody told us."""
    monkeypatch.setattr(submission, "AMBIGUOUS_S", 10.0)
    async with SimulatedServer() as server, network(server) as between, Session(between.url) as session:
        server.faults.cut_after_queueing()
        server.faults.cut(("GET", "/queue"), times=float("inf"))
        between.forget()
        submitting = asyncio.create_task(session.submit(picture(12)))
        await server.until(lambda: server.executions)
        await server.until_idle()
        if restarts:
            await server.restart()
        server.faults.clear()
        if restarts:
            with pytest.raises(Ambiguous):
                await submitting
        else:
            assert (await (await submitting)).files
    assert set(server.executions.values()) == {1}


async def test_a_network_that_cuts_every_post_is_not_knocked_at_for_ever(hasty: None) -> None:
    """One retry layer, with a budget: in the end `Unreachable`, and at most the reserve was spent."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.faults.cut(("POST", "/prompt"), served=False, times=1000)
        session._submissions._budget.level = 2.0
        with pytest.raises(Unreachable):
            await session.submit(picture(6))
        assert server.requests.count("POST", "/prompt") == 3
    assert not server.executions


async def test_a_server_that_makes_its_own_ids_is_never_sent_a_prompt_twice(hasty: None) -> None:
    """0.3.40 shows the prompt under an id that only the lost answer told: `Ambiguous`, and one execution."""
    async with SimulatedServer(profile="0.3.40") as server, Session(server.url) as session:
        server.faults.cut_after_queueing()
        with pytest.raises(Ambiguous):
            await session.submit(picture(10))
        await server.until_idle()
        assert server.requests.count("POST", "/prompt") == 1
    assert sum(server.executions.values()) == 1


async def test_an_id_told_late_finds_its_job_although_it_was_in_doubt(hasty: None) -> None:
    """0.3.40 answers slowly, and the socket is dropped meanwhile: the job is followed under its new id."""
    async with SimulatedServer(profile="0.3.40") as server, Session(server.url) as session:
        server.faults.slow(("POST", "/prompt"), 0.5, times=1)
        submitting = asyncio.create_task(session.run(picture(11)))
        await server.until(lambda: server.requests.count("POST", "/prompt"))
        await server.drop_sockets()
        assert (await submitting).files
    assert set(server.executions.values()) == {1}


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "after", ["0.05", None, "garbage", "-3", "Wed, 21 Oct 2026 07:28:00 GMT", "nan", "1e999"]
)
async def test_a_busy_server_is_asked_again(status: int, after: str | None) -> None:
    """Retry-After is honoured, garbage in it is tolerated, and the prompt runs once."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.faults.refuse_prompts(status, after)
        assert (await session.run(picture(7))).files
        assert server.requests.count("POST", "/prompt") == 2
    assert set(server.executions.values()) == {1}


async def test_a_409_is_a_success() -> None:
    """The server has this id already, so an earlier attempt arrived."""
    async with SimulatedServer(profile="next") as server, Session(server.url) as session:
        server.hold("prompt")
        server.faults.answer(("POST", "/prompt"), 503, "somebody between us says so", served=True)
        job = await session.submit(picture(8))
        assert server.requests.count("POST", "/prompt") == 2
        server.release()
        assert (await job).files
    assert server.executions == {job.id: 1}


async def test_a_503_does_not_multiply_the_load_of_a_fleet_that_is_down() -> None:
    """At most a fifth more requests than were asked for, beyond the small reserve."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.faults.refuse_prompts(503, "0", times=1000)
        ends = await asyncio.gather(
            *(session.submit(picture(color)) for color in range(100)), return_exceptions=True
        )
        posts = server.requests.count("POST", "/prompt")
    assert all(isinstance(end, UnexpectedAnswer) for end in ends)
    assert 100 < posts <= 100 * 1.2 + 10


async def test_a_server_that_is_not_there_is_told_at_once() -> None:
    """Nothing was sent, so nothing is in doubt."""
    async with SimulatedServer() as server, Session(server.url) as session:
        await server.crash()
        await until(lambda: not session.statistics().connected)
        with pytest.raises(Unreachable) as error:
            await session.submit(picture(9))
        assert not error.value.sent
        assert session.statistics().open_jobs == 0
        await server.restart()


@pytest.mark.parametrize("profile", ["0.3.40", "0.33", "next"])
async def test_a_healthy_run_makes_one_request_and_no_reads(profile: str) -> None:
    """Promise 3, its cost: exactly one POST for a job, on every server."""
    async with SimulatedServer(profile=profile) as server, Session(server.url) as session:
        for color in range(3):
            assert (await session.run(picture(color))).files
        assert [str(request) for request in server.requests] == ["POST /prompt"] * 3
        assert session.statistics().looks == 0
