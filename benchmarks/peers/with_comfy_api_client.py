"""comfy-api-client over HTTP. Asks for the whole history ten times a second; fetches pictures."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from comfy_api_client import create_client  # type: ignore[import-not-found]  # not in our environment

from benchmarks.peers.driver import Runner, main


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Runner]:
    async with create_client(urlsplit(url).netloc, start_state_tracker="http") as client:

        async def run(workflow: dict[str, Any]) -> str | None:
            prompt = await client.submit_workflow(workflow)
            result = await prompt.future
            assert result.output_images
            return str(prompt.prompt_id)

        yield run


if __name__ == "__main__":
    main(connect)
