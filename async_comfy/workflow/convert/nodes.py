"""Graphs as they stand in the editor once a file is loaded: nodes with slots and widgets, and links."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from async_comfy.workflow.convert.classes import InputSpec, NodeClass
from async_comfy.workflow.convert.records import InputRecord, Link, NodeRecord, number_of
from async_comfy.workflow.convert.widgets import Widget

ALWAYS, MUTED, BYPASSED = 0, 2, 4
"""The modes of a node that a prompt knows."""

FRONTEND_ONLY = frozenset(
    {
        "Note",
        "MarkdownNote",
        "Reroute",
        "PrimitiveNode",
        # KJNodes
        "GetNode",
        "SetNode",
        # rgthree-comfy
        "Bookmark (rgthree)",
        "Fast Actions Button (rgthree)",
        "Fast Bypasser (rgthree)",
        "Fast Groups Bypasser (rgthree)",
        "Fast Groups Muter (rgthree)",
        "Fast Muter (rgthree)",
        "Label (rgthree)",
        "Mute / Bypass Relay (rgthree)",
        "Mute / Bypass Repeater (rgthree)",
        "Node Collector (rgthree)",
        "Random Unmuter (rgthree)",
        "Reroute (rgthree)",
    }
)
"""Classes that live in the editor alone: never sent, and what they pass on comes from their own inputs."""


@dataclass(slots=True, eq=False)
class Entry:
    """An input or output of a subgraph, and the links inside that hang on it."""

    name: str
    type: str
    links: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Slot:
    """An input of a node. `widget` names the widget beside it, `spec` says how that is made.

    On a subgraph node `entry` is the input of the subgraph that it stands for, and `promoted` the widget
    that it shows for one inside.
    """

    name: str
    type: str
    link: int | None = None
    widget: str | None = None
    spec: InputSpec | None = None
    entry: Entry | None = None
    promoted: Widget | None = None


@dataclass(slots=True, eq=False)
class Output:
    """An output of a node."""

    type: str
    links: list[int]


@dataclass(slots=True, eq=False)
class Growing:
    """An input that repeats itself while it is connected."""

    specs: list[InputSpec]
    least: int
    most: int
    prefix: str
    names: list[str] | None

    def name_of(self, ordinal: int, key: str) -> str:
        """The name, within the group, of the repetition `ordinal` of the input `key`."""
        if self.names is not None:
            return self.names[ordinal] if 0 <= ordinal < len(self.names) else ""
        return f"{self.prefix if len(self.specs) == 1 else key}{ordinal}"

    def ordinal_of(self, name: str) -> int | None:
        """Which repetition the input `name` of the group is."""
        if self.names is not None:
            return self.names.index(name) if name in self.names else None
        return number_of(name[len(name.rstrip("0123456789")) :])


class Node:
    """One node. `node_class` is None for classes that only the editor has or that nobody knows."""

    def __init__(self, record: NodeRecord, graph: "Graph", node_class: NodeClass | None) -> None:
        self.record = record
        self.graph = graph
        self.node_class = node_class
        self.id = record.id
        self.mode = record.mode
        self.inputs: list[Slot] = []
        self.outputs: list[Output] = []
        self.widgets: list[Widget] = []
        self.growing: dict[str, Growing] = {}

    @property
    def type(self) -> str:
        """The class, or the id of the subgraph that the node stands for."""
        return self.record.type

    @property
    def title(self) -> str:
        """What the editor writes above it."""
        return self.record.title or (self.node_class.title if self.node_class else self.record.type)

    @property
    def virtual(self) -> bool:
        """It is never sent."""
        return self.node_class is None and self.type in FRONTEND_ONLY

    def widget_named(self, name: str | None) -> Widget | None:
        """The first widget of that name."""
        return next((widget for widget in self.widgets if widget.name == name), None)

    def widget_of(self, slot: Slot) -> Widget | None:
        """The widget beside an input."""
        return self.widget_named(slot.widget) if slot.widget else None

    def slot_of(self, widget: Widget) -> Slot | None:
        """The input beside a widget."""
        return next((slot for slot in self.inputs if slot.widget == widget.name), None)

    def take(self, values: list[Any] | dict[str, Any]) -> None:
        """Puts saved values into the widgets, by position or by name."""
        if isinstance(values, dict):
            for widget in self.widgets:
                if widget.saved and widget.name in values:
                    widget.put(values[widget.name])
            return
        index = position = 0
        while index < len(self.widgets) and position < len(values):  # widgets come and go while we put
            widget = self.widgets[index]
            if widget.saved:
                widget.put(values[position])
                position += 1
            index += 1

    def merge(self, saved: list[InputRecord]) -> None:
        """Gives the declared inputs the links of the saved ones; saved ones nobody declares follow."""
        by_name = {slot.name: slot for slot in saved}
        for slot in self.inputs:
            if found := by_name.get(slot.name):
                slot.link = found.link
                slot.widget = slot.widget or found.widget
        declared = {slot.name for slot in self.inputs}
        self.inputs += [Slot(s.name, s.type, s.link, s.widget) for s in saved if s.name not in declared]


class SubgraphNode(Node):
    """A node that stands for a subgraph. Several may stand for one: they share what is inside."""

    def __init__(self, record: NodeRecord, graph: "Graph", subgraph: "Graph") -> None:
        super().__init__(record, graph, None)
        self.subgraph = subgraph
        self.promotions: dict[str, Widget] = {}

    @property
    def virtual(self) -> bool:
        """It is never sent; what is inside is."""
        return True

    def widget_named(self, name: str | None) -> Widget | None:
        """The promoted widget of that name."""
        return next((slot.promoted for slot in self.inputs if slot.promoted and slot.name == name), None)

    def widget_of(self, slot: Slot) -> Widget | None:
        """The widget that it shows for the input."""
        return slot.promoted

    def slot_of(self, widget: Widget) -> Slot | None:
        """The input that shows the widget."""
        return next((slot for slot in self.inputs if slot.promoted is widget), None)

    def promote(self, slot: Slot, inner: Widget, spec: InputSpec | None) -> None:
        """Shows `inner` at `slot`, with its value at this moment; from now on the value is its own."""
        known = self.promotions.get(slot.name)
        if known is None or known.kind != inner.kind:
            known = Widget(slot.name, inner.kind, inner.read(), choices=inner.choices, span=inner.span)
            known.sent = inner.sent
            self.promotions[slot.name] = known
        slot.widget, slot.spec, slot.promoted = slot.name, spec, known


class Graph:
    """The root graph or a subgraph. `users` are the nodes that stand for it."""

    def __init__(self, graph_id: str, place: str) -> None:
        self.id = graph_id
        self.place = place
        self.nodes: dict[str, Node] = {}
        self.links: dict[int, Link] = {}
        self.inputs: list[Entry] = []
        self.outputs: list[Entry] = []
        self.users: list[SubgraphNode] = []

    def unused_link(self) -> int:
        """An id that no link of this graph has."""
        return max(self.links, default=0) + 1

    def target_of(self, link_id: int) -> tuple[Node, Slot] | None:
        """The node and input where a link ends, unless it ends at an output of the subgraph or nowhere."""
        link = self.links.get(link_id)
        node = self.nodes.get(link.target) if link else None
        for slot in node.inputs if node else ():
            if node and slot.link == link_id:
                return node, slot
        return None

    def targets_of(self, entry: Entry) -> Iterator[tuple[Node, Slot]]:
        """Where the links of a subgraph input end."""
        for link_id in entry.links:
            if target := self.target_of(link_id):
                yield target

    def disconnect(self, slot: Slot) -> None:
        """Takes the link away from an input of this graph, at both ends."""
        link = self.links.pop(slot.link, None) if slot.link is not None else None
        slot.link = None
        if link is None:
            return
        origin = self.nodes.get(link.origin)
        holders: list[Any] = origin.outputs if origin else self.inputs
        for holder in holders[link.origin_slot : link.origin_slot + 1]:
            if link.id in holder.links:
                holder.links.remove(link.id)
