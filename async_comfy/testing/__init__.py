"""A simulated ComfyUI, a faulty network, and pytest fixtures: to test whatever talks to a ComfyUI.

    from async_comfy.testing import SimulatedServer

    async with SimulatedServer() as server:
        ...  # your client, at server.url

It needs Pillow: ``pip install "async-comfy[testing]"``. Everything is imported when it is first asked for, so
that the pytest plugin costs nothing where it is not used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from async_comfy.testing.clock import VirtualLoop, run_virtually
    from async_comfy.testing.faults import Faults, Frame
    from async_comfy.testing.nodes.node import Node
    from async_comfy.testing.process import ServerProcess
    from async_comfy.testing.proxy import FaultProxy
    from async_comfy.testing.server import Request, SimulatedServer

__all__ = [
    "FaultProxy",
    "Faults",
    "Frame",
    "Node",
    "Request",
    "ServerProcess",
    "SimulatedServer",
    "VirtualLoop",
    "run_virtually",
]

_HOMES = {
    "FaultProxy": "proxy",
    "Faults": "faults",
    "Frame": "faults",
    "Node": "nodes.node",
    "Request": "server",
    "ServerProcess": "process",
    "SimulatedServer": "server",
    "VirtualLoop": "clock",
    "run_virtually": "clock",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
