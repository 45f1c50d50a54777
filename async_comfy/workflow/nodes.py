"""A node as those see it who only read: the shape, the check, the seeds, the parameters."""

from collections.abc import Mapping
from typing import Any, Protocol


class NodeView(Protocol):
    """One node, to look at."""

    @property
    def id(self) -> str:
        """Its key in the prompt; ``29:5`` inside of a subgraph."""
        ...

    @property
    def class_type(self) -> str:
        """Its class on the server."""
        ...

    @property
    def title(self) -> str:
        """What people call it, else its class."""
        ...

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Its inputs by name: values, links as ``["4", 0]``, files to upload."""
        ...


Nodes = Mapping[str, NodeView]
"""The nodes of a workflow by id."""
