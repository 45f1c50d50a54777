"""From loaded graphs to the prompt: subgraphs laid out flat, links followed to nodes that really run.

A node of a subgraph is known by the ids on the way to it, ``29:5``. A link that comes from a muted node
ends there; one from a bypassed node goes on through an input of the same type; virtual nodes (reroutes)
pass through; a link that leaves a subgraph through an unconnected input takes the value of the widget there.

Source: ComfyUI_frontend ``utils/executionUtil.ts`` and ``ExecutableNodeDTO.ts``.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from async_comfy.errors import WorkflowError
from async_comfy.workflow.convert.nodes import BYPASSED, MUTED, Graph, Node, Slot, SubgraphNode
from async_comfy.workflow.convert.records import INPUT_ID, Link, number_of
from async_comfy.workflow.convert.texts import dynamic_prompt, replacer
from async_comfy.workflow.convert.widgets import CONTROLS, UNSET, Widget

BROADCASTERS = frozenset(
    {
        "Anything Everywhere",
        "Anything Everywhere3",
        "Anything Everywhere?",
        "Prompts Everywhere",
        "Seed Everywhere",
    }
)
"""Classes (cg-use-everywhere) that feed inputs without links, by rules that the file does not hold."""

DEEPEST = 100
"""Nobody nests subgraphs so deep; ids grow with every level."""

MOST_NODES = 100_000
"""More nodes than this no server runs in one prompt; subgraphs within subgraphs multiply quickly."""


@dataclass(slots=True, eq=False)
class Flat:
    """One node where it runs: `path` leads to it, `host` is the subgraph node right around it."""

    id: str
    path: tuple[str, ...]
    node: Node
    host: "Flat | None"


@dataclass(frozen=True, slots=True)
class Way:
    """Where a link is followed: an input of a node, for a link of this type (None: the input's own)."""

    flat: Flat
    index: int
    kind: str | None = None


class Layout:
    """All nodes of a file in one plane, by execution id."""

    def __init__(self, root: Graph) -> None:
        self.flats: dict[str, Flat] = {}
        for flat in _laid_out(root):
            self.flats[flat.id] = flat
            if len(self.flats) > MOST_NODES:
                raise WorkflowError(f"its subgraphs expand to more than {MOST_NODES} nodes", place=root.place)

    def source(self, flat: Flat, index: int) -> Any:
        """What reaches an input: ``[id, slot]``, a `Widget`, or UNSET.

        Raises: `WorkflowError` where a link leads nowhere or in a circle.
        """
        way: Any = Way(flat, index)
        seen: set[tuple[str, int]] = set()
        while isinstance(way, Way):
            if (way.flat.id, way.index) in seen:
                raise WorkflowError("its input goes round in a circle", place=_of(flat))
            seen.add((way.flat.id, way.index))
            way = self._onward(way)
        return way

    def _onward(self, way: Way) -> Any:
        """One link further from an input: the end, or the next input."""
        flat, slot = way.flat, _at(way.flat.node.inputs, way.index, way.flat, "a link")
        if slot.link is None:
            return UNSET
        link = flat.node.graph.links.get(slot.link)
        if link is None:
            raise _nowhere(flat, f"its input {slot.name!r} has link {slot.link}")
        if flat.host and link.origin == INPUT_ID:
            outer = _at(flat.host.node.inputs, link.origin_slot, flat, f"its input {slot.name!r}")
            if outer.link is None:
                return outer.promoted or UNSET
            return Way(flat.host, link.origin_slot)
        origin = self.flats.get(_joined(flat.path, link.origin))
        if origin is None:
            raise _nowhere(flat, f"its input {slot.name!r} comes from node {link.origin}")
        return self._from_output(origin, link.origin_slot, way.kind or slot.type)

    def _from_output(self, flat: Flat, index: int, kind: str) -> Any:
        """What an output gives: the end, or the input of the same node where it goes on."""
        while True:
            node = flat.node
            if node.mode == MUTED:
                return UNSET
            if node.mode == BYPASSED:
                onward = _bypass(flat, index, kind)
                return UNSET if onward is None else Way(flat, onward)
            if not isinstance(node, SubgraphNode):
                return self._past_virtual(flat, index, kind) if node.virtual else [flat.id, index]
            link = _inner_link(flat, node, index)
            if link is None:
                return UNSET
            if link.origin == INPUT_ID:
                return Way(flat, link.origin_slot, kind)
            inner = self.flats.get(f"{flat.id}:{link.origin}")
            if inner is None:
                raise _nowhere(flat, f"its output {index} comes from node {link.origin}")
            flat, index = inner, link.origin_slot

    def _past_virtual(self, flat: Flat, index: int, kind: str) -> Any:
        if flat.node.type == "GetNode":
            setter = self.flats.get(_joined(flat.path, _setter(flat.node)))
            if setter is None:
                name = _first_value(flat.node)
                raise WorkflowError(f"no SetNode beside it is named {name!r}", place=_of(flat))
            return Way(setter, 0, kind) if setter.node.inputs else UNSET
        return Way(flat, index, kind) if index < len(flat.node.inputs) else UNSET


def _laid_out(root: Graph) -> Iterator[Flat]:
    stack: list[tuple[tuple[str, ...], Flat | None, Iterator[Node]]] = [((), None, iter(root.nodes.values()))]
    while stack:
        path, host, nodes = stack[-1]
        node = next(nodes, None)
        if node is None:
            stack.pop()
            continue
        flat = Flat(_joined(path, node.id), path, node, host)
        yield flat
        hidden = host is None and node.mode in (MUTED, BYPASSED)  # deeper ones the editor sends all the same
        if isinstance(node, SubgraphNode) and not hidden:
            if len(stack) > DEEPEST:
                raise WorkflowError(f"subgraphs lie more than {DEEPEST} deep in it", place=f"node {path[0]}")
            stack.append(((*path, node.id), flat, iter(node.subgraph.nodes.values())))


def _joined(path: tuple[str, ...], node_id: str) -> str:
    return ":".join((*path, node_id))


def _of(flat: Flat) -> str:
    return f"node {flat.id} ({flat.node.title})"


def _inner_link(flat: Flat, node: SubgraphNode, index: int) -> Link | None:
    """What feeds an output of a subgraph."""
    links = node.subgraph.links
    entry = _at(node.subgraph.outputs, index, flat, "a link")
    return next((links[link_id] for link_id in entry.links if link_id in links), None)


def _nowhere(flat: Flat, what: str) -> WorkflowError:
    return WorkflowError(f"{what}, which is not there", place=_of(flat))


def _at(items: list[Any], index: int, flat: Flat, what: str) -> Any:
    if not 0 <= index < len(items):
        raise _nowhere(flat, f"{what} comes from slot {index}")
    return items[index]


def _setter(getter: Node) -> str:
    """KJNodes: the SetNode in the same graph with the same name."""
    wanted = _first_value(getter)
    for node in getter.graph.nodes.values():
        if node.type == "SetNode" and wanted is not None and _first_value(node) == wanted:
            return node.id
    return ""


def _first_value(node: Node) -> Any:
    values = node.record.values
    return values[0] if isinstance(values, list) and values else None


def _bypass(flat: Flat, index: int, kind: str) -> int | None:
    """The input that stands in for an output of a bypassed node."""
    inputs, outputs = flat.node.inputs, flat.node.outputs
    if kind in ("*", ""):
        return None if not inputs else index if index < len(inputs) else 0
    output = _at(outputs, index, flat, "a link").type

    def fits(slot: Slot) -> bool:
        return _compatible(slot.type, output) and _compatible(slot.type, kind)

    if index < len(inputs) and fits(inputs[index]):
        return index
    exact = (i for i, slot in enumerate(inputs) if slot.type == kind)
    near = (i for i, slot in enumerate(inputs) if fits(slot))
    return next(exact, next(near, None))


def _compatible(one: str, two: str) -> bool:
    if one in ("*", "") or two in ("*", "") or one == two:
        return True
    mine, theirs = one.lower().split(","), two.lower().split(",")
    return any(a == b or "*" in (a, b) for a in mine for b in theirs)


def prompt_of(root: Graph, graphs: list[Graph], *, strict: bool) -> dict[str, dict[str, Any]]:
    """The prompt of a loaded file.

    Raises: `WorkflowError` where a link leads nowhere; if `strict`, also where a class is unknown or a
    value is known to a running editor only.
    """
    layout = Layout(root)
    names = replacer(node for graph in graphs for node in graph.nodes.values())
    prompt: dict[str, dict[str, Any]] = {}
    for flat in layout.flats.values():
        node = flat.node
        if node.virtual or node.mode in (MUTED, BYPASSED):
            continue
        if strict:
            _refuse_uncertain(flat)
        inputs = {widget.name: _sent(widget, names) for widget in node.widgets if widget.sent}
        inputs |= {} if node.node_class else _guessed_values(node)
        for index, slot in enumerate(node.inputs):
            if (source := _source(layout, flat, index, strict=strict)) is not UNSET:
                inputs[slot.name] = source
        if strict:
            _refuse_live(flat, inputs)
        inputs = {name: _copied(value, flat) for name, value in inputs.items() if value is not UNSET}
        prompt[flat.id] = {"inputs": inputs, "class_type": node.type, "_meta": {"title": node.title}}
    _drop_dead_links(prompt)
    return _by_id(prompt)


def _source(layout: Layout, flat: Flat, index: int, *, strict: bool) -> Any:
    try:
        source = layout.source(flat, index)
    except WorkflowError:
        if strict:
            raise
        return UNSET
    return _wrapped(source.read()) if isinstance(source, Widget) else source


def _sent(widget: Widget, names: Callable[[str], str]) -> Any:
    value = widget.read()
    if isinstance(value, str) and widget.file_name:
        return names(value)
    if isinstance(value, str) and widget.dynamic_prompt:
        return dynamic_prompt(value)
    if isinstance(value, list) and widget.kind == "curve":
        return {"__type__": "CURVE", "__value__": value}
    return _wrapped(value)


def _wrapped(value: Any) -> Any:
    """A list stands for a link in a prompt, so one that is a value gets a box, which the server opens."""
    return {"__value__": value} if isinstance(value, list) else value


def _copied(value: Any, flat: Flat) -> Any:
    """The value itself, so that a prompt shares nothing with the file or with another node."""
    if not isinstance(value, dict):
        return value  # a list is a link here, and made for this input alone
    try:
        return deepcopy(value)
    except RecursionError:
        raise WorkflowError("a value of it is nested too deeply", place=_of(flat)) from None


def _guessed_values(node: Node) -> dict[str, Any]:
    """The values of a node of an unknown class, as far as the file names its widgets."""
    if node.record.named:
        return {name: _wrapped(value) for name, value in node.record.named.items()}
    values = node.record.values
    if isinstance(values, dict):
        return {name: _wrapped(value) for name, value in values.items()}
    names = [slot.widget for slot in node.inputs if slot.widget]
    shown = [value for before, value in pairwise([None, *values]) if not _is_control(before, value)]
    return {name: _wrapped(value) for name, value in zip(names, shown, strict=False)}


def _is_control(before: Any, value: Any) -> bool:
    return isinstance(before, int) and not isinstance(before, bool) and value in CONTROLS


def _refuse_uncertain(flat: Flat) -> None:
    node = flat.node
    if node.type in BROADCASTERS:
        raise WorkflowError(
            "what it sends everywhere is known to the running editor only.",
            place=_of(flat),
            hint="Turn its links into real ones there, or convert with strict=False.",
        )
    if node.node_class is None:
        pack = f", which the custom node pack {node.record.pack!r} brings" if node.record.pack else ""
        raise WorkflowError(
            f"the server has no node class {node.type!r}{pack}.",
            place=_of(flat),
            hint="Install it there, mute or bypass the node, or convert with strict=False.",
        )


def _refuse_live(flat: Flat, inputs: Mapping[str, Any]) -> None:
    for widget in flat.node.widgets:
        if widget.live and inputs.get(widget.name) is widget.read():
            raise WorkflowError(
                f"its input {widget.name!r} takes {widget.live}, which no file holds.",
                place=_of(flat),
                hint="Convert with strict=False and set the input yourself.",
            )


def _drop_dead_links(prompt: Mapping[str, dict[str, Any]]) -> None:
    for node in prompt.values():
        node["inputs"] = {
            name: value
            for name, value in node["inputs"].items()
            if not isinstance(value, list) or value[0] in prompt
        }


def _by_id(prompt: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Whole numbers first and in order, as JavaScript lists them."""
    numbers = {key: number_of(key) for key in prompt}
    return {
        key: prompt[key] for key in sorted(prompt, key=lambda key: (numbers[key] is None, numbers[key] or 0))
    }
