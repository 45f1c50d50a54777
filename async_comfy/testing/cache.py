"""What nodes made, kept for the next prompt that asks for the same (ComfyUI comfy_execution/caching.py)."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from async_comfy.testing.graph import Graph, is_link


@dataclass(frozen=True, slots=True)
class Made:
    """The outputs of one node (for each slot a list of values), and what it showed."""

    outputs: list[list[Any]]
    ui: dict[str, Any] | None = None
    meta: dict[str, Any] | None = None


class Cache:
    """Results by what they were made of: class, inputs, and the same of all nodes above.

    Only the results of the latest prompt are kept, as the real server does by default.
    """

    def __init__(self) -> None:
        self._made: dict[str, Made] = {}
        self._parents: dict[str, str] = {}
        self._signatures: dict[str, str] = {}
        self._graph = Graph({}, {})
        self._folders: Any = None

    def begin(self, graph: Graph, node_ids: list[str], folders: Any) -> None:
        """A new prompt: results that it has no use for are forgotten."""
        self._graph, self._folders, self._signatures = graph, folders, {}
        wanted = {self.signature(node_id) for node_id in node_ids}
        kept = {key for key in self._made if key in wanted or self._parents.get(key) in wanted}
        self._made = {key: made for key, made in self._made.items() if key in kept}
        self._parents = {key: parent for key, parent in self._parents.items() if key in kept}

    def clear(self) -> None:
        """Forgets everything."""
        self._made.clear()
        self._parents.clear()

    def get(self, node_id: str) -> Made | None:
        """What this node would make, if it was made already."""
        return self._made.get(self.signature(node_id))

    def put(self, node_id: str, made: Made) -> None:
        """Keeps what a node made, for as long as the node of the prompt that it grew out of is kept."""
        key = self.signature(node_id)
        self._made[key] = made
        self._parents[key] = self.signature(self._graph.real(node_id))

    def signature(self, node_id: str) -> str:
        """What a result is known by."""
        if node_id not in self._signatures:
            self._signatures[node_id] = self._sign(node_id)
        return self._signatures[node_id]

    def _sign(self, node_id: str) -> str:
        graph = self._graph
        if node_id not in graph:
            return f"missing {node_id}"
        node, inputs = graph.class_of(node_id), graph.inputs(node_id)
        parts: list[Any] = [node.name]
        if "UNIQUE_ID" in node.hidden.values():
            parts.append(node_id)
        for name in sorted(inputs):
            value = inputs[name]
            parts.append([name, [self.signature(value[0]), value[1]] if is_link(value) else {"is": value}])
        if node.changed is not None:
            values = {name: value for name, value in inputs.items() if not is_link(value)}
            parts.append(node.changed(self._folders, **values))
        return hashlib.sha1(json.dumps(parts, default=repr).encode(), usedforsecurity=False).hexdigest()
