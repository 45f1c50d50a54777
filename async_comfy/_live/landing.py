"""Where the bytes of a read land: one place for all sockets of a thread.

One is enough: asyncio asks for it, fills it and hands it over within one callback. Without it asyncio
allocates 256 KiB for every read.
"""

import threading

READ_BYTES = 1 << 18  # what asyncio itself reads at once


class _Landing(threading.local):
    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_BYTES))


_landing = _Landing()


def landing() -> memoryview:
    """This thread's. What is read must be copied out before the callback that was told of it ends."""
    return _landing.view
