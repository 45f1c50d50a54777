"""comfy-sdk: AsyncComfy.run, through a comfy-api-proxy for every server (argv[1]: `proxies`)."""

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from comfy_sdk import AsyncComfy  # type: ignore[import-not-found]  # not in our environment

from benchmarks.peers.driver import Runner, main

_PROXIES = json.loads(sys.argv[1])["proxies"]


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Runner]:
    os.environ["COMFY_BASE_URL"] = _PROXIES[url]  # the only way to tell it
    async with AsyncComfy() as client:

        async def run(workflow: dict[str, Any]) -> str | None:
            job = await client.run(client.workflows.from_json(workflow))
            return str(job.id)

        yield run


if __name__ == "__main__":
    main(connect)
