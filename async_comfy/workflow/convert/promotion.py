"""Widgets of nodes inside a subgraph, shown on the nodes that stand for it.

Today a promoted widget is an input of the subgraph that leads to the widget, and the value lies on the
outer node. Older files list pairs of inner node and widget (``properties.proxyWidgets``) instead; those
become such inputs, once for all nodes that stand for the subgraph.

Source: ComfyUI_frontend ``core/graph/subgraph/migration/proxyWidgetMigration.ts`` and ``SubgraphNode.ts``.
"""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from async_comfy.errors import WorkflowError
from async_comfy.workflow.convert.nodes import Entry, Graph, Node, Slot, SubgraphNode
from async_comfy.workflow.convert.records import INPUT_ID, MOST_SLOTS, Link
from async_comfy.workflow.convert.widgets import UNSET, Widget, is_preview

DEEPEST = 100
"""How many nested subgraphs the editor looks through for a promoted widget."""

PREFIXED = re.compile(r"\s*(\d+)\s*:\s*(.+)", re.DOTALL)
"""How very old files name a widget of a nested subgraph: ``12: seed``."""


def show_promoted(node: SubgraphNode, slot: Slot) -> None:
    """Shows the widget at `slot` that its subgraph input leads to first, if it leads to one."""
    entry = slot.entry
    for inner, target in node.subgraph.targets_of(entry) if entry else ():
        widget = inner.widget_of(target) or _deep_widget(inner, target.name)
        if widget:
            node.promote(slot, widget, target.spec)
            return


def _deep_widget(node: Node, name: str) -> Widget | None:
    """The widget that an input of a nested subgraph node leads to, however deep."""
    for _ in range(DEEPEST):
        if not isinstance(node, SubgraphNode):
            return node.widget_named(name)
        source = _source_of_input(node, name)
        inner = node.subgraph.nodes.get(source[0]) if source else None
        if source is None or inner is None:
            return None
        node, name = inner, source[1]
    return None


def _source_of_input(node: SubgraphNode, name: str) -> tuple[str, str] | None:
    entry = next((entry for entry in node.subgraph.inputs if entry.name == name), None)
    return _source(node.subgraph, entry) if entry else None


def _source(subgraph: Graph, entry: Entry) -> tuple[str, str] | None:
    """The inner node and the widget (or the input of a nested subgraph node) behind a subgraph input."""
    for inner, target in subgraph.targets_of(entry):
        if isinstance(inner, SubgraphNode):
            return inner.id, target.name
        if widget := inner.widget_of(target):
            return inner.id, widget.name
    return None


@dataclass(slots=True)
class Proxy:
    """One pair of an old list, with the value that the outer node has for it (UNSET: none)."""

    node: str
    widget: str
    within: str | None
    value: Any


def migrate_promotions(host: SubgraphNode) -> None:
    """Turns the old list of a node, if it has one, into inputs of its subgraph."""
    proxies = [_normalized(host, proxy) for proxy in _proxies(host)]
    plans = [_planned(host, proxy, proxies) for proxy in proxies]  # all before the first changes anything
    primitives: dict[str, list[Proxy]] = {}
    for proxy, plan in zip(proxies, plans, strict=True):
        if isinstance(plan, Slot):
            _give(plan, proxy)
        elif plan == "widget":
            _promote_widget(host, proxy)
        elif plan == "primitive":
            primitives.setdefault(proxy.node, []).append(proxy)
    for node, cohort in primitives.items():
        _bypass_primitive(host, host.subgraph.nodes[node], cohort)


def _proxies(host: SubgraphNode) -> list[Proxy]:
    pairs = listed(host.record.properties.get("proxyWidgets"))
    if not all(_is_pair(pair) for pair in pairs):
        return []  # the editor reads all of it or nothing
    if len(pairs) > MOST_SLOTS:
        raise WorkflowError(f"more than {MOST_SLOTS} promoted widgets", place=host.record.place)
    values = host.record.values
    return [
        Proxy(pair[0], pair[1], pair[2] if len(pair) > 2 else None, _value_at(values, index))
        for index, pair in enumerate(pairs)
    ]


def listed(raw: Any) -> list[Any]:
    """A list among the properties of a node, where it may stand as JSON text."""
    if isinstance(raw, str):
        with suppress(ValueError, RecursionError):
            raw = json.loads(raw)
    return raw if isinstance(raw, list) else []


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) in (2, 3) and all(isinstance(part, str) for part in pair)


def _value_at(values: list[Any] | dict[str, Any], index: int) -> Any:
    if not isinstance(values, list) or index >= len(values) or values[index] is None:
        return UNSET
    return values[index]


def _normalized(host: SubgraphNode, proxy: Proxy) -> Proxy:
    inner = host.subgraph.nodes.get(proxy.node)
    if inner and _deep_widget(inner, proxy.widget):
        return proxy
    name, within = proxy.widget, proxy.within
    deepest = None
    while match := PREFIXED.fullmatch(name):
        deepest, name = match.groups()
    return Proxy(proxy.node, name, deepest or within, proxy.value)


