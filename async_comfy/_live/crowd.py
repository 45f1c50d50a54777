"""Several calls at once, so many at a time, and their answers in order."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

T = TypeVar("T")


async def crowd(calls: Sequence[Callable[[], Awaitable[T]]], at_once: int) -> list[T]:
    """What the calls return, in their order. The first that raises ends the others.

    Raises: that first trouble itself and not a group: callers catch `NotFound`, not groups.
    """
    found: dict[int, T] = {}
    limit = anyio.Semaphore(at_once)

    async def one(index: int, call: Callable[[], Awaitable[T]]) -> None:
        async with limit:
            found[index] = await call()

    try:
        async with anyio.create_task_group() as group:
            for index, call in enumerate(calls):
                group.start_soon(one, index, call)
    except BaseExceptionGroup as troubles:
        raise _first(troubles) from None
    return [found[index] for index in range(len(calls))]


def _first(troubles: BaseExceptionGroup[BaseException]) -> BaseException:
    first = troubles.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
