"""This package: results alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from async_comfy import Session
from benchmarks.peers.driver import Runner, main


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Runner]:
    async with Session(url) as session:

        async def run(workflow: dict[str, Any]) -> str:
            return (await session.run(workflow)).prompt_id

        yield run


if __name__ == "__main__":
    main(connect)
