"""From records to graphs: what the editor does when it opens a file, in its order.

Definitions first, the innermost before those that use them; then the root graph; then promotions, and last
what needs all nodes in place (inputs whose widget is gone, primitives).

Source: ComfyUI_frontend ``LGraph.configure``, ``LGraphNode.configure``, ``SubgraphNode.configure``.
"""

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from async_comfy.errors import WorkflowError
from async_comfy.workflow.convert.classes import NodeClass, mapping
from async_comfy.workflow.convert.groups import unfold_groups
from async_comfy.workflow.convert.inputs import furnish, grow
from async_comfy.workflow.convert.nodes import Entry, Graph, Node, Output, Slot, SubgraphNode
from async_comfy.workflow.convert.primitives import prepare_primitive
from async_comfy.workflow.convert.promotion import listed, migrate_promotions, show_promoted
from async_comfy.workflow.convert.records import FileRecord, GraphRecord, Link, NodeRecord, number_of


class Editor:
    """Opens one file. `object_info` says which classes there are."""

    def __init__(self, object_info: Mapping[str, Any]) -> None:
        self.object_info = object_info
        self.classes: dict[str, NodeClass] = {}
        self.graphs: dict[str, Graph] = {}

    def open(self, file: FileRecord) -> Graph:
        """The root graph.

        Raises: `WorkflowError` where subgraphs contain one another in a circle.
        """
        last = give_unique_ids(file)
        unfold_groups(file, self._class, last)
        for name, record in file.definitions.items():
            self.graphs[name] = Graph(name, record.place)
        for record in innermost_first(file.definitions):
            self._fill(self.graphs[record.id], record)
        root = Graph("", file.root.place)
        self._fill(root, file.root)
        self._finish(root)
        return root

    def _fill(self, graph: Graph, record: GraphRecord) -> None:
        graph.links = dict(record.links)
        graph.nodes = {node.id: self._create(node, graph) for node in record.nodes}
        for node in graph.nodes.values():
            _configure(node)
        _drop_duplicate_links(graph)
        graph.inputs = [Entry(entry.name, entry.type, list(entry.links)) for entry in record.inputs]
        graph.outputs = [Entry(entry.name, entry.type, list(entry.links)) for entry in record.outputs]
        _mend_entries(graph)
        for node in graph.nodes.values():
            if isinstance(node, SubgraphNode):
                migrate_promotions(node)

    def _create(self, record: NodeRecord, graph: Graph) -> Node:
        if subgraph := self.graphs.get(record.type):
            node = SubgraphNode(record, graph, subgraph)
            subgraph.users.append(node)
            return node
        node_class = self._class(record.type)
        plain = Node(record, graph, node_class)
        if node_class:
            furnish(plain, node_class)
        return plain

    def _class(self, name: str) -> NodeClass | None:
        if name not in self.classes and isinstance(raw := self.object_info.get(name), Mapping):
            self.classes[name] = NodeClass.read(name, raw)
        return self.classes.get(name)

    def _finish(self, root: Graph) -> None:
        everything = [root, *self.graphs.values()]
        for graph in everything:
            for node in graph.nodes.values():
                _number_links(node)
        for node in _all_nodes(everything):
            if node.node_class:
                _drop_widgetless(node)
        for node in _all_nodes(everything):
            if node.type == "PrimitiveNode" and node.virtual:
                prepare_primitive(node)
        for node in _all_nodes(everything):
            _repair_values(node)


def _all_nodes(graphs: list[Graph]) -> Iterator[Node]:
    for graph in graphs:
        yield from graph.nodes.values()


def _configure(node: Node) -> None:
    if isinstance(node, SubgraphNode):
        _configure_subgraph(node)
    elif node.node_class is None:
        node.inputs = [Slot(slot.name, slot.type, slot.link, slot.widget) for slot in node.record.inputs]
        node.outputs = [Output(output.type, list(output.links)) for output in node.record.outputs]
    else:
        values = _positional(node)  # before growing: the widgets that the class alone gives
        node.merge(node.record.inputs)
        _merge_outputs(node)
        _announce_links(node)
        node.take(values)


