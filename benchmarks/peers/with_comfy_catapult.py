"""comfy-catapult: Catapult with its future. Listens, and asks queue and history every two seconds."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from comfy_catapult.api_client import ComfyAPIClient  # type: ignore[import-not-found]  # not in our environment
from comfy_catapult.catapult import ComfyCatapult  # type: ignore[import-not-found]  # not in our environment

from benchmarks.peers.driver import Runner, main


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Runner]:
    async with ComfyCatapult(ComfyAPIClient(url), debug_path=None) as catapult:

        async def run(workflow: dict[str, Any]) -> str | None:
            job = str(uuid.uuid4())
            _, future = await catapult.Catapult(
                job_id=job, prepared_workflow=workflow, important=["7"], use_future_api=True
            )
            await future
            status, _ = await catapult.GetStatus(job_id=job)
            return str(status.ticket.prompt_id)

        yield run


if __name__ == "__main__":
    main(connect)
