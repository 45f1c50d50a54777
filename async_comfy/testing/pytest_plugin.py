"""Fixtures for whoever tests code that talks to a ComfyUI. Installed with the package, loaded by pytest.

    def test_my_app(comfy_server):
        my_app(comfy_server.url)
        assert comfy_server.requests.count("POST", "/prompt") == 1

The servers live in threads of their own, so the fixtures serve plain tests and asynchronous ones, whatever
plugin runs those. Nothing heavy is imported before a test asks for a fixture.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from async_comfy.testing.server import SimulatedServer


@pytest.fixture
def comfy_server_factory() -> "Iterator[Callable[..., SimulatedServer]]":
    """Makes simulated servers with the options of `SimulatedServer`; they end with the test."""
    from async_comfy.testing.server import SimulatedServer

    with ExitStack() as servers:

        def make(**options: Any) -> SimulatedServer:
            return servers.enter_context(SimulatedServer(**options).in_thread())

        yield make


@pytest.fixture
def comfy_server(comfy_server_factory: "Callable[..., SimulatedServer]") -> "SimulatedServer":
    """One simulated server, fresh for each test."""
    return comfy_server_factory()
