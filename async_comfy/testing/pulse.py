"""Waiting for conditions: whoever changes something beats once, whoever waits looks again."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future

PATIENCE_S = 30.0  # longer than anything a test waits for on a busy machine, short enough to fail in a run


class Pulse:
    """Beats at every change of the server's state. Thread-safe: waits may come from any thread or loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits: list[tuple[Callable[[], object], Future[None]]] = []

    def beat(self) -> None:
        """Something changed: each wait whose condition holds now is over."""
        if not self._waits:
            return
        with self._lock:
            waits, self._waits = self._waits, []
            for condition, future in waits:
                if not self._settle(condition, future):
                    self._waits.append((condition, future))

    def when(self, condition: Callable[[], object]) -> Future[None]:
        """A future that is done when `condition` holds. An exception in `condition` ends it too."""
        future: Future[None] = Future()
        with self._lock:
            if not self._settle(condition, future):
                self._waits.append((condition, future))
        return future

    def wait(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """Blocks the calling thread until `condition` holds. Raises: `TimeoutError`."""
        self.when(condition).result(timeout_s)

    async def until(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """Awaits `condition`, in whatever loop it is called. Raises: `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            await asyncio.wrap_future(self.when(condition))

    @staticmethod
    def _settle(condition: Callable[[], object], future: Future[None]) -> bool:
        if future.cancelled():
            return True
        try:
            holds = condition()
        except Exception as error:  # noqa: BLE001 - the waiter gets it, whatever it is: it is the waiter's condition
            future.set_exception(error)
            return True
        if holds and future.set_running_or_notify_cancel():
            future.set_result(None)
        return bool(holds)
