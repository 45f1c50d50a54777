"""What a UI-format file says, as records: the one place that looks at untrusted shapes.

A file holds a root graph and, since subgraphs exist, definitions of graphs that nodes may stand for.
Format 0.4 writes links as arrays, 1.0 as objects; definitions write objects in both. Native reroutes
(``reroutes``, ``linkExtensions``) bend a link on the canvas and never change where it leads, so they are
not read.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from async_comfy.errors import WorkflowError

INPUT_ID = "-10"
"""The node id under which links inside a definition leave its inputs."""

OUTPUT_ID = "-20"
"""The node id under which links inside a definition reach its outputs."""

LARGEST = 2**53
"""Where JavaScript stops counting one by one; ids and slots stay far below."""

DIGITS = 16
"""Ids with so many digits or more are names."""

MOST_SLOTS = 1000
"""No node has so many inputs or outputs; a broken file may, and slots are searched one by one."""


@dataclass(slots=True)
class Link:
    """A wire from an output to an input, by node id and slot index."""

    id: int
    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(slots=True)
class InputRecord:
    """An input slot as saved; `widget` names the widget that it feeds."""

    name: str
    type: str
    link: int | None = None
    widget: str | None = None


@dataclass(slots=True)
class OutputRecord:
    """An output slot as saved."""

    type: str
    links: list[int]


@dataclass(slots=True)
class NodeRecord:
    """A node as saved. `values` are those of its widgets, in their order or by name."""

    id: str
    type: str
    place: str
    title: str | None = None
    mode: int = 0
    inputs: list[InputRecord] = field(default_factory=list)
    outputs: list[OutputRecord] = field(default_factory=list)
    values: list[Any] | dict[str, Any] = field(default_factory=list)
    named: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)

    @property
    def pack(self) -> str | None:
        """The custom node pack that the file names, if it does."""
        for key in ("cnr_id", "aux_id"):
            if isinstance(name := self.properties.get(key), str) and name:
                return name
        return None


@dataclass(slots=True)
class EntryRecord:
    """An input or output of a definition, and the links inside that hang on it."""

    name: str
    type: str
    links: list[int]


@dataclass(slots=True)
class GraphRecord:
    """The root graph (`id` "") or a definition."""

    id: str
    place: str
    nodes: list[NodeRecord]
    links: dict[int, Link]
    inputs: list[EntryRecord] = field(default_factory=list)
    outputs: list[EntryRecord] = field(default_factory=list)


@dataclass(slots=True)
class FileRecord:
    """A whole file. `last_node` is the highest node id given so far, `groups` the old group nodes by name."""

    root: GraphRecord
    definitions: dict[str, GraphRecord]
    last_node: int
    groups: dict[str, Any]

    def graphs(self) -> Iterator[GraphRecord]:
        """The root graph, then the definitions in the order of the file."""
        yield self.root
        yield from self.definitions.values()


def read(ui: Mapping[str, Any]) -> FileRecord:
    """The records of a UI-format file.

    Raises: `WorkflowError` where a part has the wrong shape, naming the part.
    """
    whole = _object(ui, "the workflow")
    if "nodes" not in whole:
        raise WorkflowError("it has no list of nodes.", place="the workflow", hint="Is it in UI format?")
    extra = whole.get("extra")
    return FileRecord(
        root=_graph(whole, "", "the workflow"),
        definitions=_definitions(whole),
        last_node=_last_node(whole),
        groups=_group_nodes(extra if isinstance(extra, dict) else {}),
    )


def _definitions(whole: Mapping[str, Any]) -> dict[str, GraphRecord]:
    found: dict[str, GraphRecord] = {}
    waiting = [whole]
    while waiting:
        definitions = _object(waiting.pop(0).get("definitions") or {}, "definitions")
        for index, raw in enumerate(_array(definitions.get("subgraphs") or [], "definitions.subgraphs")):
            place = f"definitions.subgraphs[{index}]"
            raw = _object(raw, place)
            name = _text(raw.get("id"), f"{place}.id")
            if name not in found:
                found[name] = _graph(raw, name, f"subgraph {_maybe_text(raw.get('name')) or name!r}")
                waiting.append(raw)
    return found


def _graph(raw: Mapping[str, Any], name: str, place: str) -> GraphRecord:
    nodes = [node_record(node, place, index) for index, node in _each(raw, "nodes", place)]
    seen: set[str] = set()
    for node in nodes:
        if node.id in seen:
            raise WorkflowError("another node has the same id", place=node.place)
        seen.add(node.id)
    links = [_link(link, f"{place}, links[{index}]") for index, link in _each(raw, "links", place)]
    graph = GraphRecord(name, place, nodes, {link.id: link for link in links})
    if name:  # the root graph has no way in or out
        graph.inputs = [_entry(entry, f"{place}, inputs[{i}]") for i, entry in _slots(raw, "inputs", place)]
        graph.outputs = [
            _entry(entry, f"{place}, outputs[{i}]") for i, entry in _slots(raw, "outputs", place)
        ]
    return graph


def node_record(raw: Any, graph: str, index: int) -> NodeRecord:
    """One node of the graph that is called `graph`, where it stands at `index`."""
    raw = _object(raw, f"{graph}, nodes[{index}]")
    node_id = _node_id(raw.get("id"), f"{graph}, nodes[{index}].id")
    kind = _text(raw.get("type"), f"{graph}, node {node_id}, type")
    place = _called("node", raw.get("title") or kind, node_id)
    if graph != "the workflow":
        place += f" of {graph}"
    mode = raw.get("mode")
    return NodeRecord(
        id=node_id,
        type=kind,
        place=place,
        title=_maybe_text(raw.get("title")) or None,
        mode=mode if isinstance(mode, int) else 0,
        inputs=[_input(slot, f"{place}, inputs[{i}]") for i, slot in _slots(raw, "inputs", place)],
        outputs=[_output(slot, f"{place}, outputs[{i}]") for i, slot in _slots(raw, "outputs", place)],
        values=_values(raw.get("widgets_values"), f"{place}, widgets_values"),
        named=_object(raw.get("widgets_values_named") or {}, f"{place}, widgets_values_named"),
        properties=dict(_object(raw.get("properties") or {}, f"{place}, properties")),
    )


def _input(raw: Any, place: str) -> InputRecord:
    raw = _object(raw, place)
    widget = raw.get("widget")
    link = raw.get("link")
    return InputRecord(
        name=_text(raw.get("name"), f"{place}.name"),
        type=_slot_type(raw.get("type")),
        link=None if link is None else _number(link, f"{place}.link"),
        widget=_maybe_text(_object(widget, f"{place}.widget").get("name")) if widget else None,
    )


def _output(raw: Any, place: str) -> OutputRecord:
    raw = _object(raw, place)
    return OutputRecord(_slot_type(raw.get("type")), _numbers(raw.get("links"), f"{place}.links"))


def _entry(raw: Any, place: str) -> EntryRecord:
    raw = _object(raw, place)
    name = _text(raw.get("name"), f"{place}.name")
    return EntryRecord(name, _slot_type(raw.get("type")), _numbers(raw.get("linkIds"), f"{place}.linkIds"))


def _link(raw: Any, place: str) -> Link:
    if isinstance(raw, list):
        if len(raw) < 5:  # id, origin, its slot, target, its slot; the type after them is not needed
            raise WorkflowError("a link needs five numbers and a type", place=place)
        parts = raw
    else:
        raw = _object(raw, place)
        parts = [raw.get(key) for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot")]
    return Link(
        _number(parts[0], place),
        _node_id(parts[1], place),
        _number(parts[2], place),
        _node_id(parts[3], place),
        _number(parts[4], place),
    )


def _values(raw: Any, place: str) -> list[Any] | dict[str, Any]:
    return _object(raw, place) if isinstance(raw, dict) else list(_array(raw or [], place))


def _group_nodes(extra: Mapping[str, Any]) -> dict[str, Any]:
    return _object(extra.get("groupNodes") or {}, "extra.groupNodes")


def _last_node(whole: Mapping[str, Any]) -> int:
    state = whole.get("state")
    for holder, key in ((whole, "last_node_id"), (state, "lastNodeId")):
        if isinstance(holder, dict) and isinstance(last := holder.get(key), int):
            return last
    return 0


def number_of(node_id: str) -> int | None:
    """The id as a number, where it is one."""
    return int(node_id) if node_id.isdecimal() and len(node_id) < DIGITS else None


def _called(kind: str, name: Any, number: str) -> str:
    return f"{kind} {number} ({name})" if isinstance(name, str) and name else f"{kind} {number}"


def _each(raw: Mapping[str, Any], key: str, place: str) -> Iterable[tuple[int, Any]]:
    return enumerate(_array(raw.get(key) or [], f"{place}, {key}"))


def _slots(raw: Mapping[str, Any], key: str, place: str) -> Iterable[tuple[int, Any]]:
    if len(_array(raw.get(key) or [], f"{place}, {key}")) > MOST_SLOTS:
        raise WorkflowError(f"more than {MOST_SLOTS} of them", place=f"{place}, {key}")
    return _each(raw, key, place)


def _object(raw: Any, place: str) -> dict[str, Any]:
    if isinstance(raw, dict):
        return raw
    raise _misfit(raw, place, "an object")


def _array(raw: Any, place: str) -> list[Any]:
    if isinstance(raw, list):
        return raw
    raise _misfit(raw, place, "a list")


def _text(raw: Any, place: str) -> str:
    if isinstance(raw, str):
        return raw
    raise _misfit(raw, place, "a text")


def _number(raw: Any, place: str) -> int:
    if isinstance(raw, str) and raw.isdecimal() and len(raw) < DIGITS:
        return int(raw)
    if isinstance(raw, int | float) and not isinstance(raw, bool) and raw == raw // 1 and abs(raw) < LARGEST:
        return int(raw)
    raise _misfit(raw, place, "a whole number")


def _node_id(raw: Any, place: str) -> str:
    return raw if isinstance(raw, str) and raw else str(_number(raw, place))


def _numbers(raw: Any, place: str) -> list[int]:
    return [_number(number, place) for number in _array(raw or [], place)]


def _maybe_text(raw: Any) -> str | None:
    return raw if isinstance(raw, str) else None


def _slot_type(raw: Any) -> str:
    if isinstance(raw, list):
        return "COMBO"  # old files write out the choices
    return "*" if raw in (None, 0, "") else str(raw)


def _misfit(raw: Any, place: str, wanted: str) -> WorkflowError:
    given = "nothing" if raw is None else type(raw).__name__
    return WorkflowError(f"this should be {wanted} and is {given}", place=place)
