"""Ctrl-C: the first one asks to stop in good order, the second one leaves at once."""

import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from async_comfy.cli.exits import INTERRUPTED

T = TypeVar("T")

_SHOW_CURSOR = "\x1b[?25h"


class Interrupted(Exception):
    """Ctrl-C was pressed, and what ran has stopped."""


def drive(work: Coroutine[Any, Any, T], *, on_interrupt: Callable[[], None] = lambda: None) -> T:
    """Runs a coroutine to its end. `on_interrupt` is called before it is cancelled.

    Raises: Interrupted
    """
    import asyncio

    return asyncio.run(_interruptible(work, on_interrupt))


async def _interruptible(work: Coroutine[Any, Any, T], on_interrupt: Callable[[], None]) -> T:
    import asyncio

    loop = asyncio.get_running_loop()
    task = loop.create_task(work)

    def stop() -> None:
        on_interrupt()
        task.cancel()

    def first(*_: object) -> None:
        signal.signal(signal.SIGINT, _leave)
        loop.call_soon_threadsafe(stop)

    before = signal.signal(signal.SIGINT, first)
    try:
        return await task
    except asyncio.CancelledError:
        raise Interrupted from None
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(*_: object) -> None:
    if sys.stderr.isatty():
        os.write(2, _SHOW_CURSOR.encode())
    os._exit(INTERRUPTED)
