"""The jobs API lists, finds and cancels as the real one."""

import uuid
from typing import Any

import pytest

from async_comfy.testing import SimulatedServer
from tests.testing.client import Client, node, tiny

pytestmark = pytest.mark.anyio

STATUSES = "pending, in_progress, completed, failed, cancelled"


async def test_jobs_are_listed_by_status_newest_first_in_pages() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        done = [await client.post(tiny(color)) for color in range(3)]
        failed = await client.post(
            {
                "1": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
                "2": node("ProbeFail", image=["1", 0], message="no"),
                "3": node("PreviewImage", images=["2", 0]),
            }
        )
        await server.until_idle()
        server.hold("node")
        running = await client.post(tiny(8))
        await server.until_at("node")
        waiting = await client.post(tiny(9))

        async def listed(query: str) -> list[str]:
            return [job["id"] for job in (await client.json("GET", f"/api/jobs?{query}"))["jobs"]]

        assert await listed("") == [waiting, running, failed, *reversed(done)]
        assert await listed("status=completed&sort_order=asc") == done
        assert await listed("status=failed") == [failed]
        assert await listed("status=pending,in_progress") == [waiting, running]
        page = await client.json("GET", "/api/jobs?limit=2&offset=1")
        assert page["pagination"] == {"offset": 1, "limit": 2, "total": 6, "has_more": True}


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("status=bogus", f"Invalid status value(s): bogus. Valid values: {STATUSES}"),
        ("limit=0", "limit must be a positive integer"),
        ("limit=x", "limit must be an integer"),
        ("sort_by=zz", "sort_by must be 'created_at' or 'execution_duration'"),
    ],
)
async def test_a_bad_question_is_answered_in_words(query: str, error: str) -> None:
    async with SimulatedServer() as server, Client(server) as client:
        assert await client.json("GET", f"/api/jobs?{query}") == {"error": error}


async def test_a_job_is_one_thing_from_pending_to_its_end() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        server.hold("prompt", "node")
        job_id = await client.post(tiny())

        async def status() -> Any:
            return (await client.json("GET", f"/api/jobs/{job_id}"))["status"]

        await server.until_at("prompt")
        assert await status() == "pending"
        server.advance()
        await server.until_at("node")
        assert await status() == "in_progress"
        server.release()
        await server.until_idle()
        assert await status() == "completed"
        assert await client.json("GET", f"/api/jobs/{uuid.uuid4()}") == {"error": "Job not found"}


async def test_a_cancelled_job_that_waited_leaves_no_trace_and_cancel_is_idempotent() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        server.hold("prompt")
        job_id = await client.post(tiny())
        await server.until_at("prompt")
        assert await client.json("POST", f"/api/jobs/{job_id}/cancel") == {"cancelled": True}
        assert await client.json("POST", f"/api/jobs/{job_id}/cancel") == {"cancelled": False}
        assert await client.status("GET", f"/api/jobs/{job_id}") == 404
        server.release()
        await server.until_idle()
        assert not server.executions
