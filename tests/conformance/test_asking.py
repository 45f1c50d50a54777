"""What a server answers to the questions that a client asks."""

import pytest

from async_comfy import NotFound, Session, UnexpectedAnswer
from tests.live.pictures import picture

pytestmark = pytest.mark.anyio


async def test_queue_and_history_know_a_job(session: Session, fresh: int) -> None:
    """It is in history when it has ended, and in the queue no more."""
    result = await session.run(picture(fresh))
    entry = await session.history.get(result.prompt_id)
    queue = await session.queue.ids()
    assert entry is not None
    assert entry["outputs"]["2"] == result["2"]
    assert result.prompt_id not in queue.running | queue.pending
    assert result.prompt_id in await session.history.list(max_items=10)


async def test_an_unknown_prompt_has_no_history(session: Session) -> None:
    """200 and an empty object, for unknown and for running alike."""
    assert await session.history.get("00000000-0000-4000-8000-000000000000") is None


async def test_jobs_are_shown_by_servers_that_have_them(session: Session, fresh: int) -> None:
    """GET /api/jobs/{id}: completed; unknown ids are none; older servers have no such route."""
    result = await session.run(picture(fresh))
    try:
        job = await session.jobs.get(result.prompt_id)
    except (NotFound, UnexpectedAnswer):
        pytest.skip("this server has no jobs API")
    assert job is not None
    assert job["status"] == "completed"
    assert await session.jobs.get("00000000-0000-4000-8000-000000000000") is None


async def test_one_class_is_declared(session: Session) -> None:
    """GET /object_info/{class}; an unknown class is not found."""
    declared = await session.nodes.get("EmptyImage")
    assert set(declared["input"]["required"]) >= {"width", "height", "batch_size"}
    with pytest.raises(NotFound):
        await session.nodes.get("NoSuchNodeAnywhere")


async def test_the_server_tells_its_version_and_memory(session: Session) -> None:
    """GET /system_stats."""
    stats = await session.system.stats()
    assert stats["devices"]
    assert await session.system.version()


async def test_interrupting_a_prompt_that_does_not_run_stops_nothing(session: Session, fresh: int) -> None:
    """By id, of a prompt that is over: nobody's run ends."""
    if await session.system.version() < (0, 3, 60):
        pytest.skip("this server would stop whatever runs")
    over = await session.run(picture(fresh))
    job = await session.submit(picture(fresh, batch=2))
    await session.system.interrupt(over.prompt_id)
    assert (await job).files


async def test_files_keep_their_name_for_the_same_bytes_and_get_a_number_for_others(
    session: Session, fresh: int
) -> None:
    """What the server answers to an upload is the only truth about the name."""
    from async_comfy import File

    name = f"conformance-{fresh}.png"
    first = await session.upload(File(b"first", name=name))
    async with Session(session.url) as other:
        same = await other.upload(File(b"first", name=name))
        different = await other.upload(File(b"second", name=name))
    assert first.name == same.name == name
    assert different.name == f"conformance-{fresh} (1).png"


async def test_part_of_a_file_is_served(session: Session, fresh: int) -> None:
    """GET /view with Range."""
    (file,) = (await session.run(picture(fresh))).files
    whole = await file.read()
    assert b"".join([chunk async for chunk in file.stream(start=20)]) == whole[20:]


async def test_a_missing_file_is_not_found(session: Session, fresh: int) -> None:
    """404, whatever its body."""
    from dataclasses import replace

    (file,) = (await session.run(picture(fresh))).files
    with pytest.raises(NotFound):
        await replace(file, filename="no-such-file.png").read()
