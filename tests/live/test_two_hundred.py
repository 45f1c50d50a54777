"""Many prompts over one session: one socket, one POST each, and to each job its own events alone."""

import asyncio

import pytest

from async_comfy import Event, Executed, Executing, ExecutionStart, ExecutionSuccess, Session, Workflow
from async_comfy.testing import SimulatedServer

pytestmark = pytest.mark.anyio

PROMPTS = 200


def picture(color: int) -> Workflow:
    workflow = Workflow()
    empty = workflow.add("EmptyImage", width=16, height=16, batch_size=1, color=color)
    workflow.add("SaveImage", images=empty[0], filename_prefix=f"color_{color}")
    return workflow


async def follow(session: Session, color: int) -> tuple[list[Event], str, str]:
    job = await session.submit(picture(color))
    events = [event async for event in job]
    result = await job
    assert {event.prompt_id for event in events} == {job.id}
    return events, job.id, result.files[0].filename


async def test_two_hundred_prompts_share_one_socket_and_cost_one_post_each() -> None:
    """One WebSocket, exactly 200 POSTs and no other HTTP; outcomes right; events complete, in order, own."""
    async with SimulatedServer() as server, Session(server.url) as session:
        followed = await asyncio.gather(*(follow(session, color) for color in range(PROMPTS)))

        assert server.connections == 1
        assert server.requests.count("POST", "/prompt") == PROMPTS
        assert len(server.requests) == PROMPTS
        assert session.statistics().strangers == 0
        assert set(server.executions.values()) == {1}
    assert len({prompt_id for _, prompt_id, _ in followed}) == PROMPTS
    for color, (events, _, filename) in enumerate(followed):
        assert filename.startswith(f"color_{color}_")
        told = [event for event in events if isinstance(event, ExecutionStart | Executing | Executed)]
        assert [type(event).__name__ for event in told] == [
            "ExecutionStart",
            "Executing",
            "Executing",
            "Executed",
            "Executing",
        ]
        assert [event.node for event in told if isinstance(event, Executing)] == ["1", "2", None]
        assert sum(isinstance(event, ExecutionSuccess) for event in events) == 1


async def test_results_alone_cost_no_more() -> None:
    """`run` for 200 prompts at once: the same, and nothing is kept for watchers that never come."""
    async with SimulatedServer() as server, Session(server.url) as session:
        results = await asyncio.gather(*(session.run(picture(color)) for color in range(PROMPTS)))

        assert len(server.requests) == PROMPTS
        assert session.statistics().open_jobs == 0
    for color, result in enumerate(results):
        assert result.files[0].filename.startswith(f"color_{color}_")
