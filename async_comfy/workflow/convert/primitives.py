"""Primitive nodes: a value kept beside the nodes that use it, written into their widgets before sending.

Source: ComfyUI_frontend ``extensions/core/widgetInputs.ts``.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from async_comfy.workflow.convert.classes import InputSpec
from async_comfy.workflow.convert.nodes import Graph, Node, Slot, SubgraphNode
from async_comfy.workflow.convert.widgets import BUILDERS, Widget, range_of

NUMBERS = frozenset({"INT", "FLOAT"})

INDIFFERENT = frozenset(
    {
        "control_after_generate",
        "default",
        "defaultInput",
        "dynamicPrompts",
        "forceInput",
        "max",
        "min",
        "multiline",
        "step",
        "tooltip",
    }
)
"""Options in which two inputs fed by one primitive may differ."""


def prepare_primitive(node: Node) -> None:
    """Gives a primitive the widget of the first input that it feeds, with the saved value."""
    targets = list(_targets(node))
    if not targets:
        return
    first, slot = targets[0]
    spec = _spec_of(first, slot)
    if spec is None:
        return
    named = replace(spec, name="value")
    widget = BUILDERS[spec.type](named)[0] if spec.type in BUILDERS else Widget("value", spec.type)
    theirs = first.widget_named(slot.widget or slot.name)
    widget.value = theirs.read() if theirs else widget.value
    values = node.record.values
    if isinstance(values, list) and values:
        widget.put(values[0])
    node.widgets = [widget]
    if spec.type in NUMBERS:
        _fit(widget, spec, targets)


def _spec_of(node: Node, slot: Slot) -> InputSpec | None:
    if slot.spec:
        return slot.spec
    if slot.widget:
        return node.node_class.declared.get(slot.widget) if node.node_class else None
    return InputSpec(slot.name, slot.type) if slot.type in BUILDERS else None


def _targets(node: Node) -> Iterator[tuple[Node, Slot]]:
    for link_id in node.outputs[0].links if node.outputs else ():
        link = node.graph.links.get(link_id)
        target = node.graph.nodes.get(link.target) if link else None
        if link and target and 0 <= link.target_slot < len(target.inputs):
            yield target, target.inputs[link.target_slot]


def _fit(widget: Widget, spec: InputSpec, targets: list[tuple[Node, Slot]]) -> None:
    """Puts the number within what all inputs allow that agree in everything else."""
    merged = spec
    for _, slot in targets:
        if not (slot.widget and slot.spec) or (both := _merged(merged, slot.spec)) is None:
            continue
        merged = both
        span = range_of(merged)
        widget.value = span.nearest(span.clamped(widget.value))


def _merged(one: InputSpec, two: InputSpec) -> InputSpec | None:
    keys = (one.options.keys() | two.options.keys()) - INDIFFERENT
    if one.type != two.type or any(one.options.get(key) != two.options.get(key) for key in keys):
        return None
    low = max(_limit(spec.options, "min", -math.inf) for spec in (one, two))
    high = min(_limit(spec.options, "max", math.inf) for spec in (one, two))
    if low > high:
        return None
    return replace(one, options={**one.options, "min": low, "max": high, "step": _common_step(one, two)})


def _limit(options: Mapping[str, Any], key: str, default: float) -> float:
    value = options.get(key)
    return value if isinstance(value, int | float) else default


def _common_step(one: InputSpec, two: InputSpec) -> float:
    first, second = (_limit(spec.options, "step", 1) for spec in (one, two))
    if isinstance(first, int) and isinstance(second, int):
        return math.lcm(first, second)
    return max(first, second)


def apply_primitives(graphs: Iterable[Graph], replaced: Callable[[str], str]) -> None:
    """Writes the values of all primitives into the widgets that they feed."""
    for graph in graphs:
        for node in graph.nodes.values():
            if node.type == "PrimitiveNode" and node.virtual and node.widgets:
                _apply(node, replaced)


def _apply(node: Node, replaced: Callable[[str], str]) -> None:
    value = node.widgets[0].read()
    if isinstance(value, str) and value and node.record.properties.get("Run widget replace on values"):
        value = replaced(value)
    for target, slot in _targets(node):
        widget = target.widget_named(slot.widget) if slot.widget else None
        if widget and isinstance(target, SubgraphNode):
            widget.value = value
        elif widget:
            widget.hand(value)
