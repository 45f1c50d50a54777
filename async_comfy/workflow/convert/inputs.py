"""How the declared inputs of a class become sockets and widgets, also those that come and go.

A dynamic combo brings the inputs of the choice that it shows; a growing input repeats itself while it is
connected. Both follow the file step by step, for the order of sockets and widgets depends on it.

Source: ComfyUI_frontend ``services/litegraphService.ts`` and ``core/graph/widgets/dynamicWidgets.ts``.
"""

from dataclasses import replace
from typing import Any

from async_comfy.workflow.convert.classes import InputSpec, NodeClass, mapping, sequence, specs_in
from async_comfy.workflow.convert.nodes import Growing, Node, Output, Slot
from async_comfy.workflow.convert.records import MOST_SLOTS
from async_comfy.workflow.convert.widgets import BUILDERS, UNSET, Widget

GROWING, MATCHING, DYNAMIC_COMBO = "COMFY_AUTOGROW_V3", "COMFY_MATCHTYPE_V3", "COMFY_DYNAMICCOMBO_V3"

SAVERS = frozenset(
    {
        "CLIPSave",
        "LoraSave",
        "ModelSave",
        "Save3DAdvanced",
        "SaveAnimatedPNG",
        "SaveAnimatedWEBP",
        "SaveAudio",
        "SaveAudioAdvanced",
        "SaveAudioMP3",
        "SaveAudioOpus",
        "SaveGLB",
        "SaveGaussianSplat",
        "SaveImage",
        "SaveImageAdvanced",
        "SaveLatent",
        "SavePointCloud",
        "SaveSVGNode",
        "SaveVideo",
        "SaveWEBM",
        "VAESave",
    }
)
"""Classes whose file name may speak of other nodes (frontend ``saveImageExtraOutput.ts``)."""

TEXT_VIEWERS = frozenset({"PreviewAny", "SaveText"})
"""Classes that the editor lets show text: widgets that neither a file nor a prompt holds."""


def furnish(node: Node, node_class: NodeClass) -> None:
    """Gives a new node the sockets and widgets of its class: first all sockets, then all widgets."""
    for spec in node_class.ordered:
        _add_socket(node, spec)
    for spec in node_class.ordered:
        _add_widget(node, spec)
    node.outputs = [Output(kind, []) for kind in node_class.outputs]
    _add_extras(node)


def _add_extras(node: Node) -> None:
    if node.type in SAVERS and (prefix := node.widget_named("filename_prefix")):
        prefix.file_name = True
    if node.type in TEXT_VIEWERS:
        node.widgets.append(Widget("preview_text", "textPreview", "", sent=False, saved=False))
        node.widgets.append(Widget("preview_mode", "toggle", value=False, sent=False, saved=False))
    if node.type == "CustomCombo" and node.widgets:
        node.widgets.append(ChoiceIndex(node))
        _add_choice(node)


def _add_input(node: Node, spec: InputSpec) -> None:
    _add_socket(node, spec)
    _add_widget(node, spec)


def _add_socket(node: Node, spec: InputSpec) -> None:
    if _is_widget(spec):
        return
    if spec.type == GROWING:
        _start_growing(node, spec)
    elif spec.type == MATCHING:
        _add_input(node, replace(spec, type=str(spec.template.get("allowed_types") or "*")))
    else:
        node.inputs.append(Slot(spec.name, spec.type))


def _is_widget(spec: InputSpec) -> bool:
    return (spec.widget_type in BUILDERS or spec.widget_type == DYNAMIC_COMBO) and not spec.forced


def _add_widget(node: Node, spec: InputSpec) -> None:
    if not _is_widget(spec):
        return
    shown = replace(spec, type=spec.widget_type)
    if shown.type == DYNAMIC_COMBO:
        combo = DynamicCombo(node, shown)
        node.widgets.append(combo)
        combo.put(combo.value)
    else:
        if shown.type == "LOAD_3D" and node.widget_named("model_file"):
            node.widgets += _model_buttons()
        node.widgets += BUILDERS[shown.type](shown)
    node.inputs.append(Slot(spec.name, spec.type, widget=spec.name, spec=shown))


def _model_buttons() -> list[Widget]:
    labels = {
        "upload 3d model": "upload3dmodel",
        "upload extra resources": "uploadExtraResources",
        "clear": "clear",
    }
    return [Widget(label, "button", value) for label, value in labels.items()]


