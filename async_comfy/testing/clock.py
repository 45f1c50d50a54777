"""A clock that passes at once: what waits ten minutes is through in a millisecond."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar
from unittest.mock import patch

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop: whenever everything waits, it is at once the time at which something goes on.

    For code whose other side lives in the same loop. What comes over a real socket takes real time, of which
    this clock knows nothing. Raises: `AssertionError` where everything waits and nothing will ever happen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self._real_select = self._selector.select  # type: ignore[attr-defined]  # asyncio's own
        self._selector.select = self._select  # type: ignore[attr-defined]  # as above

    def time(self) -> float:
        """The virtual seconds."""
        return self.now

    def _select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("everything waits, and nothing will ever happen")
        self.now += timeout
        return self._real_select(0)


def run_virtually(doing: Coroutine[Any, Any, T]) -> T:
    """Runs it on a `VirtualLoop`, whose clock is meanwhile the whole process's `time.monotonic`."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        with patch.object(time, "monotonic", loop.time):
            return runner.run(doing)
