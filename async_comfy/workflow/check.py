"""What is wrong with a workflow, found before anything is sent.

Errors follow the server's own validation (ComfyUI ``execution.py``, ``validate_prompt`` and
``validate_inputs``), in its words and at its nodes: only nodes that an output needs are looked at, and nodes
behind a link that does not fit are not. What a node class checks in Python of its own stays unknown here.
Warnings and notes are ours: what a server accepts, and what people then wonder about.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from async_comfy.workflow import seeds
from async_comfy.workflow.declarations import InputDeclaration, fits, inputs_of, live_inputs_of, outputs_of
from async_comfy.workflow.files import File
from async_comfy.workflow.nodes import Nodes, NodeView
from async_comfy.workflow.spelling import nearest
from async_comfy.workflow.values import linked

DEEPEST = 978  # nodes in a row; beyond, the server's recursive validation ends its stack (measured)
HEAVY_BYTES = 1_000_000  # text in one input; it travels with every prompt and stays in the history

Severity = Literal["error", "warning", "note"]
_ORDER: Mapping[Severity, int] = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that cannot work (error), will surprise (warning) or is good to know (note).

    `kind`: the server's word where it has one ("value_not_in_list", ...). `node` is None where the whole
    workflow is meant. `allowed`: what would do, None where that cannot be listed. `hint`: what to do.
    """

    severity: Severity
    kind: str
    message: str
    node: str | None = None
    title: str | None = None
    class_type: str | None = None
    input: str | None = None
    given: Any = None
    allowed: Any = None
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.severity}: {self._where()}{self.message} {self.hint}".rstrip()

    def _where(self) -> str:
        if self.node is None:
            return ""
        title = f"{self.title}, " if self.title and self.title != self.class_type else ""
        place = f"node {self.node} ({title}{self.class_type})"
        return f"{place}, input {self.input!r}: " if self.input else f"{place}: "

    def as_dict(self) -> dict[str, Any]:
        """Every field by its name, for programs."""
        return asdict(self)


def _at(node: NodeView, severity: Severity, kind: str, message: str, **more: Any) -> Finding:
    return Finding(severity, kind, message, node.id, node.title, node.class_type, **more)


def check(
    nodes: Nodes,
    object_info: Mapping[str, Any],
    *,
    ui: Mapping[str, Any] | None = None,
    api_key: bool = False,
    earlier: Iterable[Nodes] = (),
) -> list[Finding]:
    """Everything found, errors first. What the arguments mean, `Workflow.check` says."""
    walk = _Walk(nodes, object_info)
    made = [
        *_unknown_classes(nodes, object_info, ui or {}),
        *_validation(walk),
        *_certain_failures(walk, api_key),
        *_surprises(walk),
        *_seeds(nodes, object_info, ui or {}),
        *_already_made(walk, earlier),
    ]
    return sorted(made, key=lambda found: _ORDER[found.severity])


class _Walk:
    """The nodes that the server looks at, from its outputs backwards over links that fit.

    `order`: each after all that it needs. `cycles`: as the server tells them. `depth`: nodes in a row.
    """

    def __init__(self, nodes: Nodes, object_info: Mapping[str, Any]) -> None:
        self.nodes = nodes
        self.object_info = object_info
        self._live: dict[str, dict[str, InputDeclaration]] = {}
        self.outputs = [key for key, node in nodes.items() if _says(object_info, node, "output_node")]
        self.order: list[str] = []
        self.cycles: list[list[str]] = []
        self.depth: dict[str, int] = {}
        for output in self.outputs:
            self._descend(output)

    def live(self, node: NodeView) -> dict[str, InputDeclaration]:
        """The inputs that the node has with the values it holds."""
        if node.id not in self._live:
            self._live[node.id] = live_inputs_of(self.object_info, node.class_type, node.inputs)
        return self._live[node.id]

    def _descend(self, start: str) -> None:
        """Depth first with a stack of its own: chains may be longer than the interpreter's."""
        path: dict[str, Iterator[str]] = {}
        self._enter(start, path)
        while path:
            key = next(reversed(path))
            source = next(path[key], None)
            if source is not None:
                self._enter(source, path)
            else:
                del path[key]
                self._leave(key)

    def _enter(self, key: str, path: dict[str, Iterator[str]]) -> None:
        if key in path:
            ring = list(path)
            self.cycles.append(ring[ring.index(key) :])
        elif key not in self.depth:
            path[key] = iter(self._sources(self.nodes[key]))

    def _leave(self, key: str) -> None:
        below = [self.depth.get(source, 0) for source in self._sources(self.nodes[key])]
        self.depth[key] = 1 + max(below, default=0)
        self.order.append(key)

    def _sources(self, node: NodeView) -> list[str]:
        found = (self._source(node, declared) for declared in self.live(node).values())
        return [source for source in found if source is not None]

    def _source(self, node: NodeView, declared: InputDeclaration) -> str | None:
        value = node.inputs.get(declared.name)
        if not isinstance(value, list) or any(_link(self, node, declared, value)):
            return None
        return linked(value)


