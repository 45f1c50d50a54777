"""What following a run needs to know of its nodes."""

from dataclasses import dataclass
from typing import Any

from async_comfy.workflow.nodes import Nodes
from async_comfy.workflow.values import linked


@dataclass(frozen=True, slots=True)
class NodeShape:
    """A node without its values.

    `title`: what people call it. `steps`: its literal `steps` input, 1 without. `leaf`: no other node takes
    anything from it, as is so for what saves and shows.
    """

    class_type: str
    title: str
    steps: int = 1
    leaf: bool = False


def shape_of(nodes: Nodes) -> dict[str, NodeShape]:
    """The shape of every node."""
    used = {linked(value) for node in nodes.values() for value in node.inputs.values()}
    return {
        key: NodeShape(node.class_type, node.title, _steps(node.inputs.get("steps")), key not in used)
        for key, node in nodes.items()
    }


def _steps(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 1
