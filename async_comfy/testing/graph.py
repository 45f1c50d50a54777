"""The nodes of one prompt, those that grow out of them while it runs, and whose turn it is."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from async_comfy.testing.nodes.node import Node


def is_link(value: Any) -> bool:
    """Whether an input is a link: a node id and the number of one of its outputs."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int | float)
    )


class Graph:
    """Nodes by id. Nodes that an expanded node put in its place know it as their parent."""

    def __init__(self, nodes: Mapping[str, Any], classes: Mapping[str, Node]) -> None:
        self.classes = classes
        self._nodes: dict[str, Any] = dict(nodes)
        self._parents: dict[str, str] = {}

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._nodes

    def inputs(self, node_id: str) -> dict[str, Any]:
        """What the node is given: values and links."""
        return self._nodes[node_id].get("inputs", {})  # type: ignore[no-any-return]  # a prompt is plain JSON

    def class_of(self, node_id: str) -> Node:
        """The class of a node."""
        return self.classes[self._nodes[node_id]["class_type"]]

    def links(self, node_id: str, *, lazy: bool = True) -> Iterator[tuple[str, str, int]]:
        """(input, node id, slot) of every link into a node; without the lazy inputs if so asked."""
        specs = self.class_of(node_id).inputs
        for name, value in self.inputs(node_id).items():
            if is_link(value) and (lazy or not _is_lazy(specs.get(name))):
                yield name, value[0], int(value[1])

    def grow(self, parent: str, nodes: Mapping[str, Any]) -> None:
        """Adds the nodes that `parent` expands into."""
        self._nodes.update(nodes)
        self._parents.update(dict.fromkeys(nodes, parent))

    def parent(self, node_id: str) -> str | None:
        """The node that it grew out of, or None."""
        return self._parents.get(node_id)

    def real(self, node_id: str) -> str:
        """The node of the posted prompt that it grew out of in the end, or is."""
        while (parent := self._parents.get(node_id)) is not None:
            node_id = parent
        return node_id


class Turns:
    """Which nodes still have to run, and which of them is next (ComfyUI comfy_execution/graph.py).

    The order is the real server's: what is shown early is run early, and among equals the order in which
    the nodes were found, walking from the outputs up, the last input first.
    """

    def __init__(self, graph: Graph, done: Callable[[str], bool]) -> None:
        self.graph = graph
        self.done = done
        self._needs: dict[str, set[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._needs)

    def want(self, node_id: str) -> None:
        """The node has to run, and before it whatever it needs that is not done yet."""
        found = [node_id]
        while found:
            node_id = found.pop()
            if node_id in self._needs:
                continue
            sources = [source for _, source, _ in self.graph.links(node_id, lazy=False)]
            missing = [source for source in sources if not self.done(source)]
            self._needs[node_id] = set(missing)
            found.extend(missing)

    def after(self, node_id: str, source: str) -> None:
        """`node_id` runs after `source`, which has to run too."""
        if not self.done(source):
            self.want(source)
            self._needs[node_id].add(source)

    def next(self) -> str:
        """Whose turn it is."""
        feeds: dict[str, list[str]] = {}
        for node_id, needs in self._needs.items():
            for source in needs:
                feeds.setdefault(source, []).append(node_id)
        ready = (node_id for node_id, needs in self._needs.items() if not needs)
        return min(ready, key=lambda node_id: self._distance(node_id, feeds))

    def finish(self, node_id: str) -> None:
        """The node has run."""
        del self._needs[node_id]
        for needs in self._needs.values():
            needs.discard(node_id)

    def _distance(self, node_id: str, feeds: Mapping[str, list[str]]) -> int:
        """Links from a node to the nearest output: 0, 1, 2, or 3 for further."""
        reached = [node_id]
        for distance in range(3):
            if any(self.graph.class_of(node).output_node for node in reached):
                return distance
            reached = [fed for node in reached for fed in feeds.get(node, [])]
        return 3


def _is_lazy(spec: Any) -> bool:
    return spec is not None and len(spec) > 1 and bool(spec[1].get("lazy"))