def _says(object_info: Mapping[str, Any], node: NodeView, flag: str) -> bool:
    declared = object_info.get(node.class_type)
    return isinstance(declared, Mapping) and bool(declared.get(flag))


def _unknown_classes(
    nodes: Nodes, object_info: Mapping[str, Any], ui: Mapping[str, Any]
) -> Iterator[Finding]:
    packs = {str(node.get("type")): _pack(node) for node in _ui_nodes(ui)}
    for node in nodes.values():
        if node.class_type not in object_info:
            near = nearest(node.class_type, object_info, 3, 0.7)
            pack = packs.get(node.class_type)
            hint = f"Install the custom node pack {pack}." if pack else "A custom node pack may be missing."
            hint += f" The server has: {', '.join(near)}." if near else ""
            message = f"the server has no node class {node.class_type!r}."
            yield _at(node, "error", "missing_node_type", message, given=node.class_type, hint=hint)


def _ui_nodes(ui: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    definitions = ui.get("definitions")
    subgraphs = definitions.get("subgraphs") if isinstance(definitions, Mapping) else None
    for graph in (ui, *(subgraphs if isinstance(subgraphs, list) else ())):
        nodes = graph.get("nodes") if isinstance(graph, Mapping) else None
        yield from (node for node in nodes if isinstance(node, Mapping)) if isinstance(nodes, list) else ()


def _pack(node: Mapping[str, Any]) -> str | None:
    properties = node.get("properties")
    named = properties.get("cnr_id") or properties.get("aux_id") if isinstance(properties, Mapping) else None
    return named if isinstance(named, str) and named != "comfy-core" else None


def _validation(walk: _Walk) -> Iterator[Finding]:
    """What the server's own validation says."""
    if not walk.outputs:
        hint = "Add one that saves or shows something, such as SaveImage."
        yield Finding("error", "prompt_no_outputs", "the workflow has no output node.", hint=hint)
    for key in walk.nodes:
        if key in walk.depth:
            yield from _node(walk, walk.nodes[key])
    told: set[str] = set()
    for ring in walk.cycles:
        names = " -> ".join(f"{key} ({walk.nodes[key].class_type})" for key in [*ring, ring[0]])
        for key in ring:
            if key not in told:
                hint = "Disconnect one of them."
                yield _at(walk.nodes[key], "error", "dependency_cycle", f"needs itself: {names}.", hint=hint)
        told.update(ring)


def _node(walk: _Walk, node: NodeView) -> Iterator[Finding]:
    for name, declared in walk.live(node).items():
        if name in node.inputs:
            value = node.inputs[name]
            yield from (_link if isinstance(value, list) else _literal)(walk, node, declared, value)
        elif declared.required:
            message = f"required input {name!r} is missing."
            hint = f"It takes {declared.type}."
            yield _at(node, "error", "required_input_missing", message, input=name, hint=hint)


def _link(walk: _Walk, node: NodeView, declared: InputDeclaration, value: list[Any]) -> Iterator[Finding]:
    def bad(kind: str, message: str, hint: str = "") -> Finding:
        return _at(node, "error", kind, message, input=declared.name, given=value, hint=hint)

    if len(value) != 2:
        yield bad(
            "bad_linked_input",
            "a list here is a link, and a link is [node id, output number].",
            'Wrap a list that is a value: {"__value__": [...]}.',
        )
        return
    source, slot = value
    # The server does not check these two: it stumbles over them, and says where it stood.
    stumble = (
        "exception_during_validation" if node.id in walk.outputs else "exception_during_inner_validation"
    )
    if not isinstance(source, str) or source not in walk.nodes:
        yield bad(stumble, f"links to node {source!r}, which is not there.", _text_id(source, walk.nodes))
        return
    outputs = outputs_of(walk.object_info, walk.nodes[source].class_type)
    if not isinstance(slot, int) or (outputs and not -len(outputs) <= slot < len(outputs)):
        count = f"which has {len(outputs)}, counted from 0" if outputs else "which is no number"
        yield bad(stumble, f"links to output {slot!r} of node {source}, {count}.")
        return
    if outputs and not fits(outputs[slot], declared.type):
        yield bad("return_type_mismatch", f"takes {declared.type} and is linked to {outputs[slot]}.")


def _text_id(source: object, nodes: Nodes) -> str:
    return f"Write the id as text: {str(source)!r}." if str(source) in nodes else ""


_MADE_BY_NODES = frozenset({"IMAGE", "MASK", "LATENT", "MODEL", "CLIP", "VAE", "CONDITIONING"})
_CONVERT: Mapping[str, Any] = {"INT": int, "FLOAT": float}


def _literal(_walk: _Walk, node: NodeView, declared: InputDeclaration, value: Any) -> Iterator[Finding]:
    if isinstance(value, File):
        return  # its name on the server will be put here
    if isinstance(value, Mapping) and "__value__" in value:
        value = value["__value__"]
    if declared.type in _CONVERT:
        try:
            value = _CONVERT[declared.type](value)
        except (TypeError, ValueError, OverflowError):
            message = f"takes {declared.type}, and {_shown(value)} is none."
            yield _at(node, "error", "invalid_input_type", message, input=declared.name, given=value)
            return
        yield from _range(node, declared, value)
    if declared.choices is not None:
        yield from _choice(node, declared, declared.choices, value)


def _range(node: NodeView, declared: InputDeclaration, value: float) -> Iterator[Finding]:
    least, most = declared.options.get("min"), declared.options.get("max")
    limits = {"min": least, "max": most}
    if isinstance(least, int | float) and value < least:
        message = f"{value} is smaller than {least}, the least it takes."
        yield _at(
            node, "error", "value_smaller_than_min", message, input=declared.name, given=value, allowed=limits
        )
    if isinstance(most, int | float) and value > most:
        message = f"{value} is bigger than {most}, the most it takes."
        yield _at(
            node, "error", "value_bigger_than_max", message, input=declared.name, given=value, allowed=limits
        )


def _choice(
    node: NodeView, declared: InputDeclaration, choices: tuple[Any, ...], value: Any
) -> Iterator[Finding]:
    several = declared.options.get("multiselect") and isinstance(value, list)
    for one in value if several else [value]:
        if one in choices:
            continue
        hint = _nearest(one, choices)
        if not any(name.endswith("_upload") and on for name, on in declared.options.items()):
            message = f"{_shown(one)} is not among the {len(choices)} values that it takes."
            yield _at(
                node,
                "error",
                "value_not_in_list",
                message,
                input=declared.name,
                given=one,
                allowed=list(choices),
                hint=hint,
            )
        elif isinstance(one, str) and "/" not in one and not one.endswith("]"):
            # Such nodes look for the file themselves; their list leaves out subfolders and other folders.
            message = f"the server has no file {one!r}."
            hint = f"{hint} Or put a path there, and a session uploads it.".strip()
            yield _at(
                node, "error", "custom_validation_failed", message, input=declared.name, given=one, hint=hint
            )


def _nearest(value: Any, choices: tuple[Any, ...]) -> str:
    """The choices most like `value`; model files are compared without folder and case."""
    names = {_bare(choice): str(choice) for choice in choices}
    near = nearest(_bare(value), names, 3, 0.5)
    if near:
        return f"Nearest: {', '.join(names[name] for name in near)}."
    few = ", ".join(map(str, choices[:10]))
    return f"There is: {few}{', ...' if len(choices) > 10 else ''}." if choices else "The server has none."


def _bare(value: Any) -> str:
    return str(value).replace("\\", "/").rpartition("/")[2].lower()


def _shown(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _certain_failures(walk: _Walk, api_key: bool) -> Iterator[Finding]:
    """What the server accepts, or cannot even look at, and what then fails for sure."""
    deepest = max(walk.depth, key=walk.depth.__getitem__, default=None)
    if deepest is not None and walk.depth[deepest] > DEEPEST:
        message = f"stands on {walk.depth[deepest]} nodes in a row; a server can validate about {DEEPEST}."
        yield _at(walk.nodes[deepest], "error", "too_deep", message, hint="Split the workflow.")
    for key, node in walk.nodes.items():
        if key in walk.depth and not api_key and _says(walk.object_info, node, "api_node"):
            yield _at(
                node,
                "error",
                "api_key_missing",
                "a partner node, which runs with a Comfy API key only.",
                hint="Give the session an api_key.",
            )


def _surprises(walk: _Walk) -> Iterator[Finding]:
    """What works, and not as whoever wrote it thinks."""
    for key, node in walk.nodes.items():
        if walk.outputs and key not in walk.depth:
            yield _at(node, "note", "unused_node", "no output needs it, so it will not run.")
        live = walk.live(node)
        for name, value in node.inputs.items():
            if isinstance(value, str) and len(value) > HEAVY_BYTES:
                message = (
                    f"{len(value) / 1e6:.1f} MB of text, sent with every prompt and kept in the history."
                )
                hint = "Upload it as a file: put a path or bytes into a node that loads files."
                yield _at(node, "warning", "heavy_input", message, input=name, hint=hint)
            if name in live and live[name].type in _MADE_BY_NODES and not isinstance(value, list | File):
                message = (
                    f"takes {live[name].type}, which only another node can make; {_shown(value)} will fail."
                )
                yield _at(node, "warning", "link_expected", message, input=name, given=value)
            if live and name not in live:
                near = nearest(name, live.keys() - node.inputs.keys(), 1)
                hint = f"Did you mean {near[0]!r}?" if near else ""
                message = f"{node.class_type} has no such input; the server ignores it."
                yield _at(node, "note", "unknown_input", message, input=name, hint=hint)


def _seeds(nodes: Nodes, object_info: Mapping[str, Any], ui: Mapping[str, Any]) -> Iterator[Finding]:
    """Seeds left to chance: by the editor's setting, or by leaving them out."""
    drawn = {(str(node.get("id")), str(node.get("type"))) for node in _ui_nodes(ui) if _is_drawn(node)}
    hint = 'seed="random" draws one here.'
    for node in nodes.values():
        declared = inputs_of(object_info, node.class_type)
        names = [name for name in declared if seeds.is_seed(name, declared[name])]
        for name in names:
            if name not in node.inputs and not declared[name].required:
                message = "the seed is left out, so the server takes its default every time."
                yield _at(node, "warning", "seed_missing", message, input=name, hint=hint)
        editor_draws = (node.id.rpartition(":")[2], node.class_type) in drawn
        if names and (editor_draws or node.inputs.get("control_after_generate") == "randomize"):
            message = "the editor draws this seed anew for each run; sent from here it stays as it is."
            yield _at(node, "warning", "seed_randomized", message, input=names[0], hint=hint)


def _is_drawn(node: Mapping[str, Any]) -> bool:
    values = node.get("widgets_values")
    held = values.values() if isinstance(values, Mapping) else values
    return isinstance(held, Iterable) and any(value == "randomize" for value in held)


def _already_made(walk: _Walk, earlier: Iterable[Nodes]) -> Iterator[Finding]:
    known = {print_ for nodes in earlier for print_ in _fingerprints(_Walk(nodes, walk.object_info)).values()}
    prints = _fingerprints(walk) if known else {}
    for key in walk.outputs:
        if prints.get(key) in known:
            message = "the server made this before from the same inputs, and will hand that over."
            hint = "Change a seed to get another."
            yield _at(walk.nodes[key], "note", "output_cached", message, hint=hint)


def _fingerprints(walk: _Walk) -> dict[str, str]:
    """Per node a digest of it and of everything it needs; none for what stands on a cycle."""
    if walk.cycles:
        return {}
    prints: dict[str, str] = {}
    for key in walk.order:
        node = walk.nodes[key]
        told = {name: _told(value, prints) for name, value in node.inputs.items()}
        text = json.dumps([node.class_type, told], sort_keys=True, default=repr)
        prints[key] = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return prints


def _told(value: Any, prints: Mapping[str, str]) -> Any:
    source = linked(value)
    return value if source is None else {"link": prints.get(source), "slot": value[1]}