class DynamicCombo(Widget):
    """A combo whose choice decides which further inputs the node has, named ``combo.input``."""

    def __init__(self, node: Node, spec: InputSpec) -> None:
        listed = map(mapping, sequence(spec.options.get("options")))
        self.options = {str(option.get("key")): option.get("inputs") for option in listed}
        keys = list(self.options)
        super().__init__(spec.name, "combo", keys[0] if keys else UNSET, choices=keys)
        self.node = node

    def put(self, value: Any) -> None:
        """Takes the choice and puts its inputs right below, keeping the links of those that stay."""
        self.value = value
        node, group = self.node, f"{self.name}."
        old = [slot for slot in node.inputs if slot.name.startswith(group)]
        node.inputs[:] = [slot for slot in node.inputs if not slot.name.startswith(group)]
        node.widgets[:] = [widget for widget in node.widgets if not widget.name.startswith(group)]
        sections = self.options.get(value) if isinstance(value, str) else None
        if sections is not None:
            self._bring(sections)
        self._keep_links(old)

    def _bring(self, sections: Any) -> None:
        node = self.node
        widgets, inputs = len(node.widgets), len(node.inputs)
        for spec in specs_in(sections):
            _add_input(node, replace(spec, name=f"{self.name}.{spec.name}"))
        _move_behind(node.widgets, widgets, node.widgets.index(self))
        own = next((i for i, slot in enumerate(node.inputs) if slot.name == self.name), None)
        if own is not None:
            _move_behind(node.inputs, inputs, own)

    def _keep_links(self, old: list[Slot]) -> None:
        for slot in old:
            new = next((new for new in self.node.inputs if new.name == slot.name), None)
            if new is None:
                self.node.graph.disconnect(slot)
                continue
            new.link = slot.link
            if slot.link:
                grow(self.node, self.node.inputs.index(new), connected=True)


def _move_behind(items: list[Any], start: int, index: int) -> None:
    added = items[start:]
    del items[start:]
    items[index + 1 : index + 1] = added


def _start_growing(node: Node, spec: InputSpec) -> None:
    template = spec.template
    names = template.get("names")
    names = [str(name) for name in names] if isinstance(names, list) else None
    growing = node.growing[spec.name] = Growing(
        specs=list(specs_in(template.get("input"))),
        least=_count(template.get("min"), 1),
        most=len(names) if names is not None else _count(template.get("max"), 100),
        prefix=str(template.get("prefix") or ""),
        names=names,
    )
    for ordinal in range(min(max(1, growing.least + 1), growing.most)):
        _add_repetition(node, spec.name, ordinal)


def _count(raw: Any, default: int) -> int:
    return min(raw, MOST_SLOTS) if isinstance(raw, int) else default


def grow(node: Node, index: int, *, connected: bool) -> None:
    """Looks at an input of a growing group; where it is connected, makes room for the next one."""
    slot = node.inputs[index]
    group, _, own = slot.name.rpartition(".")
    growing = node.growing.get(group)
    if growing is None:
        return
    if slot.widget:
        _add_placeholder(node, slot)
    if connected and (ordinal := growing.ordinal_of(own)) is not None:
        _add_repetition(node, group, ordinal + 1)


def _add_repetition(node: Node, group: str, ordinal: int) -> None:
    growing = node.growing[group]
    if ordinal >= growing.most or not growing.specs:
        return
    made = [_repetition(node, group, growing, spec, ordinal) for spec in growing.specs]
    added = [slot for slot in made if slot]
    for slot in added:
        for same in [old for old in node.inputs if old.name == slot.name]:
            node.inputs.remove(same)
            slot.link = same.link if slot.link is None else slot.link
    before = f"{group}.{growing.name_of(ordinal - 1, growing.specs[-1].name)}"
    last = [i for i, slot in enumerate(node.inputs) if ordinal and slot.name.startswith(before)]
    at = last[-1] + 1 if last else len(node.inputs)
    node.inputs[at:at] = added


def _repetition(node: Node, group: str, growing: Growing, spec: InputSpec, ordinal: int) -> Slot | None:
    optional = ordinal >= growing.least or spec.optional
    name = f"{group}.{growing.name_of(ordinal, spec.name)}"
    known = len(node.inputs)
    _add_input(node, replace(spec, name=name, optional=optional))
    if len(node.inputs) == known:
        return None
    slot = node.inputs.pop()
    if len(growing.specs) > 1:
        _add_placeholder(node, slot)
    return slot


def _add_placeholder(node: Node, slot: Slot) -> None:
    """Gives an input a widget that holds nothing, so that the editor keeps it among the widgets."""
    if node.widget_named(slot.widget) is None:
        node.widgets.append(Widget(slot.name, "shim", saved=False))
        slot.widget = slot.name


class ChoiceIndex(Widget):
    """Tells which option of a CustomCombo is chosen."""

    def __init__(self, node: Node) -> None:
        super().__init__("index", "hidden", fixed=True)
        self.node = node

    def read(self) -> int:
        """The position of the choice among the options, -1 without one."""
        chosen = self.node.widgets[0].read()
        options = [widget.read() for widget in self.node.widgets[2:]]
        return options.index(chosen) if chosen in options else -1


class Choice(Widget):
    """One option of a CustomCombo; filling the last one brings another."""

    def __init__(self, node: Node, name: str) -> None:
        super().__init__(name, "string", "")
        self.node = node

    def put(self, value: Any) -> None:
        """Takes the text; an empty one at the end takes back what it brought."""
        self.value = value
        widgets = self.node.widgets
        named = [widget for widget in widgets if widget.name.startswith("option")]
        widgets[0].choices = [str(widget.read()) for widget in named if widget.read()]
        if widgets[-1] is self:
            if value:
                _add_choice(self.node)
        elif not value and widgets[-2] is self and not widgets[-1].read():
            widgets.pop()


def _add_choice(node: Node) -> None:
    node.widgets.append(Choice(node, f"option{len(node.widgets) - 1}"))