def _configure_subgraph(node: SubgraphNode) -> None:
    node.inputs = [Slot(entry.name, entry.type, entry=entry) for entry in node.subgraph.inputs]
    node.merge(node.record.inputs)
    node.inputs = [slot for slot in node.inputs if slot.entry]
    node.outputs = [Output(entry.type, []) for entry in node.subgraph.outputs]
    _merge_outputs(node)
    for slot in node.inputs:
        show_promoted(node, slot)
    _put_promoted_values(node)


def _merge_outputs(node: Node) -> None:
    for index, saved in enumerate(node.record.outputs):
        if index < len(node.outputs):
            node.outputs[index].links = list(saved.links)
        else:
            node.outputs.append(Output(saved.type, list(saved.links)))


def _announce_links(node: Node) -> None:
    index = 0
    while index < len(node.inputs):  # inputs come while we look
        link = node.inputs[index].link
        grow(node, index, connected=link is not None and link in node.graph.links)
        index += 1


def _positional(node: Node) -> list[Any] | dict[str, Any]:
    """The saved values without those of inputs that once had a widget and are sockets now."""
    values = node.record.values
    if isinstance(values, dict) or node.node_class is None:
        return values
    names = {widget.name for widget in node.widgets}
    gone: list[bool] = []
    for spec in node.node_class.declared.values():
        if spec.name in names or spec.forced:
            gone += [spec.forced, False] if spec.options.get("control_after_generate") else [spec.forced]
    if len(gone) != len(values):
        return values
    return [value for value, dropped in zip(values, gone, strict=True) if not dropped]


def _put_promoted_values(node: SubgraphNode) -> None:
    kept = _quarantined_values(node)
    values = node.record.values
    promoted = [slot.promoted for slot in node.inputs if slot.promoted]
    for index, widget in enumerate(promoted):
        if widget.name in kept:
            widget.value = kept[widget.name]
        elif isinstance(values, list) and index < len(values):
            widget.value = values[index]


def _quarantined_values(node: SubgraphNode) -> dict[str, Any]:
    """Values that an earlier editor could not place and put aside, for inputs of the node itself."""
    kept: dict[str, Any] = {}
    for entry in map(mapping, listed(node.record.properties.get("proxyWidgetErrorQuarantine"))):
        original = listed(entry.get("originalEntry"))
        if len(original) > 1 and original[0] == "-1" and entry.get("hostValue") is not None:
            kept.setdefault(str(original[1]), entry["hostValue"])
    return kept


def _drop_duplicate_links(graph: Graph) -> None:
    groups: dict[tuple[str, int, str, int], list[int]] = {}
    for link in graph.links.values():
        ends = (link.origin, link.origin_slot, link.target, link.target_slot)
        groups.setdefault(ends, []).append(link.id)
    for ids in groups.values():
        if len(ids) > 1:
            _keep_one(graph, ids)


def _keep_one(graph: Graph, ids: list[int]) -> None:
    """Keeps the link that an input names, else the first."""
    sample, same = graph.links[ids[0]], set(ids)
    target, origin = graph.nodes.get(sample.target), graph.nodes.get(sample.origin)
    slots = [slot for slot in target.inputs if slot.link in same] if target else []
    keep = slots[0].link if slots else ids[0]
    gone = same - {keep}
    for slot in slots:
        slot.link = keep
    for link_id in gone:
        del graph.links[link_id]
    for output in origin.outputs[sample.origin_slot : sample.origin_slot + 1] if origin else ():
        output.links = [link_id for link_id in output.links if link_id not in gone]


