"""Hosts as a test says: addresses that answer nothing, and names of several addresses."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

GPU = "gpu.test"


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port whose queue of connections is full: it says nothing, as a host that is gone does."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()[1]


def resolve(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """The running loop finds `GPU` at these ports of this machine, in this order."""
    loop = asyncio.get_running_loop()
    others = loop.getaddrinfo

    async def found(host: Any, port: Any, **how: Any) -> Any:
        if host != GPU:
            return await others(host, port, **how)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", each)) for each in ports]

    monkeypatch.setattr(loop, "getaddrinfo", found)
