"""An event loop in a thread of its own, for tests that have none or keep theirs to themselves."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, Protocol, TypeVar

from async_comfy.testing.pulse import PATIENCE_S


class Lasting(Protocol):
    """Something for an ``async with`` that gives itself."""

    def __aenter__(self) -> Coroutine[Any, Any, Any]: ...
    def __aexit__(self, *exc: object) -> Coroutine[Any, Any, None]: ...


Kept = TypeVar("Kept", bound=Lasting)


@contextlib.contextmanager
def in_thread(what: Kept, name: str) -> Iterator[Kept]:
    """Enters `what` in the loop of a new daemon thread; leaves it there when the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=name, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(what.__aenter__(), loop).result(PATIENCE_S)
        try:
            yield what
        finally:
            asyncio.run_coroutine_threadsafe(what.__aexit__(None, None, None), loop).result(PATIENCE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()