def _mend_entries(graph: Graph) -> None:
    """Links that hang on an entry and went as duplicates are replaced by the one that stayed."""
    for io_node, entries in (("-10", graph.inputs), ("-20", graph.outputs)):
        for index, entry in enumerate(entries):
            entry.links = [
                link_id if link_id in graph.links else _other_link(graph, io_node, index, link_id)
                for link_id in entry.links
            ]


def _other_link(graph: Graph, io_node: str, index: int, missing: int) -> int:
    for link in graph.links.values():
        if (io_node, index) in ((link.origin, link.origin_slot), (link.target, link.target_slot)):
            return link.id
    return missing


def _number_links(node: Node) -> None:
    for index, slot in enumerate(node.inputs):
        if slot.link is not None and (link := node.graph.links.get(slot.link)):
            link.target_slot = index


def _drop_widgetless(node: Node) -> None:
    """Inputs whose widget the class no longer has go, and so do their links."""
    names = {widget.name for widget in node.widgets}
    gone = [slot for slot in node.inputs if slot.widget and slot.widget not in names]
    for slot in gone:
        node.graph.disconnect(slot)
    if gone:
        node.inputs = [slot for slot in node.inputs if slot not in gone]
        _number_links(node)


SAMPLERS = frozenset({"KSampler", "KSamplerAdvanced"})


def _repair_values(node: Node) -> None:
    widgets = [slot.promoted for slot in node.inputs if slot.promoted]
    for widget in widgets if isinstance(node, SubgraphNode) else list(node.widgets):
        value = widget.read()
        if node.type in SAMPLERS and widget.name == "sampler_name" and isinstance(value, str):
            widget.put(value.removeprefix("sample_"))
        elif widget.kind == "combo" and widget.choices and value is None:
            widget.put(widget.choices[0])


def innermost_first(definitions: Mapping[str, GraphRecord]) -> list[GraphRecord]:
    """The definitions, each after those that it uses.

    Raises: `WorkflowError` where they use one another in a circle.
    """
    uses = {name: {node.type for node in record.nodes} for name, record in definitions.items()}
    sorter = TopologicalSorter({name: used & definitions.keys() for name, used in uses.items()})
    try:
        return [definitions[name] for name in sorter.static_order()]
    except CycleError as cycle:
        place = definitions[cycle.args[1][0]].place
        raise WorkflowError("it contains itself, directly or through other subgraphs", place=place) from None


def give_unique_ids(file: FileRecord) -> int:
    """Gives nodes of definitions a new id where the root or another definition has the same.

    Returns: the highest id.
    """
    used = {node.id for node in file.root.nodes}
    last = file.last_node
    for graph in file.definitions.values():
        renamed: dict[str, str] = {}
        for node in graph.nodes:
            if node.id in used:
                last = _unused(last, used)
                renamed[node.id] = node.id = str(last)
            else:
                last = max(last, number_of(node.id) or 0)
            used.add(node.id)
        if renamed:
            _rename(file, graph, renamed)
    return max(last, *(number_of(node_id) or 0 for node_id in used), 0)


def _unused(last: int, used: set[str]) -> int:
    last += 1
    while str(last) in used:
        last += 1
    return last


def _rename(file: FileRecord, graph: GraphRecord, renamed: Mapping[str, str]) -> None:
    for key, link in graph.links.items():
        origin, target = renamed.get(link.origin, link.origin), renamed.get(link.target, link.target)
        graph.links[key] = Link(link.id, origin, link.origin_slot, target, link.target_slot)
    for node in (node for other in file.graphs() for node in other.nodes if node.type == graph.id):
        entries = node.properties.get("proxyWidgets")
        if isinstance(entries, list):
            kept = [_renamed(entry, renamed) for entry in entries]
            node.properties = {**node.properties, "proxyWidgets": kept}


def _renamed(entry: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(entry, list) and entry:
        return [renamed.get(str(entry[0]), entry[0]), *entry[1:]]
    return entry