def _planned(host: SubgraphNode, proxy: Proxy, proxies: list[Proxy]) -> Slot | str:
    """The input that takes the value, or what is to be made an input first, or "nothing"."""
    for slot in host.inputs:
        if slot.entry and _source(host.subgraph, slot.entry) == (proxy.node, proxy.widget):
            return _only(host, slot.name) or "nothing"
    if proxy.node == "-1":  # an input of the outer node itself
        return next((slot for slot in host.inputs if slot.name == proxy.widget), "nothing")
    node = host.subgraph.nodes.get(proxy.node)
    if node and node.type == "PrimitiveNode":
        return _planned_primitive(host, node, proxies)
    widget = _inner_widget(node, proxy) if node else None
    return "widget" if widget and not is_preview(widget) else "nothing"


def _planned_primitive(host: SubgraphNode, node: Node, proxies: list[Proxy]) -> Slot | str:
    bypassed = node.record.properties.get("proxyBypassedToSubgraphInput")
    if isinstance(bypassed, str) and (slot := _only(host, bypassed)):
        return slot
    linked = any(link in host.subgraph.links for output in node.outputs[:1] for link in output.links)
    twice = sum(proxy.node == node.id for proxy in proxies) > 1
    return "primitive" if linked or twice else "nothing"


def _only(host: SubgraphNode, name: str) -> Slot | None:
    named = [slot for slot in host.inputs if slot.name == name]
    return named[0] if len(named) == 1 else None


def _inner_widget(node: Node, proxy: Proxy) -> Widget | None:
    if isinstance(node, SubgraphNode):
        for slot in node.inputs:
            source = _source_of_input(node, slot.name)
            if proxy.within:
                found = source == (proxy.within, proxy.widget)
            else:
                found = proxy.widget in (slot.name, source[1] if source else None)
            if found:
                return slot.promoted or node.widget_named(proxy.widget)
    return node.widget_named(proxy.widget)


def _give(slot: Slot, proxy: Proxy) -> None:
    if slot.promoted and proxy.value is not UNSET:
        slot.promoted.value = proxy.value


def _promote_widget(host: SubgraphNode, proxy: Proxy) -> None:
    node = host.subgraph.nodes[proxy.node]
    widget = _inner_widget(node, proxy)
    slot = node.slot_of(widget) if widget else None
    if widget and slot:
        entry = _new_entry(host.subgraph, proxy.widget, slot.type)
        _connect(host.subgraph, entry, node, slot)
        _give_by_name(host, entry.name, [proxy])


def _bypass_primitive(host: SubgraphNode, primitive: Node, cohort: list[Proxy]) -> None:
    """What a promoted primitive fed is fed by a subgraph input."""
    subgraph = host.subgraph
    if not primitive.outputs or any(proxy.widget != cohort[0].widget for proxy in cohort):
        return
    output = primitive.outputs[0]
    targets = [subgraph.target_of(link) for link in output.links]
    fed = [target for target in targets if target]
    if not fed or len(fed) != len(targets) or not all(_accepts(slot.type, output.type) for _, slot in fed):
        return
    widgets = [widget for node, slot in fed if (widget := node.widget_of(slot))]
    if not all(widget.matches(widgets[0]) for widget in widgets):
        return
    title = primitive.record.title
    name = title if title and title != "PrimitiveNode" else cohort[0].widget
    entry = _new_entry(subgraph, name, output.type)
    for node, slot in fed:
        _connect(subgraph, entry, node, slot)
    _give_by_name(host, entry.name, cohort)
    primitive.record.properties["proxyBypassedToSubgraphInput"] = entry.name


def _accepts(target: str, origin: str) -> bool:
    return target == origin or "*" in (target, origin)


def _give_by_name(host: SubgraphNode, name: str, proxies: list[Proxy]) -> None:
    given = next((proxy for proxy in proxies if proxy.value is not UNSET), None)
    slot = next((slot for slot in host.inputs if slot.name == name), None)
    if given and slot:
        _give(slot, given)


def _new_entry(subgraph: Graph, name: str, kind: str) -> Entry:
    taken = {entry.name for entry in subgraph.inputs}
    unique, number = name, 1
    while unique in taken:
        unique, number = f"{name}_{number}", number + 1
    entry = Entry(unique, kind)
    subgraph.inputs.append(entry)
    for user in subgraph.users:
        user.inputs.append(Slot(unique, kind, entry=entry))
    return entry


def _connect(subgraph: Graph, entry: Entry, node: Node, slot: Slot) -> None:
    subgraph.disconnect(slot)
    widget = node.widget_of(slot)
    for user in subgraph.users:
        for shown in user.inputs:
            if shown.entry is entry and widget:
                user.promote(shown, widget, slot.spec)
    slot.link = subgraph.unused_link()
    ends = (INPUT_ID, subgraph.inputs.index(entry), node.id, node.inputs.index(slot))
    subgraph.links[slot.link] = Link(slot.link, *ends)
    entry.links.append(slot.link)
