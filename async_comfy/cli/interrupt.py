"""Ctrl-C or SIGTERM: the first one asks to stop in good order, the second one leaves at once."""

import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from async_comfy.cli.exits import INTERRUPTED, TERMINATED

T = TypeVar("T")

_SHOW_CURSOR = "\x1b[?25h"
_CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


class Interrupted(Exception):
    """Ctrl-C was pressed or SIGTERM came, and what ran has stopped. `code`: what the process ends with."""

    def __init__(self, code: int = INTERRUPTED) -> None:
        super().__init__(code)
        self.code = code


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
    code = INTERRUPTED

    def stop() -> None:
        on_interrupt()
        task.cancel()

    def first(number: int, _: object) -> None:
        nonlocal code
        code = _CODES[signal.Signals(number)]
        for kind in _CODES:
            signal.signal(kind, _leave)
        loop.call_soon_threadsafe(stop)

    before = {kind: signal.signal(kind, first) for kind in _CODES}
    try:
        return await task
    except asyncio.CancelledError:
        raise Interrupted(code) from None
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _leave(number: int, _: object) -> None:
    if sys.stderr.isatty():
        os.write(2, _SHOW_CURSOR.encode())
    os._exit(_CODES[signal.Signals(number)])
