"""This package: results, and the bytes of every picture, as some peers fetch them unasked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from async_comfy import Session
from benchmarks.peers.driver import Runner, main


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Runner]:
    async with Session(url) as session:

        async def run(workflow: dict[str, Any]) -> str:
            result = await session.run(workflow)
            for file in result.files:
                assert await file.read()
            return result.prompt_id

        yield run


if __name__ == "__main__":
    main(connect)
