"""An event loop whose time passes at once: what waits ten minutes is through in a millisecond."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Whenever everything waits, it is at once the time at which something goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self._real_select = self._selector.select  # type: ignore[attr-defined]  # asyncio's own
        self._selector.select = self._select  # type: ignore[attr-defined]  # as above

    def time(self) -> float:
        return self.now

    def _select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("everything waits, and nothing will ever happen")
        self.now += timeout
        return self._real_select(0)


def run_virtually(doing: Coroutine[Any, Any, T], patch: pytest.MonkeyPatch) -> T:
    """Runs it with a clock of its own, which is the whole process's meanwhile."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        with patch.context() as meanwhile:
            meanwhile.setattr(time, "monotonic", loop.time)
            return runner.run(doing)
