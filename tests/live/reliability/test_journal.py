"""The journal: open jobs survive the end of this process at any point, and none runs twice."""

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from async_comfy import Ambiguous, CallerError, Cancelled, Lost, Session
from async_comfy.testing import SimulatedServer
from tests.live.pictures import picture
from tests.live.reliability.tally import tally
from tests.live.waiting import until

pytestmark = pytest.mark.anyio


def rows(path: Path) -> list[str]:
    """The prompt ids in a journal."""
    with closing(sqlite3.connect(path)) as file:
        return [prompt_id for (prompt_id,) in file.execute("SELECT prompt_id FROM jobs")]


async def test_an_open_job_is_found_again_with_its_result(tmp_path: Path) -> None:
    """Another session, with nothing but the file: the same id, the same seeds, the outputs; one execution."""
    journal = tmp_path / "jobs.sqlite"
    async with SimulatedServer() as server:
        server.hold("node")
        async with Session(server.url, journal=journal) as session:
            job = await session.submit(picture(1))
            await server.until_at("node")
        async with Session(server.url, journal=journal) as session:
            (found,) = await session.resume()
            assert found.id == job.id
            assert await session.resume() == []
            server.release()
            result = await found
            assert result["Out"]
            assert [file.title for file in result.files] == ["Out"]
        async with Session(server.url, journal=journal) as session:
            assert await session.resume() == []
        assert server.requests.count("POST", "/prompt") == 1
    assert server.executions == {job.id: 1}


async def test_a_prompt_that_was_never_sent_is_not_kept(tmp_path: Path) -> None:
    """What `sending` raises, and what no JSON can hold, keep it from being sent: nothing is to be asked."""
    journal = tmp_path / "jobs.sqlite"

    def refuse(prompt_id: str) -> None:
        raise CallerError("The disk is full.")

    async with SimulatedServer() as server:
        async with Session(server.url, journal=journal) as session:
            with pytest.raises(CallerError, match="disk"):
                await session.submit(picture(1), sending=refuse)
            with pytest.raises(CallerError, match="no JSON"):
                await session.submit(picture(1), extra_data={"odd": object()})
        assert rows(journal) == []
        assert server.requests.count("POST", "/prompt") == 0


async def test_a_resumed_job_can_be_cancelled(tmp_path: Path) -> None:
    """It is a job like every other."""
    journal = tmp_path / "jobs.sqlite"
    async with SimulatedServer() as server:
        server.hold("node")
        async with Session(server.url, journal=journal) as session:
            await session.submit(picture(2))
            await server.until_at("node")
        async with Session(server.url, journal=journal) as session:
            (found,) = await session.resume()
            assert await found.cancel()
            with pytest.raises(Cancelled):
                await found
        server.release()
    assert rows(journal) == []


async def test_what_the_server_forgot_is_lost_and_what_may_never_have_been_sent_is_ambiguous(
    tmp_path: Path, hasty: None
) -> None:
    """The journal knows whether the server had said 200."""
    journal = tmp_path / "jobs.sqlite"
    async with SimulatedServer() as server:
        server.hold("prompt")
        async with Session(server.url, journal=journal) as session:
            jobs = [await session.submit(picture(color)) for color in (3, 4)]
        with closing(sqlite3.connect(journal)) as file, file:
            file.execute("UPDATE jobs SET accepted = 0 WHERE prompt_id = ?", (jobs[1].id,))
        server.release()
        await server.restart()
        async with Session(server.url, journal=journal) as session:
            found = await session.resume()
            ends = await asyncio.gather(*found, return_exceptions=True)
    assert [job.id for job in found] == [job.id for job in jobs]
    assert [type(end) for end in ends] == [Lost, Ambiguous]
    assert rows(journal) == []


async def test_jobs_of_another_server_stay_where_they_are(tmp_path: Path) -> None:
    """One file may serve many sessions."""
    journal = tmp_path / "jobs.sqlite"
    async with SimulatedServer() as one, SimulatedServer() as two:
        one.hold("prompt")
        async with Session(one.url, journal=journal) as session:
            await session.submit(picture(5))
        async with Session(two.url, journal=journal) as session:
            assert await session.resume() == []
        assert len(rows(journal)) == 1
        one.release()


async def test_a_job_that_ended_or_never_began_is_not_kept(tmp_path: Path) -> None:
    """Completed, refused, cancelled: nothing is open, nothing is kept."""
    journal = tmp_path / "jobs.sqlite"
    wrong = picture(6)
    wrong["Paper"].inputs["width"] = -1
    async with SimulatedServer() as server, Session(server.url, journal=journal) as session:
        await session.run(picture(7))
        with pytest.raises(CallerError):
            await session.submit(wrong)
        server.hold("prompt")
        job = await session.submit(picture(8))
        assert rows(journal) == [job.id]
        await job.cancel()
        server.release()
        await until(lambda: rows(journal) == [])


async def test_a_file_that_is_no_journal_is_refused_and_nothing_is_left_open(tmp_path: Path) -> None:
    """One sentence that says what to do; the file is as it was."""
    path = tmp_path / "notes.txt"
    path.write_text("these are notes, and no database at all" * 100)
    async with SimulatedServer() as server:
        with pytest.raises(CallerError, match="cannot be used"):
            await Session(server.url, journal=path).open()
        assert server.connections == 0
    assert path.read_text().startswith("these are notes")


async def test_resuming_without_a_journal_says_what_to_do() -> None:
    """A mistake of the caller."""
    async with SimulatedServer() as server, Session(server.url) as session:
        with pytest.raises(CallerError, match="journal=<path>"):
            await session.resume()


async def test_a_process_killed_at_any_turn_loses_no_job_and_runs_none_twice(
    tmp_path: Path, hasty: None
) -> None:
    """Real processes, ended by ``os._exit`` at every turn of their event loop, enumerated.

    Whatever ran is known: the child had said its end, or the next process finds it and learns its end.
    """
    with SimulatedServer().in_thread() as server:
        killed = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.live.reliability.crashing",
            server.url,
            str(tmp_path),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await killed.communicate()
        assert killed.returncode == 0
        lines = [line.split() for line in output.decode().splitlines()]
        await server.until_idle()
        known: set[str] = set()
        for turns, *said in lines:
            known.update(said[::2])
            async with Session(server.url, journal=tmp_path / f"{turns}.sqlite") as session:
                jobs = await session.resume()
                await asyncio.gather(*jobs, return_exceptions=True)
                assert all(job.done for job in jobs)
                known.update(job.id for job in jobs)
            assert rows(tmp_path / f"{turns}.sqlite") == []
    tally("processes killed with open jobs in a journal", len(lines) - 1)
    assert len(lines) > 20
    assert set(server.executions) <= known
    assert set(server.executions.values()) == {1}
