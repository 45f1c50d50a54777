"""Prompts that somebody sent before: `sending` writes their ids down, `attach` follows them."""

import asyncio

import pytest

from async_comfy import Ambiguous, CallerError, Failed, Job, Pool, Session
from async_comfy.testing import SimulatedServer
from tests.live.pictures import diffusion, picture

pytestmark = pytest.mark.anyio


async def test_a_prompt_id_is_told_before_it_is_sent() -> None:
    """Once, and no prompt was there yet."""
    told: list[tuple[str, int]] = []
    async with SimulatedServer() as server, Session(server.url) as session:

        def sending(prompt_id: str) -> None:
            told.append((prompt_id, server.requests.count("POST", "/prompt")))

        job = await session.submit(picture(), sending=sending)
        await job
    assert told == [(job.id, 0)]


async def test_what_sending_raises_keeps_the_prompt_from_being_sent() -> None:
    """As where the disk is full."""

    def refuse(prompt_id: str) -> None:
        raise CallerError("The disk is full.")

    async with SimulatedServer() as server, Session(server.url) as session:
        with pytest.raises(CallerError, match="disk"):
            await session.submit(picture(), sending=refuse)
        assert server.requests.count("POST", "/prompt") == 0
        assert session.statistics().open_jobs == 0


async def test_a_server_that_makes_its_own_ids_is_told_of_twice() -> None:
    """The one that we made, and the one that counts."""
    told: list[str] = []
    async with SimulatedServer(profile="0.3.40") as server, Session(server.url) as session:
        job = await session.submit(picture(), sending=told.append)
        await job
    assert len(told) == 2
    assert told[1] == job.id


async def test_a_job_whose_own_id_cannot_be_written_down_is_cancelled() -> None:
    """Nobody would have its handle: it must not run on by itself."""
    told: list[str] = []

    def refuse_the_second(prompt_id: str) -> None:
        told.append(prompt_id)
        if len(told) == 2:
            raise OSError("the disk is full")

    async with SimulatedServer(profile="0.3.40") as server, Session(server.url) as session:
        server.hold("prompt")
        running = await session.submit(picture(1))
        await server.until_at("prompt")
        with pytest.raises(OSError, match="disk is full"):
            await session.submit(picture(2), sending=refuse_the_second)
        assert session.statistics().open_jobs == 1
        server.release()
        assert (await running).files
    assert server.executions == {running.id: 1}


async def test_a_pool_tells_the_server_too() -> None:
    """At each attempt."""
    told: list[tuple[str, str]] = []
    async with SimulatedServer() as server, Pool([server.url]) as pool:
        job = await pool.submit(picture(), sending=lambda prompt_id, name: told.append((prompt_id, name)))
        await job
    assert told == [(job.prompt_id, job.server)]


async def test_a_prompt_of_an_earlier_session_is_followed_to_its_end() -> None:
    """What waits, what runs and what ended: nothing is sent, and the result is there."""
    workflow = diffusion(seed=7)
    async with SimulatedServer() as server:
        server.hold("prompt")
        async with Session(server.url) as first:
            ids = [(await first.submit(diffusion(seed))).id for seed in (7, 8)]
        server.advance()
        await server.until(lambda: server.queue_remaining == 1)
        async with Session(server.url) as second:
            ended, waiting = [await second.attach(prompt_id, workflow) for prompt_id in ids]
            assert (await ended).seeds == {"5.seed": 7}
            assert len((await ended).images) == 1
            server.release()
            assert len((await waiting).images) == 1
        assert server.requests.count("POST", "/prompt") == 2


async def test_how_it_ended_badly_is_told() -> None:
    """As anybody else would hear it."""
    workflow = picture()
    image = workflow.add("ProbeFail", image=workflow["Paper"][0], message="boom", kind="ValueError")
    workflow["Out"].inputs["images"] = image[0]
    async with SimulatedServer() as server, Session(server.url) as first:
        job = await first.submit(workflow)
        with pytest.raises(Failed):
            await job
        async with Session(server.url) as second:
            with pytest.raises(Failed, match="boom"):
                await (await second.attach(job.id))


async def test_a_prompt_that_nobody_knows_is_ambiguous() -> None:
    """It may never have been sent, or be forgotten; and one that is open here is not followed twice."""
    async with SimulatedServer() as server, Session(server.url) as session:
        job = await session.attach("0b5c1d5e-6d0c-4c5e-9a53-3f6c8a2d7f10")
        with pytest.raises(CallerError, match="open here already"):
            await session.attach(job.id)
        with pytest.raises(Ambiguous):
            await job


async def test_one_prompt_is_attached_once_however_many_ask_at_once() -> None:
    """Also where the editor's format waits for node declarations first: a second job would never end."""
    nodes = [
        {"id": 1, "type": "EmptyImage", "widgets_values": [16, 16, 1, 0], "outputs": [{"links": [1]}]},
        {"id": 2, "type": "PreviewImage", "inputs": [{"name": "images", "link": 1}]},
    ]
    editors = {"nodes": nodes, "links": [[1, 1, 0, 2, 0, "IMAGE"]], "version": 0.4}
    async with SimulatedServer() as server:
        async with Session(server.url) as first:
            sent = await first.submit(picture())
            await sent
        async with Session(server.url) as second:
            asked = [second.attach(sent.id, editors) for _ in range(2)]
            one, other = await asyncio.gather(*asked, return_exceptions=True)
            assert isinstance(other, CallerError)
            assert isinstance(one, Job)
            assert (await one).prompt_id == sent.id
