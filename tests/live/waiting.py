"""Waiting on a condition of the client's own side, of which no server tells."""

import asyncio
from collections.abc import Callable

PATIENCE_S = 10.0  # a broken promise fails the test instead of hanging it


async def until(condition: Callable[[], object]) -> None:
    """Returns when `condition` holds. Raises: TimeoutError."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)
