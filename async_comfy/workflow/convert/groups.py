"""Group nodes, which were before subgraphs: each becomes a subgraph of its own, as the editor turns them.

A group node shows the inputs, widgets and outputs of the nodes in it that are not linked among themselves,
under names that it makes unique; ``extra.groupNodes`` says what is in it.

Source: ComfyUI_frontend ``extensions/core/groupNode.ts``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from async_comfy.errors import WorkflowError
from async_comfy.workflow.convert.classes import InputSpec, NodeClass
from async_comfy.workflow.convert.inputs import furnish
from async_comfy.workflow.convert.nodes import Graph, Node
from async_comfy.workflow.convert.records import (
    INPUT_ID,
    OUTPUT_ID,
    EntryRecord,
    FileRecord,
    GraphRecord,
    InputRecord,
    Link,
    NodeRecord,
    OutputRecord,
    node_record,
)
from async_comfy.workflow.convert.widgets import BUILDERS, UNSET

PREFIXES = ("workflow>", "workflow/")
"""How the class of a group node begins, today and before."""

FindClass = Callable[[str], NodeClass | None]


def group_of(file: FileRecord, node: NodeRecord) -> str | None:
    """The name of the group that the node stands for, if it is a group node that the file explains."""
    name = next((node.type.removeprefix(prefix) for prefix in PREFIXES if node.type.startswith(prefix)), None)
    return name if name in file.groups else None


def members(file: FileRecord, name: str) -> list[dict[str, Any]]:
    """The nodes of a group as saved.

    Raises: `WorkflowError` where the group is not one.
    """
    return _list_of(file.groups[name], "nodes", f"group node {name!r}")


def unfold_groups(file: FileRecord, find_class: FindClass, last: int) -> None:
    """Puts subgraphs in place of the group nodes of the root graph. `last` is the highest node id."""
    for node in list(file.root.nodes):
        if (name := group_of(file, node)) is not None:
            group = Group(file, name, node, find_class, last)
            group.unfold()
            last = int(group.id)


@dataclass(slots=True)
class Face:
    """What a group node shows: widgets in order, inputs by name, outputs in order; each with its member."""

    widgets: list[tuple[int, InputSpec]] = field(default_factory=list)
    inputs: dict[str, tuple[int, InputSpec]] = field(default_factory=dict)
    outputs: list[tuple[int, int, str]] = field(default_factory=list)


class Group:
    """One group node on its way to a subgraph."""

    def __init__(
        self, file: FileRecord, name: str, node: NodeRecord, find_class: FindClass, last: int
    ) -> None:
        place = f"group node {name!r}"
        raws = members(file, name)
        self.file = file
        self.node = node
        self.find_class = find_class
        self.data: Mapping[str, Any] = file.groups[name]
        self.nodes = [node_record({**raw, "id": last + 1 + i}, place, i) for i, raw in enumerate(raws)]
        self.id = str(last + 1 + len(raws))
        self.links = list(self._inner_links(place))
        self.graph = GraphRecord(f"group:{self.id}", place, self.nodes, {})

    def unfold(self) -> None:
        """Replaces the node in its file."""
        face = self._face()
        self._give_values(face)
        for record in self.nodes:
            for slot in record.inputs:
                slot.link = None
            record.outputs = [OutputRecord(output.type, []) for output in record.outputs]
        for origin, origin_slot, target, target_slot, _ in self.links:
            if target_slot < len(self.nodes[target].inputs):
                slot = self.nodes[target].inputs[target_slot]
                slot.link = self._link(self.nodes[origin].id, origin_slot, self.nodes[target].id, target_slot)
                self._announce(origin, origin_slot, slot.link)
        host = NodeRecord(self.id, self.graph.id, self.node.place, self.node.title, self.node.mode)
        self._connect_inputs(face, host)
        self._connect_outputs(face, host)
        self._replace(host)

    def _inner_links(self, place: str) -> Iterator[tuple[int, int, int, int, str]]:
        for link in _list_of(self.data, "links", place, list):
            ends = link[:4]
            if len(ends) < 4 or not all(isinstance(end, int) and end >= 0 for end in ends):
                continue  # it once led outside
            if max(ends[0], ends[2]) >= len(self.nodes):
                raise WorkflowError("a link inside leads to a node that is not there", place=place)
            yield ends[0], ends[1], ends[2], ends[3], str(link[5]) if len(link) > 5 else "*"

    def _link(self, origin: str, origin_slot: int, target: str, target_slot: int) -> int:
        number = len(self.graph.links) + 1
        self.graph.links[number] = Link(number, origin, origin_slot, target, target_slot)
        return number

    def _announce(self, member: int, slot: int, link: int) -> None:
        outputs = self.nodes[member].outputs
        if slot < len(outputs):
            outputs[slot].links.append(link)

    def _face(self) -> Face:
        face, seen = Face(), dict[str, int]()
        converted: list[tuple[int, InputSpec]] = []
        for index in range(len(self.nodes)):
            converted += self._show(index, face, seen)
        for index, spec in converted:
            face.inputs[self._name(index, spec, seen)] = (index, spec)
            face.widgets.append((index, spec))
        return face

    def _show(self, index: int, face: Face, seen: dict[str, int]) -> list[tuple[int, InputSpec]]:
        """Adds one member to the face; its widgets that are inputs now come after all others."""
        specs, outputs = self._declared(index)
        saved = {slot.widget: i for i, slot in enumerate(self.nodes[index].inputs) if slot.widget}
        widgets = [spec for spec in specs if spec.widget_type in BUILDERS and not spec.forced]
        for spec in widgets:
            if spec.name not in saved:
                self._name(index, spec, seen)
                face.widgets.append((index, spec))
        sockets = [spec for spec in specs if spec not in widgets]
        fed = {target_slot for _, _, target, target_slot, _ in self.links if target == index}
        for i, spec in enumerate(sockets):
            if i not in fed:
                face.inputs[self._name(index, spec, seen)] = (index, spec)
        face.outputs += [(index, i, kind) for i, kind in enumerate(outputs) if self._visible(index, i)]
        moved = sorted((spec for spec in widgets if spec.name in saved), key=lambda spec: saved[spec.name])
        return [(index, spec) for i, spec in enumerate(moved) if len(sockets) + i not in fed]

    def _declared(self, index: int) -> tuple[list[InputSpec], list[str]]:
        record = self.nodes[index]
        if node_class := self.find_class(record.type):
            return list(node_class.declared.values()), list(node_class.outputs)
        out = [link for link in self.links if link[0] == index]
        into = [link for link in self.links if link[2] == index]
        if record.type == "PrimitiveNode" and out:
            return [InputSpec("value", out[0][4], {"control_after_generate": True})], [out[0][4]]
        if record.type == "Reroute" and not (out and into and not self._external(index, 0)):
            kind = (out or into or [(0, 0, 0, 0, "*")])[0][4]
            return [InputSpec(kind, kind, {"forceInput": True})], [kind]
        return [], []

    def _external(self, index: int, slot: int) -> bool:
        listed = self.data.get("external")
        return isinstance(listed, list) and any(
            isinstance(entry, list) and entry[:2] == [index, slot] for entry in listed
        )

    def _visible(self, index: int, slot: int) -> bool:
        shown = self._config(index, "output", str(slot)).get("visible")
        linked = any(link[:2] == (index, slot) for link in self.links)
        return bool(shown) if shown is not None else not linked or self._external(index, slot)

    def _config(self, index: int, side: str, key: str) -> Mapping[str, Any]:
        config: Any = self.data.get("config")
        for step in (str(index), side, key):
            config = config.get(step) if isinstance(config, Mapping) else None
        return config if isinstance(config, Mapping) else {}

    def _name(self, index: int, spec: InputSpec, seen: dict[str, int]) -> str:
        record = self.nodes[index]
        name = key = str(self._config(index, "input", spec.name).get("name") or spec.name)
        if name in seen or (record.type == "PrimitiveNode" and record.title):
            prefix = f"{record.title or record.type} "
            name = key = prefix + spec.name
            if name in seen:
                name = f"{prefix}{seen[name]} {spec.name}"
        seen[key] = seen.get(key, 1) + 1
        return name

    def _give_values(self, face: Face) -> None:
        """The values that the group node holds for its members win over what they were saved with."""
        values = self.node.values if isinstance(self.node.values, list) else []
        nodes = [self._furnished(record) for record in self.nodes]
        position = 0
        for index, spec in face.widgets:
            if position < len(values):
                self._give(nodes[index], spec, values[position])
            position += sum(widget.saved for widget in BUILDERS[spec.widget_type](spec))
        for node in nodes:
            if node.node_class:
                known = ((widget.name, widget.read()) for widget in node.widgets if widget.saved)
                node.record.values = {name: value for name, value in known if value is not UNSET}

    def _furnished(self, record: NodeRecord) -> Node:
        node = Node(record, Graph("", ""), self.find_class(record.type))
        if node.node_class:
            furnish(node, node.node_class)
            node.take(record.values)
        return node

    def _give(self, node: Node, spec: InputSpec, value: Any) -> None:
        if widget := node.widget_named(spec.name):
            widget.put(value)
        elif isinstance(node.record.values, list):
            node.record.values = [value, *node.record.values[1:]]

    def _connect_inputs(self, face: Face, host: NodeRecord) -> None:
        for slot in self.node.inputs:
            if slot.link is None or slot.name not in face.inputs:
                continue
            index, spec = face.inputs[slot.name]
            inner = self._inner_input(self.nodes[index], spec)
            target_slot = self.nodes[index].inputs.index(inner)
            link = self._link(INPUT_ID, len(host.inputs), self.nodes[index].id, target_slot)
            inner.link = link
            self.graph.inputs.append(EntryRecord(slot.name, slot.type, [link]))
            host.inputs.append(InputRecord(slot.name, slot.type, slot.link, slot.widget))

    def _inner_input(self, record: NodeRecord, spec: InputSpec) -> InputRecord:
        for slot in record.inputs:
            if slot.name == spec.name or record.type == "Reroute":  # a reroute has but one
                return slot
        record.inputs.append(InputRecord(spec.name, spec.type))
        return record.inputs[-1]

    def _connect_outputs(self, face: Face, host: NodeRecord) -> None:
        for position, (index, slot, kind) in enumerate(face.outputs):
            link = self._link(self.nodes[index].id, slot, OUTPUT_ID, position)
            self._announce(index, slot, link)
            self.graph.outputs.append(EntryRecord(f"{kind}_{position}", kind, [link]))
        host.outputs = [OutputRecord(output.type, list(output.links)) for output in self.node.outputs]

    def _replace(self, host: NodeRecord) -> None:
        root = self.file.root
        root.nodes = [host if node is self.node else node for node in root.nodes]
        places = {slot.link: index for index, slot in enumerate(host.inputs)}
        for key, link in root.links.items():
            if link.origin == self.node.id:
                link = Link(link.id, host.id, link.origin_slot, link.target, link.target_slot)
            if link.target == self.node.id:
                slot = places.get(link.id, link.target_slot)
                link = Link(link.id, link.origin, link.origin_slot, host.id, slot)
            root.links[key] = link
        self.file.definitions[self.graph.id] = self.graph


def _list_of(raw: Any, key: str, place: str, kind: type = dict) -> list[Any]:
    items = raw.get(key) if isinstance(raw, Mapping) else None
    if not isinstance(items, list) or not all(isinstance(item, kind) for item in items):
        raise WorkflowError(f"its {key} should be a list of them", place=place)
    return items
