"""comfyui-xy: AsyncComfyUiClient.process_workflow. Asks the history once a second; fetches pictures."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from comfyui_xy import AsyncComfyUiClient  # type: ignore[import-not-found]  # not in our environment

from benchmarks.peers.driver import Runner, main


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Runner]:
    client = AsyncComfyUiClient(url=url, raise_on_error=True)

    async def run(workflow: dict[str, Any]) -> str | None:
        prompt: str = await client.queue_prompt(workflow)
        outputs = await client.wait_for_execution(prompt)
        assert await client.extract_outputs(outputs)
        return prompt

    try:
        yield run
    finally:
        await client.close()


if __name__ == "__main__":
    main(connect)
