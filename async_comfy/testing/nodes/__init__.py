"""The node classes of a simulated server: image nodes that really run, diffusion nodes that are played."""

from collections.abc import Iterator

from async_comfy.testing.nodes.node import (
    BOOLEAN,
    CHOICE,
    FLOAT,
    INT,
    STRING,
    Blocked,
    Expanded,
    Node,
    OutOfMemoryError,
    Shown,
    Spec,
)

__all__ = [
    "BOOLEAN",
    "CHOICE",
    "FLOAT",
    "INT",
    "STRING",
    "Blocked",
    "Expanded",
    "Node",
    "OutOfMemoryError",
    "Shown",
    "Spec",
    "core",
]


def core() -> Iterator[Node]:
    """Every class that a simulated server knows without being told."""
    from async_comfy.testing.nodes import diffusion, images, probes

    for module in (images, diffusion, probes):
        yield from module.NODES
