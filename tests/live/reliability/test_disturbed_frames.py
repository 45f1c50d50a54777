"""Promises 1 and 4: frames dropped, doubled, reordered or broken change no outcome and reach no other job."""

import asyncio
from itertools import combinations

import pytest

from async_comfy import Failed, Session, Workflow
from async_comfy.testing import Frame, SimulatedServer
from tests.live.pictures import diffusion, picture
from tests.live.reliability.tally import tally

pytestmark = pytest.mark.anyio

SEEDS = 60  # of window-5 reorderings


def sampled() -> Workflow:
    """A run of every kind of message: start, cached, progress, previews, executed, success."""
    return diffusion(seed=7, steps=2)


def failing() -> Workflow:
    """A node in the middle raises."""
    workflow = picture(5)
    between = workflow.add("ProbeFail", image=workflow["Paper"][0], message="broken")
    workflow["Out"].inputs["images"] = between[0]
    return workflow


def blocked() -> Workflow:
    """One output is blocked with a message, which looks like an error, and the run goes on to success."""
    workflow = picture(6)
    barrier = workflow.add("ProbeBlock", image=workflow["Paper"][0], message="please stop")
    workflow.add("PreviewImage", images=barrier[0])
    return workflow


Outcome = tuple[str, object]


async def outcome_of(session: Session, workflow: Workflow) -> Outcome:
    """What a caller sees of a run, less the names that the server numbers."""
    try:
        result = await session.run(workflow)
    except Failed as failed:
        return "failed", (failed.node, failed.reason)
    return "completed", [(file.node, file.kind, file.folder) for file in result.files]


async def frames_of(server: SimulatedServer, session: Session, workflow: Workflow) -> tuple[int, Outcome]:
    """How many frames an undisturbed run sends, and its outcome."""
    seen: list[int] = []
    server.free()
    server.faults.clear()
    server.faults.drop(lambda frame: bool(seen.append(frame.index)))  # type: ignore[func-returns-value]  # it counts, and drops none
    outcome = await outcome_of(session, workflow)
    await server.until_idle()
    return len(seen), outcome


WORKFLOWS = [sampled, failing, blocked]


@pytest.mark.parametrize("make", WORKFLOWS)
async def test_each_frame_and_each_pair_of_frames_may_go_missing(make: object, hasty: None) -> None:
    """Promise 1: the same outcome, with the same outputs, as the undisturbed run; and one execution."""
    workflow: Workflow = make()  # type: ignore[operator]  # one of the three above
    async with SimulatedServer(preview=False) as server, Session(server.url) as session:
        count, undisturbed = await frames_of(server, session, workflow)
        one = [(index,) for index in range(count)]
        for missing in [*one, *combinations(range(count), 2)]:
            server.free()
            server.faults.clear()
            server.faults.drop(frozenset(missing))
            assert await outcome_of(session, workflow) == undisturbed, f"without {missing} of {count}"
            await server.until_idle()
        assert session.statistics().open_jobs == 0
        assert set(server.executions.values()) == {1}
        tally("runs with one frame missing", count)
        tally("runs with two frames missing", count * (count - 1) // 2)


@pytest.mark.parametrize("make", WORKFLOWS)
async def test_each_frame_may_come_twice(make: object, hasty: None) -> None:
    """Promise 1: the same outcome as the undisturbed run."""
    workflow: Workflow = make()  # type: ignore[operator]  # one of the three above
    async with SimulatedServer() as server, Session(server.url) as session:
        count, undisturbed = await frames_of(server, session, workflow)
        for twice in range(count):
            server.free()
            server.faults.clear()
            server.faults.duplicate(twice)
            assert await outcome_of(session, workflow) == undisturbed, f"with {twice} of {count} twice"
            await server.until_idle()
        tally("runs with one frame doubled", count)


@pytest.mark.parametrize("make", WORKFLOWS)
async def test_frames_may_come_in_another_order(make: object, hasty: None) -> None:
    """Promise 1: whatever the order within windows of five, the same outcome."""
    workflow: Workflow = make()  # type: ignore[operator]  # one of the three above
    async with SimulatedServer() as server, Session(server.url) as session:
        _, undisturbed = await frames_of(server, session, workflow)
        for seed in range(SEEDS):
            server.free()
            server.faults.clear()
            server.faults.reorder(window=5, seed=seed)
            assert await outcome_of(session, workflow) == undisturbed, f"seed {seed}"
            await server.until_idle()
        tally("runs with frames reordered in windows of five", SEEDS)


async def test_jobs_of_many_sessions_stay_their_own_though_frames_are_disturbed(hasty: None) -> None:
    """Promise 4: three sessions, ten jobs each, frames dropped, doubled and reordered: each its own color."""

    def unlucky(frame: Frame) -> bool:
        return frame.index % 7 == 3

    async with SimulatedServer() as server:
        server.faults.drop(unlucky, times=20)
        server.faults.duplicate(lambda frame: frame.index % 5 == 2, times=20)
        server.faults.reorder(window=5, seed=3)
        async with Session(server.url) as a, Session(server.url) as b, Session(server.url) as c:
            jobs = [
                (await session.submit(named(f"own_{who}_{color}")), f"own_{who}_{color}_")
                for color in range(10)
                for who, session in enumerate((a, b, c))
            ]
            results = await asyncio.gather(*(job for job, _ in jobs))
    for (job, name), result in zip(jobs, results, strict=True):
        assert result.prompt_id == job.id
        assert [file.filename.startswith(name) for file in result.files] == [True]


def named(prefix: str) -> Workflow:
    """A picture whose file name carries a nonce."""
    workflow = Workflow()
    paper = workflow.add("EmptyImage", width=16, height=16, batch_size=1, color=hash(prefix) % 0xFFFFFF)
    workflow.add("SaveImage", images=paper[0], filename_prefix=prefix)
    return workflow


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "{",
        "[]",
        '{"type": 5}',
        '{"type": "executing"}',
        '{"type": "progress", "data": null}',
        b"",
        b"\0",
        b"\0\0\0\1",
    ],
)
async def test_a_broken_frame_costs_itself_and_no_job(garbage: str | bytes) -> None:
    """Promise 1: garbage in the middle of a run."""
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("node")
        job = await session.submit(picture(7))
        await server.until_at("node")
        server.inject(garbage, session.client_id)
        server.release()
        assert (await job).files
        assert session.statistics().connections == 1
